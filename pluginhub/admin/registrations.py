"""Registrations: first the plugin is picked from the catalog, then its form is filled in."""

from __future__ import annotations

import re
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from pluginhub import loading, reloading, tenancy
from pluginhub.admin.choosing import States, allowed
from pluginhub.admin.configured import ConfiguredForm
from pluginhub.admin.pretty import paragraphs, pretty
from pluginhub.admin.reloads import NoteForm, attempt, may_reload, require_reload
from pluginhub.admin.resetting import Resettable
from pluginhub.admin.standing import Waiting, troubles
from pluginhub.admin.targets import OPEN, TargetAdmin, shown_state
from pluginhub.configuration import redacted
from pluginhub.models import Registration, Target

__all__ = ["RegistrationAdmin"]

WAS_PLUGIN = "was-plugin"
"""Tells the plugin of a row whose form comes back after it was deleted."""


@admin.register(Registration)
class RegistrationAdmin(Resettable, TargetAdmin):
    columns = ("plugin",)
    list_filter = ("enabled", "plugin")
    readonly_fields = ("shown_plugin", "shown_state", "shown_config", *Resettable.SHOWN)

    def get_fieldsets(self, request: HttpRequest, obj: Registration | None = None) -> Any:
        may_edit = self.has_change_permission(request, obj) if obj else True
        own = ["name", "title", "enabled"]
        shown = ["shown_plugin", "shown_state"] if obj else ["shown_plugin"]
        first = (None, {"fields": [*shown, *own, *([] if may_edit else ["shown_config"])]})
        return [first, *self.reset_fieldsets(obj, may_edit=may_edit), OPEN]

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        made: type[ConfiguredForm] = super().get_form(request, obj, change=change, **kwargs)
        made.plugin = obj.plugin if obj else request.GET.get("plugin", "") or request.POST.get(WAS_PLUGIN, "")
        return made

    def get_urls(self) -> list[URLPattern]:
        reload = self.admin_site.admin_view(self.reload_view)
        return [path("<path:object_id>/reload/", reload, name="pluginhub_registration_reload"), *super().get_urls()]

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any) -> Any:
        row = options.get("obj")
        if row is not None and may_reload(request):
            context["reload_url"] = self._url("reload", row)
        return super().render_change_form(request, context, *args, **options)

    def reload_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Say what a reload does; on POST do it, and go back, or show why not."""
        row = self.get_object(request, object_id)
        if row is None:
            raise Http404
        if not self.has_view_permission(request, row):
            raise PermissionDenied
        require_reload(request)
        form = NoteForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            generation = attempt(request, form, row.plugin)
            if generation is not None:
                packages = ", ".join(reloading.changed(generation)) or generation.plugin
                said = _("Generation %(number)s is made: every process loads %(packages)s anew, within seconds.")
                self.message_user(request, said % {"number": generation.number, "packages": packages}, messages.SUCCESS)
                return HttpResponseRedirect(self._url("change", row))
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "original": row,
            "entry": loading.catalog().get(row.plugin),
            "title": _("Reload code"),
            "form": form,
            "has_view_permission": True,
            "media": self.media,
        }
        return TemplateResponse(request, "admin/pluginhub/registration/reload.html", context)

    def _url(self, page: str, row: Registration) -> str:
        return reverse(f"admin:pluginhub_registration_{page}", args=[row.pk], current_app=self.admin_site.name)

    def _still_there(self, request: HttpRequest, object_id: Any) -> Any:
        """Add one anew only where its plugin may still be chosen."""
        there = super()._still_there(request, object_id)
        is_gone = there is None and object_id is not None
        return object_id if is_gone and request.POST.get(WAS_PLUGIN) not in allowed() else there

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"name": _free_name(request.GET.get("plugin", ""))}

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> Any:
        plugin = request.GET.get("plugin", "")
        plugins = allowed() if self.has_add_permission(request) else {}
        if (plugins and plugin not in plugins) or not plugin:
            return self._choose(request, plugin)
        entry = plugins.get(plugin)
        title = _("Add registration of %s") % (entry.title or entry.name) if entry else None
        return super().add_view(request, f"?plugin={plugin}", {"title": title, **(extra_context or {})})

    def _choose(self, request: HttpRequest, unknown: str) -> HttpResponseBase:
        """The first page of adding: the catalog."""
        if not self.has_add_permission(request):
            return super().add_view(request)  # refuses, as Django does
        if unknown:
            self.message_user(request, _("There is no plugin %s to choose here.") % unknown, messages.WARNING)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": _("Choose a plugin"),
            "plugins": [(entry, paragraphs(entry.doc)) for entry in sorted(allowed().values(), key=_title)],
            "has_view_permission": self.has_view_permission(request),
            "add": True,
            "media": self.media,
        }
        return TemplateResponse(request, "admin/pluginhub/registration/choose.html", context)

    @admin.display(description=gettext_lazy("Plugin"))
    def shown_plugin(self, row: Registration) -> SafeString:
        entry = loading.catalog().get(row.plugin)
        if entry is None:
            return format_html("<code>{}</code>", row.plugin)
        about = " ".join(filter(None, [entry.distribution, entry.version]))
        summary = next(iter(paragraphs(entry.doc)), "")
        return format_html(
            '<strong>{}</strong> <code>{}</code> <span class="quiet">{}</span><br>{}',
            entry.title or entry.name, entry.name, about, summary,
        )  # fmt: skip

    @admin.display(description=gettext_lazy("State"))
    def shown_state(self, row: Registration) -> SafeString:
        failing: dict[tuple[str, int, int], list[Waiting]] = {}
        for each in troubles(tenancy.current().schema):
            failing.setdefault((each.why, each.revision, each.generation), []).append(each)
        context = {"state": shown_state(States.now().of(row)), "failing": list(failing.values())}
        return render_to_string("admin/pluginhub/registration/state.html", context)

    @admin.display(description=gettext_lazy("Configuration"))
    def shown_config(self, row: Registration) -> SafeString:
        return pretty(redacted(row.config))


def _title(entry: loading.Entry) -> str:
    return (entry.title or entry.name).lower()


def _free_name(plugin: str) -> str:
    """Return a name like the plugin's that no target has yet."""
    name = re.sub(r"[^a-z0-9_-]+", "-", plugin.lower()).lstrip("-_0123456789")[:60] or "plugin"
    taken = set(Target.objects.filter(name__startswith=name).values_list("name", flat=True))
    return next(one for one in [name, *(f"{name}-{number}" for number in range(2, 1000))] if one not in taken)
