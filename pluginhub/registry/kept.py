"""The runtimes of this process: loaded at a tenant's first call, leased to runs, let go when they are not needed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from pluginhub import crossing, handoffs, loading, replacing, tenancy
from pluginhub.background import Background
from pluginhub.conf import settings
from pluginhub.presence import Breakers, presence
from pluginhub.runtimes import Runtime
from pluginhub.types import Tenant

__all__ = ["Held", "Kept"]

log = logging.getLogger("pluginhub.registry")


class Enterable(Protocol):
    """What is found in a runtime to be run: it names the turnstiles on its way."""

    @property
    def turnstiles(self) -> tuple[handoffs.Turnstile, ...]: ...


@dataclass(frozen=True, slots=True)
class Held:
    """A runtime and a way into it, both held until `release`."""

    runtime: Runtime
    way: Any

    def release(self) -> None:
        for turnstile in self.way.turnstiles:
            turnstile.leave()
        self.runtime.release()


@dataclass(slots=True)
class _Lease:
    """A runtime that is given back, unless what was looked for in it was found."""

    runtime: Runtime
    is_kept: bool = False

    def give_back(self) -> None:
        if not self.is_kept:
            self.runtime.release()


class Kept:
    """The runtimes by tenant. Lives as long as the process; a forked child starts with none."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything, without deactivating it: after a fork, what was inherited belongs to the parent."""
        self._runtimes: dict[str, Runtime] = {}
        self._locks: dict[str, threading.RLock] = {}
        self._draining: dict[Runtime, float] = {}
        self._background = Background()

    def follow(self, kind: str | None = None) -> None:
        """Begin to follow the fleet, at the first tenant; see `Registry`."""
        raise NotImplementedError

    def clear(self) -> None:
        """Let go of every runtime, and go on following: the next call loads its tenant anew."""
        for runtime in self.runtimes():
            with self._lock(runtime.tenant):
                found = self._runtimes.pop(runtime.tenant.schema, None)
            if found is not None:
                self._retire(found)
        presence.problems.clear()

    # Leasing

    def acquire(self, tenant: Tenant) -> Runtime:
        """Return the tenant's runtime, to be released; loaded when this is its first use. One query, then."""
        while True:
            runtime = self._runtimes.get(tenant.schema)
            if runtime is None:
                runtime = crossing.apart(self._load, tenant)
            if runtime.acquire():
                return runtime

    def loaded(self, tenant: Tenant) -> Runtime | None:
        """Return the tenant's runtime where there is one already, to be looked at only: it may be replaced any time."""
        runtime = self._runtimes.get(tenant.schema)
        if runtime is not None:
            runtime.used = time.monotonic()
        return runtime

    async def aacquire(self, tenant: Tenant) -> Runtime:
        """The asynchronous twin of `acquire`."""
        while True:
            runtime = self._runtimes.get(tenant.schema)
            if runtime is None:
                runtime = await crossing.in_thread(self._load, tenant)
            if runtime.acquire():
                return runtime

    def hold(self, tenant: Tenant, find: Callable[[Runtime], Enterable], seconds: float | None = None) -> Held:
        """Hold the tenant's runtime and what `find` finds in it, where no state is moving; else wait for `seconds`."""
        while True:
            runtime = self.acquire(tenant)
            try:
                way = find(runtime)
                closed = handoffs.enter(way.turnstiles)
            except BaseException:
                runtime.release()
                raise
            if closed is None:
                return Held(runtime, way)
            runtime.release()
            closed.wait(seconds)

    async def ahold(self, tenant: Tenant, find: Callable[[Runtime], Any], seconds: float | None = None) -> Held:
        """The asynchronous twin of `hold`; `find` is asynchronous."""
        while True:
            runtime = await self.aacquire(tenant)
            lease = _Lease(runtime)
            with crossing.holding(lease.give_back):
                way = await find(runtime)
                closed = handoffs.enter(way.turnstiles)
                if closed is None:
                    lease.is_kept = True
                    return Held(runtime, way)
            await closed.await_(seconds)

    def running(self) -> dict[str, int]:
        """Return the revision that runs here, by schema."""
        return {schema: runtime.revision for schema, runtime in list(self._runtimes.items())}

    def breakers(self) -> Breakers:
        """Return the circuit breakers that are not closed, by schema and registration."""
        found: dict[str, dict[str, Any]] = {}
        for schema, runtime in list(self._runtimes.items()):
            for name, breaker in runtime.instances.breakers().items():
                if (data := breaker.data()) is not None:
                    found.setdefault(schema, {})[name] = data
        return found

    def runtimes(self) -> list[Runtime]:
        """Return the runtimes that are loaded, for the one who brings new code."""
        return list(self._runtimes.values())

    # Inside

    def _load(self, tenant: Tenant) -> Runtime:
        self.follow()
        with self._lock(tenant):
            runtime = self._runtimes.get(tenant.schema)
            if runtime is None:
                runtime = replacing.build(tenant, loading.current())
                self._runtimes[tenant.schema] = runtime
                self._make_room(tenant.schema)
            return runtime

    def _retire(self, runtime: Runtime) -> None:
        self._draining[runtime] = time.monotonic() + settings.DRAIN_SECONDS
        runtime.retire(self._end)

    def _end_overdue(self) -> None:
        now = time.monotonic()
        for runtime in [runtime for runtime, until in list(self._draining.items()) if until < now]:
            self._draining.pop(runtime, None)
            left = runtime.end()
            log.warning("%s runs of %s go on with revision %s after its end", left, runtime.tenant, runtime.revision)

    def _make_room(self, kept: str) -> None:
        surplus = len(self._runtimes) - settings.RUNTIMES
        if surplus <= 0:
            return
        idle = [r for schema, r in list(self._runtimes.items()) if schema != kept and not r.busy]
        for runtime in sorted(idle, key=lambda runtime: runtime.used)[:surplus]:
            lock = self._lock(runtime.tenant)
            if not lock.acquire(blocking=False):
                continue  # it is being replaced
            try:
                if self._runtimes.get(runtime.tenant.schema) is not runtime:
                    continue
                del self._runtimes[runtime.tenant.schema]
                presence.problems.pop(runtime.tenant.schema, None)
            finally:
                lock.release()
            self._retire(runtime)

    def _lock(self, tenant: Tenant) -> threading.RLock:
        return self._locks.setdefault(tenant.schema, threading.RLock())

    def _end(self, runtime: Runtime) -> None:
        """Deactivate what is gone in a thread of its own: a plugin that hangs there holds nobody else up."""
        self._draining.pop(runtime, None)
        if not runtime.instances.is_empty:
            self._background.run(f"end {id(runtime)}", tenancy.gate, runtime.tenant, runtime.instances.end)
