"""`TenantStorage`: durable JSON values of one registration in one tenant.

Each call is one SQL statement on the calling thread's connection, in its transaction if one is open. The asynchronous
twins run in a thread of the engine's pool, and so outside of any transaction of the caller.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeAlias

from django.db import connections
from django_tenants.utils import get_tenant_database_alias

from pluginhub import payloads, tenancy
from pluginhub.conf import settings
from pluginhub.exceptions import InvalidInput, MalformedInput
from pluginhub.types import Json

__all__ = ["TenantStorage"]

KEY_LENGTH = 500

_WRITE = (
    "INSERT INTO pluginhub_storedvalue (schema, namespace, key, value, updated) VALUES (%s, %s, %s, %s::jsonb, now())"
)
_GET = "SELECT value::text FROM pluginhub_storedvalue WHERE namespace = %s AND key = %s"
_SET = f"{_WRITE} ON CONFLICT (namespace, key) DO UPDATE SET value = EXCLUDED.value, updated = now()"
_DELETE = "DELETE FROM pluginhub_storedvalue WHERE namespace = %s AND key = %s RETURNING key"
_LIST = """
    SELECT key, value::text FROM pluginhub_storedvalue
    WHERE namespace = %s AND key > %s AND starts_with(key, %s) ORDER BY key LIMIT %s
"""
# The stored number is added to where it is one; else nothing is returned.
_INCREMENT = rf"""
    {_WRITE.replace("INTO pluginhub_storedvalue", "INTO pluginhub_storedvalue AS stored")}
    ON CONFLICT (namespace, key) DO UPDATE
    SET value = to_jsonb((stored.value #>> '{{}}')::numeric + (EXCLUDED.value #>> '{{}}')::numeric), updated = now()
    WHERE stored.value::text ~ '^-?[0-9]+$'
    RETURNING value::text
"""
_SET_IF_ABSENT = rf"""
    {_WRITE.replace("INTO pluginhub_storedvalue", "INTO pluginhub_storedvalue AS stored")}
    ON CONFLICT (namespace, key) DO UPDATE SET value = EXCLUDED.value, updated = now()
    WHERE stored.value = 'null'::jsonb RETURNING key
"""
_SET_IF_SAME = """
    UPDATE pluginhub_storedvalue SET value = %s::jsonb, updated = now()
    WHERE namespace = %s AND key = %s AND value = %s::jsonb
    RETURNING key
"""


Pairs: TypeAlias = list[tuple[str, Any]]  # inside the class, `list` is a method


class TenantStorage:
    """The values of one namespace: a registration's name, or `""` for what the tenant's plugins share.

    Takes a tenant as a value, a row of the host's model, or a schema's name. Lives as long as anyone holds it, and
    holds nothing itself. Values are plain JSON, within the limits on a body.
    PostgreSQL keeps numbers as decimals: a float without a fraction may come back as an `int`.
    """

    __slots__ = ("namespace", "tenant")

    def __init__(self, tenant: Any, namespace: str = "") -> None:
        self.tenant = tenancy.value_of(tenant)
        self.namespace = namespace

    @property
    def shared(self) -> TenantStorage:
        """The same store, for all of the tenant's registrations together."""
        return TenantStorage(self.tenant)

    def get(self, key: str, default: Any = None) -> Any:
        rows = self._execute(_GET, (self.namespace, _key(key)))
        return json.loads(rows[0][0]) if rows else default

    def set(self, key: str, value: Json) -> None:
        self._execute(_SET, (*self._place(key), _value(value)))

    def delete(self, key: str) -> bool:
        """Return whether there was something to delete."""
        return bool(self._execute(_DELETE, (self.namespace, _key(key))))

    def list(self, prefix: str = "", *, after: str = "", limit: int = 1000) -> Pairs:
        """Return `(key, value)` pairs in order of the keys' code points: those with `prefix`, after `after`."""
        rows = self._execute(_LIST, (self.namespace, after, prefix, limit))
        return [(key, json.loads(value)) for key, value in rows]

    def increment(self, key: str, by: int = 1) -> int:
        """Add atomically and return the new number; a missing key counts as 0. Refuses what is no whole number."""
        rows = self._execute(_INCREMENT, (*self._place(key), _value(int(by))))
        if not rows:
            raise InvalidInput(f"The value at {key!r} is no whole number.", hint="Use another key, or set it first.")
        return int(rows[0][0])

    def compare_and_set(self, key: str, old: Json, new: Json) -> bool:
        """Set `new` if the value is `old`, atomically, and say whether it was. `None` is no value, or a stored null."""
        if old is None:
            return bool(self._execute(_SET_IF_ABSENT, (*self._place(key), _value(new))))
        return bool(self._execute(_SET_IF_SAME, (_value(new), self.namespace, _key(key), _value(old))))

    async def aget(self, key: str, default: Any = None) -> Any:
        return await tenancy.agate(self.tenant, self.get, key, default)

    async def aset(self, key: str, value: Json) -> None:
        await tenancy.agate(self.tenant, self.set, key, value)

    async def adelete(self, key: str) -> bool:
        return await tenancy.agate(self.tenant, self.delete, key)

    async def alist(self, prefix: str = "", *, after: str = "", limit: int = 1000) -> Pairs:
        return await tenancy.agate(self.tenant, self.list, prefix, after=after, limit=limit)

    async def aincrement(self, key: str, by: int = 1) -> int:
        return await tenancy.agate(self.tenant, self.increment, key, by)

    async def acompare_and_set(self, key: str, old: Json, new: Json) -> bool:
        return await tenancy.agate(self.tenant, self.compare_and_set, key, old, new)

    def _place(self, key: str) -> tuple[str, str, str]:
        return self.tenant.schema, self.namespace, _key(key)

    def _execute(self, sql: str, parameters: Sequence[Any]) -> Sequence[Any]:
        with tenancy.visit(self.tenant), connections[get_tenant_database_alias()].cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchall() if cursor.description else ()


def _key(key: str) -> str:
    if not (0 < len(key) <= KEY_LENGTH) or "\0" in key:
        raise InvalidInput(f"{key!r:.80} is no key.", hint=f"A key is a text of 1 to {KEY_LENGTH} characters.")
    return key


def _value(value: Json) -> str:
    """Return a value as JSON text. Raises `InvalidInput` for what PostgreSQL cannot keep."""
    try:
        plain = payloads.check(
            value, max_bytes=settings.MAX_BODY_BYTES, max_depth=settings.MAX_DEPTH, max_nodes=settings.MAX_NODES
        )
    except MalformedInput as error:
        raise InvalidInput(f"The value cannot be stored. {error.detail}", hint="Store plain JSON.") from None
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))
