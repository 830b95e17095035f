"""JSON answers, and every error as a problem detail (RFC 9457)."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any, ClassVar

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError

from pluginhub import payloads
from pluginhub.exceptions import (
    Forbidden,
    MalformedInput,
    NotFound,
    PluginHubError,
    TooLarge,
    Unauthenticated,
    place_of,
    problem_of,
)

__all__ = ["PROBLEM", "REVISION", "MethodNotAllowed", "WrongCredentials", "answer", "problem"]

log = logging.getLogger("pluginhub.http")

JSON = "application/json"
PROBLEM = "application/problem+json"
REVISION = "PluginHub-Revision"


class MethodNotAllowed(PluginHubError):
    """The URL exists, and does not take this method."""

    status = 405
    title = "Method not allowed"

    def __init__(self, method: str | None, allowed: tuple[str, ...]) -> None:
        super().__init__(f"{method} is not allowed here.", hint=f"Use {' or '.join(allowed)}.", allowed=list(allowed))
        self.allowed = allowed


class WrongCredentials(Unauthenticated):
    """Credentials were sent and do not hold: unknown, expired, used, or of another tenant."""

    challenge: ClassVar[str] = 'Bearer realm="pluginhub", error="invalid_token"'


def answer(
    value: Any,
    *,
    status: int = 200,
    revision: int | None = None,
    headers: Mapping[str, str] | None = None,
    content_type: str = JSON,
) -> HttpResponse:
    """Return a value as JSON. Raises `HookError` for what JSON cannot say."""
    response = HttpResponse(payloads.render(value), content_type=content_type, status=status)
    mine = {"Cache-Control": "no-store"} if revision is None else {"Cache-Control": "no-store", REVISION: str(revision)}
    for name, text in {**mine, **(headers or {})}.items():
        response.headers[name] = text
    return response


def problem(
    error: Exception,
    request: HttpRequest,
    *,
    revision: int | None = None,
    trace: list[dict[str, Any]] | None = None,
) -> HttpResponse:
    """Return any error as its problem detail, and log those nobody foresaw with their traceback."""
    error = _known(error)
    members, more = problem_of(error), {} if trace is None else {"trace": trace}
    status = int(members["status"])
    if status >= 500 and not isinstance(error, PluginHubError):
        # Extra keyword: Django's own handlers log `request` too, and mail it to the ADMINS with the settings cleansed.
        log.error("%s %s failed", request.method, request.path, exc_info=error, extra={"request": request})
    try:
        return answer(members | more, status=status, revision=revision, headers=_headers(error), content_type=PROBLEM)
    except PluginHubError:  # an error's extra members are the plugin's, and may hold anything
        members = {key: value for key, value in members.items() if isinstance(value, str | int)}
        return answer(members | more, status=status, revision=revision, headers=_headers(error), content_type=PROBLEM)


def _known(error: Exception) -> Exception:
    """Translate Django's errors; those that come out of a plugin stay the plugin's."""
    if isinstance(error, PluginHubError) or place_of(error).plugin:
        return error
    if isinstance(error, Http404):
        return NotFound("There is nothing here.")
    if isinstance(error, PermissionDenied):
        return Forbidden(str(error) or "You may not do this.")
    if isinstance(error, RequestDataTooBig):
        return TooLarge(str(error))
    if isinstance(error, SuspiciousOperation | UnreadablePostError):
        return MalformedInput("The request cannot be read.")
    return error


def _headers(error: Exception) -> dict[str, str]:
    if isinstance(error, Unauthenticated):
        return {"WWW-Authenticate": getattr(error, "challenge", 'Bearer realm="pluginhub"')}
    if isinstance(error, MethodNotAllowed):
        return {"Allow": ", ".join(error.allowed)}
    after = error.extra.get("retry_after") if isinstance(error, PluginHubError) else None
    return {"Retry-After": str(max(1, math.ceil(after)))} if isinstance(after, int | float) else {}
