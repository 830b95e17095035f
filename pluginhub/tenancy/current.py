"""The current tenant: one context variable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django_tenants.utils import get_public_schema_name

from pluginhub.exceptions import NoTenant
from pluginhub.types import PUBLIC, Tenant

__all__ = ["current", "current_or_none", "enter", "value_of"]

KNOWN = 10_000
"""How many tenants' values are remembered."""

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


def value_of(tenant: Any) -> Tenant:
    """Return a tenant as a value: from a row of the host's tenant model, a schema's name, or a value itself."""
    if isinstance(tenant, Tenant):
        return tenant
    if isinstance(tenant, str):
        schema, name = tenant, ""
    else:
        schema, name = tenant.schema_name, str(getattr(tenant, "name", ""))
    known = _values.get((schema, name))
    return known if known is not None else _remember(schema, name)


# Asking for the public schema's name costs more than all the rest of a request without interceptors.
_values: dict[tuple[str, str], Tenant] = {}


def _remember(schema: str, name: str) -> Tenant:
    if len(_values) >= KNOWN:
        _values.clear()
    value = PUBLIC if schema == get_public_schema_name() else Tenant(schema, name or schema)
    return _values.setdefault((schema, name), value)


@contextmanager
def enter(tenant: Any) -> Iterator[Tenant]:
    """Make `tenant` the current one, and leave every connection as it is. Works in both colours.

    Takes what `value_of` takes.
    """
    entered = value_of(tenant)
    token = _tenant.set(entered)
    try:
        yield entered
    finally:
        _tenant.reset(token)
