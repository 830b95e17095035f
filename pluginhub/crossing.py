"""Crossing between threads and event loops.

- A thread that needs asynchronous code waits for the loop, and meanwhile does whatever synchronous work that code asks
  for (`Home`), so that the caller's thread, connection and transaction serve the whole run.
- A loop that needs synchronous code uses the home of its run, or else a bounded pool of threads.

Asynchronous plugins see one loop per process: the server's when it was adopted, else that of a background thread. Both
the loop and the pool are made anew after a fork.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any, TypeVar, cast

from pluginhub import forks
from pluginhub.exceptions import HookError

__all__ = [
    "Home",
    "adopt",
    "after_hops",
    "alone",
    "apart",
    "holding",
    "home",
    "in_pool_thread",
    "in_stream_thread",
    "in_thread",
    "leave_home",
    "on_loop",
    "process_loop",
    "refuse_on_loop",
    "running_loop",
    "submit",
    "submit_coroutine",
    "using_loop",
    "wait_in",
]

T = TypeVar("T")

log = logging.getLogger("pluginhub.crossing")

POOL_THREADS = 32

around_thread: Callable[[], AbstractContextManager[Any]] = nullcontext
"""Entered around each piece of work in a pool thread. The tenancy sets it: the tenant's connection, then a reset."""

in_transaction: Callable[[], bool] = bool
"""Whether this thread's connection has a transaction open. The tenancy sets it."""

leave_thread: Callable[[], Any] = bool
"""Called at the end of a thread that did one piece of work. The tenancy sets it: what the thread opened is closed."""


async def in_thread(f: Callable[..., T], *args: Any) -> T:
    """Run `f` in the bounded pool, with this task's context variables and its tenant's connection."""
    return await _hop(_process.pool(), f, *args)


async def in_stream_thread(f: Callable[..., T], *args: Any) -> T:
    """Do the same in threads of the streams' own: sources that wait there keep nobody from running."""
    return await _hop(_process.pool("streams"), f, *args)


async def _hop(pool: ThreadPoolExecutor, f: Callable[..., T], *args: Any) -> T:
    done: Future[tuple[T | None, BaseException | None]] = Future()
    taken, context = threading.Lock(), copy_context()

    def work(around: Callable[..., T]) -> None:
        if taken.acquire(blocking=False) and done.set_running_or_notify_cancel():
            done.set_result(context.run(_capture, around, f, *args))

    pool.submit(work, _around)
    helper, hops = _helper.get(), _hops.get()
    if helper is not None:  # the pool may be full of threads that wait as this one does
        helper.offer(partial(work, _as_it_is))
    if hops is not None:
        hops.append(done)
    return _release(await asyncio.wrap_future(done))


@contextmanager
def holding(release: Callable[[], None]) -> Iterator[None]:
    """Call `release` when the block and the threads it hopped to are done: a task may be cancelled before they are."""
    hops: list[Future[Any]] = []
    token = _hops.set(hops)
    try:
        yield
    finally:
        _hops.reset(token)
        _after([hop for hop in hops if not hop.done()], release)


def after_hops(release: Callable[[], None]) -> bool:
    """Call `release` when the threads that this task hopped to, inside `holding`, are done; false when all are."""
    hops = [hop for hop in _hops.get() or () if not hop.done()]
    if not hops:
        return False
    _after(hops, release)
    return True


def _after(hops: list[Future[Any]], release: Callable[[], None]) -> None:
    if hops:
        hops.pop().add_done_callback(lambda _: _after(hops, release))
    else:
        release()


def home() -> Home | None:
    """Return the thread that waits for this run, if one does still."""
    found = _home.get()
    return None if found is None or found.left else found


def wait_in(home: Home) -> None:
    """Tell what runs in this context which thread waits for it."""
    _home.set(home)
    _helper.set(home if home.pooled else None)


def leave_home() -> None:
    """Do what follows in this task apart from the thread that waits for it."""
    _home.set(None)


def apart(f: Callable[..., T], *args: Any) -> T:
    """Run `f` in the pool and wait: outside the caller's connection and transaction. A pool thread does it itself."""
    if in_pool_thread():
        return _in_fresh_thread(f, *args) if in_transaction() else f(*args)
    refuse_on_loop()
    future = _process.pool().submit(copy_context().run, _capture, _around, f, *args)
    outcome: tuple[T | None, BaseException | None] = future.result()
    return _release(outcome)


def alone(f: Callable[..., T], *args: Any) -> tuple[T | None, BaseException | None]:
    """Do all that a thread of our own was made for; return its result or its error.

    It may do what pool threads do, so that nothing in it waits for a place among them.
    """
    _enter_pool()
    outcome = _capture(_around, f, *args)
    _, problem = _capture(leave_thread)
    if problem is not None:
        log.warning("A thread could not close what it had opened", exc_info=problem)
    return outcome


def submit(f: Callable[..., T], *args: Any) -> Future[T]:
    """Start `f` in the pool, with the caller's context variables and its tenant's connection."""
    return _process.pool().submit(copy_context().run, _around, f, *args)


