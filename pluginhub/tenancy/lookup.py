"""Finding tenants: by schema, by host name, all of them. Answers are remembered for a few seconds in each process."""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from typing import Any, Generic, TypeVar

from django.db.models import BooleanField, QuerySet
from django.db.models.expressions import RawSQL
from django_tenants.utils import get_public_schema_name, get_tenant_domain_model, get_tenant_model, remove_www

from pluginhub import forks
from pluginhub.exceptions import NoTenant
from pluginhub.tenancy.current import value_of
from pluginhub.tenancy.gates import gate
from pluginhub.types import PUBLIC, Tenant

__all__ = ["find", "forget", "resolve", "tenants"]

T = TypeVar("T")

_HOSTNAME = re.compile(r"[a-z0-9._:\[\]-]{1,253}")


class _Memory(Generic[T]):
    """Answers by key, each for `seconds`, the newest `size` of them: what strangers ask must not grow it."""

    def __init__(self, *, seconds: float, size: int) -> None:
        self._seconds = seconds
        self._size = size
        self.reset()

    def reset(self) -> None:
        self._lock = threading.Lock()
        self._answers: OrderedDict[str, tuple[float, T]] = OrderedDict()

    def get(self, key: str) -> tuple[bool, T | None]:
        until, answer = self._answers.get(key, (0.0, None))
        return (True, answer) if until > time.monotonic() else (False, None)

    def put(self, key: str, answer: T) -> T:
        with self._lock:
            self._answers.pop(key, None)
            self._answers[key] = (time.monotonic() + self._seconds, answer)
            if len(self._answers) > self._size:
                self._answers.popitem(last=False)
        return answer

    def clear(self) -> None:
        with self._lock:
            self._answers.clear()


_by_schema: _Memory[Tenant] = _Memory(seconds=10.0, size=10_000)
_by_host: _Memory[Tenant | None] = _Memory(seconds=5.0, size=10_000)
forks.in_child(_by_schema.reset, "remembered tenants")
forks.in_child(_by_host.reset, "remembered host names")


def forget() -> None:
    """Ask the database anew, for a tenant that has just been made, renamed or dropped."""
    _by_schema.clear()
    _by_host.clear()


def find(schema: str) -> Tenant:
    """Return the tenant of a schema that exists.

    Raises `NoTenant` where the row or the schema is missing: PostgreSQL's `search_path` would silently fall through
    to `public`.
    """
    known, tenant = _by_schema.get(schema)
    if known and tenant:
        return tenant
    if schema == get_public_schema_name():
        return PUBLIC
    row = gate(PUBLIC, lambda: _existing().filter(schema_name=schema).first())
    if row is None:
        raise NoTenant(
            f"There is no tenant with the schema {schema!r}.",
            hint="Check its spelling, and that its schema has been created: manage.py migrate_schemas.",
        )
    return _by_schema.put(schema, value_of(row))


def resolve(host: str) -> Tenant | None:
    """Return the tenant a Host header names, `PUBLIC` for the public site's own host, `None` for nobody's."""
    name = _hostname(host)
    if not _HOSTNAME.fullmatch(name):
        return None
    known, tenant = _by_host.get(name)
    return tenant if known else _by_host.put(name, gate(PUBLIC, _of_domain, name))


def tenants() -> list[Tenant]:
    """Return all tenants whose schema exists, in order of schema, without the public one. One query, not remembered."""
    public = get_public_schema_name()
    rows = gate(PUBLIC, lambda: list(_existing().exclude(schema_name=public).order_by("schema_name")))
    return [value_of(row) for row in rows]


def _existing() -> QuerySet[Any]:
    model = get_tenant_model()
    column = f'"{model._meta.db_table}"."schema_name"'
    there = RawSQL(f"EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = {column})", (), BooleanField())
    rows: QuerySet[Any] = model._default_manager.filter(there)
    return rows


def _of_domain(name: str) -> Tenant | None:
    row = _existing().filter(pk__in=get_tenant_domain_model().objects.filter(domain=name).values("tenant")).first()
    return value_of(row) if row else None


def _hostname(host: str) -> str:
    """Strip what TenantMainMiddleware strips: the port and `www.`."""
    host = host.strip().lower().removesuffix(".")
    name, colon, port = host.rpartition(":")
    stripped = name if colon and port.isdigit() and not name.endswith(":") else host
    return str(remove_www(stripped.removesuffix(".")))
