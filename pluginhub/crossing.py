"""Crossing between threads and event loops.

- A thread that needs asynchronous code waits for the loop, and meanwhile does whatever synchronous work that code asks
  for (`Home`), so that the caller's thread, connection and transaction serve the whole run.
- A loop that needs synchronous code uses the home of its run, or else a bounded pool of threads.

Asynchronous plugins see one loop per process: the server's when it was adopted, else that of a background thread. Both
the loop and the pool are made anew after a fork.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar, cast

from pluginhub.exceptions import HookError

__all__ = [
    "Home",
    "adopt",
    "apart",
    "in_pool_thread",
    "in_thread",
    "on_loop",
    "process_loop",
    "submit",
    "submit_coroutine",
    "using_loop",
]

T = TypeVar("T")

POOL_THREADS = 32

around_thread: Callable[[], AbstractContextManager[Any]] = nullcontext
"""Entered around each piece of work in a pool thread. The tenancy sets it: the tenant's connection, then a reset."""


async def in_thread(f: Callable[..., T], *args: Any) -> T:
    """Run `f` in the bounded pool, with this task's context variables and its tenant's connection."""
    context = copy_context()
    future = asyncio.get_running_loop().run_in_executor(_process.pool(), context.run, _capture, _around, f, *args)
    outcome: tuple[T | None, BaseException | None] = await future
    return _release(outcome)


def apart(f: Callable[..., T], *args: Any) -> T:
    """Run `f` in the pool and wait: outside the caller's connection and transaction. A pool thread does it itself."""
    if in_pool_thread():
        return f(*args)
    future = _process.pool().submit(copy_context().run, _capture, _around, f, *args)
    outcome: tuple[T | None, BaseException | None] = future.result()
    return _release(outcome)


def submit(f: Callable[..., T], *args: Any) -> Future[T]:
    """Start `f` in the pool, with the caller's context variables and its tenant's connection."""
    return _process.pool().submit(copy_context().run, _around, f, *args)


def submit_coroutine(work: Coroutine[Any, Any, T]) -> Future[T]:
    """Start a coroutine on the loop of this run, from a thread."""
    return asyncio.run_coroutine_threadsafe(work, _loop.get() or process_loop())


def in_pool_thread() -> bool:
    """Say whether this thread is one of the pool's."""
    return getattr(_place, "pooled", False)


@contextmanager
def using_loop(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Cross to `loop` instead of the process's, within the block: for plugins that no hub keeps."""
    token = _loop.set(loop)
    try:
        yield
    finally:
        _loop.reset(token)


def on_loop(make: Callable[[Home], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine on the process's loop from a thread, which does its synchronous work while it waits."""
    loop = _loop.get() or process_loop()
    if _running() is loop:
        raise HookError(
            "Synchronous code on the event loop's thread called asynchronous plugin code.",
            hint="Use the asynchronous twin there: arun, aexecute, acall.",
        )
    home = Home()
    future = asyncio.run_coroutine_threadsafe(_captured(make(home)), loop)
    future.add_done_callback(home.leave)
    try:
        home.serve()
    except BaseException:
        future.cancel()
        raise
    return _release(future.result())


class Home:
    """A thread that waits for a coroutine and does its synchronous work. Lives as long as that wait."""

    __slots__ = ("_left", "_work")

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._left = False

    def serve(self) -> None:
        while (work := self._work.get()) is not None:
            work()

    def leave(self, _: Future[Any]) -> None:
        self._left = True
        self._work.put(None)

    async def run(self, f: Callable[..., T], *args: Any) -> T:
        """From the loop: run `f` in the waiting thread. A task that outlived the wait gets a pool thread."""
        if self._left:
            return await in_thread(f, *args)
        done: Future[tuple[T | None, BaseException | None]] = Future()
        context = copy_context()
        self._work.put(lambda: done.set_result(context.run(_capture, f, *args)))
        return _release(await asyncio.wrap_future(done))


def adopt(loop: asyncio.AbstractEventLoop) -> None:
    """Make a server's running loop the process's, unless asynchronous plugins already live on another."""
    _process.adopt(loop)


def process_loop() -> asyncio.AbstractEventLoop:
    return _process.loop()


class _Process:
    """The loop and the pool of this process; made on first need, and anew after a fork."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pool: ThreadPoolExecutor | None = None

    def adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is None or self._loop.is_closed():
            self._loop = loop

    def loop(self) -> asyncio.AbstractEventLoop:
        loop = self._loop
        if loop is None or loop.is_closed():
            with self._lock:
                if self._loop is None or self._loop.is_closed():
                    self._loop = _background_loop()
                loop = self._loop
        return loop

    def pool(self) -> ThreadPoolExecutor:
        pool = self._pool
        if pool is None:
            with self._lock:
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(POOL_THREADS, "pluginhub", initializer=_enter_pool)
                pool = self._pool
        return pool


_process = _Process()
os.register_at_fork(after_in_child=_process.reset)

_loop: ContextVar[asyncio.AbstractEventLoop | None] = ContextVar("pluginhub_loop", default=None)
_place = threading.local()


def _enter_pool() -> None:
    _place.pooled = True


def _background_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="pluginhub-loop", daemon=True).start()
    return loop


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _around(f: Callable[..., T], *args: Any) -> T:
    with around_thread():
        return f(*args)


def _capture(f: Callable[..., T], *args: Any) -> tuple[T | None, BaseException | None]:
    # As a value: a future refuses to carry StopIteration.
    try:
        return f(*args), None
    except BaseException as error:
        return None, error


async def _captured(work: Coroutine[Any, Any, T]) -> tuple[T | None, BaseException | None]:
    try:
        return await work, None
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        return None, error


def _release(outcome: tuple[T | None, BaseException | None]) -> T:
    result, error = outcome
    if error is None:
        return cast(T, result)
    try:
        raise error
    finally:
        del outcome, error
