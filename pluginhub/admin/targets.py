"""What registrations, chains and compositions have in common on their pages."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from pluginhub.admin.drafts import DraftAdmin
from pluginhub.admin.trying import Tried
from pluginhub.models import Target

__all__ = ["OPEN", "TargetAdmin", "joined", "target_choices"]

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
    list_filter: ClassVar[tuple[str, ...]] = ("enabled", "public")
    ordering = ("name",)
    actions = ("switch_on", "switch_off")

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


def target_choices(without: int | None = None) -> list[tuple[str, Any]]:
    """Return all targets for a select, in groups by kind."""
    groups: dict[str, list[tuple[int, str]]] = {}
    for row in Target.objects.order_by("kind", "name"):
        if row.pk != without:
            text = f"{row.name} – {row.title}" if row.title else row.name
            groups.setdefault(row.get_kind_display().capitalize() + "s", []).append((row.pk, text))
    return [("", "---------"), *groups.items()]


def joined(names: list[str], sign: str) -> str:
    """Names with a sign between, for a list; a dash for none."""
    return f" {sign} ".join(names) or "–"
