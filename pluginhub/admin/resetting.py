"""A registration's breaker and cache on its page: how they stand in each process, and what closes or empties them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.template.loader import render_to_string
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from pluginhub import resets, tenancy
from pluginhub.admin.configured import ConfiguredAdmin, ConfiguredForm
from pluginhub.admin.pretty import pill
from pluginhub.admin.standing import breakers, open_breakers
from pluginhub.models import Registration
from pluginhub.resets import What

__all__ = ["Resettable", "ResettableForm"]

FOLDED = ["collapse"]
LABELS = {
    "breaker_rate": gettext_lazy("Share of failures"),
    "breaker_calls": gettext_lazy("Last calls"),
    "breaker_seconds": gettext_lazy("Seconds open"),
    "cache_seconds": gettext_lazy("Seconds"),
    "cache_failures": gettext_lazy("Seconds for failures"),
}


class ResettableForm(ConfiguredForm):
    """What a breaker needs is required where there is one."""

    KEPT: ClassVar[tuple[str, ...]] = ("breaker_calls", "breaker_seconds")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for name, label in LABELS.items():
            if name in self.fields:
                self.fields[name].label = label
                self.fields[name].required = False

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        for name in self.KEPT:
            if name in self.fields and cleaned.get(name) is None and name not in self.errors:
                if cleaned.get("breaker_rate") is not None and name in self.data:
                    self.add_error(name, _("A breaker needs this."))
                cleaned[name] = getattr(self.instance, name)
        return cleaned


class Resettable(ConfiguredAdmin):
    """Shows breakers and caches, and resets them in all processes."""

    form = ResettableForm
    SHOWN: ClassVar[tuple[str, ...]] = ("shown_breaker", "shown_breaker_and_button", "shown_cache")

    def reset_fieldsets(self, row: Registration | None, *, may_edit: bool) -> list[tuple[Any, dict[str, Any]]]:
        """Return the parts of the form, folded where they are not in use."""
        has_breaker = row is not None and row.breaker_rate is not None
        has_cache = row is not None and (row.cache_seconds is not None or row.cache_failures is not None)
        shown = ["shown_breaker_and_button" if may_edit else "shown_breaker"]
        breaker = ["breaker_rate", "breaker_calls", "breaker_seconds", *(shown if has_breaker else [])]
        cache = ["cache_seconds", "cache_failures", *(["shown_cache"] if has_cache and may_edit else [])]
        return [
            (
                _("Breaker"),
                {
                    "fields": breaker,
                    "classes": [] if has_breaker else FOLDED,
                    "description": _("Where too many calls fail, further ones fail at once for a while."),
                },
            ),
            (
                _("Cache"),
                {
                    "fields": cache,
                    "classes": [] if has_cache else FOLDED,
                    "description": _("Results are kept, and given again for the same input."),
                },
            ),
        ]

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path(f"<path:object_id>/reset/{what}/", wrap(require_POST(view)), name=f"pluginhub_registration_{what}")
            for what, view in (("breaker", self.breaker_view), ("cache", self.cache_view))
        ] + super().get_urls()

    def breaker_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Close the breaker in all processes."""
        said = _("The breaker of %s is closed: every process follows within seconds.")
        return self._reset(request, object_id, "breaker", said, _("Closed the breaker everywhere."))

    def cache_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Empty the cache."""
        said = _("The cache of %s is empty: every process follows within seconds.")
        return self._reset(request, object_id, "cache", said, _("Emptied the cache."))

    def _reset(self, request: HttpRequest, object_id: str, what: What, said: str, logged: str) -> HttpResponseBase:
        row = self.get_object(request, object_id)
        if row is None:
            raise Http404
        if not self.has_change_permission(request, row):
            raise PermissionDenied
        resets.reset(row.name, what, author=request.user.get_username())
        self.log_change(request, row, logged)
        self.message_user(request, said % row.name, messages.SUCCESS)
        page = reverse("admin:pluginhub_registration_change", args=[row.pk], current_app=self.admin_site.name)
        return HttpResponseRedirect(page)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any) -> Any:
        row = options.get("obj")
        if row is not None and self.has_change_permission(request, row):
            site = self.admin_site.name
            context["resets"] = {
                what: reverse(f"admin:pluginhub_registration_{what}", args=[row.pk], current_app=site)
                for what in ("breaker", "cache")
            }
        return super().render_change_form(request, context, *args, **options)

    def pills(self) -> Mapping[str, SafeString]:
        """Name the registrations that some process leaves alone."""
        said = {name: _breaker_open(count) for name, count in open_breakers(tenancy.current().schema).items()}
        return {name: pill("failing", label) for name, label in said.items()}

    @admin.display(description=gettext_lazy("In each process"))
    def shown_breaker(self, row: Registration) -> SafeString:
        return _shown_breaker(row, may_close=False)

    @admin.display(description=gettext_lazy("In each process"))
    def shown_breaker_and_button(self, row: Registration) -> SafeString:
        return _shown_breaker(row, may_close=True)

    @admin.display(description=gettext_lazy("Kept results"))
    def shown_cache(self, row: Registration) -> SafeString:
        return render_to_string("admin/pluginhub/registration/cache.html", {})


def _shown_breaker(row: Registration, *, may_close: bool) -> SafeString:
    found = breakers(tenancy.current().schema, row.name)
    is_open = any(each.state != "closed" for each in found)
    return render_to_string(
        "admin/pluginhub/registration/breaker.html", {"found": found, "has_button": is_open and may_close}
    )


def _breaker_open(count: int) -> str:
    """Short, since it stands in a narrow column."""
    return _("Breaker open") if count == 1 else _("Breaker open ×%d") % count
