"""Revisions: what was published, how it differs from others, and the way back. And *Publish* itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
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
from pluginhub.admin.comparing import choices, compare_url, compared, which
from pluginhub.admin.drafts import elsewhere, published, told
from pluginhub.admin.pretty import pretty
from pluginhub.admin.tenants import TenantAdmin
from pluginhub.configuration import Configuration, UnreadableFormat, difference, redacted
from pluginhub.exceptions import Conflict, NotFound, PluginHubError, PublishRefused
from pluginhub.models import Revision
from pluginhub.publishing import PUBLISH
from pluginhub.templatetags.telling import tell

__all__ = ["RevisionAdmin"]


@admin.register(Revision)
class RevisionAdmin(TenantAdmin):
    list_display = ("shown_number", "created", "author", "note")
    list_display_links = ("shown_number",)
    search_fields = ("note", "author")
    list_filter = ("author",)
    show_full_result_count = False
    actions = ("compare",)
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
        wrap = self.admin_site.admin_view
        return [
            path("compare/", wrap(self.compare_view), name="pluginhub_revision_compare"),
            path("publish/", wrap(require_POST(self.publish_view)), name="pluginhub_revision_publish"),
            path("saves/", wrap(require_POST(self.saves_view)), name="pluginhub_revision_saves"),
            path("<int:number>/rollback/", wrap(self.rollback_view), name="pluginhub_revision_rollback"),
            *super().get_urls(),
        ]

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any) -> Any:
        row = options.get("obj")
        if row is not None:
            context["compare_url"] = compare_url(row.number, "live", self.admin_site.name)
        if row is not None and request.user.has_perm(PUBLISH):
            site = self.admin_site.name
            context["rollback_url"] = reverse("admin:pluginhub_revision_rollback", args=[row.number], current_app=site)
        return super().render_change_form(request, context, *args, **options)

    @admin.action(description=gettext_lazy("Compare (tick two, or one with what is live)"), permissions=["view"])
    def compare(self, request: HttpRequest, rows: QuerySet[Revision]) -> HttpResponse | None:
        """Lead to the page that shows two revisions, the older one first."""
        numbers = sorted(rows.values_list("number", flat=True))
        if len(numbers) > 2:
            self.message_user(request, _("Tick two revisions to compare, not %s.") % len(numbers), messages.WARNING)
            return None
        other: publishing.Which = numbers[1] if len(numbers) == 2 else "live"
        return HttpResponseRedirect(compare_url(numbers[0], other, self.admin_site.name))

    def compare_view(self, request: HttpRequest) -> HttpResponse:
        """Show how two configurations differ; of the draft and what is live also whether it can be published."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        old, new = which(request.GET.get("from", ""), "live"), which(request.GET.get("to", ""), "draft")
        is_draft = (old, new) == ("live", "draft")
        context = {
            "title": _("The draft") if is_draft else _("Compare"),
            "choices": choices(old, new),
            "old": str(old),
            "new": str(new),
            "on_draft_page": is_draft,
            "rollback": new if _is_older(new) and request.user.has_perm(PUBLISH) else None,
            "may_publish": request.user.has_perm(PUBLISH),
            "expected": publishing.mark(),
            "publishes_saves": publishing.publishes_saves(),
        }
        try:
            before, after = publishing.configuration_at(old), publishing.configuration_at(new)
            context["changes"] = compared(before, after, self.admin_site.name)
            context["problems"] = [elsewhere(*each) for each in publishing.problems()] if is_draft else []
        except NotFound as error:
            raise Http404(str(error)) from None
        except PluginHubError as error:  # of a newer format
            context["trouble"] = str(error)
        return self._page(request, "compare", context)

    def publish_view(self, request: HttpRequest) -> HttpResponse:
        """Publish the draft, and go back to where the button was."""
        _require_publish(request)
        self._attempt(
            request,
            lambda author, note: publishing.publish(author=author, note=note, expected=_expected(request)),
        )
        return HttpResponseRedirect(_way_back(request))

    def saves_view(self, request: HttpRequest) -> HttpResponse:
        """Have every save published from now on, or not."""
        _require_publish(request)
        on = request.POST.get("publish_saves") == "on"
        said = _("Every save is published from now on.") if on else _("Saves stay drafts from now on.")
        if self._attempt(
            request,
            lambda author, note: publishing.set_publishes_saves(on, author=author, expected=_expected(request)),
        ):
            self.message_user(request, said, messages.SUCCESS)
        return HttpResponseRedirect(_way_back(request))

    def rollback_view(self, request: HttpRequest, number: int) -> HttpResponse:
        """Show what going back would change; on POST, publish the old revision as a new one."""
        _require_publish(request)
        wanted = Revision.objects.filter(number=number).first()
        if wanted is None:
            raise Http404
        site = self.admin_site.name
        if request.method == "POST":
            expected = _expected(request)
            self._attempt(
                request, lambda author, note: publishing.rollback(number, author=author, note=note, expected=expected)
            )
            return HttpResponseRedirect(reverse("admin:pluginhub_revision_changelist", current_app=site))
        context = {
            "original": wanted,
            "title": _("Roll back to revision %s") % number,
            "expected": publishing.mark(),
        }
        try:
            configuration = publishing.configuration_of(wanted)
            rehearsal = publishing.rehearse(configuration)
            context["changes"] = compared(_live(), configuration, site)
            context["lost"] = tell(rehearsal.discarded, site)
            context["problems"] = [elsewhere(*each) for each in rehearsal.problems]
        except PluginHubError as error:  # of a newer format
            context["trouble"] = str(error)
        return self._page(request, "rollback", context)

    def _page(self, request: HttpRequest, name: str, context: dict[str, Any]) -> HttpResponse:
        shared = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "has_view_permission": True,
            "media": self.media,
        }
        return TemplateResponse(request, f"admin/pluginhub/revision/{name}.html", shared | context)

    def _attempt(self, request: HttpRequest, publish: Callable[[str, str], Revision | None]) -> bool:
        """Do it and say what came of it; return whether it was done."""
        try:
            revision = publish(request.user.get_username(), request.POST.get("note", "").strip()[:500])
        except PublishRefused as refused:
            for problem in refused.problems:
                said = format_html("{} {}", _("Not published."), elsewhere(*problem))
                self.message_user(request, said, messages.ERROR)
        except Conflict as conflict:
            said = format_html("{} {}", _("Not published."), told(conflict, self.admin_site.name))
            self.message_user(request, said, messages.ERROR)
        except PluginHubError as error:  # of a newer format
            self.message_user(request, _("Not published. %s") % error, messages.ERROR)
        else:
            if revision is not None:
                self.message_user(request, published(revision), messages.SUCCESS)
            return True
        return False

    @admin.display(description=gettext_lazy("Revision"), ordering="number")
    def shown_number(self, row: Revision) -> str:
        return str(row.number)

    @admin.display(description=gettext_lazy("What changed"))
    def shown_difference(self, row: Revision) -> SafeString:
        before = Revision.objects.filter(number__lt=row.number).order_by("-number").first()
        try:
            found = difference(publishing.configuration_of(before), publishing.configuration_of(row))
        except PluginHubError as error:  # of a newer format
            return format_html("{}", error)
        context = {"changes": tell(found, self.admin_site.name), "none": _("Nothing.")}
        return render_to_string("admin/pluginhub/changes.html", context)

    @admin.display(description=gettext_lazy("Configuration"))
    def shown_data(self, row: Revision) -> SafeString:
        return pretty(redacted(row.data))


def _require_publish(request: HttpRequest) -> None:
    if not request.user.has_perm(PUBLISH):
        raise PermissionDenied


def _is_older(which: publishing.Which) -> bool:
    """Whether there is something to go back to."""
    return isinstance(which, int) and Revision.objects.filter(number__gt=which).exists()


def _live() -> Configuration:
    """What is live; where that cannot be read, nothing: going back is the way out then."""
    try:
        return publishing.configuration_at("live")
    except UnreadableFormat:
        return Configuration()


def _expected(request: HttpRequest) -> int | str | None:
    """Return what the page showed: the mark of revision and draft, or a revision's number."""
    said = request.POST.get("expected", "")
    return int(said) if said.isascii() and said.isdecimal() and len(said) < 19 else said or None


def _way_back(request: HttpRequest) -> str:
    wanted = request.POST.get("next", "")
    if url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure()):
        return wanted
    return reverse("admin:app_list", args=["pluginhub"])
