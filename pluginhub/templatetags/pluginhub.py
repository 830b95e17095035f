"""The state of the draft, for every page of ours."""

from __future__ import annotations

from typing import Any

from django import template

from pluginhub import configuration, publishing
from pluginhub.exceptions import PluginHubError
from pluginhub.publishing import PUBLISH
from pluginhub.templatetags.telling import in_tenant, tell

register = template.Library()

__all__ = ["pluginhub_draft", "register"]


@register.inclusion_tag("admin/pluginhub/draft.html", takes_context=True)
def pluginhub_draft(context: dict[str, Any]) -> dict[str, Any]:
    """Say what is not published yet, with the button for it; or which revision is."""
    request = context["request"]
    if not in_tenant() or context.get("is_popup") or not request.user.has_module_perms("pluginhub"):
        return {"shown": False}
    live, draft = publishing.live(), configuration.read()
    shown = {
        "shown": True,
        "live": live,
        "expected": publishing.mark_of(live, draft),
        "publishes_saves": publishing.publishes_saves(),
        "may_publish": request.user.has_perm(PUBLISH),
        "may_view": request.user.has_perm(publishing.VIEW),
        "on_draft_page": context.get("on_draft_page", False),
        "request": request,
        "csrf_token": context.get("csrf_token"),
        "next": request.get_full_path() if request.method == "GET" else request.path,
    }
    try:
        return {**shown, "changes": tell(configuration.difference(publishing.configuration_of(live), draft))}
    except PluginHubError as error:  # of a newer format
        return {**shown, "trouble": str(error)}


@register.simple_tag(takes_context=True)
def pluginhub_may_publish(context: dict[str, Any]) -> bool:
    """Whether the user may publish."""
    return bool(context["request"].user.has_perm(PUBLISH))
