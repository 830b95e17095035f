"""`TenantCache`: values that may vanish, of one registration in one tenant, in Django's `default` cache.

A key carries its schema and registration, so no two tenants meet, whatever the connections of the moment are on. A
cached `None` is a hit. A cache that does not answer is a miss, never an error.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from pluginhub import crossing
from pluginhub.caching.asking import MISSING, ask, cache, get, seconds
from pluginhub.caching.marks import Mark
from pluginhub.context import Run
from pluginhub.drivers import SYNC, AsyncDriver, Driver, drive
from pluginhub.types import Tenant

__all__ = ["TenantCache"]

_KEY_LENGTH = 180


class TenantCache:
    """The cached values of one registration. Lives as long as anyone holds it, and holds nothing itself.

    Every `get` returns a copy of its own. `ttl` is in seconds, rounded up; `None` is the cache's own TIMEOUT.
    """

    __slots__ = ("_prefix",)

    def __init__(self, tenant: Tenant, namespace: str) -> None:
        # Quoted: a schema's name may hold colons, and no two tenants' keys may ever be the same.
        self._prefix = f"pluginhub:{quote(tenant.schema, safe='')}:{namespace}:"

    def get(self, key: str, default: Any = None) -> Any:
        found = get(self._key(key))
        return default if found is MISSING else found

    def set(self, key: str, value: Any, ttl: float | None = None) -> None:
        ask(lambda: cache().set(self._key(key), value, seconds(ttl)))

    def get_or_set(self, key: str, make: Callable[[], Any], ttl: float | None = None) -> Any:
        """Return what is cached, else what `make` returns, and cache that.

        Callers that come while it is made, in whatever thread or process, wait for it, for 10 s at most.
        """

        async def made() -> Any:
            return make()

        return drive(self._once(SYNC, key, made, ttl))

    async def aget(self, key: str, default: Any = None) -> Any:
        return await crossing.in_thread(self.get, key, default)

    async def aset(self, key: str, value: Any, ttl: float | None = None) -> None:
        await crossing.in_thread(self.set, key, value, ttl)

    async def aget_or_set(self, key: str, make: Callable[[], Any], ttl: float | None = None) -> Any:
        """The asynchronous twin of `get_or_set`; `make` may be of either colour."""

        async def made() -> Any:
            result = make()
            return await result if inspect.isawaitable(result) else result

        return await self._once(AsyncDriver(), key, made, ttl)

    async def _once(self, driver: Driver, key: str, make: Callable[[], Awaitable[Any]], ttl: float | None) -> Any:
        if ttl is not None and ttl <= 0:
            return await make()  # kept by nobody, so waited for by nobody
        found = await driver.ask(self.get, key, MISSING)
        if found is not MISSING:
            return found
        mark = Mark(self._key(key))

        async def work() -> Any:
            found = await mark.find(driver, Run())
            if found is MISSING:
                found = await make()
                await mark.keep(driver, found, ttl)
            return found

        return await mark.freeing(driver, work())

    def _key(self, key: str) -> str:
        whole = self._prefix + key
        if len(whole) <= _KEY_LENGTH and whole.isascii() and whole.isprintable() and " " not in whole:
            return whole
        return f"{self._prefix}#{hashlib.sha256(key.encode(errors='surrogatepass')).hexdigest()}"