def submit_coroutine(work: Coroutine[Any, Any, T]) -> Future[T]:
    """Start a coroutine on the loop of this run, from a thread."""
    refuse_on_loop()
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
    refuse_on_loop()
    loop = _loop.get() or process_loop()
    home = Home()
    future = asyncio.run_coroutine_threadsafe(_captured(home, make(home)), loop)
    future.add_done_callback(home.leave)
    try:
        home.serve()
    except BaseException:
        future.cancel()
        raise
    return _release(future.result())


def refuse_on_loop() -> None:
    """Refuse to make an event loop's thread wait for that loop."""
    here = running_loop()
    if here is not None and here is (_loop.get() or _process.known_loop()):
        raise HookError(
            "Synchronous code on the event loop's thread called asynchronous plugin code.",
            hint="Use the asynchronous twin there: arun, aexecute, acall.",
        )


class Home:
    """A thread that waits for a coroutine and does its synchronous work. Lives as long as that wait."""

    __slots__ = ("_work", "left", "pooled")

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.left = False
        self.pooled = in_pool_thread()

    def offer(self, work: Callable[[], None]) -> None:
        self._work.put(work)

    def serve(self) -> None:
        while (work := self._work.get()) is not None:
            work()

    def leave(self, _: Future[Any]) -> None:
        self.left = True
        self._work.put(None)

    async def run(self, f: Callable[..., T], *args: Any) -> T:
        """From the loop: run `f` in the waiting thread. A task that outlived the wait gets a pool thread."""
        if self.left:
            return await in_thread(f, *args)
        done: Future[tuple[T | None, BaseException | None]] = Future()
        context = copy_context()
        context.run(_home.set, None)  # a thread cannot wait for itself

        def work() -> None:
            if done.set_running_or_notify_cancel():
                done.set_result(context.run(_capture, f, *args))

        self._work.put(work)
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
        self._pools: dict[str, ThreadPoolExecutor] = {}

    def adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is None or self._loop.is_closed():
            with self._lock:
                if self._loop is None or self._loop.is_closed():
                    self._loop = loop

    def known_loop(self) -> asyncio.AbstractEventLoop | None:
        return self._loop

    def loop(self) -> asyncio.AbstractEventLoop:
        loop = self._loop
        if loop is None or loop.is_closed():
            with self._lock:
                if self._loop is None or self._loop.is_closed():
                    self._loop = _background_loop()
                loop = self._loop
        return loop

    def pool(self, name: str = "pluginhub") -> ThreadPoolExecutor:
        pool = self._pools.get(name)
        if pool is None:
            with self._lock:
                pool = self._pools.get(name)
                if pool is None:
                    pool = self._pools[name] = ThreadPoolExecutor(POOL_THREADS, name, initializer=_enter_pool)
        return pool


_process = _Process()

_loop: ContextVar[asyncio.AbstractEventLoop | None] = ContextVar("pluginhub_loop", default=None)
_home: ContextVar[Home | None] = ContextVar("pluginhub_home", default=None)
_helper: ContextVar[Home | None] = ContextVar("pluginhub_helper", default=None)
_hops: ContextVar[list[Future[Any]] | None] = ContextVar("pluginhub_hops", default=None)
_place = threading.local()


def _anew() -> None:
    """Let a forked child have a loop and pools of its own; whoever forked waits for nobody and is in no pool there."""
    global _place
    # A loop that is collected unregisters what the parent's selector watches.
    forks.keep(_process._loop, _process._pools)
    _process.reset()
    _place = threading.local()
    for variable in (_loop, _home, _helper, _hops):
        variable.set(None)


forks.in_child(_anew, "the event loop with its thread, and the pools of threads")


def _enter_pool() -> None:
    _place.pooled = True


def _background_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=_keep_running, args=(loop,), name="pluginhub-loop", daemon=True).start()
    return loop


def _keep_running(loop: asyncio.AbstractEventLoop) -> None:
    """Run a loop for good: a plugin's task that raises `SystemExit` leaves `run_forever`, and must end nobody else."""
    while not loop.is_closed():
        try:
            loop.run_forever()
        except BaseException:
            log.exception("Plugin code tried to end the process; its loop goes on")


def _in_fresh_thread(f: Callable[..., T], *args: Any) -> T:
    """Run `f` outside this pool thread's transaction, and without another place in the pool."""
    outcome: list[tuple[T | None, BaseException | None]] = []
    context = copy_context()
    thread = threading.Thread(target=lambda: outcome.append(context.run(alone, f, *args)))
    thread.start()
    thread.join()
    return _release(outcome[0])


def running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _as_it_is(f: Callable[..., T], *args: Any) -> T:
    return f(*args)


def _around(f: Callable[..., T], *args: Any) -> T:
    with around_thread():
        return f(*args)


def _capture(f: Callable[..., T], *args: Any) -> tuple[T | None, BaseException | None]:
    # As a value: a future refuses to carry StopIteration.
    try:
        return f(*args), None
    except BaseException as error:
        return None, error


async def _captured(home: Home, work: Coroutine[Any, Any, T]) -> tuple[T | None, BaseException | None]:
    wait_in(home)
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
