"""Access tokens: made here, shown once, and then only known by their first characters."""

from __future__ import annotations

import hashlib
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponseBase
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _

from pluginhub import access
from pluginhub.admin.tenants import TenantAdmin
from pluginhub.models import AccessToken

__all__ = ["AccessTokenAdmin"]


@admin.register(AccessToken)
class AccessTokenAdmin(TenantAdmin):
    list_display = ("name", "prefix", "user", "created", "expires", "last_used")
    list_select_related = ("user",)
    search_fields = ("name", "prefix")
    fields = ("name", "user", "expires")

    def get_readonly_fields(self, request: HttpRequest, obj: AccessToken | None = None) -> tuple[str, ...]:
        return ("prefix", "user", "created", "last_used") if obj else ()

    def get_fields(self, request: HttpRequest, obj: AccessToken | None = None) -> Any:
        return ("name", "prefix", "user", "expires", "created", "last_used") if obj else self.fields

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"user": request.user.pk}

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        """Offer nobody else's name: a token may do what its user may."""
        if db_field.name == "user" and not getattr(request.user, "is_superuser", False):
            options["queryset"] = db_field.related_model._default_manager.filter(pk=request.user.pk)
        return super().formfield_for_foreignkey(db_field, request, **options)

    def save_model(self, request: HttpRequest, obj: AccessToken, form: Any, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
            return
        token = access.issue_token(obj.user, obj.name, expires=obj.expires)
        made = AccessToken.objects.get(digest=hashlib.sha256(token.encode()).hexdigest())
        obj.pk, obj.prefix, obj.digest = made.pk, made.prefix, made.digest
        request.pluginhub_token = token  # type: ignore[attr-defined]

    def response_add(self, request: HttpRequest, obj: AccessToken, post_url_continue: str | None = None) -> Any:
        """Show the token in this very answer: a message would keep it in a cookie or session."""
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": _("Token “%s”") % obj.name,
            "token": request.pluginhub_token,  # type: ignore[attr-defined]
            "original": obj,
            "has_view_permission": True,
            "media": self.media,
        }
        response: HttpResponseBase = TemplateResponse(request, "admin/pluginhub/accesstoken/issued.html", context)
        response["Cache-Control"] = "no-store"
        return response
