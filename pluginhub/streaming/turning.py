"""A generator of one colour, for code of the other: by the hop, and in a context of its own."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextvars import copy_context
from typing import Any, TypeVar

from pluginhub import crossing
from pluginhub.streaming.courses import Course
from pluginhub.streaming.generators import END, Items, Threaded, ashut, astep, inside

__all__ = ["Advanced", "Paged", "asynchronous", "completed", "synchronous"]

T = TypeVar("T")

_CANCELLED: Any = object()


def synchronous(items: Items) -> Iterator[Any]:
    """Return items for `for`, whatever their colour. `shut` it as the generator itself."""
    return Advanced(items) if isinstance(items, AsyncIterator) else items


def asynchronous(items: Items, course: Course) -> AsyncIterator[Any]:
    """Return items for `async for`, whatever their colour. `ashut` it as the generator itself."""
    return items if isinstance(items, AsyncIterator) else Paged(items, course)


async def completed(work: Coroutine[Any, Any, T], undo: Callable[[T], Awaitable[None]]) -> T:
    """Await work of a thread, which cannot be interrupted: cancelled meanwhile, undo what comes of it, and go."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled() and task.exception() is None:
            await undo(task.result())
        raise


class Advanced(Iterator[Any]):
    """An asynchronous generator, advanced on the process's loop by the threads that ask, which wait meanwhile.

    It sees one context from its first item to its `finally`: a copy of the one this object was made in.
    """

    def __init__(self, items: AsyncIterator[Any]) -> None:
        self._items = items
        self._context = copy_context()
        self._step: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any] | None] | None = None
        self._interrupted = False

    def __next__(self) -> Any:
        item = crossing.on_loop(self._advance)
        if item is END:
            raise StopIteration
        if item is _CANCELLED:
            raise asyncio.CancelledError
        return item

    def close(self) -> None:
        crossing.on_loop(lambda home: self._at(home, ashut(self._items)))

    def interrupt(self) -> None:
        """Cancel the step that a thread waits for, and any later one. From whichever thread."""
        self._interrupted = True
        if (step := self._step) is not None:
            loop, task = step
            loop.call_soon_threadsafe(lambda: task is not None and self._step is step and task.cancel())

    async def _advance(self, home: crossing.Home) -> Any:
        self._step = (asyncio.get_running_loop(), asyncio.current_task())
        try:
            # Looked at after the step is known: whoever interrupts sees the one, or we see the other.
            return _CANCELLED if self._interrupted else await self._at(home, astep(self._items))
        except asyncio.CancelledError:
            if not self._interrupted:
                raise
            return _CANCELLED
        finally:
            self._step = None

    async def _at(self, home: crossing.Home, work: Coroutine[Any, Any, T]) -> T:
        self._context.run(crossing.wait_in, home)
        return await inside(self._context, work)


class Paged(AsyncIterator[Any]):
    """A synchronous generator, pulled in threads: a page a hop, of no more than the stream's consumer asked for.

    Where a thread waits for all of this, it is pulled there: in the connection and transaction of a `for` loop.
    """

    def __init__(self, items: Iterator[Any], course: Course) -> None:
        self._pulled = Threaded(items, at_home=True)
        self._course = course
        self._page: deque[Any] = deque()

    async def __anext__(self) -> Any:
        if not self._page:
            self._page.extend(await self._pulled.pull(self._course.asked))
        if not self._page:
            raise StopAsyncIteration
        return self._page.popleft()

    async def aclose(self) -> None:
        self._page.clear()
        await self._pulled.close()
