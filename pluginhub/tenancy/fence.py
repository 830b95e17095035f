"""The fence: no query on a connection that is on another tenant than the one entered.

It stands on every connection of the django-tenants backend, and costs one comparison a query.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from pluginhub.conf import settings
from pluginhub.exceptions import TenantMismatch
from pluginhub.tenancy.connections import remember
from pluginhub.tenancy.current import current_or_none

__all__ = ["TenantCrossing", "fenced", "install"]

log = logging.getLogger("pluginhub.tenancy")

_fenced: ContextVar[bool] = ContextVar("pluginhub_fenced", default=False)

# Statements that touch no table. They must pass: a refused ROLLBACK TO SAVEPOINT leaves the failed block's writes in
# the transaction, and the outer block then commits them.
_HARMLESS = re.compile(r"\s*(SAVEPOINT|ROLLBACK|RELEASE|COMMIT|BEGIN|SET)\b", re.IGNORECASE)


class TenantCrossing(TenantMismatch, DatabaseError):
    """A query was about to run on another tenant's connection.

    It is a database error so that atomic blocks treat it as one: they roll back, and go on working.
    """

    title = "Tenant crossing"


@contextmanager
def fenced() -> Iterator[None]:
    """Refuse every query whose connection is not on the current tenant, or that has no current tenant."""
    token = _fenced.set(True)
    try:
        yield
    finally:
        _fenced.reset(token)


def install() -> None:
    """Put the fence on each connection of this process, those already open included. Again is harmless."""
    connection_created.connect(_on_connect, dispatch_uid="pluginhub.fence")
    for connection in connections.all(initialized_only=True):
        _put_on(connection)


def _on_connect(*, connection: BaseDatabaseWrapper, **_: Any) -> None:
    _put_on(connection)


def _put_on(connection: BaseDatabaseWrapper) -> None:
    # Reconnecting sends the signal again for the same object.
    if hasattr(connection, "search_path_set_schemas") and _fence not in connection.execute_wrappers:
        connection.execute_wrappers.append(_fence)
        remember(connection)


def _fence(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    tenant = current_or_none()
    schema = context["connection"].schema_name
    if tenant is None or tenant.schema != schema:
        _judge(sql, tenant.schema if tenant else None, schema)
    return execute(sql, params, many, context)


def _judge(sql: Any, entered: str | None, schema: str) -> None:
    """Refuse, report or pass a query whose connection does not agree with the current tenant."""
    inside = _fenced.get()
    # Outside of runs, host code and commands such as migrate_schemas move connections without entering a tenant.
    if not inside and (entered is None or settings.FENCE == "runs"):
        return
    if isinstance(sql, str) and _HARMLESS.match(sql):
        return
    if not inside and settings.FENCE == "report":
        log.warning("A query meant for %r ran on a connection that is on %r: %.200s", entered, schema, sql)
        return
    raise _crossing(entered, schema)


def _crossing(entered: str | None, schema: str) -> TenantCrossing:
    if entered is None:
        return TenantCrossing(
            f"A query on {schema!r} was refused: no tenant has been entered here.",
            hint="Run it inside tenancy.visit or tenancy.gate, or with tenancy.agate from asynchronous code.",
        )
    return TenantCrossing(
        f"A query meant for {entered!r} was refused: this thread's connection is on {schema!r}.",
        hint="Set the tenant and query in one thread hop: tenancy.gate, or tenancy.agate from asynchronous code.",
    )
