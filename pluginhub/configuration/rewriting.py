"""From the value back to rows: for a rollback, or for a configuration that comes from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from django.db import transaction
from django_tenants.utils import get_tenant_database_alias

from pluginhub import tenancy
from pluginhub.configuration.constraints import Problem, unwritable, uses
from pluginhub.configuration.reading import read
from pluginhub.configuration.references import place
from pluginhub.configuration.sealing import seal
from pluginhub.configuration.values import ChainSpec, CompositionSpec, Configuration, InterceptorSpec, RegistrationSpec
from pluginhub.exceptions import PublishRefused
from pluginhub.models import (
    Chain,
    Composition,
    InterceptorBinding,
    Member,
    PointBinding,
    Registration,
    Revision,
    Step,
    Target,
)

__all__ = ["rewrite", "writable"]

_MODELS: dict[str, type[Any]] = {"registration": Registration, "chain": Chain, "composition": Composition}
Spec = RegistrationSpec | ChainSpec | CompositionSpec


def rewrite(configuration: Configuration, *, secrets: Mapping[str, str] = {}, unset: bool = False) -> None:
    """Make the current tenant's rows say what `configuration` says, in one transaction.

    Rows that already do are left alone, and so keep their keys. Disabled interceptors and point bindings stay, unless
    what they name is gone. References to secrets are looked up in `secrets`, then in the rows; with `unset`, those that
    are nowhere are left out. Secrets in plain text are sealed first, for which plugins are imported, unless a revision
    says the same. Raises `PublishRefused` where the rows could not say it.
    """
    with tenancy.visit(tenancy.current()), transaction.atomic(using=get_tenant_database_alias()):
        now = read()
        configuration, found = writable(configuration, now, secrets=secrets, unset=unset)
        if found:
            raise PublishRefused(found)
        gone = {spec.name for kind, spec in now.targets() if configuration.kind_of(spec.name) != kind}
        changed = [spec for _, spec in configuration.targets() if gone & uses(spec) or _differs(now, spec)]
        _remove(gone, {spec.name for spec in changed})
        for spec in changed:
            _write_row(configuration, spec)
        ids = dict(Target.objects.values_list("name", "pk"))
        _write_parts(changed, ids)
        if gone or now.interceptors != configuration.interceptors:
            _write_interceptors(configuration.interceptors, ids)
        if gone or now.points != configuration.points:
            _write_points(configuration, ids)


def writable(
    configuration: Configuration, now: Configuration, *, secrets: Mapping[str, str] = {}, unset: bool = False
) -> tuple[Configuration, list[Problem]]:
    """Return what `rewrite` would write over `now`, with secrets sealed, and why it would refuse to."""
    found = unwritable(configuration)
    if found or (not secrets and Revision.objects.filter(digest=configuration.digest()).exists()):
        return configuration, found
    configuration, missing = place(configuration, before=now, given=secrets)
    sealed, found = seal(configuration, before=now)
    return sealed, found if unset else [*missing, *found]


def _differs(now: Configuration, spec: Spec) -> bool:
    return now.kind_of(spec.name) is None or now.spec(spec.name) != spec


def _remove(gone: set[str], changed: set[str]) -> None:
    """Delete what is gone and whatever names it: users first, for targets are protected."""
    Step.objects.filter(chain__name__in=gone | changed).delete()
    Member.objects.filter(composition__name__in=gone | changed).delete()
    InterceptorBinding.objects.filter(registration__name__in=gone).delete()
    PointBinding.objects.filter(target__name__in=gone).delete()
    Target.objects.filter(name__in=gone).delete()


def _write_row(configuration: Configuration, spec: Spec) -> None:
    model = _MODELS[configuration.kind_of(spec.name) or ""]
    row = model.objects.filter(name=spec.name).first() or model()
    for field, value in spec.model_dump(exclude={"steps", "members"}).items():
        setattr(row, field, value)
    row.save()


def _write_parts(specs: Iterable[Spec], ids: dict[str, int]) -> None:
    steps: list[Step] = []
    members: list[Member] = []
    for spec in specs:
        if isinstance(spec, ChainSpec):
            steps += _steps(spec, ids)
        elif isinstance(spec, CompositionSpec):
            members += _members(spec, ids)
    Step.objects.bulk_create(steps)
    Member.objects.bulk_create(members)


def _steps(spec: ChainSpec, ids: dict[str, int]) -> Iterator[Step]:
    for position, step in enumerate(spec.steps, 1):
        rest = step.model_dump(exclude={"target", "fallback"})
        rest["fallback_id"] = ids[step.fallback] if step.fallback else None
        yield Step(chain_id=ids[spec.name], position=position, target_id=ids[step.target], **rest)


def _members(spec: CompositionSpec, ids: dict[str, int]) -> Iterator[Member]:
    for position, member in enumerate(spec.members, 1):
        rest = member.model_dump(exclude={"target"})
        rest["key"] = "" if member.key == member.target else member.key
        yield Member(composition_id=ids[spec.name], position=position, target_id=ids[member.target], **rest)


def _write_interceptors(specs: Iterable[InterceptorSpec], ids: dict[str, int]) -> None:
    InterceptorBinding.objects.filter(enabled=True).delete()
    for spec in specs:
        fields = spec.model_dump(exclude={"registration", "methods", "targets"})
        row = InterceptorBinding.objects.create(
            registration_id=ids[spec.registration], methods=",".join(spec.methods), **fields
        )
        row.targets.set([ids[target] for target in spec.targets])


def _write_points(configuration: Configuration, ids: dict[str, int]) -> None:
    """Hang the targets in order; disabled bindings come after them."""
    PointBinding.objects.filter(enabled=True).delete()
    for spec in configuration.points.values():
        resting = PointBinding.objects.filter(point=spec.point)
        resting.filter(target__name__in=spec.targets).delete()
        for position, row in enumerate(resting.order_by("position"), len(spec.targets) + 1):
            PointBinding.objects.filter(pk=row.pk).update(position=position)
        PointBinding.objects.bulk_create(
            PointBinding(point=spec.point, target_id=ids[target], position=position)
            for position, target in enumerate(spec.targets, 1)
        )
