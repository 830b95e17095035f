"""What plugins keep, for looking and repairing."""

from __future__ import annotations

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from pluginhub.admin.pretty import short
from pluginhub.admin.tenants import TenantAdmin
from pluginhub.models import StoredValue

__all__ = ["StoredValueAdmin"]


@admin.register(StoredValue)
class StoredValueAdmin(TenantAdmin):
    list_display = ("key", "shown_namespace", "shown_value", "updated")
    list_filter = ("namespace",)
    search_fields = ("key", "namespace")
    fields = ("namespace", "key", "value")
    show_full_result_count = False

    @admin.display(description=_("Registration"), ordering="namespace")
    def shown_namespace(self, row: StoredValue) -> str:
        return row.namespace or str(_("shared"))

    @admin.display(description=_("Value"))
    def shown_value(self, row: StoredValue) -> str:
        return short(row.value)
