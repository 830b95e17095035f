"""A tenant's plugins, for the host's own code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager

from pluginhub.plugins import Plugin
from pluginhub.runtimes import Runtime
from pluginhub.types import Tenant

__all__ = ["TenantPlugins"]


class TenantPlugins(Mapping[str, Plugin]):
    """A tenant's enabled registrations, by name; each plugin is brought up when it is first looked at."""

    def __init__(self, tenant: Tenant, lease: Callable[[Tenant], AbstractContextManager[Runtime]]) -> None:
        self.tenant = tenant
        self._lease = lease

    def __getitem__(self, name: str) -> Plugin:
        with self._lease(self.tenant) as runtime:
            if name not in self._names(runtime):
                raise KeyError(name)
            return runtime.instances.get(name).plugin

    def __iter__(self) -> Iterator[str]:
        with self._lease(self.tenant) as runtime:
            return iter(self._names(runtime))

    def __len__(self) -> int:
        with self._lease(self.tenant) as runtime:
            return len(self._names(runtime))

    @staticmethod
    def _names(runtime: Runtime) -> list[str]:
        return [name for name, spec in runtime.configuration.registrations.items() if spec.enabled]
