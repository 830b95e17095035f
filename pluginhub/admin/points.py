"""The host's points, and what hangs on them."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from pluginhub import points
from pluginhub.admin.drafts import DraftAdmin, DraftForm
from pluginhub.admin.targets import target_choices
from pluginhub.models import PointBinding

__all__ = ["PointBindingAdmin"]


class PointForm(DraftForm):
    """Offers the points the host declares. A position that is taken moves the others up."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if "point" in self.fields:
            known = {name: f"{point.title} ({name})" if point.title != name else name for name, point in _declared()}
            if self.instance.point and self.instance.point not in known:
                known[self.instance.point] = self.instance.point
            self.fields["point"] = forms.ChoiceField(choices=[("", "---------"), *known.items()], label=_("Point"))
        if "target" in self.fields:
            self.fields["target"].choices = target_choices()  # type: ignore[attr-defined]
        if "position" in self.fields:
            self.fields["position"].required = False
            self.fields["position"].help_text = _("1 runs first, each takes what the one before gave. Empty: last.")

    def own_name(self) -> tuple[str, str]:
        return "point", self.instance.point

    def lay_own(self, field: str, message: str) -> None:
        super().lay_own("target" if field == "targets" else field, message)

    def _get_validation_exclusions(self) -> set[str]:
        excluded: set[str] = super()._get_validation_exclusions()  # type: ignore[misc]
        return excluded | {"position"}


@admin.register(PointBinding)
class PointBindingAdmin(DraftAdmin):
    form = PointForm
    list_display = ("target", "point", "position", "enabled")
    list_filter = ("point", "enabled")
    list_select_related = ("target",)
    search_fields = ("point", "target__name")
    fields = ("point", "target", "position", "enabled")

    def save_model(self, request: HttpRequest, obj: PointBinding, form: Any, change: bool) -> None:
        """Put the row at its place among those of its point, and number them 1, 2, 3."""
        others = list(PointBinding.objects.filter(point=obj.point).exclude(pk=obj.pk).order_by("position"))
        wanted = form.cleaned_data.get("position")
        at = len(others) if wanted is None else max(wanted - 1, 0)
        in_order = [*others[:at], obj, *others[at:]]
        for number, row in enumerate(in_order, 1):
            row.position = number
        super().save_model(request, obj, form, change)
        PointBinding.objects.bulk_update(others, ["position"])


def _declared() -> list[tuple[str, points.Point]]:
    return sorted(points.declared().items())
