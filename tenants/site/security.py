"""The site's content security policy: everything comes from the site itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from typing import Any

from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

__all__ = ["POLICY", "content_security_policy"]

POLICY = "; ".join(
    [
        "default-src 'self'",
        "img-src 'self' data:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    ]
)


@sync_and_async_middleware
def content_security_policy(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Add the policy to every response that brings none of its own."""

    def sync(request: HttpRequest) -> HttpResponseBase:
        return _guard(get_response(request))

    async def asynchronous(request: HttpRequest) -> HttpResponseBase:
        answer: Awaitable[HttpResponseBase] = get_response(request)
        return _guard(await answer)

    return asynchronous if iscoroutinefunction(get_response) else sync


def _guard(response: HttpResponseBase) -> HttpResponseBase:
    response.setdefault("Content-Security-Policy", POLICY)
    return response
