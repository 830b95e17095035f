"""Interceptors of scope `stream`: each wraps the iteration of what is inside it.

An interceptor is `intercept(request, call_next)`: a generator of either colour, which yields while it iterates over
`call_next(request)`; or a function that returns something to iterate over; or a coroutine function that does.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from pluginhub import crossing
from pluginhub.context import Services
from pluginhub.exceptions import InterceptorError
from pluginhub.layers import Interceptor, Invocation, name_of
from pluginhub.streaming.courses import Course
from pluginhub.streaming.generators import Items, ashut, generated, iterated
from pluginhub.streaming.guards import guarded
from pluginhub.streaming.inward import CallNext, Ring
from pluginhub.streaming.turning import asynchronous, completed

__all__ = ["Layer", "wrapped"]

Layer: TypeAlias = tuple[Interceptor, Services | None]
"""An interceptor, and the services of the registration it belongs to."""


def wrapped(layers: Sequence[Layer], hook: Callable[[Any], Any], services: Services, course: Course) -> Ring:
    """Return interceptors, outermost first, around a `stream` hook that takes the params, ready to be opened once."""
    ring: Ring = _Core(hook, services, course)
    for intercept, its in reversed(layers):
        ring = _Layer(intercept, its, ring, course)
    return ring


class _Core:
    def __init__(self, hook: Callable[[Any], Any], services: Services, course: Course) -> None:
        self._hook = hook
        self._services = services
        self._course = course

    def open(self, request: Invocation) -> Items:
        try:
            return guarded(generated(self._hook(request.value)), self._course, self._services)
        except BaseException as raised:
            raise self._course.noted(raised, self._services)  # noqa: B904 - the error itself, or has it as its cause

    async def aopen(self, request: Invocation) -> Items:
        return await _off_loop(self, request, self._course)


class _Layer:
    def __init__(self, intercept: Interceptor, services: Services | None, inner: Ring, course: Course) -> None:
        code: Any = intercept if inspect.isroutine(intercept) else getattr(intercept, "__call__", intercept)  # noqa: B004
        self._intercept = intercept
        self._services = services
        self._inner = inner
        self._course = course
        self._waits = inspect.iscoroutinefunction(intercept) or inspect.iscoroutinefunction(code)
        self._begins_later = inspect.isgeneratorfunction(code) or inspect.isasyncgenfunction(code)

    def open(self, request: Invocation) -> Items:
        if self._waits:
            return crossing.on_loop(lambda _: self.aopen(request))
        call_next = CallNext(self._intercept, self._inner, self._course)
        try:
            made = self._intercept(request, call_next)
            inside = call_next.gave(made)
            return inside.open() if inside is not None else self._guarded(made, call_next)
        except BaseException as raised:
            error = self._course.noted(raised, self._services)
            call_next.close()
            raise error  # noqa: B904 - it is the error itself, or has it as its cause

    async def aopen(self, request: Invocation) -> Items:
        if not self._waits and not self._begins_later:
            return await _off_loop(self, request, self._course)
        call_next = CallNext(self._intercept, self._inner, self._course)
        try:
            made = self._intercept(request, call_next)
            if self._waits:
                made = await made
            inside = call_next.gave(made)
            return await inside.aopen() if inside is not None else self._guarded(made, call_next)
        except BaseException as raised:
            error = self._course.noted(raised, self._services)
            await call_next.aclose()
            raise error  # noqa: B904 - it is the error itself, or has it as its cause

    def _guarded(self, made: Any, call_next: CallNext) -> Items:
        items = iterated(made)
        if items is None:
            raise InterceptorError(
                f"{name_of(self._intercept)} returned {type(made).__name__}, which is no stream.",
                hint="Yield items, or return what call_next(request) gave.",
            )
        return guarded(items, self._course, self._services, call_next)


async def _off_loop(ring: Ring, request: Invocation, course: Course) -> Items:
    """Open a ring in the thread that waits for this task, or else in the pool: its code may block."""
    home = crossing.home()
    in_thread = crossing.in_thread if home is None else home.run
    return await completed(in_thread(ring.open, request), lambda items: ashut(asynchronous(items, course)))
