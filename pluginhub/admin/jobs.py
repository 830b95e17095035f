"""Jobs: to follow, and to cancel. Their rows are changed by workers only."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from pluginhub import access, jobs
from pluginhub.admin.pretty import pill, pretty
from pluginhub.admin.tenants import TenantAdmin
from pluginhub.exceptions import PluginHubError
from pluginhub.models import Job

__all__ = ["JobAdmin"]


@admin.register(Job)
class JobAdmin(TenantAdmin):
    list_display = ("name", "shown_status", "shown_progress", "shown_problem", "created")
    list_filter = ("status",)
    search_fields = ("name", "id")
    show_full_result_count = False
    actions = ("cancel",)
    fieldsets = (
        (None, {"fields": ["shown_name", "id", "shown_status", "shown_progress", "note", "shown_caller"]}),
        (_("Input and outcome"), {"fields": ["shown_data", "shown_result", "shown_problem_whole"]}),
        (_("Times"), {"fields": ["created", "run_at", "started", "ended", "lease_until", "time_limit"]}),
        (_("How"), {"fields": ["attempts", "priority", "revision", "idempotency_key"], "classes": ["collapse"]}),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("pluginhub.change_job"))

    @admin.action(description=_("Cancel selected jobs"), permissions=["cancel"])
    def cancel(self, request: HttpRequest, rows: QuerySet[Job]) -> None:
        caller = access.caller_of(request, "admin")
        asked = 0
        for row in rows:
            if not row.is_ended:
                try:
                    jobs.cancel(str(row.pk), caller=caller)
                    asked += 1
                except PluginHubError as error:
                    self.message_user(request, f"{row.name}: {error}", messages.ERROR)
        said = ngettext("%s job is asked to end.", "%s jobs are asked to end.", asked) % asked
        self.message_user(request, said, messages.SUCCESS if asked else messages.WARNING)

    @admin.display(description=_("Target or handler"), ordering="name")
    def shown_name(self, row: Job) -> str:
        return row.name

    @admin.display(description=_("Status"), ordering="status")
    def shown_status(self, row: Job) -> SafeString:
        ending = _("cancelling") if row.cancel_requested and not row.is_ended else row.get_status_display()
        return pill(row.status, ending)

    @admin.display(description=_("Progress"))
    def shown_progress(self, row: Job) -> SafeString:
        if row.total:
            bar = format_html('<progress value="{}" max="{}"></progress>', row.done, row.total)
            return format_html('{} {} / {} <span class="quiet">{}</span>', bar, row.done, row.total, row.note)
        return format_html('{} <span class="quiet">{}</span>', row.done or "–", row.note)

    @admin.display(description=_("Attempt"))
    def attempts(self, row: Job) -> str:
        return f"{row.attempt} / {row.max_attempts}"

    @admin.display(description=_("Problem"))
    def shown_problem(self, row: Job) -> str:
        problem = row.problem or {}
        return str(problem.get("detail") or problem.get("title") or "–")

    @admin.display(description=_("Asked for by"))
    def shown_caller(self, row: Job) -> str:
        return f"{row.caller.get('name', '–')} ({row.caller.get('edge', '–')})"

    @admin.display(description=_("Input"))
    def shown_data(self, row: Job) -> SafeString:
        return pretty(row.data)

    @admin.display(description=_("Result"))
    def shown_result(self, row: Job) -> SafeString:
        return pretty(row.result)

    @admin.display(description=_("Problem"))
    def shown_problem_whole(self, row: Job) -> SafeString:
        return pretty(row.problem)
