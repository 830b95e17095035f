"""Where interceptors are bound, and around what."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import ManyToManyField, Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from pluginhub import loading
from pluginhub.admin.drafts import DraftAdmin, DraftForm
from pluginhub.admin.onions import adding, choice, onions
from pluginhub.admin.targets import target_choices
from pluginhub.models import InterceptorBinding, Registration

__all__ = ["InterceptorBindingAdmin"]


class InterceptorForm(DraftForm):
    """Offers the registrations whose plugin can intercept."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if "registration" in self.fields:
            able = [entry.name for entry in loading.catalog().values() if "intercept" in entry.hooks]
            chosen = Q(plugin__in=able) | Q(pk=self.instance.registration_id)
            _plain(self.fields["registration"].widget)
            self.fields["registration"].queryset = Registration.objects.filter(chosen).order_by("name")  # type: ignore[attr-defined]
        if "targets" in self.fields:
            self.fields["targets"].choices = target_choices()[1:]  # type: ignore[attr-defined]
            self.fields["targets"].help_text = _("None ticked: every call from outside.")
        if "position" in self.fields:
            self.fields["position"].help_text = _("Lower ones stand further out, unless a plugin says otherwise.")

    def own_name(self) -> tuple[str, str]:
        return "interceptor", self.instance.registration.name if self.instance.registration_id else ""


@admin.register(InterceptorBinding)
class InterceptorBindingAdmin(DraftAdmin):
    form = InterceptorForm
    formfield_overrides = {
        **DraftAdmin.formfield_overrides,
        ManyToManyField: {"widget": forms.CheckboxSelectMultiple(attrs={"class": "pluginhub-checks"})},
    }
    list_display = ("registration", "scope", "shown_choice", "position", "enabled")
    list_filter = ("scope", "enabled")
    list_select_related = ("registration",)
    search_fields = ("registration__name", "path_prefix")
    fieldsets = (
        (None, {"fields": ["registration", "scope", "position", "required", "enabled"]}),
        (
            _("Which HTTP requests"),
            {"fields": ["path_prefix", "methods"], "description": _("For the scope “HTTP requests” only.")},
        ),
        (_("Which targets"), {"fields": ["targets"], "description": _("For calls, jobs and streams.")}),
    )

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        shown = extra_context or {}
        if request.method == "GET" and "_popup" not in request.GET and self.has_view_or_change_permission(request):
            shown = {"onions": onions(self.admin_site.name), "adding": ", ".join(adding()), **shown}
        return super().changelist_view(request, shown)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).prefetch_related("targets")

    @admin.display(description=_("Which"))
    def shown_choice(self, row: InterceptorBinding) -> str:
        """What it wraps, of all that its scope has."""
        return choice(row)


def _plain(widget: Any) -> None:
    """Without the links that add and change in a pop-up: a registration begins with the choice of its plugin."""
    for action in ("add", "change", "delete", "view"):
        setattr(widget, f"can_{action}_related", False)
