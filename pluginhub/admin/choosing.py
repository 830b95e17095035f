"""What an operator may choose from: the plugins of the catalog that this tenant may use, and their state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from django.utils.translation import gettext as _

from pluginhub import loading, tenancy
from pluginhub.fleet.models import AllowedPlugin
from pluginhub.loading import Entry

__all__ = ["State", "allowed", "choices", "state_of"]


@dataclass(frozen=True, slots=True)
class State:
    """How a registration stands: `active`, `off`, `missing` or `broken`, in words, with the reason."""

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


def state_of(plugin: str, *, enabled: bool, catalog: Mapping[str, Entry], may: Mapping[str, Entry]) -> State:
    """Return the state of a registration from what is installed; its module is not imported for that."""
    entry = catalog.get(plugin)
    if entry is None:
        reason = _("No plugin named %s is installed. Install the distribution that brings it.") % plugin
        return State("missing", _("Missing"), reason)
    if entry.problem:
        return State("broken", _("Broken"), entry.problem)
    if plugin not in may:
        return State("missing", _("Not allowed"), _("This tenant may not use the plugin %s.") % plugin)
    return State("active", _("Active")) if enabled else State("off", _("Off"))
