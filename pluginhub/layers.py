"""One layer of the onion, guarded: what `call_next` is, and what a layer must have done when it leaves.

A layer calls `call_next` once at most; or it asks for `call_next.repeatable()`, once, and calls that as often as it
likes. Whatever it called has settled when it returns. An interceptor that breaks a rule fails and is named, also where
it swallowed the error that told it so.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic
from types import CoroutineType
from typing import Any, TypeAlias

from pluginhub.carrying import Inward, caller, inward
from pluginhub.context import Run
from pluginhub.drivers import Colour, Driver, Node, colour_of
from pluginhub.exceptions import DeadlineExceeded, InterceptorError, mark, place_of
from pluginhub.types import Caller

__all__ = [
    "AsyncAgain",
    "AsyncNext",
    "Interceptor",
    "Invocation",
    "Layer",
    "colour_of_interceptor",
    "gone",
    "name_of",
    "twice",
]

Interceptor: TypeAlias = Callable[..., Any]


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


class Layer(Node):
    """An interceptor around a node. Immutable, as all nodes; each call has a `call_next` of its own."""

    __slots__ = ("_intercept", "_inward")

    def __init__(self, intercept: Interceptor, inner: Node) -> None:
        super().__init__(colour_of_interceptor(intercept))
        self._intercept = intercept
        if self.colour is Colour.SYNC:
            self.call = _calling(intercept, caller(inner))
        else:
            self._inward = inward(inner)

    async def run(self, request: Any, run: Run, driver: Driver) -> Any:
        call_next = AsyncNext(self._intercept, self._inward, run, driver)
        try:
            result = await self._intercept(request, call_next)
        except BaseException as error:
            call_next.close()
            if isinstance(error, asyncio.CancelledError) and run.deadline is not None:
                _blame(error, self._intercept)
            raise
        going = call_next.going
        if going is None or going.cr_frame is not None or call_next.verdict is not None:
            call_next.leave()
        return result


def _calling(intercept: Interceptor, inner: Callable[[Any, Run], Any]) -> Callable[[Any, Run], Any]:
    """Return the direct way through a synchronous layer. Written for speed: a layer is to cost next to nothing."""

    def call(request: Any, run: Run) -> Any:
        call_next = Next()  # an __init__ would cost as much as the rest
        call_next.inner = inner
        call_next.intercept = intercept
        call_next.state = run
        try:
            result = intercept(request, call_next)
        except BaseException:
            call_next.close()
            raise
        if call_next.state is not None:
            call_next.leave(result)
        return result

    return call


class Next:
    """What a synchronous layer calls on with. Lives as long as the layer's call.

    `inner` is there until it is called. `state` is the run; `None` once the call has settled; or what came instead:
    the repeatable one, an error that the layer fails with, `_LEFT`.
    """

    __slots__ = ("inner", "intercept", "state")

    inner: Callable[[Any, Run], Any]
    intercept: Interceptor
    state: Any

    def __call__(self, request: Any) -> Any:
        run = self.state
        try:
            inner = self.inner
            del self.inner  # of two threads, one gets past this
        except AttributeError:
            raise self._refusal() from None
        if run.deadline is not None and monotonic() > run.deadline:
            self.state = None
            raise _late(self.intercept)
        try:
            return inner(request, run)
        finally:
            if self.state is run:
                self.state = None

    def repeatable(self) -> Again:
        """Return what calls on as often as you like, in place of `call_next`; each call is a new pass inward."""
        run, inner = self.state, getattr(self, "inner", None)
        if inner is None or not self.close():
            raise self._refusal()
        self.state = again = Again(self.intercept, inner, run)
        return again

    def close(self) -> bool:
        """Let nobody call on from here; false where somebody did, or asked for the repeatable one."""
        try:
            del self.inner
        except AttributeError:
            return False
        self.state = _LEFT
        return True

    def leave(self, result: Any) -> None:
        """Judge a layer that returns without one settled call."""
        state = self.state
        if isinstance(state, InterceptorError):
            raise state
        if isinstance(state, Again):
            state.leave()
        elif not self.close():
            raise _hasty(self.intercept)
        if inspect.iscoroutine(result):
            result.close()
            raise InterceptorError(
                f"{name_of(self.intercept)} returned a coroutine.", hint="Define it by async def, or await it."
            )

    def _refusal(self) -> InterceptorError:
        if self.state is _LEFT:
            return gone(self.intercept)
        error = twice(self.intercept)
        if self.state is None or isinstance(self.state, Run):
            self.state = error
        elif isinstance(self.state, Again):
            self.state.verdict = error
        return error


class Again:
    """A `call_next` to be called as often as a synchronous layer likes, while that layer runs."""

    __slots__ = ("_inner", "_intercept", "_is_left", "_passes", "_run", "verdict")

    def __init__(self, intercept: Interceptor, inner: Callable[[Any, Run], Any], run: Run) -> None:
        self._intercept = intercept
        self._inner = inner
        self._run = run
        self._passes: list[None] = []  # appending and popping are one step each, whatever the thread
        self._is_left = False
        self.verdict: InterceptorError | None = None

    def __call__(self, request: Any) -> Any:
        if self._is_left:
            raise gone(self._intercept)
        if self._run.deadline is not None and monotonic() > self._run.deadline:
            raise _late(self._intercept)
        self._passes.append(None)
        try:
            return self._inner(_afresh(request), self._run)
        finally:
            self._passes.pop()

    def leave(self) -> None:
        self._is_left = True
        if self.verdict is not None:
            raise self.verdict
        if self._passes:
            raise _hasty(self._intercept)


class AsyncNext:
    """The asynchronous twin of `Next`. What it returns is the very coroutine that goes on: no task, no frame between.

    `going` is that; a coroutine without a frame has settled.
    """

    __slots__ = ("_again", "_driver", "_intercept", "_inward", "_is_left", "_run", "going", "verdict")

    def __init__(self, intercept: Interceptor, inward: Inward, run: Run, driver: Driver) -> None:
        self._intercept = intercept
        self._inward = inward
        self._run = run
        self._driver = driver
        self._again: AsyncAgain | None = None
        self._is_left = False
        self.going: CoroutineType[Any, Any, Any] | None = None
        self.verdict: InterceptorError | None = None

    def __call__(self, request: Any) -> CoroutineType[Any, Any, Any]:
        if self.going is not None or self._again is not None or self._is_left:
            raise self._refusal()
        run = self._run
        if run.deadline is not None and monotonic() > run.deadline:
            raise _late(self._intercept)
        self.going = going = self._inward(request, run, self._driver)
        return going  # type: ignore[no-any-return]

    def repeatable(self) -> AsyncAgain:
        """Return what calls on as often as you like, in place of `call_next`; each call is a new pass inward."""
        if self.going is not None or self._again is not None or self._is_left:
            raise self._refusal()
        self._again = AsyncAgain(self._intercept, self._inward, self._run, self._driver)
        return self._again

    def close(self) -> bool:
        """Let nobody call on from here. Returns whether all that was called has settled.

        A call that was made and never awaited is closed; one that a task of the interceptor's holds is the task's.
        """
        self._is_left = True
        if self._again is not None:
            return self._again.close()
        return self.going is None or _is_settled(self.going)

    def leave(self) -> None:
        """Judge a layer that returns without one settled call."""
        has_settled = self.close()
        if self.verdict is not None:
            raise self.verdict
        if not has_settled:
            raise _hasty(self._intercept)

    def _refusal(self) -> InterceptorError:
        if self._is_left:
            return gone(self._intercept)
        self.verdict = twice(self._intercept)
        return self.verdict


class AsyncAgain:
    """The asynchronous twin of `Again`; passes may overlap."""

    __slots__ = ("_driver", "_going", "_intercept", "_inward", "_is_left", "_run")

    def __init__(self, intercept: Interceptor, inward: Inward, run: Run, driver: Driver) -> None:
        self._intercept = intercept
        self._inward = inward
        self._run = run
        self._driver = driver
        self._is_left = False
        self._going: list[CoroutineType[Any, Any, Any]] = []

    def __call__(self, request: Any) -> CoroutineType[Any, Any, Any]:
        if self._is_left:
            raise gone(self._intercept)
        if self._run.deadline is not None and monotonic() > self._run.deadline:
            raise _late(self._intercept)
        going: CoroutineType[Any, Any, Any] = self._inward(_afresh(request), self._run, self._driver)
        self._going = [*(each for each in self._going if each.cr_frame is not None), going]
        return going

    def close(self) -> bool:
        self._is_left = True
        settled = [_is_settled(going) for going in self._going]
        return all(settled)


def colour_of_interceptor(function: Callable[..., Any]) -> Colour:
    """Return the colour of an interceptor or of a `call_next`, also of a partial one."""
    if isinstance(function, AsyncNext | AsyncAgain) or inspect.iscoroutinefunction(function):
        return Colour.ASYNC
    return colour_of(function)


def name_of(intercept: Any) -> str:
    """Return how errors call an interceptor."""
    return f"The interceptor {_title(intercept)}"


def _title(intercept: Any) -> str:
    owner = getattr(intercept, "__self__", None)
    return type(owner).__name__ if owner is not None else _called(intercept)


def _called(intercept: Any) -> str:
    intercept = getattr(intercept, "func", intercept)  # of a partial one
    return getattr(intercept, "__qualname__", None) or type(intercept).__name__


def _is_settled(going: CoroutineType[Any, Any, Any]) -> bool:
    settled = going.cr_frame is None
    if inspect.getcoroutinestate(going) == inspect.CORO_CREATED:
        going.close()  # else Python warns that it was never awaited, and names us
    return settled


def _afresh(request: Any) -> Any:
    """Return what goes on in one of several passes: of an invocation, a value that no other pass has touched."""
    return request.replace(copy.deepcopy(request.value)) if isinstance(request, Invocation) else request


def _late(intercept: Interceptor) -> DeadlineExceeded:
    error = DeadlineExceeded(
        f"The run's deadline passed before the interceptor {_title(intercept)} called on.",
        hint="Allow more time, or make the interceptor faster.",
    )
    mark(error, plugin=_title(intercept))
    return error


def _blame(error: BaseException, intercept: Interceptor) -> None:
    """Name the interceptor that was cut short, unless something further in was."""
    place = place_of(error)
    if not place.steps and not place.plugin:
        mark(error, plugin=_title(intercept))


def twice(intercept: Interceptor) -> InterceptorError:
    """Return the error of an interceptor that called on again."""
    return InterceptorError(
        f"{name_of(intercept)} called call_next twice.",
        hint="Call it once; one that tries again asks for call_next.repeatable() first.",
    )


def _hasty(intercept: Interceptor) -> InterceptorError:
    return InterceptorError(
        f"{name_of(intercept)} returned before its call_next settled.",
        hint="Wait for what you called: await call_next(request).",
    )


def gone(intercept: Interceptor) -> InterceptorError:
    """Return the error of an interceptor that calls on after its end."""
    return InterceptorError(
        f"{name_of(intercept)} called call_next after it had left.", hint="Call on while the interceptor runs."
    )


_LEFT = object()
