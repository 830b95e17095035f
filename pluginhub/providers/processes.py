"""The layers of this process: the host's, kept for good; and that of plugin packages, as long as it is in use.

The host's services are never made twice. Where packages bring providers too, theirs form a layer above the host's: what
the host provides is handed up, and wins.
"""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakValueDictionary

from dishka import Provider
from django.core.signals import setting_changed

from pluginhub import forks
from pluginhub.providers.graphs import Graph, ProvidersError
from pluginhub.providers.layers import Layer, Proxies
from pluginhub.providers.sources import PackageProvider, host_providers, of_packages
from pluginhub.scopes import PROCESS

__all__ = ["close", "host", "is_stale", "overridden", "overriding", "packages", "process"]

log = logging.getLogger("pluginhub.providers")


class _Process:
    """What this process keeps of services; a forked child keeps its own."""

    def __init__(self) -> None:
        self.overrides: dict[Any, Any] = {}
        self.tenants: WeakValueDictionary[Any, Any] = WeakValueDictionary()
        self.open: set[Any] = set()
        self.reset()

    def reset(self) -> None:
        self.lock = threading.RLock()
        """Held while layers are made."""
        self.counting = threading.Lock()
        """Held for a moment, where tenants' services are found and counted."""
        self.opening = threading.Lock()
        """Held for a moment, where a run's services are opened or ended: one lock for all costs a run nothing."""
        self.host: Layer | ProvidersError | None = None
        self.packages: WeakValueDictionary[Any, Layer] = WeakValueDictionary()

    def anew(self) -> None:
        """Begin with nothing: what was inherited is the parent's to close."""
        forks.keep(self.host, list(self.packages.values()), list(self.tenants.values()), self.open)
        self.tenants, self.open = WeakValueDictionary(), set()
        self.reset()


process = _Process()
forks.in_child(process.anew, "the containers of services")


def host() -> Layer:
    """Return the host's layer. Raises `ProvidersError`, also later, until the setting changes."""
    found = process.host
    if found is None:
        with process.lock:
            if process.host is None:
                process.host = _host()
            found = process.host
    if isinstance(found, ProvidersError):
        raise ProvidersError(found.detail, hint=found.hint)
    return found


def is_stale(layer: Layer) -> bool:
    """Say whether another layer must be used in its place: it was closed, or stands on services of before."""
    return layer.closed or (layer.below is not None and layer.below is not process.host)


def packages(sources: tuple[PackageProvider, ...]) -> Layer | None:
    """Return the layer of plugin packages' providers, imported at its first use; `None` where there are none."""
    if not sources:
        return None
    key = tuple((source.name, source.dotted, source.label) for source in sources)
    with process.lock:
        found = process.packages.get(key)
        if found is None or is_stale(found):
            below = host()
            proxies = Proxies(below)
            providers, problems = of_packages(sources, lambda them: Graph([*them, proxies], strict=True))
            graph = Graph([*providers, proxies], strict=True)
            found = process.packages[key] = Layer(graph, below, tuple(problems))
        return found


def close() -> None:
    """End all services of this process; the next to be asked for are made anew."""
    with process.lock:
        layer, process.host = process.host, None
    for services in list(process.open):
        services.shut()
    if isinstance(layer, Layer):
        layer.close()


def overridden(wanted: Any) -> tuple[Any, ...]:
    """Return the service that a test gave in a type's place, as the one element; or nothing."""
    given = process.overrides
    return (given[wanted],) if given and wanted in given else ()


@contextmanager
def overriding(services: Mapping[Any, Any]) -> Iterator[None]:
    """Provide these services, by type, in place of the real ones within the block, and to whatever takes them.

    All services of the process are ended before and after.
    """
    before = process.overrides
    close()
    process.overrides = {**before, **services}
    try:
        yield
    finally:
        close()
        process.overrides = before


def _host() -> Layer | ProvidersError:
    try:
        providers = host_providers()
        if process.overrides:
            providers.append(_overrides(providers))
        return Layer(Graph(providers))
    except ProvidersError as error:
        log.error("No service of the host can be made: %s", error)
        return error


def _overrides(providers: list[Provider]) -> Provider:
    """Return what stands in for services, each with the lifetime of what it stands for."""
    try:
        real: Graph | None = Graph(providers)
    except ProvidersError:  # what is missing may be what is given
        real = None
    instead = Provider()
    for kind, instance in process.overrides.items():
        found = real.find(kind) if real is not None else None
        instead.provide(_giving(instance), provides=kind, scope=found.scope if found else PROCESS)
    return instead


def _giving(instance: Any) -> Callable[[], Any]:
    def give() -> Any:
        return instance

    return give


def _on_setting_changed(*, setting: str, **_: Any) -> None:
    if setting == "PLUGINHUB":
        close()


setting_changed.connect(_on_setting_changed, dispatch_uid="pluginhub.providers")
atexit.register(close)
