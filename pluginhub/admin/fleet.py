"""The fleet, on the public site: what each process runs, the generations of code, who may use which plugin.

It names all tenants, so nobody has a permission on it inside one.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import JSONField, OuterRef, Subquery
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_GET

from pluginhub import reloading, tenancy
from pluginhub.admin.bases import ModelAdmin
from pluginhub.admin.choosing import choices
from pluginhub.admin.reloads import ReloadForm, attempt, may_reload, require_reload
from pluginhub.admin.standing import SHOWN, Fleet
from pluginhub.fleet.models import AllowedPlugin, Generation, Process
from pluginhub.types import PUBLIC

__all__ = ["AllowedPluginAdmin", "FleetAdmin", "GenerationAdmin"]


def in_public() -> bool:
    """Whether this is the public site."""
    tenant = tenancy.current_or_none()
    return tenant is not None and tenant.schema == PUBLIC.schema


class PublicAdmin(ModelAdmin):
    """Rows of the fleet. Nobody has a permission on them inside a tenant."""

    class Media:
        css = {"all": ["pluginhub/admin.css", "pluginhub/fleet.css"]}
        js = ["pluginhub/refreshing.js"]

    def has_module_permission(self, request: HttpRequest) -> bool:
        return in_public() and (super().has_module_permission(request) or self.has_view_permission(request))

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return in_public() and super().has_view_permission(request, obj)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return in_public() and super().has_add_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return in_public() and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return in_public() and super().has_delete_permission(request, obj)

    def _page(self, request: HttpRequest, name: str, context: dict[str, Any]) -> HttpResponse:
        shared = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "has_view_permission": True,
            "media": self.media,
            "may_reload": may_reload(request),
        }
        return TemplateResponse(request, f"admin/pluginhub_fleet/{name}.html", shared | context)


class ReadOnlyAdmin(PublicAdmin):
    """What the fleet says of itself. Who may reload code sees it, too: it is what the reload came to."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_view_permission(request, obj) or (in_public() and may_reload(request))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def _require_view(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied


@admin.register(Process)
class FleetAdmin(ReadOnlyAdmin):
    """One page, which renews itself: a line for each process, and one for each tenant."""

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(require_GET(self.fleet_view)), name="pluginhub_fleet_process_changelist"),
            path("standing/", wrap(require_GET(self.standing_view)), name="pluginhub_fleet_process_standing"),
        ]

    def fleet_view(self, request: HttpRequest) -> HttpResponse:
        """Show how the fleet stands; `q` searches for tenants."""
        self._require_view(request)
        return self._page(request, "process/fleet", {"title": _("Fleet"), **_standing(request)})

    def standing_view(self, request: HttpRequest) -> HttpResponse:
        """The part of the page that changes."""
        self._require_view(request)
        return TemplateResponse(request, "admin/pluginhub_fleet/process/standing.html", _standing(request))


def _standing(request: HttpRequest) -> dict[str, Any]:
    search = request.GET.get("q", "").strip()
    fleet = Fleet.now()
    tenants = fleet.tenants(search)
    return {"fleet": fleet, "tenants": tenants[:SHOWN], "found": len(tenants), "shown": SHOWN, "search": search}


