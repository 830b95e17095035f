"""Try it: run a target on a sample, from its own page. What runs is the published revision."""

from __future__ import annotations

import json
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _

from pluginhub import access, execution, payloads
from pluginhub.admin.bases import ModelAdmin
from pluginhub.admin.traces import shown_trace
from pluginhub.conf import settings
from pluginhub.exceptions import problem_of
from pluginhub.tracing import trace_of

__all__ = ["Tried"]


class Tried(ModelAdmin):
    """Adds the page `<id>/try/` to targets: a sample goes in, the result or the problem comes out."""

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_try"
        return [
            path("<path:object_id>/try/", self.admin_site.admin_view(self.try_view), name=name),
            *super().get_urls(),
        ]

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any) -> Any:
        row = options.get("obj")
        if row is not None and request.user.has_perm(execution.RUN):
            name = f"admin:{self.opts.app_label}_{self.opts.model_name}_try"
            context["try_url"] = reverse(name, args=[row.pk], current_app=self.admin_site.name)
        return super().render_change_form(request, context, *args, **options)

    def try_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Run on POST, and show the page with what came of it."""
        row = self.get_object(request, object_id)
        if row is None:
            raise Http404
        if not self.has_view_permission(request, row) or not request.user.has_perm(execution.RUN):
            raise PermissionDenied
        sample = request.POST.get("sample", "")
        outcome = _run(request, row.name, sample) if request.method == "POST" else {}
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "original": row,
            "title": _("Try %s") % row,
            "sample": sample,
            "has_view_permission": True,
            "media": self.media,
            **outcome,
        }
        return TemplateResponse(request, "admin/pluginhub/try.html", context)


def _run(request: HttpRequest, name: str, sample: str) -> dict[str, Any]:
    """Any failure is an answer here: the page shows it."""
    caller = access.caller_of(request, "admin")
    trace = caller.may(execution.TRACE)
    try:
        value = payloads.parse(sample.encode("utf-8", "surrogatepass"), max_bytes=settings.MAX_BODY_BYTES)
        outcome = execution.perform(name, value, caller=caller, trace=trace)
        return {"outcome": outcome, "trace": shown_trace(outcome.trace)} | _pretty(outcome.result)
    except Exception as error:  # a plugin's, among others
        return {"problem": problem_of(error), "trace": shown_trace(trace_of(error) if trace else None)}


def _pretty(result: Any) -> dict[str, str]:
    plain = json.loads(payloads.render(result))
    return {"result": json.dumps(plain, indent=2, ensure_ascii=False)}
