"""Declaring points, and calling them."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from django.db import transaction
from django.dispatch import Signal
from django_tenants.utils import get_tenant_database_alias
from pydantic import BaseModel, TypeAdapter, ValidationError

from pluginhub import crossing, execution, jobs, tenancy
from pluginhub.conf import settings
from pluginhub.exceptions import HookError, InvalidInput, NotReady, UnknownTarget
from pluginhub.pipelines import errors_of
from pluginhub.points import answering, receiving
from pluginhub.points.answering import NOBODY, Several
from pluginhub.registry import registry
from pluginhub.runtimes import Runtime
from pluginhub.types import HOST, PUBLIC, Caller, Tenant
from pluginhub.ways import Hung

__all__ = ["Point", "declared"]

log = logging.getLogger("pluginhub.points")

_NOTHING = Hung()


def declared() -> Mapping[str, Point]:
    """Return the points that the host's imported code declares, by name."""
    return MappingProxyType(Point._registry)


class Point:
    """A named place where a tenant hangs targets. Declare it once, at a module's top; lives as long as the process.

    Targets get and give plain JSON values: `input` and `output` (pydantic models or any type) say what the host
    passes and gets. `several` says how more than one target answers: as a `chain`, each taking what the one before
    gave; `all`, and the host gets the list of their results; or the `first` that answers. See `answering`.
    """

    _registry: ClassVar[dict[str, Point]] = {}

    def __init__(
        self,
        name: str,
        *,
        input: Any = None,  # noqa: A002
        output: Any = None,
        title: str = "",
        description: str = "",
        several: Several = "chain",
    ) -> None:
        if name in self._registry:
            raise HookError(f"The point {name!r} is declared twice.", hint="Import the first one instead.")
        if several not in answering.HOWS:
            raise HookError(f"{several!r} is no way to take several targets.", hint="Use chain, all or first.")
        self.name = name
        self.title = title or name
        self.description = description
        self.input = input
        self.output = output
        self.several: Several = several
        self.declared_in, self.declared_at = _caller_of(self)
        self._input: TypeAdapter[Any] | None = None if input is None else TypeAdapter(input)
        self._output: TypeAdapter[Any] | None = None if output is None else TypeAdapter(output)
        self._registry[name] = self

    def __repr__(self) -> str:
        return f"Point({self.name!r})"

    def run(
        self, value: Any, *, default: Callable[[Any], Any], caller: Caller = HOST, timeout: float | None = None
    ) -> Any:
        """Return what this tenant's targets make of `value`, else `default(value)`. Raises what the targets raise.

        `timeout` is in seconds, for all of them (`RUN_SECONDS` when absent). Raises `InvalidInput` for a value that
        does not fit `input`, and `HookError` for a result that does not fit `output`.
        """
        if self._hangs():
            result = self._ask(value, caller, timeout)
            if result is not NOBODY:
                return result
        return default(value)

    async def arun(
        self, value: Any, *, default: Callable[[Any], Any], caller: Caller = HOST, timeout: float | None = None
    ) -> Any:
        """The asynchronous twin of `run`; `default` may be of either colour."""
        hangs = self._look()
        if hangs or (hangs is None and await self._aload()):
            result = await self._aask(value, caller, timeout)
            if result is not NOBODY:
                return result
        result = default(value)
        return await result if hasattr(result, "__await__") else result

    def emit(self, data: Any, *, caller: Caller = HOST) -> list[str]:
        """Enqueue a job for each target hung here, in the caller's transaction; return the jobs' ids.

        Jobs run later, each on its own; how `several` are taken does not matter. In safe mode they wait. Raises
        `InvalidInput` for data that does not fit `input`, and what `jobs.enqueue` raises; then nothing is enqueued.
        """
        targets = self.targets()
        if not targets:
            return []
        taken = self._taken(data)
        with tenancy.visit(tenancy.current()), transaction.atomic(using=get_tenant_database_alias()):
            found = [self._enqueue(target, taken, caller) for target in targets]
        return [job for job in found if job]

    async def aemit(self, data: Any, *, caller: Caller = HOST) -> list[str]:
        """Do the same from asynchronous code, in one hop to a thread; so in no transaction of the caller's."""
        hangs = self._look(safely=False)
        if not hangs and (hangs is False or not await self._aload(safely=False)):
            return []
        return await tenancy.agate(tenancy.current(), self.emit, data, caller=caller)

    def on(
        self,
        signal: Signal,
        *,
        sender: Any = None,
        data: Callable[..., Any],
        when: Callable[..., bool] | None = None,
    ) -> Callable[[], None]:
        """Emit `data(instance)` whenever a Django signal is sent: `point.on(post_save, sender=Order, data=to_json)`.

        `data` gets all that is sent, by keyword, of a signal without an `instance`. `when` gets that of any signal,
        and says whether to emit. Neither is called where nothing hangs. The same call again, by a module that is
        imported twice, changes nothing. Returns a function that ends it. What `data` raises is the host's to see, as
        is `InvalidInput`.
        """
        return receiving.connect(self, signal, sender, data, when)

    def targets(self) -> tuple[str, ...]:
        """Return the names of what the current tenant hung here, in order; nothing without a tenant."""
        tenant = tenancy.current_or_none()
        runtime = None if tenant is None else registry.loaded(tenant) or self._load(tenant)
        spec = None if runtime is None else runtime.configuration.points.get(self.name)
        return spec.targets if spec else ()

    # Does anything hang here?

    def _hangs(self) -> bool:
        hangs = self._look()
        if hangs is None:
            tenant = tenancy.current()
            self._load(tenant)
            hangs = self._look() or False
        return hangs

    def _look(self, *, safely: bool = True) -> bool | None:
        """Say whether anything hangs here, at the cost of a look at a dictionary; `None` where nothing is loaded."""
        tenant = tenancy.current_or_none()
        if tenant is None:
            return False
        runtime = registry.loaded(tenant)
        if runtime is None:
            return None if tenant != PUBLIC and not (safely and settings.SAFE_MODE) else False
        return self.name in runtime.configuration.points and not (safely and settings.SAFE_MODE)

    def _load(self, tenant: Tenant) -> Runtime | None:
        """Return a runtime that was not loaded yet; nothing where it cannot be read. One query."""
        if tenant == PUBLIC:
            return None
        try:
            runtime = registry.acquire(tenant)
        except NotReady as error:
            log.warning("The point %s answers with the host's default: %s", self.name, error)
            return None
        runtime.release()
        return runtime

    async def _aload(self, *, safely: bool = True) -> bool:
        try:
            runtime = await registry.aacquire(tenancy.current())
        except NotReady as error:
            log.warning("The point %s answers with the host's default: %s", self.name, error)
            return False
        runtime.release()
        return self.name in runtime.configuration.points

    # Asking what hangs here

    def _ask(self, value: Any, caller: Caller, timeout: float | None) -> Any:
        seconds = settings.RUN_SECONDS if timeout is None else timeout
        held = registry.hold(tenancy.current(), self._find, seconds)
        try:
            if held.way is _NOTHING:
                return NOBODY
            node, taken = self._node(held.way), self._taken(value)
            return execution.run_node(held.runtime, node, taken, caller=caller, seconds=seconds).result
        finally:
            held.release()

    async def _aask(self, value: Any, caller: Caller, timeout: float | None) -> Any:
        seconds = settings.RUN_SECONDS if timeout is None else timeout
        held = await registry.ahold(tenancy.current(), self._afind, seconds)
        with crossing.holding(held.release):
            if held.way is _NOTHING:
                return NOBODY
            node, taken = self._node(held.way), self._taken(value)
            return (await execution.arun_node(held.runtime, node, taken, caller=caller, seconds=seconds)).result

    def _find(self, runtime: Runtime) -> Hung:
        return runtime.links.point(self.name, lenient=self.several == "first") or _NOTHING

    async def _afind(self, runtime: Runtime) -> Hung:
        return await runtime.links.apoint(self.name, lenient=self.several == "first") or _NOTHING

    def _node(self, hung: Hung) -> Any:
        node = hung.nodes.get(self.several)
        if node is None:
            node = answering.link(self.name, self.several, hung.targets, self._given)
            hung.nodes[self.several] = node
        return node

    def _enqueue(self, target: str, data: Any, caller: Caller) -> str:
        try:
            return jobs.enqueue(target, data, caller=caller)
        except UnknownTarget:
            if target in self.targets():
                raise
            return ""  # it was taken down this moment

    def _taken(self, value: Any) -> Any:
        if self._input is None:
            return value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        try:
            return self._input.dump_python(self._input.validate_python(value), mode="json")
        except ValidationError as error:
            raise InvalidInput(f"The value does not fit the point {self.name!r}.", errors=errors_of(error)) from error

    def _given(self, result: Any) -> Any:
        if self._output is None or (result is None and self.several == "first"):
            return result
        try:
            return self._output.validate_python(result)
        except ValidationError as error:
            raise HookError(
                f"What hangs on the point {self.name!r} gave a result that does not fit it.", errors=errors_of(error)
            ) from error


def _caller_of(point: Point) -> tuple[str, int]:
    """Return the module and line that make a point: the innermost frame outside of its own constructors."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_locals.get("self") is point:
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", "")), frame.f_lineno
