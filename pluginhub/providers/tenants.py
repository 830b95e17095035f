"""The services of one tenant, as long as it is in use in this process."""

from __future__ import annotations

import threading
from typing import Any

from dishka import Container

from pluginhub import forks, loading
from pluginhub.context import Run
from pluginhub.injection import Missing, RunOnly
from pluginhub.loading import Code
from pluginhub.providers.graphs import Found
from pluginhub.providers.layers import Layer, inside, shut
from pluginhub.providers.processes import host, is_stale, packages, process
from pluginhub.providers.running import opened
from pluginhub.providers.sources import PackageProvider, packages_of
from pluginhub.scopes import RUN, TENANT
from pluginhub.types import Tenant

__all__ = ["TenantServices", "of", "sources_of"]


def of(tenant: Tenant, code: Code | None = None) -> TenantServices:
    """Return a tenant's services, with packages' providers as they are in a generation of code: the current one.

    The same object for all who ask while anybody keeps it. Hold it as long as what it gave is in use.
    """
    code = code or loading.current()
    sources = packages_of(code)
    key = (tenant, sources_of(code))
    with process.counting:
        services: TenantServices | None = process.tenants.get(key)
        if services is None:
            services = process.tenants[key] = TenantServices(tenant, sources)
        return services


def sources_of(code: Code) -> tuple[tuple[str, str, str], ...]:
    """Return what tells packages' providers of one generation from those of another."""
    return tuple((source.name, source.dotted, source.label) for source in packages_of(code))


class TenantServices:
    """What one tenant's plugins get by type. Its services live from the first that is asked for to the last `release`.

    Between plugins that come and go it is held by none, and by several while one runtime follows another: so tenant
    services outlive runtimes. What was never held is kept until the process ends.
    """

    def __init__(self, tenant: Tenant, sources: tuple[PackageProvider, ...] = ()) -> None:
        self.tenant = tenant
        self._sources = sources
        self._holders = 0
        self._here = forks.here()
        self._turn = threading.RLock()
        """Held while containers are opened and closed: there are never two of one kind."""
        self._made: dict[Any, Any] = {}
        self._containers: dict[Layer, Container] = {}
        self._packages: Layer | None = None
        self._entered: Layer | None = None

    def hold(self) -> TenantServices:
        """Keep the services, until `release`."""
        with process.counting:
            self._holders += 1
        return self

    def release(self) -> None:
        """Let the services go; the last who does ends them."""
        with process.counting:
            self._holders -= 1
            is_last = self._holders == 0
        if is_last:
            with self._turn:
                if not self._holders:  # nobody came meanwhile
                    self.shut()

    def get(self, wanted: Any) -> Any:
        """Return a service that lives as long as the process or the tenant.

        Raises `Missing` where no provider makes it, `RunOnly` where it lives as long as a run, `ProvidersError` where
        the host's providers do not fit together, and what its factory raises.
        """
        made = self._made.get(wanted)
        if made is not None:
            return made
        layer, found = self.find(wanted)
        if found.scope is RUN:
            raise RunOnly(wanted)
        return self._make(layer, found, wanted)

    def in_run(self, wanted: Any, run: Run) -> Any:
        """Return a service of any lifetime to a run, which must be ended by `runs.end`. Raises as `get` does."""
        made = self._made.get(wanted)
        if made is not None:
            return made
        layer, found = self.find(wanted)
        if found.scope is RUN:
            return opened(run, self.tenant, self.container).get(layer, found.key)
        return self._make(layer, found, wanted)

    def find(self, wanted: Any) -> tuple[Layer, Found]:
        """Return where a type's services come from, without making any. Raises `Missing`."""
        layer = host()
        found = layer.graph.find(wanted)
        if found is not None:
            return layer, found
        above = self._above()
        found = above.graph.find(wanted) if above is not None else None
        if above is None or found is None:
            raise Missing(wanted, " ".join(above.problems) if above is not None else "")
        return above, found

    def check(self, wanted: Any) -> None:
        """Raise, as `get` does, where a constructor could not get a type. Makes no service."""
        _, found = self.find(wanted)
        if found.scope is RUN:
            raise RunOnly(wanted)

    def container(self, layer: Layer) -> Container:
        """Return this tenant's container in a layer, opened at its first use."""
        container = self._containers.get(layer)
        if container is None:
            with self._turn:
                container = self._containers.get(layer)
                if container is None:
                    self._enter(layer)
                    container = self._containers[layer] = layer.open_tenant(self.tenant, self.container)
        return container

    def shut(self) -> None:
        """End this tenant's services, last made first. Whoever asks later gets new ones."""
        with self._turn:
            containers, self._containers, self._made = self._containers, {}, {}
            layer, self._entered, self._packages = self._entered, None, None
            process.open.discard(self)
            if self._here is not forks.here():
                forks.keep(containers)  # the parent's to close
                return
            try:
                with inside(self.tenant):
                    for each in sorted(containers, key=lambda each: each.below is None):
                        shut(containers[each], f"tenant {self.tenant}")
            finally:
                if layer is not None:
                    layer.leave()

    def _make(self, layer: Layer, found: Found, wanted: Any) -> Any:
        kept = self._made
        if found.scope is TENANT:
            made = self.container(layer).get(found.key)
        else:
            self._enter(layer)
            made = layer.get(found.key)
        if found.is_kept and found.key is wanted:
            kept[wanted] = made  # to be found without waiting for others, whose factories may be slow
        return made

    def _enter(self, layer: Layer) -> None:
        """Count as a user of a layer, so that it is not closed meanwhile; the host's is not in any case."""
        with self._turn:
            process.open.add(self)
            if layer.below is not None and layer is not self._entered and layer.enter():
                self._entered = layer

    def _above(self) -> Layer | None:
        """Return the layer of plugin packages, kept while it may be used."""
        if self._packages is None or is_stale(self._packages):
            self._packages = packages(self._sources)
        return self._packages