@admin.register(Generation)
class GenerationAdmin(ReadOnlyAdmin):
    list_display_links = ("number",)
    search_fields = ("plugin", "note", "author")
    fields = ("number", "plugin", "shown_version", "author", "created", "note", "anew", "digest")

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("reload/", wrap(self.reload_view), name="pluginhub_fleet_generation_reload"),
            path(
                "<int:pk>/progress/",
                wrap(require_GET(self.progress_view)),
                name="pluginhub_fleet_generation_progress",
            ),
            *super().get_urls(),
        ]

    def get_queryset(self, request: HttpRequest) -> Any:
        """With the packages of the generation before: one query says what each loaded anew."""
        before = Generation.objects.filter(number__lt=OuterRef("number")).order_by("-number").values("packages")[:1]
        return super().get_queryset(request).annotate(packages_before=Subquery(before, output_field=JSONField()))

    def get_list_display(self, request: HttpRequest) -> Any:
        """With a column that counts processes once a page, however many rows."""
        counted = cache(_running)

        @admin.display(description=gettext_lazy("Run by"))
        def run_by(row: Generation) -> str:
            count = counted().get(row.number, 0)
            return ngettext("%d process", "%d processes", count) % count if count else "–"

        return ("number", "plugin", "shown_version", "author", "created", "note", "anew", run_by)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        return super().changelist_view(request, {"may_reload": may_reload(request), **(extra_context or {})})

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any) -> Any:
        row = options.get("obj")
        if row is not None:
            context |= {"may_reload": may_reload(request), **_progress(row)}
        return super().render_change_form(request, context, *args, **options)

    def progress_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The part of a generation's page that changes."""
        self._require_view(request)
        row = Generation.objects.filter(pk=pk).first()
        if row is None:
            raise Http404
        return TemplateResponse(request, "admin/pluginhub_fleet/generation/progress.html", _progress(row))

    def reload_view(self, request: HttpRequest) -> HttpResponse:
        """Ask which plugin; on POST reload it, and go to the page of the generation, or show why not."""
        if not in_public():
            raise PermissionDenied
        require_reload(request)
        sent = request.POST if request.method == "POST" else None
        form = ReloadForm(sent, initial={"plugin": request.GET.get("plugin", "")})
        if form.is_valid():
            generation = attempt(request, form, form.cleaned_data["plugin"])
            if generation is not None:
                said = _("Generation %s is made. Every process follows by itself.") % generation.number
                self.message_user(request, said, messages.SUCCESS)
                site = self.admin_site.name
                name = "admin:pluginhub_fleet_generation_change"
                return HttpResponseRedirect(reverse(name, args=[generation.pk], current_app=site))
        return self._page(request, "generation/reload", {"title": _("Reload code"), "form": form})

    @admin.display(description=gettext_lazy("Version"))
    def shown_version(self, row: Generation) -> str:
        return " ".join(filter(None, [row.distribution, row.version])) or "–"

    @admin.display(description=gettext_lazy("Loaded anew"))
    def anew(self, row: Any) -> str:
        before: Mapping[str, str] = row.packages_before or {}
        return ", ".join(sorted(top for top, digest in row.packages.items() if before.get(top) != digest)) or "–"


def _running() -> dict[int, int]:
    """Return how many processes run each generation: one query."""
    counts: dict[int, int] = {}
    for number in Process.objects.values_list("state__generation", flat=True):
        counts[number or 0] = counts.get(number or 0, 0) + 1
    return counts


def _progress(row: Generation) -> dict[str, Any]:
    found = reloading.progress(row)
    return {
        "generation": row,
        "progress": found,
        "done": sum(each.runs for each in found),
        "is_done": all(each.runs for each in found),
        "failed": sum(bool(each.problem) for each in found),
    }


class AllowedPluginForm(forms.ModelForm):
    schema = forms.ChoiceField(label=gettext_lazy("Tenant"))
    plugin = forms.ChoiceField(label=gettext_lazy("Plugin"))

    class Meta:
        model = AllowedPlugin
        fields = ("schema", "plugin")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        tenants = [(each.schema, f"{each.name} ({each.schema})") for each in tenancy.tenants()]
        self.fields["schema"].choices = [("", "---------"), *tenants]  # type: ignore[attr-defined]
        self.fields["plugin"].choices = choices(self.instance.plugin)  # type: ignore[attr-defined]


@admin.register(AllowedPlugin)
class AllowedPluginAdmin(PublicAdmin):
    """Which plugins a tenant may use; one without a row may use all."""

    form = AllowedPluginForm
    list_display = ("plugin", "schema")
    list_filter = ("schema",)
    search_fields = ("schema", "plugin")
    fieldsets = (
        (
            None,
            {
                "fields": ["schema", "plugin"],
                "description": gettext_lazy(
                    "A tenant that is named here may use the plugins it is named with, and no others. "
                    "One that is not named may use all of the catalog."
                ),
            },
        ),
    )
