"""The host's points, and what hangs on them."""

from __future__ import annotations

from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from pluginhub import points
from pluginhub.admin.drafts import DraftAdmin, DraftForm
from pluginhub.admin.hung import shown_points
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
            self.initial["position"] = self.instance.position if self.instance.pk else None
            self.fields["position"].help_text = _("1 comes first. Empty: last.")

    def own_name(self) -> tuple[str, str]:
        return "point", self.instance.point

    def lay_own(self, field: str, message: str) -> None:
        super().lay_own("target" if field == "targets" else field, message)

    def _get_validation_exclusions(self) -> set[str]:
        excluded: set[str] = super()._get_validation_exclusions()  # type: ignore[misc]
        return excluded | {"position"}


@admin.register(PointBinding)
class PointBindingAdmin(DraftAdmin):
    """All points with what hangs there, and below them the rows."""

    form = PointForm
    list_display = ("target", "point", "position", "enabled")
    list_filter = ("point", "enabled")
    list_select_related = ("target",)
    search_fields = ("point", "target__name")
    fields = ("point", "target", "position", "enabled")

    class Media:
        css = {"all": ["pluginhub/points.css"]}

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        """Show the points; on POST with `move`, move a target on its point."""
        if request.method == "POST" and "move" in request.POST:
            return self._written(request, partial(self._move, request))
        shown: dict[str, Any] = {}
        if self.has_view_permission(request):
            found = shown_points(request, self.admin_site.name)
            shown = {"title": _("Points"), "points": found, "may_move": self.has_change_permission(request)}
        return super().changelist_view(request, {**shown, **(extra_context or {})})

    def save_model(self, request: HttpRequest, obj: PointBinding, form: Any, change: bool) -> None:
        """Put the row at its place among those of its point, and number them 1, 2, 3."""
        others = _others(obj)
        wanted = form.cleaned_data.get("position")
        at = len(others) if wanted is None else max(wanted - 1, 0)
        in_order = [*others[:at], obj, *others[at:]]
        for number, row in enumerate(in_order, 1):
            row.position = number
        super().save_model(request, obj, form, change)
        PointBinding.objects.bulk_update(others, ["position"])

    def _move(self, request: HttpRequest) -> HttpResponse:
        """Let a row change places with its neighbour: `<key>:up` or `<key>:down`."""
        key, _sign, way = request.POST["move"].partition(":")
        row = PointBinding.objects.filter(pk=int(key)).first() if key.isdecimal() else None
        if not self.has_change_permission(request, row):
            raise PermissionDenied
        url = reverse("admin:pluginhub_pointbinding_changelist", current_app=self.admin_site.name)
        if row is None:
            self.message_user(request, _("It hangs there no more."), messages.WARNING)
            return HttpResponseRedirect(url)
        in_order = [*PointBinding.objects.filter(point=row.point).order_by("position")]
        at = in_order.index(row)
        to = max(at - 1, 0) if way == "up" else at + 1
        in_order.insert(to, in_order.pop(at))
        for number, each in enumerate(in_order, 1):
            each.position = number
        PointBinding.objects.bulk_update(in_order, ["position"])
        self.log_change(request, row, [{"changed": {"fields": ["position"]}}])
        return HttpResponseRedirect(f"{url}#point-{row.point}")


def _others(row: PointBinding) -> list[PointBinding]:
    return list(PointBinding.objects.filter(point=row.point).exclude(pk=row.pk).order_by("position"))


def _declared() -> list[tuple[str, points.Point]]:
    return sorted(points.declared().items())
