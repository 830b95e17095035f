"""Who may open a socket.

Origin, Host and tenant must agree. Channels' `AllowedHostsOriginValidator` compares the Origin with ALLOWED_HOSTS, so
that a page of one tenant may open the socket of another; and its sessions are read in one thread hop after another,
in whatever tenant the thread was left. Here all is found out in one hop, inside the tenant that the Host names.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.conf import settings as django_settings
from django.contrib.auth import get_user
from django.db import DatabaseError
from django.http import HttpRequest, parse_cookie

from pluginhub import access, tenancy
from pluginhub.conf import settings
from pluginhub.consumers.frames import SUBPROTOCOL, Code
from pluginhub.exceptions import NotReady
from pluginhub.types import PUBLIC, Caller, Tenant

__all__ = ["Handshake", "Refusal", "Visitor", "admit"]

log = logging.getLogger("pluginhub.consumers")

LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who opened a socket, and where."""

    tenant: Tenant
    caller: Caller


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a socket is closed at once, in at most 123 bytes."""

    code: Code
    reason: str


@dataclass(frozen=True, slots=True)
class Handshake:
    """What the opening request says that matters here. `origin` is `None` where there is none."""

    host: str
    origin: str | None
    bearer: str | None
    ticket: str | None
    session: str | None
    subprotocols: tuple[str, ...]

    @classmethod
    def of(cls, scope: Mapping[str, Any]) -> Handshake:
        """Read an ASGI websocket scope."""
        # Of a header sent twice the last counts, for all that is decided here.
        headers = {name.lower(): value.decode("latin-1").strip() for name, value in scope.get("headers", ())}
        forwarded = headers.get(b"x-forwarded-host") if django_settings.USE_X_FORWARDED_HOST else None
        scheme, _, token = headers.get(b"authorization", "").partition(" ")
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        cookies = parse_cookie(headers.get(b"cookie", ""))
        return cls(
            host=forwarded or headers.get(b"host", ""),
            origin=headers.get(b"origin"),
            bearer=token.strip() if scheme.lower() == "bearer" else None,
            ticket=query.get("ticket", [None])[0],
            session=cookies.get(django_settings.SESSION_COOKIE_NAME) or None,
            subprotocols=tuple(scope.get("subprotocols", ())),
        )


def admit(handshake: Handshake) -> Visitor | Refusal:
    """Find out where a socket belongs and who opens it. Queries, so it belongs in a thread of the pool."""
    if SUBPROTOCOL not in handshake.subprotocols:
        return Refusal(Code.PROTOCOL, f"Offer the subprotocol {SUBPROTOCOL}.")
    try:
        tenant = tenancy.resolve(handshake.host)
        if tenant is None or tenant == PUBLIC:
            return Refusal(Code.FOREIGN, "No tenant has this host.")
        return _refused(handshake, tenant) or _known(handshake, tenant)
    except (DatabaseError, NotReady):
        log.warning("A socket could not be admitted", exc_info=True)
        return Refusal(Code.TRY_LATER, "Who you are cannot be found out now. Try again later.")


def _known(handshake: Handshake, tenant: Tenant) -> Visitor | Refusal:
    with tenancy.visit(tenant):
        caller = _caller(handshake)
    if caller is None or caller.user_id is None:
        return Refusal(Code.ANONYMOUS, "Log in, or send an access token.")
    return Visitor(tenant, caller)


def _caller(handshake: Handshake) -> Caller | None:
    if handshake.bearer is not None:
        return access.authenticate_bearer(handshake.bearer, "websocket")
    if handshake.ticket is not None:
        return access.redeem(handshake.ticket, "websocket")
    if handshake.session is None:
        return None
    request = HttpRequest()
    request.session = import_module(django_settings.SESSION_ENGINE).SessionStore(handshake.session)
    request.user = get_user(request)
    return access.caller_of(request, "websocket")


def _refused(handshake: Handshake, tenant: Tenant) -> Refusal | None:
    """Refuse what a foreign page may have sent: browsers add cookies to it, and the Origin, but no Authorization."""
    if handshake.origin is None:
        ambient = handshake.session is not None or handshake.ticket is not None
        if handshake.bearer is None and ambient:
            return Refusal(Code.FOREIGN, "Without an Origin, send Authorization: Bearer.")
        return None
    origin = _place(handshake.origin)
    if origin is None or not _agrees(origin, handshake.host, tenant):
        return Refusal(Code.FOREIGN, "The Origin is not this host's.")
    return None


def _agrees(origin: tuple[str, str, int], host: str, tenant: Tenant) -> bool:
    scheme, name, _ = origin
    if origin == _place(f"{scheme}://{host}"):
        return True
    if django_settings.DEBUG and name in LOCAL:
        return True
    return any(origin == _place(further) for further in settings.ORIGINS.get(tenant.schema, ()))


def _place(origin: str) -> tuple[str, str, int] | None:
    """Return an origin's scheme, host and port; `None` for what is no origin of a page, such as `null`."""
    try:
        parts = urlsplit(origin)
        port = parts.port or _PORTS[parts.scheme]
    except (ValueError, KeyError):
        return None
    return (parts.scheme, parts.hostname, port) if parts.hostname else None
