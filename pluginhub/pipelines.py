"""What plugins are linked into: leaves that call a hook, and series that pass a value along.

A pipeline is linked once and run many times, in either colour. Neighbouring steps of one colour are grouped,
so that a host of the other colour crosses once for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from pydantic import BaseModel, ValidationError

from pluginhub import tracing
from pluginhub.context import Context, Run, Services
from pluginhub.drivers import SYNC, Colour, Driver, Node, colour_of
from pluginhub.exceptions import HookError, InvalidInput, NotReady, Stop, mark, place_of
from pluginhub.leaves import Leaf, Leaves
from pluginhub.plugins import Plugin, hook_of

__all__ = ["Call", "Series", "Spanned", "absent", "checked", "errors_of", "leaf", "series", "traced"]


class Call(Node):
    """A leaf: one function `(value, run)` of the author's or of the host's."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[[Any, Run], Any]) -> None:
        super().__init__(colour_of(function))
        self._function = function
        if self.colour is Colour.SYNC:
            self.call = function

    async def run(self, value: Any, run: Run, driver: Driver) -> Any:
        return await self._function(value, run)


def absent(error: NotReady) -> Node:
    """Link what stands for something that could not be brought up: it raises why."""

    def call(value: Any, run: Run) -> Any:
        raise NotReady(error.detail, hint=error.hint, **error.extra)

    return Call(call)


def leaf(plugin: Plugin, services: Services | None = None) -> Node:
    """Link a plugin's `process`, timed, with its errors counted and marked, and its Input and Output checked."""
    process = hook_of(plugin, "process")
    kind = type(plugin).__name__
    if process is None:
        raise HookError(f"{kind} has no process hook.", hint="Define process(self, value, context) to run it.")
    return Leaf(checked(process, plugin), services or Services(name=kind, plugin=kind))


class Series(Node):
    """Steps, one after the other; each takes what the one before gave. `Stop` ends it early."""

    __slots__ = ("_inner", "name", "steps")

    def __init__(self, name: str, steps: Sequence[tuple[str, Node]], colour: Colour, *, inner: bool = False) -> None:
        super().__init__(colour)
        self.name = name
        self.steps = tuple(steps)
        self._inner = inner
        leaves = [(label, node) for label, node in self.steps if isinstance(node, Leaf)]
        if leaves and len(leaves) == len(self.steps) and colour is Colour.SYNC:
            self.call = Leaves(name, leaves, inner=inner, traced=self._drive).call

    async def run(self, value: Any, run: Run, driver: Driver) -> Any:
        direct = driver is SYNC
        for label, node in self.steps:
            try:
                if run.trace is not None and label:
                    value = await traced(run, "step", label, node, value, driver)
                elif direct and node.colour is Colour.SYNC:
                    value = node.call(value, run)
                else:
                    value = await driver.run(node, value, run)
            except BaseException as error:
                if label:
                    mark(error, chain=self.name, step=label, run=run.id)
                raise
            if type(value) is Stop:
                return value if self._inner else value.value
        return value


class Spanned(Node):
    """A node that is one span of a run's trace, where it has one; errors name it as a part of `within`, if given."""

    __slots__ = ("_inner", "_kind", "_within", "name")

    def __init__(self, kind: str, name: str, inner: Node, *, within: str = "") -> None:
        super().__init__(inner.colour)
        self.name = name
        self._kind = kind
        self._inner = inner
        self._within = within

    async def run(self, value: Any, run: Run, driver: Driver) -> Any:
        try:
            if run.trace is None:
                return await driver.run(self._inner, value, run)
            return await traced(run, self._kind, self.name, self._inner, value, driver)
        except BaseException as error:
            self.blame(error, run)
            raise

    def blame(self, error: BaseException, run: Run) -> None:
        if self._within and place_of(error).steps[:1] != ((self._within, self.name),):
            mark(error, chain=self._within, step=self.name, run=run.id)


async def traced(run: Run, kind: str, name: str, node: Node, value: Any, driver: Driver) -> Any:
    """Run a node as one span of the run's trace."""
    with tracing.span(run, kind, name, value) as span:
        span.result = await driver.run(node, value, run)
        return span.result


def series(name: str, steps: Sequence[tuple[str, Node]]) -> Series:
    """Link labelled steps into a series, grouped by colour."""
    groups: list[tuple[Colour, list[tuple[str, Node]]]] = []
    for colour, neighbours in groupby(steps, key=lambda step: step[1].colour):
        groups.append((colour, list(neighbours)))
    if len(groups) <= 1:
        return Series(name, steps, groups[0][0] if groups else Colour.SYNC)
    parts: list[tuple[str, Node]] = []
    for colour, members in groups:
        if colour is Colour.MIXED or len(members) == 1:
            parts.extend(members)
        else:
            parts.append(("", Series(name, members, colour, inner=True)))
    return Series(name, parts, Colour.MIXED)


def checked(process: Callable[..., Any], plugin: Plugin) -> Callable[..., Any]:
    """Wrap a hook so that values which do not fit the plugin's Input or Output raise; without models it stays as is."""
    takes, gives = plugin.Input, plugin.Output
    if takes is None and gives is None:
        return process

    def before(value: Any) -> None:
        if takes is not None:
            _fit(takes, value, "The input does not fit.")

    def after(result: Any) -> Any:
        if gives is not None and not isinstance(result, Stop):
            try:
                gives.model_validate(result)
            except ValidationError as error:
                raise HookError(
                    f"{type(plugin).__name__} gave a result that does not fit its Output.", errors=errors_of(error)
                ) from error
        return result

    def sync_process(value: Any, context: Context) -> Any:
        before(value)
        return after(process(value, context))

    async def async_process(value: Any, context: Context) -> Any:
        before(value)
        return after(await process(value, context))

    return async_process if colour_of(process) is Colour.ASYNC else sync_process


def errors_of(error: ValidationError) -> dict[str, str]:
    """Return pydantic's errors by dotted field path."""
    return {
        ".".join(map(str, each["loc"])): each["msg"] for each in error.errors(include_url=False, include_input=False)
    }


def _fit(model: type[BaseModel], value: Any, detail: str) -> BaseModel:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise InvalidInput(detail, errors=errors_of(error)) from error
