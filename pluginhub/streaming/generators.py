"""Generators of either colour, advanced from a loop by no more than what was asked for."""

from __future__ import annotations

import asyncio
import inspect
import types
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterable, Iterator, Mapping
from contextvars import Context, copy_context
from time import monotonic
from typing import Any, Protocol, TypeVar, cast

from pluginhub import crossing
from pluginhub.exceptions import Fatal, HookError
from pluginhub.streaming.courses import Course

__all__ = [
    "END",
    "PAGE_ITEMS",
    "PAGE_SECONDS",
    "Items",
    "Looped",
    "Pulled",
    "Threaded",
    "ashut",
    "astep",
    "generated",
    "inside",
    "interrupt",
    "iterated",
    "shut",
    "step",
]

T = TypeVar("T")

END: Any = object()
"""In place of an item: there is none left."""

PAGE_ITEMS = 64
"""The most items one hop to a thread fetches, and the most that wait in memory for one client."""

PAGE_SECONDS = 0.02
"""How long a hop goes on once it has an item, and how long an item waits for more."""

Items = Iterator[Any] | AsyncIterator[Any]
"""A plugin's generator, of either colour."""


class Pulled(Protocol):
    """A generator that is being pulled. One pull at a time; call both from one loop."""

    async def pull(self, n: int) -> list[Any]:
        """Return at least one item and at most `n`; none is the end."""

    async def close(self) -> None:
        """Close the generator. Call it when no pull is under way."""


def generated(made: Any) -> Items:
    """Return what a `stream` hook returned as an iterator. Raises `HookError` for what is none."""
    items = iterated(made)
    if items is not None:
        return items
    raise HookError(
        f"A stream hook returned {type(made).__name__}, which is no generator.",
        hint="Yield the items: `yield data`, or `yield Item(data, cursor=…)`.",
    )


def iterated(made: Any) -> Items | None:
    """Return an iterator over the items of what plugin code returned; `None` where it holds none."""
    if hasattr(made, "__aiter__"):
        return cast(AsyncIterator[Any], aiter(made))
    if isinstance(made, Iterable) and not isinstance(made, str | bytes | Mapping):
        return iter(made)
    if inspect.iscoroutine(made):
        made.close()
    return None


class Threaded:
    """Pulls a synchronous generator in pool threads: a page a hop, handed over as it grows.

    The generator sees one context, and so one tenant, from its first item to its `finally`: a copy of the one this
    object was made in, whichever threads it passes and whoever pulls. With `at_home`, a thread that waits for the
    pulling task is the one it is advanced in, item by item: that thread goes on no sooner than the hop has ended.
    """

    def __init__(self, generator: Iterator[Any], *, at_home: bool = False) -> None:
        self._generator = generator
        self._at_home = at_home
        self._context = copy_context()
        self._context.run(crossing.leave_home)  # a thread cannot wait for itself
        self._ready: deque[Any] = deque()
        self._hop: asyncio.Future[None] | None = None
        self._over = False
        self._failure: BaseException | None = None

    async def pull(self, n: int) -> list[Any]:
        while not self._ready and not self._over:
            # A hop that outlived an earlier pull goes on: what it fetches has been asked for.
            if self._hop is None:
                self._hop = self._in_thread(self._advance, 1 if self._home() else min(n, PAGE_ITEMS))
            await self._fed(self._hop)
        if not self._ready and self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        return [self._ready.popleft() for _ in range(min(n, len(self._ready)))]

    async def close(self) -> None:
        if self._hop is not None:
            if not self._over and not self._hop.done():
                interrupt(self._generator)
            await asyncio.wait({self._hop})  # of what its thread waits for, only layers of ours can be interrupted
        if not self._over:
            self._over = True
            self._hop = self._in_thread(shut, self._generator)
            await asyncio.wait({self._hop})  # also by who closes again, when this wait is cancelled
            self._hop.result()

    def _advance(self, n: int) -> None:
        until = monotonic() + PAGE_SECONDS
        try:
            for _ in range(n):
                item = step(self._generator)
                if item is END:
                    self._over = True
                    return
                self._ready.append(item)
                if monotonic() > until:
                    return
        except BaseException as error:
            self._failure = error
            self._over = True

    async def _fed(self, hop: asyncio.Future[None]) -> None:
        """Wait for the end of the hop, or until it has been holding items for `PAGE_SECONDS`."""
        loop = asyncio.get_running_loop()
        fed: asyncio.Future[None] = loop.create_future()

        def feed(_: Any = None) -> None:
            if not fed.done() and (self._ready or hop.done()):
                fed.set_result(None)

        timer = loop.call_later(PAGE_SECONDS, feed)
        hop.add_done_callback(feed)
        try:
            await fed
        finally:
            timer.cancel()
            hop.remove_done_callback(feed)
        if hop.done():
            self._hop = None
            hop.result()

    def _home(self) -> crossing.Home | None:
        return crossing.home() if self._at_home else None

    def _in_thread(self, f: Callable[..., None], *args: Any) -> asyncio.Task[None]:
        home = self._home()
        in_thread = crossing.in_stream_thread if home is None else home.run
        hop = in_thread(self._context.run, f, *args)
        # A copy: what surrounds work in a pool thread looks at its context, while the generator is inside its own.
        return asyncio.get_running_loop().create_task(hop, context=self._context.copy())


