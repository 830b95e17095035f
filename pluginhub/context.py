"""What a plugin is given on each call, and what the services must offer to fill it in.

The engine knows these protocols only; `storage`, `caching`, `jobs` and `metrics` implement them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Protocol, TypeAlias, TypeVar, cast

from pluginhub.exceptions import DependencyError, HookError, NoTenant
from pluginhub.injection import Missing, name_of
from pluginhub.metrics import Metrics
from pluginhub.types import HOST, Caller, Json, Scope, Tenant

__all__ = ["Cache", "Context", "Jobs", "Middleware", "Pairs", "Run", "Services", "Storage"]

T = TypeVar("T")

Pairs: TypeAlias = list[tuple[str, Any]]
"""Keys and values of a storage; a name of its own, since `list` is a method there."""


def _nothing(service: Any, run: Run) -> Any:
    raise Missing(service, "Outside of the hub's runs there are none: a constructor takes those of process and tenant.")


class Storage(Protocol):
    """Durable JSON values of one registration in one tenant. Each method has an `a` twin."""

    @property
    def shared(self) -> Storage:
        """The same store, for all of the tenant's registrations together."""

    def get(self, key: str, default: Any = None) -> Any: ...
    def set(self, key: str, value: Json) -> None: ...
    def delete(self, key: str) -> bool:
        """Return whether there was something to delete."""

    def list(self, prefix: str = "", *, after: str = "", limit: int = 1000) -> Pairs:
        """Return `(key, value)` pairs in key order: those that begin with `prefix` and come after `after`."""

    def increment(self, key: str, by: int = 1) -> int:
        """Add atomically and return the new number; a missing key counts as 0."""

    def compare_and_set(self, key: str, old: Json, new: Json) -> bool:
        """Set `new` if the value is `old` (`None`: if there is none), atomically; return whether it was set."""

    async def aget(self, key: str, default: Any = None) -> Any: ...
    async def aset(self, key: str, value: Json) -> None: ...
    async def adelete(self, key: str) -> bool: ...
    async def alist(self, prefix: str = "", *, after: str = "", limit: int = 1000) -> Pairs: ...
    async def aincrement(self, key: str, by: int = 1) -> int: ...
    async def acompare_and_set(self, key: str, old: Json, new: Json) -> bool: ...


class Cache(Protocol):
    """Values that may vanish, of one registration in one tenant. `ttl` is in seconds."""

    def get(self, key: str, default: Any = None) -> Any: ...
    def set(self, key: str, value: Any, ttl: float | None = None) -> None: ...
    def get_or_set(self, key: str, make: Callable[[], Any], ttl: float | None = None) -> Any: ...
    async def aget(self, key: str, default: Any = None) -> Any: ...
    async def aset(self, key: str, value: Any, ttl: float | None = None) -> None: ...
    async def aget_or_set(self, key: str, make: Callable[[], Any], ttl: float | None = None) -> Any: ...


class Jobs(Protocol):
    """Work for later. A bare handler name means one of this registration's own."""

    open: bool
    """Whether `process` may be called: while the plugin is being activated."""

    def enqueue(self, name: str, data: Json = None, **options: Any) -> str:
        """Write the job in the caller's transaction and return its id."""

    async def aenqueue(self, name: str, data: Json = None, **options: Any) -> str: ...

    def asked_by(self, caller: Caller) -> Jobs:
        """Return the same jobs, to be enqueued in a caller's name."""

    def process(self, name: str, handler: Callable[..., Any]) -> None:
        """Handle jobs named `<registration>.<name>` by `handler(data, context)`. Only in `activate`."""


class Middleware:
    """What a plugin adds to the tenant's interceptors while it is active. Lives as long as the plugin instance."""

    __slots__ = ("added", "open")

    def __init__(self) -> None:
        self.added: list[tuple[Scope, Callable[..., Any]]] = []
        self.open = False

    def use(self, interceptor: Callable[..., Any], *, scope: Scope = "call") -> None:
        """Wrap this tenant's calls, jobs, streams or HTTP requests by `interceptor(request, call_next)`."""
        if not self.open:
            raise HookError("context.middleware.use works in activate only.", hint="Move the call there.")
        if scope not in ("request", "call", "job", "stream"):
            raise HookError(f"There is no scope {scope!r}.", hint="Use request, call, job or stream.")
        self.added.append((scope, interceptor))


@dataclass(slots=True)
class Services:
    """What one registration holds on to: made once, lives as long as its plugin instance."""

    name: str = ""
    plugin: str = ""
    tenant: Tenant | None = None
    storage: Storage | None = None
    cache: Cache | None = None
    jobs: Jobs | None = None
    metrics: Metrics = field(default_factory=Metrics)
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("pluginhub.plugins"))
    middleware: Middleware = field(default_factory=Middleware)
    provided: dict[Any, Any] = field(default_factory=dict)
    """What the plugin provides to others, by type."""


