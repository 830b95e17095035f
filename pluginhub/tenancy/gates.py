"""The one way to a tenant's rows: set, query and restore within a single thread hop."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, TypeVar

from django.db import close_old_connections, connections
from django.db.models.manager import BaseManager
from django.db.models.query import QuerySet, RawQuerySet
from django_tenants.utils import get_tenant_database_alias

from pluginhub import crossing
from pluginhub.exceptions import TenantMismatch
from pluginhub.tenancy.current import current_or_none, enter, value_of
from pluginhub.tenancy.fence import fenced
from pluginhub.types import Tenant

__all__ = ["agate", "around_thread", "gate", "in_transaction", "visit"]

T = TypeVar("T")

_LAZY = (QuerySet, RawQuerySet, BaseManager, Iterator, AsyncIterator)


@contextmanager
def visit(tenant: Any) -> Iterator[Tenant]:
    """Be in `tenant` in this thread: the context variable, the connection and the fence. Restores all three.

    Takes a `Tenant`, a row of the host's tenant model, or a schema's name; none is checked to exist, as `find` does.
    A transaction that is open on the connection goes on; nothing is committed by coming or leaving. Raises
    `TenantMismatch` on an event loop's thread, whose connection serves no query.
    """
    tenant = value_of(tenant)
    _refuse_event_loop(tenant)
    connection: Any = connections[get_tenant_database_alias()]
    before, with_public = connection.tenant, connection.include_public_schema
    there_already = connection.schema_name == tenant.schema and with_public
    with enter(tenant), fenced():
        if not there_already:
            connection.set_schema(tenant.schema)
        try:
            yield tenant
        finally:
            if not there_already or connection.schema_name != tenant.schema:
                connection.set_tenant(before, with_public)


def gate(tenant: Any, f: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Call `f` in `tenant` and return its result. Raises `TenantMismatch` for a lazy one, which would query later."""
    with visit(tenant):
        result = f(*args, **kwargs)
        if isinstance(result, _LAZY) or inspect.isawaitable(result):
            raise TenantMismatch(
                f"A {type(result).__name__} cannot leave the tenant {tenant.schema!r}: it would query elsewhere.",
                hint="Return list(…), or the rows' values.",
            )
        return result


async def agate(tenant: Any, f: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Do the same from asynchronous code: one hop to a thread of the engine's pool and back."""
    return await crossing.in_thread(partial(gate, tenant, f, *args, **kwargs))


@contextmanager
def around_thread() -> Iterator[None]:
    """Surround one piece of work in a pool thread: visit the current tenant, and leave the thread clean."""
    tenant = current_or_none()
    try:
        with visit(tenant) if tenant else nullcontext():
            yield
    finally:
        connection: Any = connections[get_tenant_database_alias()]
        connection.set_schema_to_public()
        close_old_connections()


def in_transaction() -> bool:
    """Say whether this thread's connection is inside an atomic block."""
    return bool(connections[get_tenant_database_alias()].in_atomic_block)


def _refuse_event_loop(tenant: Tenant) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise TenantMismatch(
        f"An event loop's thread cannot visit {tenant.schema!r}: its queries run in other threads.",
        hint="Use await tenancy.agate(tenant, f), or tenancy.enter(tenant) where nothing queries.",
    )
