"""The onion: `intercept(request, call_next)` around anything that can be called.

Outermost first on the way in, last on the way out. A layer may change the request, answer without calling on,
replace the result or the error. Always on: a second `call_next`, and leaving before it settled, are errors that
name the interceptor.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pluginhub import drivers
from pluginhub.context import Run
from pluginhub.drivers import SYNC, Colour, Driver, Node, colour_of, drive
from pluginhub.exceptions import InterceptorError, Stop, survivable
from pluginhub.pipelines import Call
from pluginhub.types import Caller

__all__ = ["Interceptor", "Invocation", "around_calls", "compose", "intercept_of", "layered"]

Interceptor = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Invocation:
    """What an interceptor of scope `call` or `job` gets as its request: one call of a target, before it happens."""

    target: str
    value: Any
    caller: Caller
    run_id: str = ""

    def replace(self, value: Any) -> Invocation:
        """Return the same call with another value."""
        return replace(self, value=value)


def compose(*interceptors: Any) -> Interceptor:
    """Compose interceptors, outermost first, into one.

    Takes functions `(request, call_next)`, plugins with an `intercept` hook, and composed ones; the list is fixed now.
    The result is synchronous when all of them are, else asynchronous; `call_next` may then be of either colour.
    Raises `InterceptorError` for anything else.
    """
    layers = tuple(intercept_of(each) for each in interceptors)
    if all(colour_of(layer) is Colour.SYNC for layer in layers):

        def composed(request: Any, call_next: Callable[[Any], Any]) -> Any:
            return drivers.run(layered(layers, Call(lambda value, _: call_next(value))), request, Run())

        return composed

    async def acomposed(request: Any, call_next: Callable[[Any], Any]) -> Any:
        async def core(value: Any, _: Run) -> Any:
            return await call_next(value)

        inner = core if colour_of(call_next) is Colour.ASYNC else lambda value, _: call_next(value)
        return await drivers.arun(layered(layers, Call(inner)), request, Run(), anywhere=True)

    return acomposed


def intercept_of(interceptor: Any) -> Interceptor:
    """Return the function to call of an interceptor, or say why it is none."""
    function = getattr(interceptor, "intercept", interceptor)
    if isinstance(interceptor, type) or not callable(function):
        raise InterceptorError(
            f"{interceptor!r} is no interceptor.",
            hint="Pass a function (request, call_next) or a plugin instance with an intercept hook.",
        )
    try:
        inspect.signature(function).bind(None, None)
    except TypeError:
        raise InterceptorError(
            f"{_name(function)} cannot be called as (request, call_next).", hint="Give it these two parameters."
        ) from None
    return function  # type: ignore[no-any-return]


def layered(interceptors: Sequence[Interceptor], core: Node) -> Node:
    """Link interceptors, outermost first, around a node."""
    node = core
    for interceptor in reversed(interceptors):
        node = _Layer(interceptor, node)
    return node


def around_calls(target: str, interceptors: Sequence[Interceptor], inner: Node) -> Node:
    """Link interceptors of scope `call` or `job` around a target: each gets an `Invocation`, and returns a result."""
    if not interceptors:
        return inner
    return _Invoking(target, layered(interceptors, _Unwrapped(inner)))


class _Invoking(Node):
    __slots__ = ("_layers", "_target")

    def __init__(self, target: str, layers: Node) -> None:
        super().__init__(layers.colour)
        self._target = target
        self._layers = layers

    async def run(self, value: Any, run: Run, driver: Driver) -> Any:
        try:
            return await driver.run(self._layers, Invocation(self._target, value, run.caller, run.id), run)
        except SystemExit as error:
            raise survivable(error)  # noqa: B904 - it has the error as its cause


class _Unwrapped(Node):
    __slots__ = ("_inner",)

    def __init__(self, inner: Node) -> None:
        super().__init__(inner.colour)
        self._inner = inner

    async def run(self, request: Invocation, run: Run, driver: Driver) -> Any:
        if not isinstance(request, Invocation):
            raise InterceptorError(
                f"An interceptor passed on {type(request).__name__} instead of the invocation it was given.",
                hint="Pass on request, or request.replace(value=…).",
            )
        result = await driver.run(self._inner, request.value, run)
        return result.value if type(result) is Stop else result


class _Layer(Node):
    __slots__ = ("_inner", "_intercept")

    def __init__(self, intercept: Interceptor, inner: Node) -> None:
        super().__init__(colour_of(intercept))
        self._intercept = intercept
        self._inner = inner
        if self.colour is Colour.SYNC:
            self.call = self._call

    def _call(self, request: Any, run: Run) -> Any:
        return self._intercept(request, _Next(self._intercept, self._inner, run))

    async def run(self, request: Any, run: Run, driver: Driver) -> Any:
        call_next = _AsyncNext(self._intercept, self._inner, run, driver)
        try:
            result = await self._intercept(request, call_next)
        except BaseException:
            call_next.drop()
            raise
        if call_next.pending:
            call_next.drop()
            raise InterceptorError(
                f"{_name(self._intercept)} returned before its call_next settled.", hint="Await call_next(request)."
            )
        return result


class _Next:
    __slots__ = ("_called", "_inner", "_intercept", "_run")

    def __init__(self, intercept: Interceptor, inner: Node, run: Run) -> None:
        self._intercept = intercept
        self._inner = inner
        self._run = run
        self._called = False

    def __call__(self, request: Any) -> Any:
        if self._called:
            raise _twice(self._intercept)
        self._called = True
        inner = self._inner
        if inner.colour is Colour.SYNC:
            return inner.call(request, self._run)
        return drive(SYNC.run(inner, request, self._run))


class _AsyncNext:
    __slots__ = ("_driver", "_going", "_inner", "_intercept", "_run", "pending")

    def __init__(self, intercept: Interceptor, inner: Node, run: Run, driver: Driver) -> None:
        self._intercept = intercept
        self._inner = inner
        self._run = run
        self._driver = driver
        self._going: Coroutine[Any, Any, Any] | None = None
        self.pending = False

    def __call__(self, request: Any) -> Coroutine[Any, Any, Any]:
        if self._going is not None:
            raise _twice(self._intercept)
        self.pending = True
        self._going = self._go(request)
        return self._going

    async def _go(self, request: Any) -> Any:
        try:
            return await self._driver.run(self._inner, request, self._run)
        finally:
            self.pending = False

    def drop(self) -> None:
        """Close a call that was made and never awaited; one that a task of the interceptor's holds is the task's."""
        if self._going is not None and inspect.getcoroutinestate(self._going) == inspect.CORO_CREATED:
            self._going.close()


def _twice(intercept: Interceptor) -> InterceptorError:
    return InterceptorError(
        f"{_name(intercept)} called call_next twice.", hint="Call it once; a chain step's attempts retry."
    )


def _name(intercept: Any) -> str:
    owner = getattr(intercept, "__self__", None)
    name = getattr(intercept, "__qualname__", None) or type(intercept).__name__
    return f"The interceptor {type(owner).__name__ if owner is not None else name}"
