"""The current tenant: one context variable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from pluginhub.exceptions import NoTenant
from pluginhub.types import Tenant

__all__ = ["current", "current_or_none", "enter"]

_tenant: ContextVar[Tenant | None] = ContextVar("pluginhub_tenant", default=None)


def current() -> Tenant:
    """Return the tenant that has been entered. Raises `NoTenant` where none has."""
    tenant = _tenant.get()
    if tenant is None:
        raise NoTenant(
            "No tenant has been entered.",
            hint="Do this inside tenancy.visit(tenant), or where PluginMiddleware, a job or a consumer entered one.",
        )
    return tenant


def current_or_none() -> Tenant | None:
    return _tenant.get()


@contextmanager
def enter(tenant: Tenant) -> Iterator[Tenant]:
    """Make `tenant` the current one, and leave every connection as it is. Works in both colours."""
    token = _tenant.set(tenant)
    try:
        yield tenant
    finally:
        _tenant.reset(token)
