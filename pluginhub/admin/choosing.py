"""What an operator may choose from: the plugins of the catalog that this tenant may use, and their state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from django.utils.translation import gettext as _

from pluginhub import loading, publishing, tenancy
from pluginhub.fleet.models import AllowedPlugin
from pluginhub.loading import Entry
from pluginhub.models import Target

__all__ = ["State", "States", "allowed", "choices"]


@dataclass(frozen=True, slots=True)
class State:
    """How a target stands: `active`, `new`, `off`, `missing` or `broken`, in words, with the reason."""

    code: str
    label: str
    reason: str = ""


def allowed() -> dict[str, Entry]:
    """Return the plugins the current tenant may use, by name. One without rows of its own may use all."""
    only = set(AllowedPlugin.objects.filter(schema=tenancy.current().schema).values_list("plugin", flat=True))
    return {name: entry for name, entry in loading.catalog().items() if not only or name in only}


def choices(kept: str = "", *, where: Callable[[Entry], bool] = lambda entry: True) -> list[tuple[str, str]]:
    """Return plugins for a select, by title; what is chosen already stays choosable."""
    found = {name: entry.title or name for name, entry in allowed().items() if where(entry)}
    if kept and kept not in found:
        found[kept] = _("%s (not available)") % kept
    return [("", "---------"), *sorted(found.items(), key=lambda pair: pair[1].lower())]


@dataclass(frozen=True, slots=True)
class States:
    """What the states of a page's rows are judged by. Lives as long as the page."""

    plugins: Mapping[str, Entry]
    live: frozenset[str]

    @classmethod
    def now(cls) -> States:
        """Look at the catalog and at what is live: two queries, however many rows."""
        live = publishing.configuration_of(publishing.live())
        return cls(allowed(), frozenset(spec.name for _kind, spec in live.targets() if spec.enabled))

    def of(self, row: Target) -> State:
        """Return the state of a row, without importing its plugin."""
        plugin = getattr(row, "plugin", "")
        if plugin and (lacking := self._lacking(plugin)):
            return lacking
        if not row.enabled:
            return State("off", _("Off"))
        return State("active", _("Active")) if row.name in self.live else State("new", _("Not published"))

    def _lacking(self, plugin: str) -> State | None:
        entry = loading.catalog().get(plugin)
        if entry is None:
            reason = _("No plugin named %s is installed. Install the distribution that brings it.") % plugin
            return State("missing", _("Missing"), reason)
        if entry.problem:
            return State("broken", _("Broken"), entry.problem)
        if plugin not in self.plugins:
            return State("missing", _("Not allowed"), _("This tenant may not use the plugin %s.") % plugin)
        return None
