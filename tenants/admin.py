"""The admin of the public site: it creates tenants and the host names they answer to."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.http import HttpRequest
from django_tenants.admin import TenantAdminMixin

from pluginhub.admin.fleet import AllowedPluginAdmin, FleetAdmin, GenerationAdmin
from pluginhub.fleet.models import AllowedPlugin, Generation, Process
from tenants.models import Domain, Tenant


class PublicSite(admin.AdminSite):
    """Separate from the tenants' admin: its tables are those of the public schema."""

    site_header = "Installation"
    site_title = "Installation"
    index_title = "Tenants and their domains"


# Named like the default site, so that the admin's own templates find their URLs: no URL configuration holds both.
public_site = PublicSite(name="admin")


class DomainInline(admin.TabularInline):
    model = Domain
    extra = 0
    min_num = 1


@admin.register(Tenant, site=public_site)
class TenantAdmin(TenantAdminMixin, admin.ModelAdmin):
    list_display = ("name", "schema_name", "created")
    inlines = (DomainInline,)

    def get_readonly_fields(self, request: HttpRequest, obj: Tenant | None = None) -> tuple[str, ...]:
        """A schema keeps its name: rows, cache keys and sealed secrets carry it."""
        return ("schema_name",) if obj else ()


public_site.register(User, UserAdmin)
public_site.register(Group, GroupAdmin)
public_site.register(Process, FleetAdmin)
public_site.register(Generation, GenerationAdmin)
public_site.register(AllowedPlugin, AllowedPluginAdmin)
