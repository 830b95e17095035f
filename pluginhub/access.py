"""Who is asking: users, access tokens, tickets.

A caller is built once at an edge and checked in `execution` and `jobs`, so the edges cannot disagree. What is looked
up in the database (a token's user, a user's permissions) is remembered by this process for `REMEMBER_SECONDS`: so
long may a revoked token or permission live on.

Everything here is of the current tenant: another tenant's token or ticket is as good as none.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser
from django.db import ProgrammingError
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone

from pluginhub import crossing, forks, payloads, tenancy, valkey
from pluginhub.conf import settings
from pluginhub.exceptions import NotReady
from pluginhub.models import AccessToken
from pluginhub.types import ANONYMOUS, Caller, Edge, Tenant

__all__ = [
    "REMEMBER_SECONDS",
    "aauthenticate_bearer",
    "acaller_of",
    "aissue_ticket",
    "aredeem",
    "authenticate_bearer",
    "caller_for",
    "caller_of",
    "forget",
    "issue_ticket",
    "issue_token",
    "redeem",
]

REMEMBER_SECONDS = 1.5
REMEMBERED = 10_000
LAST_USED = timedelta(seconds=60)
"""How exactly `last_used` of a token is kept: finer would be a write a request."""


class _Memory:
    """What was looked up a moment ago, the newest `REMEMBERED` of it. Lives as long as the process."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._lock = threading.Lock()
        self._answers: OrderedDict[tuple[str, ...], tuple[float, Any]] = OrderedDict()

    def get(self, *key: str) -> Any:
        until, answer = self._answers.get(key, (0.0, None))
        return answer if until > monotonic() else None

    def put(self, answer: Any, *key: str, seconds: float = REMEMBER_SECONDS) -> None:
        with self._lock:
            self._answers.pop(key, None)
            self._answers[key] = (monotonic() + min(seconds, REMEMBER_SECONDS), answer)
            if len(self._answers) > REMEMBERED:
                self._answers.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._answers.clear()


_tokens = _Memory()
_permissions = _Memory()
forks.in_child(_tokens.reset, "remembered access tokens")
forks.in_child(_permissions.reset, "remembered permissions")


def forget() -> None:
    """Look tokens and permissions up anew at their next use in this process."""
    _tokens.clear()
    _permissions.clear()


# Users


def caller_for(user: Any, edge: Edge) -> Caller:
    """Return a user as a caller: a superuser is trusted, others may what `get_all_permissions` says. May query."""
    if not user.is_authenticated or not user.is_active:
        return _nobody(edge)
    trusted = bool(getattr(user, "is_superuser", False))
    permissions = frozenset() if trusted else _permissions_of(user)
    return Caller(str(user.get_username()), edge, str(user.pk), permissions, trusted)


def caller_of(request: HttpRequest, edge: Edge) -> Caller:
    """Return who is logged in by session; the anonymous caller if nobody is, or the host knows no users."""
    return caller_for(request.user, edge) if hasattr(request, "user") else _nobody(edge)


async def acaller_of(request: HttpRequest, edge: Edge) -> Caller:
    """The asynchronous twin of `caller_of`."""
    if not hasattr(request, "auser"):
        return _nobody(edge)
    user = await request.auser()
    if not user.is_authenticated or _remembered(user) is not None:
        return caller_for(user, edge)
    return await tenancy.agate(tenancy.current(), caller_for, user, edge)


def _nobody(edge: Edge) -> Caller:
    return replace(ANONYMOUS, edge=edge)


def _remembered(user: AbstractBaseUser) -> Any:
    return True if getattr(user, "is_superuser", False) else _permissions.get(tenancy.current().schema, str(user.pk))


def _permissions_of(user: Any) -> frozenset[str]:
    key = (tenancy.current().schema, str(user.pk))
    known = _permissions.get(*key)
    if known is None:
        known = frozenset(user.get_all_permissions())
        _permissions.put(known, *key)
    return known  # type: ignore[no-any-return]


# Tokens


@dataclass(frozen=True, slots=True)
class _Known:
    caller: Caller
    expires: datetime | None