@dataclass(slots=True)
class Run:
    """One invocation, shared by all plugins it passes. `deadline` is on the clock of `time.monotonic`, in seconds."""

    id: str = ""
    tenant: Tenant | None = None
    caller: Caller = HOST
    deadline: float | None = None
    revision: int | None = None
    cursor: Any = None
    invoke: Callable[[Any, Any, Run], Any] | None = None
    ainvoke: Callable[[Any, Any, Run], Any] | None = None
    provide: Callable[[Any, Run], Any] = _nothing
    """Returns a service of a run by its type, or raises `Missing`."""
    opened: Any = None
    """What `provide` keeps for services that live as long as this run; nothing until one is asked for."""
    report: Callable[[int, int | None, str], None] | None = None
    trace: Any = None
    """The trace of this run, where one was asked for."""

    def remaining(self) -> float | None:
        """Seconds left, negative once the deadline has passed; `None` without one."""
        return None if self.deadline is None else self.deadline - time.monotonic()


class Context(tuple[Run, Services]):
    """One plugin's view of one run. Lives as long as the call it is passed to; keep nothing of it.

    Made of `(run, services)`: a tuple, as nothing else is made as fast, and each call of a plugin makes one.
    """

    __slots__ = ()

    _run = cast(Run, property(itemgetter(0)))
    _services = cast(Services, property(itemgetter(1)))

    @property
    def tenant(self) -> Tenant:
        if self._run.tenant is None:
            raise NoTenant("This run has no tenant.", hint="It was started without the hub, by chains.execute.")
        return self._run.tenant

    @property
    def caller(self) -> Caller:
        return self._run.caller

    @property
    def run_id(self) -> str:
        return self._run.id

    @property
    def revision(self) -> int | None:
        return self._run.revision

    @property
    def deadline(self) -> float | None:
        """When the run must be done, on the clock of `time.monotonic` (seconds), or `None`."""
        return self._run.deadline

    @property
    def cursor(self) -> Any:
        """Where a resumed stream goes on from: the cursor of the last item the client has, or `None`."""
        return self._run.cursor

    @property
    def name(self) -> str:
        """The registration's name."""
        return self._services.name

    @property
    def storage(self) -> Storage:
        return cast(Storage, self._need("storage"))

    @property
    def cache(self) -> Cache:
        return cast(Cache, self._need("cache"))

    @property
    def jobs(self) -> Jobs:
        return cast(Jobs, self._need("jobs")).asked_by(self._run.caller)

    @property
    def metrics(self) -> Metrics:
        return self._services.metrics

    @property
    def log(self) -> logging.Logger:
        return self._services.log

    @property
    def middleware(self) -> Middleware:
        return self._services.middleware

    def get(self, service: type[T]) -> T:
        """Return a service by its type: one that lives as long as this run, its tenant, or the process."""
        try:
            return cast(T, self._run.provide(service, self._run))
        except Missing as missing:
            raise DependencyError(
                f"Nobody provides {name_of(service)} to this run.",
                hint=f"{missing.why} Add a provider to PLUGINHUB['PROVIDERS'].".strip(),
            ) from None

    def provide(self, service: type[T], instance: T) -> None:
        """Let the tenant's other plugins have `instance` in their constructors, by type. Only in `activate`.

        `service` is one of those that the class lists in `provides`.
        """
        if not self._services.middleware.open:
            raise HookError("context.provide works in activate only.", hint="Move the call there.")
        if service in self._services.provided:
            raise HookError(f"{name_of(service)} is provided twice.", hint="Provide one of each type.")
        self._services.provided[service] = instance

    def call(self, target: Any, value: Any) -> Any:
        """Run another target of this tenant by name, or a child of a composite, within this run's deadline."""
        if self._run.invoke is None:
            raise HookError("This run cannot call other targets.", hint="Run the plugin through the hub.")
        return self._run.invoke(target, value, self._run)

    async def acall(self, target: Any, value: Any) -> Any:
        """The asynchronous twin of `call`."""
        if self._run.ainvoke is None:
            raise HookError("This run cannot call other targets.", hint="Run the plugin through the hub.")
        return await self._run.ainvoke(target, value, self._run)

    def progress(self, done: int, total: int | None = None, note: str = "") -> None:
        """Say how far a job has come. Cheap: what is written is thinned out. Does nothing outside a job."""
        if self._run.report is not None:
            self._run.report(done, total, note)

    async def aprogress(self, done: int, total: int | None = None, note: str = "") -> None:
        """The asynchronous twin of `progress`, which never blocks."""
        self.progress(done, total, note)

    def _need(self, name: str) -> Any:
        service = getattr(self._services, name)
        if service is None:
            raise NoTenant(
                f"There is no {name} in this run: it was started without the hub.",
                hint="Run the plugin through a tenant, or test it with pluginhub.testing.",
            )
        return service
