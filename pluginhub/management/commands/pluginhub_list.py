"""`manage.py pluginhub_list`: what can be used, and what tenants have set up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import ProgrammingError

from pluginhub import configuration, loading, points, publishing, tenancy
from pluginhub.configuration import ChainSpec, CompositionSpec, Configuration, RegistrationSpec
from pluginhub.loading import Entry
from pluginhub.management.commanding import TenantCommand
from pluginhub.points import Point
from pluginhub.types import Tenant

__all__ = ["Command"]

Spec = RegistrationSpec | ChainSpec | CompositionSpec


class Command(TenantCommand):
    help = "List the catalog, the host's points and all tenants, or what one tenant has set up. Imports no plugin."
    tenant_required = False

    def handle(self, *args: Any, **options: Any) -> None:
        if options["tenant"] is not None:
            super().handle(*args, **options)
            return
        self._table([("PLUGIN", "TITLE", "ORIGIN", "DISTRIBUTION", "PROBLEM"), *map(_plugin, _catalog())])
        self.stdout.write("")
        if points.declared():
            self._table([("POINT", "TITLE", "SEVERAL", "DECLARED IN"), *map(_point, _declared())])
            self.stdout.write("")
        rows = [("TENANT", "REVISION", "TARGETS", "DRAFT"), *(_summary(tenant) for tenant in tenancy.tenants())]
        self._table(rows)

    def work(self, tenant: Tenant, options: dict[str, Any]) -> None:
        draft = configuration.read()
        rows = [("NAME", "KIND", "USES", "STATE"), *(_row(kind, spec) for kind, spec in draft.targets())]
        self._table(rows)
        hung = [("POINT", "TARGETS", "SEVERAL"), *(_hung(name, draft) for name in _points_of(draft))]
        if len(hung) > 1:
            self.stdout.write("")
            self._table(hung)
        self.stdout.write(f"\n{' '.join(_state())}")

    def _table(self, rows: Iterable[tuple[str, ...]]) -> None:
        rows = list(rows)
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            self.stdout.write("  ".join(map(str.ljust, row, widths)).rstrip())


def _catalog() -> list[Entry]:
    return sorted(loading.catalog().values(), key=lambda entry: entry.name)


def _plugin(entry: Entry) -> tuple[str, ...]:
    distribution = f"{entry.distribution} {entry.version}".strip()
    return entry.name, entry.title, entry.origin, distribution or "-", " ".join(entry.problem.split()) or "-"


def _declared() -> list[Point]:
    return sorted(points.declared().values(), key=lambda point: point.name)


def _point(point: Point) -> tuple[str, ...]:
    return point.name, point.title, point.several, f"{point.declared_in}:{point.declared_at}"


def _points_of(draft: Configuration) -> list[str]:
    return sorted({*points.declared(), *draft.points})


def _hung(name: str, draft: Configuration) -> tuple[str, ...]:
    point, spec = points.declared().get(name), draft.points.get(name)
    return name, ", ".join(spec.targets) if spec else "-", point.several if point else "declared nowhere here"


def _summary(tenant: Tenant) -> tuple[str, ...]:
    try:
        with tenancy.visit(tenant):
            revision, draft = _state()
            return tenant.schema, revision, str(len(configuration.read().names())), draft
    except ProgrammingError:
        return tenant.schema, "?", "?", "not migrated"


def _state() -> tuple[str, str]:
    live, changes = publishing.live(), publishing.changes()
    revision = f"revision {live.number}" if live else "nothing published"
    return revision, f"{len(changes)} unpublished changes" if changes else "as published"


def _row(kind: str, spec: Spec) -> tuple[str, ...]:
    state = [word for word, holds in (("disabled", not spec.enabled), ("public", spec.public)) if holds]
    plugin = getattr(spec, "plugin", "")
    if plugin:
        entry = loading.catalog().get(plugin)
        problem = "the plugin is missing" if entry is None else entry.problem
        state += [problem] if problem else []
    return spec.name, kind, _uses(spec), ", ".join(state) or "enabled"


def _uses(spec: Spec) -> str:
    if isinstance(spec, ChainSpec):
        return " → ".join(step.target for step in spec.steps)
    if isinstance(spec, CompositionSpec):
        return f"{spec.plugin or spec.strategy}({', '.join(member.target for member in spec.members)})"
    return spec.plugin
