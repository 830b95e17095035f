"""From rows to the value, in a constant number of queries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from pluginhub import tenancy
from pluginhub.configuration.values import (
    ChainSpec,
    CompositionSpec,
    Configuration,
    InterceptorSpec,
    MemberSpec,
    PointSpec,
    RegistrationSpec,
    StepSpec,
)
from pluginhub.models import Chain, Composition, InterceptorBinding, Member, PointBinding, Registration, Step

__all__ = ["read"]

_TARGET = ("name", "title", "enabled", "public", "rate_limit")
_PLUGIN = ("plugin", "config", "config_version")
_REGISTRATION = (
    *_TARGET,
    *_PLUGIN,
    *("breaker_rate", "breaker_calls", "breaker_seconds", "cache_seconds", "cache_failures"),
)
_MEMBER = ("key", "required", "private")
_STEP = ("label", "time_limit", "attempts", "backoff", "on_failure", "default", "condition", "input", "output")


def read() -> Configuration:
    """Return the current tenant's draft, whether or not it is valid. Eight queries, however many rows."""
    return tenancy.gate(tenancy.current(), _read)


def _read() -> Configuration:
    return Configuration(
        registrations={row.name: RegistrationSpec(**_fields(row, _REGISTRATION)) for row in _all(Registration)},
        chains=_chains(),
        compositions=_compositions(),
        interceptors=tuple(map(_interceptor, _interceptors())),
        points=_points(),
    )


def _chains() -> dict[str, ChainSpec]:
    steps: dict[int, list[StepSpec]] = defaultdict(list)
    for step in Step.objects.select_related("target", "fallback").order_by("chain", "position"):
        fallback = step.fallback.name if step.fallback else ""
        spec = StepSpec(target=step.target.name, fallback=fallback, **_fields(step, _STEP))
        steps[step.chain_id].append(spec)
    return {row.name: ChainSpec(**_fields(row, _TARGET), steps=tuple(steps[row.pk])) for row in _all(Chain)}


def _compositions() -> dict[str, CompositionSpec]:
    members: dict[int, list[MemberSpec]] = defaultdict(list)
    for member in Member.objects.select_related("target").order_by("composition", "position"):
        spec = MemberSpec(target=member.target.name, **_fields(member, _MEMBER))
        members[member.composition_id].append(spec)
    return {
        row.name: CompositionSpec(**_fields(row, (*_TARGET, *_PLUGIN, "strategy")), members=tuple(members[row.pk]))
        for row in _all(Composition)
    }


def _interceptors() -> Iterable[InterceptorBinding]:
    rows = InterceptorBinding.objects.filter(enabled=True).order_by("scope", "position", "pk")
    return rows.select_related("registration").prefetch_related("targets")


def _interceptor(row: InterceptorBinding) -> InterceptorSpec:
    return InterceptorSpec(
        registration=row.registration.name,
        targets=tuple(sorted(target.name for target in row.targets.all())),
        methods=tuple(filter(None, row.methods.split(","))),
        **_fields(row, ("scope", "path_prefix", "position", "required")),
    )


def _points() -> dict[str, PointSpec]:
    targets: dict[str, list[str]] = defaultdict(list)
    for row in PointBinding.objects.filter(enabled=True).select_related("target").order_by("point", "position"):
        targets[row.point].append(row.target.name)
    return {point: PointSpec(point=point, targets=tuple(names)) for point, names in targets.items()}


def _all(model: type[Any]) -> list[Any]:
    return list(model.objects.order_by("name"))


def _fields(row: Any, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}
