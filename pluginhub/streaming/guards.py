"""What one layer of a stream yields: its errors are noted, and it leaves nothing open that it opened."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol

from pluginhub.context import Services
from pluginhub.exceptions import InterceptorError
from pluginhub.streaming.courses import Course
from pluginhub.streaming.generators import Items, ashut, shut

__all__ = ["AsyncGuard", "Guard", "Opener", "guarded"]


class Opener(Protocol):
    """What opened, or may have opened, the stream inside a layer."""

    verdict: InterceptorError | None
    """What the layer fails with, though it ended as if nothing was."""

    def close(self) -> None:
        """Close what is open. Again is harmless."""

    async def aclose(self) -> None:
        """The asynchronous twin of `close`."""

    def interrupt(self) -> None:
        """Cut short what a thread waits for inside."""


def guarded(items: Items, course: Course, services: Services | None, opener: Opener | None = None) -> Items:
    """Return the items of a layer, which belong to a registration, so that each end of them is a whole end.

    When they end, fail or are closed, the layer's `finally` blocks run, then those of what it left open inside.
    """
    kind: Any = AsyncGuard if isinstance(items, AsyncIterator) else Guard
    guard: Items = kind(items, course, services, opener)
    return guard


class Guard(Iterator[Any]):
    """The items of a synchronous layer. Lives from its opening to its end."""

    __slots__ = ("_course", "_items", "_opener", "_services", "is_over")

    def __init__(self, items: Iterator[Any], course: Course, services: Services | None, opener: Opener | None) -> None:
        self._items = items
        self._course = course
        self._services = services
        self._opener = opener
        self.is_over = False

    def __next__(self) -> Any:
        if self.is_over:
            raise StopIteration
        try:
            return next(self._items)
        except StopIteration:
            self.close()
            if self._opener is not None and self._opener.verdict is not None:
                raise self._course.noted(self._opener.verdict, self._services) from None
            raise
        except BaseException as raised:
            error = self._course.noted(raised, self._services)
            self.close()
            raise error  # noqa: B904 - it is the error itself, or has it as its cause

    def close(self) -> None:
        if self.is_over:
            return
        self.is_over = True
        try:
            shut(self._items)
        except Exception as error:
            raise self._course.noted(error, self._services)  # noqa: B904 - it is the error itself
        finally:
            if self._opener is not None:
                self._opener.close()

    def interrupt(self) -> None:
        if self._opener is not None:
            self._opener.interrupt()


class AsyncGuard(AsyncIterator[Any]):
    """The items of an asynchronous layer, as above."""

    __slots__ = ("_course", "_items", "_opener", "_services", "_task", "is_over")

    def __init__(
        self, items: AsyncIterator[Any], course: Course, services: Services | None, opener: Opener | None
    ) -> None:
        self._items = items
        self._course = course
        self._services = services
        self._opener = opener
        self.is_over = False
        self._task: asyncio.Task[Any] | None = None

    async def __anext__(self) -> Any:
        if self.is_over:
            raise StopAsyncIteration
        self._task = asyncio.current_task()
        try:
            return await anext(self._items)
        except StopAsyncIteration:
            await self.aclose()
            if self._opener is not None and self._opener.verdict is not None:
                raise self._course.noted(self._opener.verdict, self._services) from None
            raise
        except GeneratorExit:  # nothing can be awaited any more
            raise
        except BaseException as raised:
            error = self._course.noted(raised, self._services)
            await self.aclose()
            raise error  # noqa: B904 - it is the error itself, or has it as its cause
        finally:
            self._task = None

    async def aclose(self) -> None:
        if self.is_over:
            return
        await _ended(self._task)
        try:
            await ashut(self._items)
        except Exception as error:
            raise self._course.noted(error, self._services)  # noqa: B904 - it is the error itself
        finally:
            if self._opener is not None:
                await self._opener.aclose()
        self.is_over = True


async def _ended(task: asyncio.Task[Any] | None) -> None:
    """Cancel a task that an outer layer made to pull, and left at it: a generator at work cannot be closed."""
    if task is not None and task is not asyncio.current_task():
        task.cancel()
        await asyncio.wait({task})