class Looped:
    """Pulls an asynchronous generator on the process's loop, item by item, in a context of its own as above."""

    def __init__(self, generator: AsyncIterator[Any], course: Course | None = None) -> None:
        self._generator = generator
        self._course = course
        self._context = copy_context()
        self._pulls = 0
        self._there: asyncio.AbstractEventLoop | None = None
        self._turn = asyncio.Lock()

    async def pull(self, n: int) -> list[Any]:
        self._pulls += 1
        if self._course is not None:
            self._course.asked = n
        if self._pulls % PAGE_ITEMS == 0:
            await asyncio.sleep(0)  # a generator that never waits would keep all others waiting
        if self._pulls == 1:
            self._there = _process_loop_elsewhere()
        step = inside(self._context, astep(self._generator))
        item = await (step if self._there is None else self._elsewhere(self._there, step))
        return [] if item is END else [item]

    async def close(self) -> None:
        there = _process_loop_elsewhere()
        close = inside(self._context, ashut(self._generator))
        await (close if there is None else self._elsewhere(there, close))

    async def _elsewhere(self, there: asyncio.AbstractEventLoop, work: Awaitable[T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._in_turn(work), there))

    async def _in_turn(self, work: Awaitable[T]) -> T:
        # A pull that was cancelled from another loop may still be in the generator's `finally` when the close arrives.
        async with self._turn:
            return await work


def _process_loop_elsewhere() -> asyncio.AbstractEventLoop | None:
    there = crossing.process_loop()
    return None if asyncio.get_running_loop() is there else there


@types.coroutine
def inside(context: Context, work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """Await `work` with each of its steps in `context`; the awaiting task's own is neither seen nor touched."""
    step: Callable[[Any], Any] = work.send
    given: Any = None
    while True:
        try:
            waits = context.run(step, given)
        except StopIteration as end:
            return cast(T, end.value)
        try:
            given = yield waits
            step = work.send
        except GeneratorExit:
            context.run(work.close)
            raise
        except BaseException as error:
            step, given = work.throw, error


def step(generator: Iterator[Any]) -> Any:
    """Return the next item or `END`."""
    try:
        return next(generator, END)
    except SystemExit as error:
        raise _fatal() from error


async def astep(generator: AsyncIterator[Any]) -> Any:
    """The asynchronous twin of `step`."""
    try:
        return await anext(generator, END)
    except SystemExit as error:  # it would end the loop
        raise _fatal() from error


def shut(generator: Iterator[Any]) -> None:
    """Run the generator's `finally` blocks, where it has any."""
    try:
        if (close := getattr(generator, "close", None)) is not None:
            close()
    except SystemExit as error:
        raise _fatal() from error


async def ashut(generator: AsyncIterator[Any]) -> None:
    """The asynchronous twin of `shut`."""
    try:
        if (close := getattr(generator, "aclose", None)) is not None:
            await close()
    except SystemExit as error:
        raise _fatal() from error


def interrupt(generator: Iterator[Any]) -> None:
    """Cut short what another thread waits for inside of a generator, where that can be done."""
    if (cut_short := getattr(generator, "interrupt", None)) is not None:
        cut_short()


def _fatal() -> Fatal:
    return Fatal("The plugin tried to end the process.", hint="Raise Fatal in its place.")
