"""One set of providers at work: the containers that it opens, and what it hands up to the layer above."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import Context
from functools import partial
from typing import Any

from dishka import Container, Provider, from_context
from dishka.exceptions import ExitError

from pluginhub import tenancy
from pluginhub.providers.graphs import Graph
from pluginhub.scopes import RUN, TENANT
from pluginhub.types import Caller, Tenant

__all__ = ["Layer", "Proxies", "inside", "shut"]

log = logging.getLogger("pluginhub.providers")

Ask = Callable[[Any], Any]
"""Returns a service by its type."""


class Layer:
    """One set of providers at work. Its process services live until `close`, at the latest."""

    def __init__(self, graph: Graph, below: Layer | None = None, problems: tuple[str, ...] = ()) -> None:
        self.graph = graph
        self.below = below
        """The host's layer, for that of plugin packages."""
        self.problems = problems
        """Why some of its providers were left out."""
        self._lock = threading.Lock()
        self._users = 0
        self.closed = False

    def get(self, key: Any) -> Any:
        """Return a process service. It is made without any tenant: it would serve all others, too."""
        return Context().run(_fenced, self.graph.root.get, key)

    def open_tenant(self, tenant: Tenant, open_below: Callable[[Layer], Any]) -> Container:
        """Open a tenant's container; `open_below` returns the same tenant's of another layer."""
        given: dict[Any, Any] = {Tenant: tenant}
        if self.below is not None:
            given[_OfTenant] = _OfTenant(partial(_ask, open_below, self.below))
        container = self.graph.root(given, threading.RLock, scope=TENANT)
        container.parent_getter = self.get
        return container

    def open_run(self, tenants: Container, caller: Caller, open_below: Callable[[Layer], Any]) -> Container:
        """Open a run's container inside its tenant's; `open_below` returns the same run's of another layer."""
        given: dict[Any, Any] = {Caller: caller}
        if self.below is not None:
            given[_OfRun] = _OfRun(partial(_ask, open_below, self.below))
        return tenants(given, threading.RLock, scope=RUN)

    def enter(self) -> bool:
        """Count one more tenant that uses it; false when it has been closed."""
        with self._lock:
            self._users += not self.closed
            return not self.closed

    def leave(self) -> None:
        """Count a tenant out; the last one closes it."""
        with self._lock:
            self._users -= 1
            self.closed = self.closed or self._users == 0
            is_last = self._users == 0
        if is_last:
            self.close()

    def close(self) -> None:
        """End the process services, last made first; without any tenant, as they were made."""
        self.closed = True
        Context().run(shut, self.graph.root, "the process")


def shut(container: Container, whose: str, error: BaseException | None = None) -> None:
    """End what a container made, last first, past failures, which are logged. An interrupt is raised afterwards."""
    interrupt: BaseException | None = None
    while True:
        try:
            container.close(error)
        except ExitError as failures:
            for failure in failures.exceptions:
                log.error("A service of %s did not end cleanly", whose, exc_info=failure)
        except SystemExit as failure:
            log.error("A service of %s tried to end the process", whose, exc_info=failure)
            continue  # it kept the others from their turn
        except BaseException as failure:
            interrupt = failure
            continue
        break
    if interrupt is not None:
        raise interrupt


def inside(tenant: Tenant) -> AbstractContextManager[Any]:
    """Be in a tenant as far as this thread may: an event loop's has no connection of its own."""
    if tenancy.current_or_none() == tenant:
        return tenancy.fenced()
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return tenancy.visit(tenant)
    return tenancy.enter(tenant)


class _OfTenant:
    """How the layer above gets at the host's services of a tenant."""

    def __init__(self, get: Ask) -> None:
        self.get = get


class _OfRun(_OfTenant):
    """How the layer above gets at the host's services of a run."""


class Proxies(Provider):
    """What the host provides, handed up to the layer above."""

    tenants = from_context(_OfTenant, scope=TENANT)
    runs = from_context(_OfRun, scope=RUN)

    def __init__(self, below: Layer) -> None:
        super().__init__()
        for factory in below.graph.factories():
            kind, scope = factory.provides.type_hint, factory.scope
            self.provide(
                _handing_up(kind, scope, below), provides=kind, scope=scope, cache=factory.cache, override=True
            )


def _handing_up(kind: Any, scope: Any, below: Layer) -> Callable[..., Any]:
    def of_run(run: _OfRun) -> Any:
        return run.get(kind)

    def of_tenant(tenant: _OfTenant) -> Any:
        return tenant.get(kind)

    def of_process() -> Any:
        return below.get(kind)

    return of_run if scope is RUN else of_tenant if scope is TENANT else of_process


def _ask(open_below: Callable[[Layer], Any], below: Layer, kind: Any) -> Any:
    return open_below(below).get(kind)


def _fenced(get: Ask, key: Any) -> Any:
    with tenancy.fenced():
        return get(key)
