"""Revisions: what was published, how it differs from what came before, and the way back. And *Publish* itself."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from pluginhub import publishing
from pluginhub.admin.configured import redacted
from pluginhub.admin.drafts import elsewhere, published
from pluginhub.admin.pretty import pretty
from pluginhub.admin.tenants import TenantAdmin
from pluginhub.configuration import difference
from pluginhub.exceptions import Conflict, PublishRefused
from pluginhub.models import Revision
from pluginhub.templatetags.telling import PUBLISH, tell

__all__ = ["RevisionAdmin"]


@admin.register(Revision)
class RevisionAdmin(TenantAdmin):
    list_display = ("shown_number", "created", "author", "note")
    list_display_links = ("shown_number",)
    search_fields = ("note", "author")
    list_filter = ("author",)
    show_full_result_count = False
    fieldsets = (
        (None, {"fields": ["shown_number", "created", "author", "note", "shown_difference"]}),
        (gettext_lazy("The whole configuration"), {"fields": ["digest", "shown_data"], "classes": ["collapse"]}),
    )

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = super().get_queryset(request)
        return rows if request.resolver_match and request.resolver_match.kwargs else rows.defer("data")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_urls(self) -> list[URLPattern]:
        publish = self.admin_site.admin_view(require_POST(self.publish_view))
        back = self.admin_site.admin_view(self.rollback_view)
        return [
            path("publish/", publish, name="pluginhub_revision_publish"),
            path("<int:number>/rollback/", back, name="pluginhub_revision_rollback"),
            *super().get_urls(),
        ]

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any) -> Any:
        row = options.get("obj")
        if row is not None and request.user.has_perm(PUBLISH):
            site = self.admin_site.name
            context["rollback_url"] = reverse("admin:pluginhub_revision_rollback", args=[row.number], current_app=site)
        return super().render_change_form(request, context, *args, **options)

    def publish_view(self, request: HttpRequest) -> HttpResponse:
        """Publish the draft, and go back to where the button was."""
        _require_publish(request)
        expected = request.POST.get("expected", "")
        self._attempt(
            request,
            lambda author, note: publishing.write(
                lambda: None,
                author=author,
                publish=True,
                note=note,
                expected=int(expected) if expected.isdecimal() else None,
            )[1],
        )
        return HttpResponseRedirect(_way_back(request))

    def rollback_view(self, request: HttpRequest, number: int) -> HttpResponse:
        """Show what going back would change; on POST, publish the old revision as a new one."""
        _require_publish(request)
        wanted = Revision.objects.filter(number=number).first()
        if wanted is None:
            raise Http404
        if request.method == "POST":
            self._attempt(request, lambda author, note: publishing.rollback(number, author=author, note=note))
            site = self.admin_site.name
            return HttpResponseRedirect(reverse("admin:pluginhub_revision_changelist", current_app=site))
        live = publishing.configuration_of(publishing.live())
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "original": wanted,
            "title": _("Roll back to revision %s") % number,
            "changes": tell(difference(live, publishing.configuration_of(wanted)), self.admin_site.name),
            "lost": tell(publishing.changes(), self.admin_site.name),
            "has_view_permission": True,
            "media": self.media,
        }
        return TemplateResponse(request, "admin/pluginhub/revision/rollback.html", context)

    def _attempt(self, request: HttpRequest, publish: Any) -> None:
        try:
            revision = publish(request.user.get_username(), request.POST.get("note", "").strip()[:500])
        except PublishRefused as refused:
            for problem in refused.problems:
                said = format_html("{} {}", _("Not published."), elsewhere(*problem))
                self.message_user(request, said, messages.ERROR)
        except Conflict as conflict:
            self.message_user(request, _("Not published. %s") % conflict, messages.ERROR)
        else:
            self.message_user(request, published(revision), messages.SUCCESS)

    @admin.display(description=gettext_lazy("Revision"), ordering="number")
    def shown_number(self, row: Revision) -> str:
        return str(row.number)

    @admin.display(description=gettext_lazy("What changed"))
    def shown_difference(self, row: Revision) -> SafeString:
        before = Revision.objects.filter(number__lt=row.number).order_by("-number").first()
        try:
            found = difference(publishing.configuration_of(before), publishing.configuration_of(row))
        except ValueError:  # of a format we no longer read
            return SafeString(_("This revision cannot be read any more."))
        context = {"changes": tell(found, self.admin_site.name), "none": _("Nothing.")}
        return render_to_string("admin/pluginhub/changes.html", context)

    @admin.display(description=gettext_lazy("Configuration"))
    def shown_data(self, row: Revision) -> SafeString:
        return pretty(redacted(row.data))


def _require_publish(request: HttpRequest) -> None:
    if not request.user.has_perm(PUBLISH):
        raise PermissionDenied


def _way_back(request: HttpRequest) -> str:
    wanted = request.POST.get("next", "")
    if url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure()):
        return wanted
    return reverse("admin:app_list", args=["pluginhub"])
