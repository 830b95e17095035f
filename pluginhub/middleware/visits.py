"""What a request holds while it is among interceptors: the tenant's runtime, and a place at their turnstiles."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from django.http import HttpRequest

from pluginhub import handoffs
from pluginhub.conf import settings
from pluginhub.handoffs import Turnstile
from pluginhub.middleware import choosing
from pluginhub.presence import presence
from pluginhub.registry import registry
from pluginhub.runtimes import Runtime
from pluginhub.types import PUBLIC, Tenant
from pluginhub.ways import RequestLayer

__all__ = ["Visit", "abegin", "begin"]

log = logging.getLogger("pluginhub.middleware")


class Visit:
    """One request's. Begins held and counted; `inside` ends that. Lives as long as the request and its body."""

    __slots__ = ("_runtime", "_turnstiles", "layers")

    def __init__(self, runtime: Runtime, layers: Sequence[RequestLayer], turnstiles: Sequence[Turnstile]) -> None:
        self.layers = layers
        self._runtime = runtime
        self._turnstiles = turnstiles

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Be among the interceptors. What the view runs meanwhile need not wait where it waits for this request."""
        try:
            with handoffs.staying(self._turnstiles):
                yield
        finally:
            self._runtime.release()

    @contextmanager
    def elsewhere(self) -> Iterator[None]:
        """Be among them in another thread, which may outlast the task that waits for it."""
        if not self._runtime.acquire():
            raise asyncio.CancelledError  # that task has gone, and the runtime with it
        for turnstile in self._turnstiles:
            presence.lost += not turnstile.go_on()
        with self.inside():
            yield

    def linger(self) -> Callable[[], None]:
        """Hold on for a body that is iterated later, as an open stream does; return what lets go."""
        self._runtime.acquire()  # which it does: this is called inside
        for turnstile in self._turnstiles:
            turnstile.attend()
        return partial(_part, self._runtime, self._turnstiles)


def begin(tenant: Tenant, request: HttpRequest) -> Visit | None:
    """Enter among the interceptors of a request, when no state is moving; `None` where there are none.

    Raises `DeadlineExceeded` where that takes longer than a run may.
    """
    if _is_bare(tenant):
        return None
    while (runtime := _acquired(tenant)) is not None:
        visit = None
        try:
            layers = choosing.chosen(choosing.layers(runtime), request) if choosing.concerned(runtime, request) else []
            visit, closed = _entered(runtime, layers)
        finally:
            if visit is None:
                runtime.release()
        if closed is None:
            return visit
        closed.wait(settings.RUN_SECONDS)
    return None


async def abegin(tenant: Tenant, request: HttpRequest) -> Visit | None:
    """The asynchronous twin of `begin`."""
    if _is_bare(tenant):
        return None
    while (runtime := await _aacquired(tenant)) is not None:
        visit = None
        try:
            is_concerned = choosing.concerned(runtime, request)
            layers = choosing.chosen(await choosing.alayers(runtime), request) if is_concerned else []
            visit, closed = _entered(runtime, layers)
        finally:
            if visit is None:
                runtime.release()
        if closed is None:
            return visit
        await closed.await_(settings.RUN_SECONDS)
    return None


def _is_bare(tenant: Tenant) -> bool:
    """Say whether a tenant is loaded and wraps no requests: what most are, and what is told by two looks."""
    runtime = registry.loaded(tenant)
    return runtime is not None and not runtime.wrappers.wraps_requests


def _entered(runtime: Runtime, layers: Sequence[RequestLayer]) -> tuple[Visit | None, Turnstile | None]:
    """Enter the turnstiles of layers: return the visit, if there are layers, and what to wait for, if one is closed."""
    turnstiles = tuple({layer.turnstile: None for layer in layers if layer.turnstile is not None})
    closed = handoffs.enter(turnstiles)
    return Visit(runtime, layers, turnstiles) if layers and closed is None else None, closed


def _part(runtime: Runtime, turnstiles: Sequence[Turnstile]) -> None:
    for turnstile in turnstiles:
        turnstile.part()
    runtime.release()


# Tenants without a runtime (not migrated, unreadable) get the host's own response, and are not asked for at every one.
_absent: dict[str, float] = {}


def _acquired(tenant: Tenant) -> Runtime | None:
    if tenant is PUBLIC or _is_absent(tenant):
        return None
    try:
        return registry.acquire(tenant)
    except Exception as error:
        _note_absent(tenant, error)
        return None


async def _aacquired(tenant: Tenant) -> Runtime | None:
    if tenant is PUBLIC or _is_absent(tenant):
        return None
    try:
        return await registry.aacquire(tenant)
    except Exception as error:
        _note_absent(tenant, error)
        return None


def _is_absent(tenant: Tenant) -> bool:
    return bool(_absent) and _absent.get(tenant.schema, 0.0) > time.monotonic()


def _note_absent(tenant: Tenant, error: Exception) -> None:
    _absent[tenant.schema] = time.monotonic() + settings.POLL_SECONDS
    log.warning("Tenant %s is served without interceptors: %s", tenant, error)
