"""The button *Reload code*: who may press it, what it asks, and what it says."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from pluginhub import loading, reloading
from pluginhub.exceptions import PluginHubError
from pluginhub.fleet.models import Generation
from pluginhub.loading import Entry

__all__ = ["RELOAD", "NoteForm", "ReloadForm", "attempt", "may_reload", "require_reload"]

RELOAD = "pluginhub.reload_code"
"""The permission to have the fleet load code anew."""


class NoteForm(forms.Form):
    """What goes with a reload whose plugin is known."""

    note = forms.CharField(
        label=_("Note"), max_length=500, required=False, help_text=_("Kept with the generation."),
        widget=forms.TextInput(attrs={"class": "vTextField"}),
    )  # fmt: skip


class ReloadForm(NoteForm):
    """Which plugin's package; the plugins of the catalog are grouped by it."""

    plugin = forms.ChoiceField(label=_("Plugin"), help_text=_("Its whole package is loaded anew."))
    field_order = ("plugin", "note")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["plugin"].choices = [("", "---------"), *_packages()]  # type: ignore[attr-defined]


def _packages() -> list[tuple[str, list[tuple[str, str]]]]:
    groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for entry in sorted(loading.catalog().values(), key=lambda each: each.name):
        groups[_package(entry)].append((entry.name, entry.name))
    return sorted(groups.items())


def _package(entry: Entry) -> str:
    about = " ".join(filter(None, [entry.distribution, entry.version]))
    return f"{entry.top} ({about})" if about else entry.top


def may_reload(request: HttpRequest) -> bool:
    return bool(request.user.is_active and request.user.has_perm(RELOAD))


def require_reload(request: HttpRequest) -> None:
    """Raise `PermissionDenied` unless the user may reload code."""
    if not may_reload(request):
        raise PermissionDenied


def attempt(request: HttpRequest, form: NoteForm, plugin: str) -> Generation | None:
    """Reload; where that is refused, say the reason and the way out at the form."""
    require_reload(request)
    try:
        return reloading.reload(plugin, author=request.user.get_username(), note=form.cleaned_data["note"])
    except PluginHubError as error:
        form.add_error(None, error.detail)
        if error.hint:
            form.add_error(None, error.hint)
    return None
