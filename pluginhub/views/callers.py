"""Who sends a request: a bearer token, a ticket, or a session with Django's CSRF token."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.middleware.csrf import CsrfViewMiddleware

from pluginhub import access
from pluginhub.exceptions import Forbidden, Unauthenticated
from pluginhub.types import Caller
from pluginhub.views.answers import WrongCredentials
from pluginhub.views.calls import Call

__all__ = ["identify"]

SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")


async def identify(call: Call, *, tickets: bool = False) -> Caller:
    """Return who asks. Raises `Unauthenticated`, or `Forbidden` for a session whose CSRF token is missing or wrong.

    A token that is sent must hold: a wrong one is refused even where a session would do.
    """
    request = call.request
    if (header := request.headers.get("Authorization")) is not None:
        return await _bearer(call, header)
    if tickets and (ticket := request.GET.get("ticket")):
        holder = await call.either(access.redeem, access.aredeem, ticket, "http")
        return _known(holder, "This ticket is unknown to this tenant, used or too old.")
    caller = await call.either(access.caller_of, access.acaller_of, request, "http")
    if caller.user_id is None:
        raise Unauthenticated("Nobody is logged in.", hint="Log in, or send 'Authorization: Bearer <access token>'.")
    if request.method not in SAFE:
        _check_csrf(request)
    return caller


async def _bearer(call: Call, header: str) -> Caller:
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise WrongCredentials("The Authorization header is not 'Bearer' and a token.")
    holder = await call.either(access.authenticate_bearer, access.aauthenticate_bearer, token.strip(), "http")
    return _known(holder, "This access token is unknown to this tenant or expired, or its user is not active.")


def _known(caller: Caller | None, otherwise: str) -> Caller:
    if caller is None:
        raise WrongCredentials(otherwise)
    return caller


class _CsrfCheck(CsrfViewMiddleware):
    def _reject(self, request: HttpRequest, reason: str) -> Any:
        return reason


def _check_csrf(request: HttpRequest) -> None:
    check = _CsrfCheck(lambda _: None)  # type: ignore[arg-type]
    check.process_request(request)
    reason = check.process_view(request, None, (), {})  # type: ignore[arg-type]
    if reason:
        raise Forbidden(
            f"The CSRF check failed: {reason}",
            hint="Send the CSRF cookie's value as the header X-CSRFToken, or use an access token.",
        )
