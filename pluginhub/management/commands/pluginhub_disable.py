"""`manage.py pluginhub_disable`: the way out when a plugin is in the way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import CommandError, CommandParser

from pluginhub import configuration, publishing
from pluginhub.conf import Settings
from pluginhub.configuration import ChainSpec, CompositionSpec, Configuration
from pluginhub.exceptions import PublishRefused
from pluginhub.management.commanding import OPERATOR, TenantCommand, near
from pluginhub.models import InterceptorBinding, PointBinding, Target
from pluginhub.types import Tenant

__all__ = ["Command"]


class Command(TenantCommand):
    help = (
        "Disable a target, everything that uses it, and where it hangs or wraps; or all targets of the tenant. "
        "Publishes the draft. Imports no plugin."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("name", nargs="?", help="The target; all of them unless given.")
        parser.add_argument(
            "--discard-draft", action="store_true", help="Begin from what is published; unpublished changes are lost."
        )
        parser.add_argument(
            "--force", action="store_true", help="Disable whatever else could not be published as it stands, too."
        )

    def work(self, tenant: Tenant, options: dict[str, Any]) -> None:
        live = publishing.configuration_of(publishing.live())

        def apply() -> set[str]:
            if options["discard_draft"]:
                configuration.rewrite(live)
            gone = _disable(configuration.read(), options["name"])
            return gone | (_disable_unfit() if options["force"] else set())

        name = options["name"] or "everything"
        try:
            with _without_plugins():
                gone, revision = publishing.write(apply, author=OPERATOR.name, publish=True, note=f"Disable {name}")
        except PublishRefused as error:
            way_out = "Correct the draft, begin from what is published by --discard-draft, or add --force."
            raise CommandError(f"Something else cannot be published: {error} {way_out}") from None
        number = revision.number if revision else 0
        self.stdout.write(f"Disabled in revision {number}: {', '.join(sorted(gone)) or 'nothing was enabled'}.")


def _disable(draft: Configuration, name: str | None) -> set[str]:
    """Disable rows, and return the names of the targets that were enabled."""
    if name is not None and draft.kind_of(name) is None:
        raise CommandError(f"There is no target {name!r}. {near(name, draft.names())}".strip())
    return _disable_rows(draft, set(draft.names()) if name is None else _users_of(draft, name))


def _disable_unfit() -> set[str]:
    """Disable what problems name until none is left: each round disables something, or ends."""
    gone: set[str] = set()
    while found := {(kind, name) for kind, name, *_ in publishing.problems()}:
        draft = configuration.read()
        targets = {user for _, name in found if draft.kind_of(name) for user in _users_of(draft, name)}
        more = _disable_rows(draft, targets)
        points = [name for kind, name in found if kind == "point"]
        hung = PointBinding.objects.filter(point__in=points, enabled=True).update(enabled=False)
        if not more and not hung:
            break
        gone |= more
    return gone


def _disable_rows(draft: Configuration, names: set[str]) -> set[str]:
    gone = {each for each in names if draft.spec(each).enabled}
    Target.objects.filter(name__in=names).update(enabled=False)
    InterceptorBinding.objects.filter(registration__name__in=names).update(enabled=False)
    PointBinding.objects.filter(target__name__in=names).update(enabled=False)
    return gone


def _users_of(draft: Configuration, name: str) -> set[str]:
    """Return a target and all that cannot do without it."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        used = waiting.pop()
        if used not in found:
            found.add(used)
            waiting += [spec.name for _, spec in draft.targets() if used in _parts(spec)]
    return found


def _parts(spec: Any) -> set[str]:
    if isinstance(spec, ChainSpec):
        return {step.target for step in spec.steps}
    return {member.target for member in spec.members} if isinstance(spec, CompositionSpec) else set()


@contextmanager
def _without_plugins() -> Iterator[None]:
    """Be in safe mode, in which nothing is imported; what is published already is believed to fit."""
    before = os.environ.get(Settings.SAFE_MODE_VARIABLE)
    os.environ[Settings.SAFE_MODE_VARIABLE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[Settings.SAFE_MODE_VARIABLE]
        else:
            os.environ[Settings.SAFE_MODE_VARIABLE] = before
