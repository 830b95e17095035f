"""The state of the draft, for every page of ours."""

from __future__ import annotations

from typing import Any

from django import template

from pluginhub import publishing
from pluginhub.templatetags.telling import PUBLISH, in_tenant, tell

register = template.Library()

__all__ = ["pluginhub_draft", "register"]


@register.inclusion_tag("admin/pluginhub/draft.html", takes_context=True)
def pluginhub_draft(context: dict[str, Any]) -> dict[str, Any]:
    """Say what is not published yet, with the button for it; or which revision is."""
    request = context["request"]
    if not in_tenant() or context.get("is_popup") or not request.user.has_module_perms("pluginhub"):
        return {"shown": False}
    live = publishing.live()
    return {
        "shown": True,
        "live": live,
        "changes": tell(publishing.changes()),
        "may_publish": request.user.has_perm(PUBLISH),
        "request": request,
        "csrf_token": context.get("csrf_token"),
        "next": request.get_full_path() if request.method == "GET" else request.path,
    }


@register.simple_tag(takes_context=True)
def pluginhub_may_publish(context: dict[str, Any]) -> bool:
    """Whether the user may publish."""
    return bool(context["request"].user.has_perm(PUBLISH))
