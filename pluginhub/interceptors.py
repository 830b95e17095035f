"""The onion: `intercept(request, call_next)` around anything that can be called.

Outermost first on the way in, last on the way out. A layer may change the request, answer without calling on,
replace the result or the error. Always on: a second `call_next`, and leaving before it settled, are errors that
name the interceptor. See `layers` for one of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from pluginhub import drivers
from pluginhub.carrying import asynchronously
from pluginhub.context import Run
from pluginhub.drivers import Colour, Driver, Node
from pluginhub.exceptions import InterceptorError, Stop, survivable
from pluginhub.layers import Interceptor, Invocation, Layer, colour_of_interceptor, name_of
from pluginhub.pipelines import Call

__all__ = ["Interceptor", "Invocation", "around_calls", "compose", "intercept_of", "layered"]

_LAYERS = "__pluginhub_layers__"


def compose(*interceptors: Any) -> Interceptor:
    """Compose interceptors, outermost first, into one.

    Takes functions `(request, call_next)`, plugins with an `intercept` hook, and composed ones; the list is fixed, and
    linked, now. The result is synchronous when all of them are, else asynchronous; `call_next` may then be of either
    colour. Raises `InterceptorError` for anything else.
    """
    layers = _flat([intercept_of(each) for each in interceptors])
    around_sync = layered(layers, Call(_core))
    if all(colour_of_interceptor(layer) is Colour.SYNC for layer in layers):

        def composed(request: Any, call_next: Callable[[Any], Any]) -> Any:
            return drivers.run(around_sync, request, _Passing(_synchronous(call_next)))

        setattr(composed, _LAYERS, (composed, layers))
        return composed

    around_either = {
        Colour.SYNC: asynchronously(around_sync),
        Colour.ASYNC: asynchronously(layered(layers, Call(_acore))),
    }

    async def acomposed(request: Any, call_next: Callable[[Any], Any]) -> Any:
        node = around_either[colour_of_interceptor(_callable(call_next))]
        return await drivers.arun(node, request, _Passing(call_next), anywhere=True)

    setattr(acomposed, _LAYERS, (acomposed, layers))
    return acomposed


def intercept_of(interceptor: Any, *, may_yield: bool = False) -> Interceptor:
    """Return the function to call of an interceptor, or say why it is none. Those of streams may be generators."""
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
            f"{name_of(function)} cannot be called as (request, call_next).", hint="Give it these two parameters."
        ) from None
    if not may_yield and (inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)):
        raise InterceptorError(
            f"{name_of(function)} is a generator.", hint="Return the result: an interceptor has no yield."
        )
    return function  # type: ignore[no-any-return]


def layered(interceptors: Sequence[Interceptor], core: Node) -> Node:
    """Link interceptors, outermost first, around a node; composed ones as the layers that they are made of."""
    node = core
    for interceptor in reversed(_flat(interceptors)):
        node = Layer(interceptor, node)
    return node


def around_calls(target: str, interceptors: Sequence[Interceptor], inner: Node) -> Node:
    """Link interceptors of scope `call` or `job` around a target: each gets an `Invocation`, and returns a result."""
    if not interceptors:
        return inner
    return _Invoking(target, layered(interceptors, _Unwrapped(inner)))


def _flat(interceptors: Sequence[Interceptor]) -> tuple[Interceptor, ...]:
    """Return the layers, where composed interceptors have theirs: so none costs more for being composed."""
    return tuple(layer for each in interceptors for layer in _layers_of(each))


def _layers_of(interceptor: Interceptor) -> tuple[Interceptor, ...]:
    # What functools.wraps makes has the attribute too, and more to do than what it wraps.
    owner, layers = getattr(interceptor, _LAYERS, (None, ()))
    return layers if owner is interceptor else (interceptor,)


class _Passing(Run):
    """A pass through composed interceptors, whose core is the `call_next` they were called with."""

    __slots__ = ("core",)

    def __init__(self, core: Callable[[Any], Any]) -> None:
        self.core = core
        self.deadline = None  # a run's own is known to whoever passed `call_next`; nobody asks for the rest


def _core(request: Any, run: Any) -> Any:
    return run.core(request)


async def _acore(request: Any, run: Any) -> Any:
    return await run.core(request)


def _callable(call_next: Any) -> Callable[[Any], Any]:
    if not callable(call_next):
        raise InterceptorError(f"{call_next!r} is no call_next.", hint="Pass a function of the request.")
    return call_next  # type: ignore[no-any-return]


def _synchronous(call_next: Any) -> Callable[[Any], Any]:
    if colour_of_interceptor(_callable(call_next)) is Colour.SYNC:
        return call_next  # type: ignore[no-any-return]
    raise InterceptorError(
        f"{call_next!r} is asynchronous, and the interceptors around it are not.",
        hint="Compose them with an asynchronous one, or pass a synchronous function.",
    )


class _Invoking(Node):
    __slots__ = ("_layers", "_target")

    def __init__(self, target: str, layers: Node) -> None:
        super().__init__(layers.colour)
        self._target = target
        self._layers = layers
        if self.colour is Colour.SYNC:
            self.call = self._call

    def _call(self, value: Any, run: Run) -> Any:
        try:
            return self._layers.call(Invocation(self._target, value, run.caller, run.id), run)
        except (SystemExit, StopIteration, StopAsyncIteration) as error:
            raise survivable(error)  # noqa: B904 - it has the error as its cause

    async def run(self, value: Any, run: Run, driver: Driver) -> Any:
        try:
            return await driver.run(self._layers, Invocation(self._target, value, run.caller, run.id), run)
        except (SystemExit, StopAsyncIteration) as error:
            raise survivable(error)  # noqa: B904 - it has the error as its cause


class _Unwrapped(Node):
    __slots__ = ("_inner",)

    def __init__(self, inner: Node) -> None:
        super().__init__(inner.colour)
        self._inner = inner
        if self.colour is Colour.SYNC:
            self.call = self._call

    def _call(self, request: Any, run: Run) -> Any:
        result = self._inner.call(_invocation(request).value, run)
        return result.value if type(result) is Stop else result

    async def run(self, request: Any, run: Run, driver: Driver) -> Any:
        result = await driver.run(self._inner, _invocation(request).value, run)
        return result.value if type(result) is Stop else result


def _invocation(request: Any) -> Invocation:
    if isinstance(request, Invocation):
        return request
    raise InterceptorError(
        f"An interceptor passed on {type(request).__name__} instead of the invocation it was given.",
        hint="Pass on request, or request.replace(value=…).",
    )
