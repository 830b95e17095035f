"""Letting the anonymous in: to targets marked public, and only so often.

Calls are counted in fixed windows, each client by itself, in Redis; in this process while Redis is down.
"""

from __future__ import annotations

import functools
import re
import threading
import time
from dataclasses import dataclass, replace

from pluginhub import crossing, forks, registry, tenancy, valkey
from pluginhub.exceptions import HookError, NotReady, RateLimited, UnknownTarget
from pluginhub.execution import RUN
from pluginhub.types import ANONYMOUS, Caller, Tenant

__all__ = ["PUBLIC_CALLER", "RateLimit", "aadmit", "admit"]

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
PAUSE_SECONDS = 2.0
"""How long Redis is left alone after it failed, so that no request waits for it in vain."""
KEPT = 10_000

PUBLIC_CALLER = replace(ANONYMOUS, permissions=frozenset({RUN}))
"""The anonymous, once admitted."""

_WRITTEN = re.compile(r"([1-9][0-9]{0,8})/([smhd])", re.ASCII)


def admit(target: str, client: str) -> Caller:
    """Return as whom a stranger at the address `client` may run a public target of the current tenant, now.

    Raises `UnknownTarget` for one that is not public, as if it did not exist, and `RateLimited`.
    """
    tenant = tenancy.current()
    with registry.lease(tenant) as runtime:
        specs = [spec for _, spec in runtime.configuration.targets()]
    limits = {spec.name: spec.rate_limit for spec in specs if spec.public and spec.enabled}
    if target not in limits:
        raise UnknownTarget(target, limits, kind="public target")
    if not limits[target]:
        raise NotReady(f"The public target {target!r} has no rate limit.", hint="Give it one, and publish.")
    RateLimit.parse(limits[target]).hit(tenant, target, client)
    return PUBLIC_CALLER


async def aadmit(target: str, client: str) -> Caller:
    """The asynchronous twin of `admit`."""
    return await crossing.in_thread(admit, target, client)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """So many calls in each window of so many seconds."""

    calls: int
    seconds: int

    @classmethod
    @functools.lru_cache(maxsize=1024)
    def parse(cls, text: str) -> RateLimit:
        """Read `"60/m"`: calls per s, m, h or d. Raises `HookError` for anything else."""
        written = _WRITTEN.fullmatch(text)
        if written is None:
            raise HookError(f"{text!r} is no rate limit.", hint="Write calls per s, m, h or d, such as 60/m.")
        return cls(int(written[1]), SECONDS[written[2]])

    def hit(self, tenant: Tenant, name: str, client: str) -> None:
        """Count one call of `client` and raise `RateLimited` when it is one too many."""
        now = time.time()
        window = int(now // self.seconds)
        key = f"pluginhub:rate:{tenant.schema}:{name}:{client}:{self.seconds}:{window}"
        if _count(key, self.seconds) > self.calls:
            raise RateLimited(
                f"{name!r} takes {self.calls:,} calls in {self.seconds:,} s from one client.",
                retry_after=(window + 1) * self.seconds - now,
            )


class _Counts:
    """Counts of this process, for while Redis is away. Forgets all when they are many: strangers choose the keys."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self.until = 0.0

    def add(self, key: str) -> int:
        with self._lock:
            if len(self._counts) >= KEPT:
                self._counts.clear()
            self._counts[key] = count = self._counts.get(key, 0) + 1
            return count


_local = _Counts()
forks.in_child(_local.reset, "counts of anonymous calls")


def _count(key: str, seconds: int) -> int:
    if time.monotonic() < _local.until:
        return _local.add(key)
    try:
        with valkey.client().pipeline(transaction=True) as pipe:
            pipe.incr(key)
            pipe.expire(key, seconds + 1, nx=True)
            return int(pipe.execute()[0])
    except valkey.Unreachable:
        _local.until = time.monotonic() + PAUSE_SECONDS
        return _local.add(key)
