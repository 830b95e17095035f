"""What every page of ours shares: it exists inside a tenant only, and says the state of the draft."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import JSONField
from django.http import HttpRequest

from pluginhub.admin.bases import ModelAdmin
from pluginhub.admin.configforms.fields import parse_json
from pluginhub.templatetags.telling import in_tenant

__all__ = ["CheckedJSONField", "TenantAdmin"]


class CheckedJSONField(forms.JSONField):
    """JSON as the HTTP calls take it: what PostgreSQL cannot keep is an error at the field."""

    def to_python(self, value: Any) -> Any:
        if self.disabled or not isinstance(value, str) or value.strip() in self.empty_values:
            return super().to_python(value)
        return parse_json(value)

    def prepare_value(self, value: Any) -> Any:
        return "" if value is None else super().prepare_value(value)

    def bound_data(self, data: Any, initial: Any) -> Any:
        try:
            return super().bound_data(data, initial)
        except (RecursionError, ValidationError):  # shown again as typed
            return data

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return super().has_changed(initial, data)
        except RecursionError:
            return True


class TenantAdmin(ModelAdmin):
    """Rows of one tenant. Nobody has a permission on them outside a tenant."""

    formfield_overrides = {JSONField: {"form_class": CheckedJSONField}}

    class Media:
        css = {"all": ["pluginhub/admin.css"]}

    def has_module_permission(self, request: HttpRequest) -> bool:
        return in_tenant() and super().has_module_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return in_tenant() and super().has_view_permission(request, obj)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return in_tenant() and super().has_add_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return in_tenant() and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return in_tenant() and super().has_delete_permission(request, obj)