def issue_token(user: Any, name: str, *, expires: datetime | None = None) -> str:
    """Make an access token for a user of the current tenant and return it: the only time anyone sees it."""
    token = f"ph_{secrets.token_urlsafe(32)}"
    AccessToken.objects.create(user=user, name=name, digest=_digest(token), prefix=token[:8], expires=expires)
    return token


def authenticate_bearer(token: str, edge: Edge = "http") -> Caller | None:
    """Return whose token this is in the current tenant; `None` for unknown, expired, or of a user who is not active."""
    tenant = tenancy.current()
    known = _recent(tenant, token)
    if known is None:
        known = _found(tenant, _digest(token))
        if known is not None:
            _tokens.put(known, tenant.schema, _digest(token))
    return _valid(known, edge)


def _found(tenant: Tenant, digest: str) -> _Known | None:
    try:
        return tenancy.gate(tenant, _look_up, digest)
    except ProgrammingError as error:
        raise NotReady(
            f"Tenant {tenant} has not been migrated.", hint=f"Run manage.py migrate_schemas --schema {tenant.schema}."
        ) from error


async def aauthenticate_bearer(token: str, edge: Edge = "http") -> Caller | None:
    """The asynchronous twin of `authenticate_bearer`."""
    known = _recent(tenancy.current(), token)
    return _valid(known, edge) if known is not None else await crossing.in_thread(authenticate_bearer, token, edge)


def _recent(tenant: Tenant, token: str) -> _Known | None:
    return _tokens.get(tenant.schema, _digest(token))  # type: ignore[no-any-return]


def _valid(known: _Known | None, edge: Edge) -> Caller | None:
    if known is None or (known.expires is not None and known.expires <= timezone.now()):
        return None
    return replace(known.caller, edge=edge)


def _look_up(digest: str) -> _Known | None:
    row = AccessToken.objects.select_related("user").filter(digest=digest).first()
    now = timezone.now()
    if row is None or not row.user.is_active or (row.expires is not None and row.expires <= now):
        return None
    _note_use(row.pk, now)
    return _Known(caller_for(row.user, "http"), row.expires)


def _note_use(pk: int, now: datetime) -> None:
    stale = Q(last_used=None) | Q(last_used__lt=now - LAST_USED)
    AccessToken.objects.filter(stale, pk=pk).update(last_used=now)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


# Tickets


def issue_ticket(caller: Caller) -> str:
    """Return a ticket that logs this caller in once, within `TICKET_SECONDS`. Raises `NotReady` while Redis is down."""
    ticket = secrets.token_urlsafe(24)
    data = {
        "name": caller.name,
        "user_id": caller.user_id,
        "permissions": sorted(caller.permissions),
        "trusted": caller.trusted,
    }
    try:
        valkey.client().set(_ticket_key(ticket), payloads.render(data), ex=settings.TICKET_SECONDS)
    except valkey.Unreachable:
        raise _no_tickets() from None
    return ticket


def redeem(ticket: str, edge: Edge = "http") -> Caller | None:
    """Return whom a ticket of the current tenant logs in, and use it up; `None` for one unknown, used or too old."""
    try:
        data: Any = valkey.client().getdel(_ticket_key(ticket))
    except valkey.Unreachable:
        raise _no_tickets() from None
    if data is None:
        return None
    kept = json.loads(data)
    return Caller(kept["name"], edge, kept["user_id"], frozenset(kept["permissions"]), kept["trusted"])


async def aissue_ticket(caller: Caller) -> str:
    """The asynchronous twin of `issue_ticket`."""
    return await crossing.in_thread(issue_ticket, caller)


async def aredeem(ticket: str, edge: Edge = "http") -> Caller | None:
    """The asynchronous twin of `redeem`."""
    return await crossing.in_thread(redeem, ticket, edge)


def _ticket_key(ticket: str) -> str:
    # The hash, so that who can list Redis' keys holds no ticket; the schema, so that it opens one tenant only.
    return f"pluginhub:ticket:{tenancy.current().schema}:{_digest(ticket)}"


def _no_tickets() -> NotReady:
    return NotReady("Tickets cannot be used while Redis is down.", hint="Use a session or an access token.")
