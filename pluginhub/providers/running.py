"""The services of one run: opened at the first that is asked for, ended with the run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from dishka import Container

from pluginhub import forks
from pluginhub.context import Run
from pluginhub.exceptions import DependencyError
from pluginhub.providers.layers import Layer, inside, shut
from pluginhub.providers.processes import process
from pluginhub.types import Tenant

__all__ = ["RunServices", "ended", "opened"]


class RunServices:
    """One run's containers. Members of a run in several threads share it."""

    __slots__ = ("_closed", "_containers", "_here", "_lock", "_run", "_tenant", "_tenants")

    def __init__(self, run: Run, tenant: Tenant, tenants: Callable[[Layer], Container]) -> None:
        self._run = run
        self._tenant = tenant
        self._tenants = tenants
        self._containers: dict[Layer, Container] = {}
        self._lock = threading.RLock()
        self._closed = False
        self._here = forks.here()

    def get(self, layer: Layer, key: Any) -> Any:
        """Return a service. Raises `DependencyError` once the run has ended."""
        return self._container(layer).get(key)

    def close(self, error: BaseException | None = None) -> None:
        """End the services, last made first; factories that yield get the error that ended the run, if one did.

        Those that fail here are logged, and change nothing: the run has its result.
        """
        with self._lock:
            self._closed = True
            containers, self._containers = self._containers, {}
        if self._here is not forks.here():
            forks.keep(containers)  # the parent's to close
            return
        with inside(self._tenant):
            for layer in sorted(containers, key=lambda each: each.below is None):
                shut(containers[layer], f"run {self._run.id}", error)

    def _container(self, layer: Layer) -> Container:
        container = self._containers.get(layer)
        if container is None:
            parent = self._tenants(layer)
            with self._lock:
                if self._closed:
                    raise _too_late()
                container = self._containers.get(layer)
                if container is None:
                    container = self._containers[layer] = layer.open_run(parent, self._run.caller, self._container)
        return container


class _Over:
    """In place of a run's services: the run has ended."""

    def get(self, layer: Layer, key: Any) -> Any:
        raise _too_late()


_OVER = _Over()


def opened(run: Run, tenant: Tenant, tenants: Callable[[Layer], Container]) -> Any:
    """Return a run's services, opened now if they are not."""
    found = run.opened
    if found is None:
        with process.opening:
            if run.opened is None:
                run.opened = RunServices(run, tenant, tenants)
            found = run.opened
    return found


def ended(run: Run) -> RunServices | None:
    """Note that a run has ended, so that threads it left behind open no services; return those to be closed."""
    with process.opening:
        found, run.opened = run.opened, _OVER
    return found if isinstance(found, RunServices) else None


def _too_late() -> DependencyError:
    return DependencyError("This run has ended: it has no services any more.", hint="Keep nothing of a context.")
