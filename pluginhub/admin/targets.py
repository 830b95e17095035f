"""What registrations, chains and compositions have in common on their pages."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from pluginhub.admin.choosing import State, States
from pluginhub.admin.drafts import DraftAdmin
from pluginhub.admin.pretty import pill
from pluginhub.admin.trying import Tried
from pluginhub.models import Target

__all__ = ["OPEN", "TargetAdmin", "joined", "shown_state", "target_choices"]

OPEN: tuple[Any, Any] = (
    _("Open to the public"),
    {
        "fields": ["public", "rate_limit"],
        "classes": ["collapse"],
        "description": _("Callable under /in/ by anybody, without a login."),
    },
)
"""The fields of what may be called without a login."""


class TargetAdmin(Tried, DraftAdmin):
    """What can be called by name."""

    search_fields = ("name", "title")
    list_filter: ClassVar[tuple[str, ...]] = ("enabled",)
    columns: ClassVar[tuple[str, ...]] = ()
    """What the list shows between a target's name and its state."""
    ordering = ("name",)
    actions = ("switch_on", "switch_off")

    def get_list_display(self, request: HttpRequest) -> Any:
        """With a state that asks once a page, however many rows, what is installed and live."""
        states, pills = cache(States.now), cache(self.pills)

        @admin.display(description=_("State"))
        def state(row: Target) -> SafeString:
            shown = shown_state(states().of(row), public=row.public)
            return format_html("{} {}", shown, pills()[row.name]) if row.name in pills() else shown

        return ("shown_name", *self.columns, state, "updated")

    def pills(self) -> Mapping[str, SafeString]:
        """What the list says besides of the states of some rows, by name: asked once a page."""
        return {}

    @admin.display(description=_("Name"), ordering="name")
    def shown_name(self, row: Target) -> SafeString:
        return format_html('{} <span class="quiet pluginhub-title">{}</span>', row.name, row.title)

    @admin.action(description=_("Switch on (in the draft)"), permissions=["change"])
    def switch_on(self, request: HttpRequest, rows: QuerySet[Any]) -> None:
        self._switch(request, rows, on=True)

    @admin.action(description=_("Switch off (in the draft)"), permissions=["change"])
    def switch_off(self, request: HttpRequest, rows: QuerySet[Any]) -> None:
        self._switch(request, rows, on=False)

    def _switch(self, request: HttpRequest, rows: QuerySet[Any], *, on: bool) -> None:
        for row in rows:  # one by one, so that each is dated and logged
            row.enabled = on
            row.save()
            self.log_change(request, row, [{"changed": {"fields": ["enabled"]}}])


def shown_state(state: State, *, public: bool = False) -> SafeString:
    """A state as a page writes it, with its reason."""
    pills = [pill(state.code, state.label), *([pill("public", _("public"))] if public else [])]
    return format_html("{} {}", SafeString(" ".join(pills)), state.reason)


def target_choices(without: int | None = None) -> list[tuple[str, Any]]:
    """Return all targets for a select, in groups by kind."""
    groups: dict[str, list[tuple[int, str]]] = {}
    for row in Target.objects.order_by("kind", "name"):
        if row.pk != without:
            text = f"{row.name} – {row.title}" if row.title else row.name
            groups.setdefault(row.get_kind_display().capitalize() + "s", []).append((row.pk, text))
    return [("", "---------"), *groups.items()]


def joined(names: list[str], sign: str, *, none: str = "–") -> str:
    """Names with a sign between, for a list."""
    return f" {sign} ".join(names) or none
