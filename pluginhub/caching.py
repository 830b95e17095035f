"""`TenantCache`: values that may vanish, of one registration in one tenant, in Django's `default` cache.

A key carries its schema and registration, so no two tenants meet, whatever the connections of the moment are on. A
cached `None` is a hit. A cache that does not answer is a miss, never an error, and is left alone for a while: each try
may cost seconds.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import math
import time
from collections.abc import Callable
from typing import Any

from django.core.cache import cache
from django.core.cache.backends.base import DEFAULT_TIMEOUT
from redis.exceptions import RedisError

from pluginhub import crossing
from pluginhub.types import Tenant

__all__ = ["PAUSE_SECONDS", "TenantCache"]

log = logging.getLogger("pluginhub.caching")

PAUSE_SECONDS = 5.0
"""How long a cache that failed is not asked."""

_MISSING = object()
_DOWN = (RedisError, OSError)
_KEY_LENGTH = 180


class TenantCache:
    """The cached values of one registration. Lives as long as anyone holds it, and holds nothing itself.

    Every `get` returns a copy of its own. `ttl` is in seconds, rounded up; `None` is the cache's own TIMEOUT.
    """

    __slots__ = ("_prefix",)

    def __init__(self, tenant: Tenant, namespace: str) -> None:
        self._prefix = f"pluginhub:{tenant.schema}:{namespace}:"

    def get(self, key: str, default: Any = None) -> Any:
        found = _ask(lambda: cache.get(self._key(key), _MISSING))
        return default if found is _MISSING else found

    def set(self, key: str, value: Any, ttl: float | None = None) -> None:
        _ask(lambda: cache.set(self._key(key), value, _seconds(ttl)))

    def get_or_set(self, key: str, make: Callable[[], Any], ttl: float | None = None) -> Any:
        """Return what is cached, else what `make` returns, and cache that."""
        found = self.get(key, _MISSING)
        if found is _MISSING:
            found = make()
            self.set(key, found, ttl)
        return found

    async def aget(self, key: str, default: Any = None) -> Any:
        return await crossing.in_thread(self.get, key, default)

    async def aset(self, key: str, value: Any, ttl: float | None = None) -> None:
        await crossing.in_thread(self.set, key, value, ttl)

    async def aget_or_set(self, key: str, make: Callable[[], Any], ttl: float | None = None) -> Any:
        """The asynchronous twin of `get_or_set`; `make` may be of either colour."""
        found = await self.aget(key, _MISSING)
        if found is _MISSING:
            found = make()
            if inspect.isawaitable(found):
                found = await found
            await self.aset(key, found, ttl)
        return found

    def _key(self, key: str) -> str:
        whole = self._prefix + key
        if len(whole) <= _KEY_LENGTH and whole.isascii() and whole.isprintable() and " " not in whole:
            return whole
        return f"{self._prefix}#{hashlib.sha256(key.encode(errors='surrogatepass')).hexdigest()}"


class _Outage:
    """Until when the cache is not asked, on the clock of `time.monotonic`. One per process."""

    until = 0.0


def _ask(question: Callable[[], Any]) -> Any:
    if time.monotonic() < _Outage.until:
        return _MISSING
    try:
        return question()
    except _DOWN as error:
        _Outage.until = time.monotonic() + PAUSE_SECONDS
        log.warning("The cache does not answer and is not asked for %g s: %s", PAUSE_SECONDS, error)
        return _MISSING


def _seconds(ttl: float | None) -> Any:
    return DEFAULT_TIMEOUT if ttl is None else max(0, math.ceil(ttl))
