"""`manage.py pluginhub_disable`: the way out when a plugin is in the way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from pluginhub import configuration, publishing
from pluginhub.conf import Settings
from pluginhub.configuration import Configuration
from pluginhub.configuration.constraints import uses
from pluginhub.exceptions import PublishRefused
from pluginhub.management.commanding import OPERATOR, TenantCommand, near
from pluginhub.models import InterceptorBinding, PointBinding, Target
from pluginhub.types import Tenant

__all__ = ["Command"]


class Command(TenantCommand):
    help = (
        "Disable a target, everything that uses it, and where it hangs or wraps; or all targets of the tenant. In what"
        " is live, and in the draft, whose other changes stay unpublished. Imports no plugin."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("name", nargs="?", help="The target; all of them unless given.")
        parser.add_argument("--discard-draft", action="store_true", help="Throw the draft's unpublished changes away.")
        parser.add_argument(
            "--force", action="store_true", help="Disable whatever else could not be published as it stands, too."
        )

    def work(self, tenant: Tenant, options: dict[str, Any]) -> None:
        disabling = _Disabling(options["name"], options["discard_draft"], options["force"])
        name = options["name"] or "everything"
        try:
            with _without_plugins():
                _, revision = publishing.write(
                    disabling.apply,
                    author=OPERATOR.name,
                    publish=publishing.live() is not None,
                    note=f"Disable {name}",
                    value=lambda: disabling.live,
                )
        except PublishRefused as error:
            way_out = "Add --force to disable that too."
            raise CommandError(f"Something else cannot be published: {error} {way_out}") from None
        self.stdout.write(disabling.told(revision.number if revision else 0))


@dataclass(slots=True)
class _Disabling:
    """One use of the command. `live` becomes what is published in place of the draft: nobody's half-done work."""

    name: str | None
    discard_draft: bool
    force: bool
    live: Configuration = field(default_factory=Configuration)
    drafted: set[str] = field(default_factory=set)
    served: set[str] = field(default_factory=set)

    def told(self, revision: int) -> str:
        """Say what was done; `revision` is the newest."""
        gone = ", ".join(sorted(self.drafted | self.served))
        if gone and not self.served:
            return f"Disabled in the draft, none of it was live: {gone}."
        return f"Disabled in revision {revision}: {gone or 'nothing was enabled'}."

    def apply(self) -> None:
        """Change the rows, and `live`. The tenant's head is locked."""
        self.live = publishing.configuration_at("live")
        if self.discard_draft:
            configuration.rewrite(self.live)
        known = {*self.live.names(), *configuration.read().names()}
        if self.name is not None and self.name not in known:
            raise CommandError(f"There is no target {self.name!r}. {near(self.name, known)}".strip())
        self._disable(known if self.name is None else {self.name})
        while self.force and self._disable_unfit():
            pass

    def _disable_unfit(self) -> bool:
        """Disable what problems name. Each round disables something, or is the last."""
        found = {(kind, name) for kind, name, *_ in publishing.problems(self.live)}
        before = self.live
        self._disable({name for _, name in found if self.live.kind_of(name)})
        points = {name for kind, name in found if kind == "point"}
        self.live = _without_points(self.live, points)
        PointBinding.objects.filter(point__in=points).update(enabled=False)
        return self.live != before

    def _disable(self, names: set[str]) -> None:
        draft = configuration.read()
        rows = _users_of(draft, names)
        Target.objects.filter(name__in=rows, enabled=True).update(enabled=False, updated=timezone.now())
        InterceptorBinding.objects.filter(registration__name__in=rows).update(enabled=False)
        PointBinding.objects.filter(target__name__in=rows).update(enabled=False)
        served = _users_of(self.live, names)
        self.drafted |= _enabled(draft, rows)
        self.served |= _enabled(self.live, served)
        self.live = _disabled(self.live, served)


def _enabled(value: Configuration, names: set[str]) -> set[str]:
    return {name for name in names if value.spec(name).enabled}


def _disabled(value: Configuration, names: set[str]) -> Configuration:
    """Return a configuration in which targets are off, hang nowhere and wrap nothing."""

    def off(specs: Any) -> dict[str, Any]:
        return {
            name: spec.model_copy(update={"enabled": False}) if name in names else spec for name, spec in specs.items()
        }

    points = {
        name: spec.model_copy(update={"targets": left})
        for name, spec in value.points.items()
        if (left := tuple(each for each in spec.targets if each not in names))
    }
    return value.model_copy(
        update={
            "registrations": off(value.registrations),
            "chains": off(value.chains),
            "compositions": off(value.compositions),
            "interceptors": tuple(each for each in value.interceptors if each.registration not in names),
            "points": points,
        }
    )


def _without_points(value: Configuration, names: set[str]) -> Configuration:
    points = {name: spec for name, spec in value.points.items() if name not in names}
    return value.model_copy(update={"points": points})


def _users_of(value: Configuration, names: set[str]) -> set[str]:
    """Return targets, of those that exist, and all that cannot do without them."""
    found: set[str] = set()
    waiting = [name for name in names if value.kind_of(name)]
    while waiting:
        used = waiting.pop()
        if used not in found:
            found.add(used)
            waiting += [spec.name for _, spec in value.targets() if used in uses(spec)]
    return found


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
