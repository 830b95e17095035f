"""The host's own places for plugins.

```python
TOTAL = Point("order.total", input=Order, output=Total)
total = TOTAL.run(order, default=compute_total)
```

Without a tenant, without anything hung there, or where the tenant cannot be read, the host's default answers.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from django.db import transaction
from django.dispatch import Signal
from pydantic import BaseModel, TypeAdapter, ValidationError

from pluginhub import crossing, execution, jobs, tenancy
from pluginhub.conf import settings
from pluginhub.exceptions import HookError, InvalidInput, NotReady
from pluginhub.pipelines import errors_of, series
from pluginhub.registry import registry
from pluginhub.runtimes import Runtime, Way
from pluginhub.types import HOST, PUBLIC, Caller, Tenant

__all__ = ["Point", "declared"]

log = logging.getLogger("pluginhub.points")


def declared() -> Mapping[str, Point]:
    """Return the points that the host's imported code declares, by name."""
    return MappingProxyType(Point._registry)


class Point:
    """A named place where a tenant hangs targets. Declare it once, at a module's top; lives as long as the process.

    Targets get and give plain JSON values: `input` and `output` (pydantic models or any type) say what the host
    passes and gets. Several targets on one point run in order, each taking what the one before gave.
    """

    _registry: ClassVar[dict[str, Point]] = {}

    def __init__(self, name: str, *, input: Any = None, output: Any = None, title: str = "") -> None:  # noqa: A002
        if name in self._registry:
            raise HookError(f"The point {name!r} is declared twice.", hint="Import the first one instead.")
        self.name = name
        self.title = title or name
        self.input = input
        self.output = output
        self._input: TypeAdapter[Any] | None = None if input is None else TypeAdapter(input)
        self._output: TypeAdapter[Any] | None = None if output is None else TypeAdapter(output)
        self._registry[name] = self

    def __repr__(self) -> str:
        return f"Point({self.name!r})"

    def run(
        self, value: Any, *, default: Callable[[Any], Any], caller: Caller = HOST, timeout: float | None = None
    ) -> Any:
        """Return what this tenant's targets make of `value`, else `default(value)`. Raises what the targets raise."""
        if not self._hangs(self._runtime()):
            return default(value)
        seconds = timeout or settings.RUN_SECONDS
        held = registry.hold(tenancy.current(), lambda runtime: runtime.point(self.name) or _NOTHING, seconds)
        try:
            if held.way is _NOTHING:
                return default(value)
            taken = self._taken(value)
            outcome = execution.run_node(held.runtime, held.way.node, taken, caller=caller, seconds=seconds)
            return self._given(outcome.result)
        finally:
            held.release()

    async def arun(
        self, value: Any, *, default: Callable[[Any], Any], caller: Caller = HOST, timeout: float | None = None
    ) -> Any:
        """The asynchronous twin of `run`; `default` may be of either colour."""
        if not self._hangs(await self._aruntime()):
            return await _answer(default, value)
        seconds = timeout or settings.RUN_SECONDS
        held = await registry.ahold(tenancy.current(), self._away, seconds)
        with crossing.holding(held.release):
            if held.way is _NOTHING:
                return await _answer(default, value)
            outcome = await execution.arun_node(
                held.runtime, held.way.node, self._taken(value), caller=caller, seconds=seconds
            )
            return self._given(outcome.result)

    def emit(self, data: Any, *, caller: Caller = HOST) -> list[str]:
        """Enqueue a job for each target hung here, in the caller's transaction; return the jobs' ids."""
        runtime = self._runtime()
        if runtime is None:
            return []
        try:
            spec = runtime.configuration.points[self.name]
            taken = self._taken(data)
            with transaction.atomic():
                return [jobs.enqueue(target, taken, caller=caller) for target in spec.targets]
        finally:
            runtime.release()

    def on(self, signal: Signal, *, sender: Any = None, data: Callable[[Any], Any]) -> None:
        """Emit `data(instance)` whenever a Django signal is sent: `point.on(post_save, sender=Order, data=to_json)`."""

        def receive(sender: Any, **named: Any) -> None:
            if tenancy.current_or_none() is not None:
                self.emit(data(named.get("instance", sender)))

        signal.connect(receive, sender=sender, weak=False, dispatch_uid=f"pluginhub.point.{self.name}")

    async def _away(self, runtime: Runtime) -> Way:
        return await runtime.apoint(self.name) or _NOTHING

    @staticmethod
    def _hangs(runtime: Runtime | None) -> bool:
        """Give back the runtime of a first look."""
        if runtime is not None:
            runtime.release()
        return runtime is not None

    def _runtime(self) -> Runtime | None:
        """Return the tenant's runtime, held, when something hangs here."""
        tenant = self._tenant()
        if tenant is None:
            return None
        try:
            return self._held(registry.acquire(tenant))
        except NotReady as error:
            log.warning("The point %s answers with the host's default: %s", self.name, error)
            return None

    async def _aruntime(self) -> Runtime | None:
        tenant = self._tenant()
        if tenant is None:
            return None
        try:
            return self._held(await registry.aacquire(tenant))
        except NotReady as error:
            log.warning("The point %s answers with the host's default: %s", self.name, error)
            return None

    def _tenant(self) -> Tenant | None:
        tenant = tenancy.current_or_none()
        return None if settings.SAFE_MODE or tenant == PUBLIC else tenant

    def _held(self, runtime: Runtime) -> Runtime | None:
        if runtime.has_point(self.name):
            return runtime
        runtime.release()
        return None

    def _taken(self, value: Any) -> Any:
        if self._input is None:
            return value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        try:
            return self._input.dump_python(self._input.validate_python(value), mode="json")
        except ValidationError as error:
            raise InvalidInput(f"The value does not fit the point {self.name!r}.", errors=errors_of(error)) from error

    def _given(self, result: Any) -> Any:
        if self._output is None:
            return result
        try:
            return self._output.validate_python(result)
        except ValidationError as error:
            raise HookError(
                f"What hangs on the point {self.name!r} gave a result that does not fit it.", errors=errors_of(error)
            ) from error


_NOTHING = Way(series("", []))


async def _answer(default: Callable[[Any], Any], value: Any) -> Any:
    result = default(value)
    return await result if inspect.isawaitable(result) else result
