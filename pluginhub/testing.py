"""Test a plugin without a database: contexts with storage, cache and jobs in memory. `provided` is for the whole hub.

```python
from pluginhub.testing import context

assert Redact().process("me@example.com", context()) == "•••"
```
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pluginhub import injection, lifecycles
from pluginhub.chains import _ainvoke, _invoke
from pluginhub.context import Cache, Context, Jobs, Pairs, Run, Services, Storage
from pluginhub.exceptions import HookError
from pluginhub.injection import Missing
from pluginhub.metrics import Metrics
from pluginhub.plugins import Plugin
from pluginhub.types import HOST, Caller, Tenant

__all__ = ["MemoryCache", "MemoryJobs", "MemoryStorage", "active", "build", "context", "provided"]

P = TypeVar("P", bound=Plugin)


class MemoryStorage:
    """`context.storage` in memory, of one registration; `.shared` is common to all made from the same one."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self._shared: MemoryStorage | None = None

    @property
    def shared(self) -> MemoryStorage:
        if self._shared is None:
            self._shared = MemoryStorage()
        return self._shared

    def get(self, key: str, default: Any = None) -> Any:
        return copy.deepcopy(self.values.get(key, default))

    def set(self, key: str, value: Any) -> None:
        self.values[key] = copy.deepcopy(value)

    def delete(self, key: str) -> bool:
        return self.values.pop(key, self) is not self

    def list(self, prefix: str = "", *, after: str = "", limit: int = 1000) -> Pairs:
        keys = sorted(key for key in self.values if key.startswith(prefix) and key > after)
        return [(key, self.get(key)) for key in keys[:limit]]

    def increment(self, key: str, by: int = 1) -> int:
        self.values[key] = self.values.get(key, 0) + by
        return int(self.values[key])

    def compare_and_set(self, key: str, old: Any, new: Any) -> bool:
        if self.values.get(key) != old:
            return False
        self.set(key, new)
        return True

    async def aget(self, key: str, default: Any = None) -> Any:
        return self.get(key, default)

    async def aset(self, key: str, value: Any) -> None:
        self.set(key, value)

    async def adelete(self, key: str) -> bool:
        return self.delete(key)

    async def alist(self, prefix: str = "", *, after: str = "", limit: int = 1000) -> Pairs:
        return self.list(prefix, after=after, limit=limit)

    async def aincrement(self, key: str, by: int = 1) -> int:
        return self.increment(key, by)

    async def acompare_and_set(self, key: str, old: Any, new: Any) -> bool:
        return self.compare_and_set(key, old, new)


class MemoryCache:
    """`context.cache` in memory; nothing expires."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def get(self, key: str, default: Any = None) -> Any:
        return copy.deepcopy(self.values.get(key, default))

    def set(self, key: str, value: Any, ttl: float | None = None) -> None:
        self.values[key] = copy.deepcopy(value)

    def get_or_set(self, key: str, make: Callable[[], Any], ttl: float | None = None) -> Any:
        if key not in self.values:
            self.set(key, make())
        return self.get(key)

    async def aget(self, key: str, default: Any = None) -> Any:
        return self.get(key, default)

    async def aset(self, key: str, value: Any, ttl: float | None = None) -> None:
        self.set(key, value, ttl)

    async def aget_or_set(self, key: str, make: Callable[[], Any], ttl: float | None = None) -> Any:
        if key not in self.values:
            made = make()
            self.set(key, await made if hasattr(made, "__await__") else made)
        return self.get(key)


@dataclass(slots=True)
class MemoryJobs:
    """`context.jobs` that only remembers: `enqueued` holds `(name, data)`, `handlers` what `activate` added."""

    enqueued: list[tuple[str, Any]] = field(default_factory=list)
    handlers: dict[str, Callable[..., Any]] = field(default_factory=dict)
    open: bool = False

    def enqueue(self, name: str, data: Any = None, **options: Any) -> str:
        self.enqueued.append((name, copy.deepcopy(data)))
        return f"job-{len(self.enqueued)}"

    async def aenqueue(self, name: str, data: Any = None, **options: Any) -> str:
        return self.enqueue(name, data, **options)

    def asked_by(self, caller: Caller) -> MemoryJobs:
        return self

    def process(self, name: str, handler: Callable[..., Any]) -> None:
        if not self.open:
            raise HookError("context.jobs.process works in activate only.", hint="Move the call there.")
        self.handlers[name] = handler


def context(
    *,
    name: str = "tested",
    tenant: Tenant | None = None,
    caller: Caller = HOST,
    cursor: Any = None,
    storage: Storage | None = None,
    cache: Cache | None = None,
    jobs: Jobs | None = None,
    services: Mapping[type, Any] | None = None,
    report: Callable[[int, int | None, str], None] | None = None,
) -> Context:
    """Return a context for direct calls of hooks; `report` gets what the plugin says by `context.progress`.

    `services` are what `context.get` returns, by type.
    """
    tenant = tenant or Tenant("tested", "Tested")
    given: dict[Any, Any] = dict(services or {})

    def provide(wanted: Any, run: Run) -> Any:
        if wanted not in given:
            raise Missing(wanted, "Pass it to pluginhub.testing.context(services={…}).")
        return given[wanted]

    run = Run(
        id="run", tenant=tenant, caller=caller, cursor=cursor, provide=provide, report=report,
        invoke=_invoke, ainvoke=_ainvoke,
    )  # fmt: skip
    mine = Services(
        name, name, tenant, storage or MemoryStorage(), cache or MemoryCache(), jobs or MemoryJobs(),
        Metrics(name, tenant.schema), logging.getLogger(f"pluginhub.plugins.{name}"),
    )  # fmt: skip
    return Context((run, mine))


def build(cls: type[P], config: Mapping[str, Any] | None = None, *, provide: Mapping[type, Any] | None = None) -> P:
    """Make a plugin as the hub would: its configuration validated, its constructor filled in.

    `provide` holds what else it asks for, by type, and what stands in for the storage, cache and jobs in memory. Raises
    `DependencyError` for what is missing.
    """
    model = cls.Config
    made = model.model_validate(dict(config or {})) if model is not None else None
    mine = context()
    known: dict[Any, Any] = {
        Storage: mine.storage, Cache: mine.cache, Jobs: mine.jobs, Metrics: mine.metrics,
        Tenant: mine.tenant, logging.Logger: mine.log,
    }  # fmt: skip
    return injection.build(cls, config=made, services=known | dict(provide or {}))


@contextmanager
def active(plugin: P, within: Context | None = None) -> Iterator[P]:
    """Activate a plugin (and its children) for the block, and deactivate it after."""
    services = (within or context())._services
    lifecycles.activate(plugin, services, lifecycles.UNLIMITED)
    try:
        yield plugin
    finally:
        lifecycles.deactivate(plugin, services, lifecycles.UNLIMITED)


@contextmanager
def provided(services: Mapping[type, Any]) -> Iterator[None]:
    """Provide these services, by type, in place of the real ones within the block: to all that runs in this process.

    For tests of the hub as a whole: plugins come up anew, and so do services that take what was replaced. Afterwards
    all is as before.
    """
    # The rest of this module needs no Django.
    from pluginhub import providers
    from pluginhub.registry import registry

    def take_down() -> None:
        registry.clear()
        registry.stop()  # waits until what goes down is down

    take_down()
    with providers.overriding(services):
        try:
            yield
        finally:
            take_down()
