"""What an interceptor of a stream calls on with, and the stream inside that it gets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import Any, Protocol

from pluginhub import crossing
from pluginhub.exceptions import InterceptorError
from pluginhub.layers import Interceptor, Invocation, gone, name_of, twice
from pluginhub.streaming.courses import Course
from pluginhub.streaming.generators import Items, ashut, interrupt, shut
from pluginhub.streaming.turning import asynchronous, synchronous

__all__ = ["CallNext", "Inside", "Ring"]


class Ring(Protocol):
    """A layer, or the plugin in the middle, of one stream."""

    def open(self, request: Invocation) -> Items:
        """Open it, and what is inside as far as an interceptor asks for it."""

    async def aopen(self, request: Invocation) -> Items:
        """The asynchronous twin of `open`."""


class Inside:
    """The stream inside a layer, for `for` and for `async for`, whatever its colour. `await` opens it and gives it.

    In a thread it is open already; on a loop it opens at its first step. Lives no longer than the layer around it.
    """

    __slots__ = ("_aside", "_course", "_here", "_items", "_opening", "_request", "_ring")

    def __init__(self, ring: Ring, request: Invocation, course: Course) -> None:
        self._ring = ring
        self._request = request
        self._course = course
        self._items: Items | None = None
        self._here: Iterator[Any] | None = None
        self._aside: AsyncIterator[Any] | None = None
        self._opening: asyncio.Task[Any] | None = None

    @property
    def is_over(self) -> bool:
        """Whether it was opened, and has ended, failed or been closed."""
        return getattr(self._items, "is_over", False)

    def open(self) -> Items:
        """Open the stream, once."""
        if self._items is None:
            self._items = self._ring.open(self._request)
        return self._items

    async def aopen(self) -> Items:
        """The asynchronous twin of `open`."""
        if self._items is None:
            self._opening = asyncio.current_task()
            try:
                self._items = await self._ring.aopen(self._request)
            finally:
                self._opening = None
        return self._items

    def __iter__(self) -> Iterator[Any]:
        if self._here is None:
            self._here = synchronous(self.open())
        return self._here

    def __next__(self) -> Any:
        return next(iter(self))

    def __await__(self) -> Generator[Any, Any, Inside]:
        yield from self.aopen().__await__()
        return self

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if self._aside is None:
            self._aside = asynchronous(await self.aopen(), self._course)
        return await anext(self._aside)

    def close(self) -> None:
        """Close the stream, if it was opened. Again is harmless."""
        if self._items is not None:
            shut(iter(self))

    async def aclose(self) -> None:
        """The asynchronous twin of `close`."""
        opening = self._opening
        if opening is not None and opening is not asyncio.current_task():
            opening.cancel()
            await asyncio.wait({opening})
        if self._items is not None:
            if self._aside is None:
                self._aside = asynchronous(self._items, self._course)
            await ashut(self._aside)

    def interrupt(self) -> None:
        """Cut short what a thread waits for inside."""
        if self._here is not None:
            interrupt(self._here)


class CallNext:
    """One layer's way inward: to be called once, or as often as it likes after it asked for `repeatable`.

    Lives as long as its layer, and closes what that leaves open.
    """

    __slots__ = ("_course", "_intercept", "_is_left", "_is_repeatable", "_opened", "_ring", "verdict")

    def __init__(self, intercept: Interceptor, ring: Ring, course: Course) -> None:
        self._intercept = intercept
        self._ring = ring
        self._course = course
        self._opened: list[Inside] = []
        self._is_repeatable = False
        self._is_left = False
        self.verdict: InterceptorError | None = None
        """What the layer fails with, also where it swallowed it."""

    def __call__(self, request: Invocation) -> Inside:
        if self._is_repeatable or self._opened:
            self._refuse()
        return self._open(request)

    def repeatable(self) -> Callable[[Invocation], Inside]:
        """Return what calls on as often as you like, in place of `call_next`: each call opens the stream anew."""
        if self._is_repeatable or self._opened:
            self._refuse()
        self._is_repeatable = True
        return self._open

    def _open(self, request: Any) -> Inside:
        if self._is_left:
            raise gone(self._intercept)
        if not isinstance(request, Invocation):
            what = f"passed on {type(request).__name__} instead of the invocation it was given."
            raise InterceptorError(
                f"{name_of(self._intercept)} {what}", hint="Pass on request, or request.replace(value=…)."
            )
        inside = Inside(self._ring, request, self._course)
        self._opened = [*(each for each in self._opened if not each.is_over), inside]
        if crossing.running_loop() is None:
            inside.open()
        return inside

    def _refuse(self) -> None:
        if self._is_left:
            raise gone(self._intercept)
        self.verdict = twice(self._intercept)
        raise self.verdict

    def gave(self, made: Any) -> Inside | None:
        """Return the stream inside where that is what the layer returned as it is."""
        if self.verdict is not None:
            raise self.verdict
        return made if any(made is each for each in self._opened) else None

    def close(self) -> None:
        """Let the layer call on no more, and close what it left open."""
        self._is_left = True
        with ExitStack() as closing:  # goes on past what fails
            for inside in self._opened:
                closing.callback(inside.close)

    async def aclose(self) -> None:
        """The asynchronous twin of `close`."""
        self._is_left = True
        async with AsyncExitStack() as closing:
            for inside in self._opened:
                closing.push_async_callback(inside.aclose)

    def interrupt(self) -> None:
        """Cut short what a thread waits for inside."""
        for inside in self._opened:
            inside.interrupt()
