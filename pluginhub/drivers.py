"""How one body of code runs in synchronous and in asynchronous hosts.

The engine is written as coroutines that await nothing but what a driver does for them. `drive` runs such a coroutine
without an event loop: under the synchronous driver it never suspends. Under the asynchronous driver it runs on a loop,
and synchronous work moves into a thread. A node has a colour, that of its outermost code; `crossing` takes it across.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextvars import ContextVar, Token
from enum import Enum
from typing import Any, Protocol, TypeVar

from pluginhub import crossing
from pluginhub.context import Run
from pluginhub.exceptions import DeadlineExceeded, HookError, Stop, place_of, set_place
from pluginhub.types import Place

__all__ = [
    "SYNC",
    "AsyncDriver",
    "Colour",
    "Driver",
    "Node",
    "SyncDriver",
    "arun",
    "colour_of",
    "drive",
    "nearest_limit",
    "run",
]

T = TypeVar("T")

nearest_limit: ContextVar[float | None] = ContextVar("pluginhub_limit", default=None)
"""When the first of the time limits around the running code passes, on the clock of `time.monotonic`."""


class Colour(Enum):
    SYNC = "sync"
    ASYNC = "async"
    MIXED = "mixed"
    """Engine code around parts of both colours: either driver runs it."""


class Node:
    """A piece of a linked pipeline: takes a value, gives a result. Immutable, and shared by all runs."""

    __slots__ = ("call", "colour")

    colour: Colour
    call: Callable[[Any, Run], Any]
    """The direct way through a synchronous node."""

    def __init__(self, colour: Colour) -> None:
        self.colour = colour
        if colour is Colour.SYNC:
            self.call = self._drive

    async def run(self, value: Any, run: Run, driver: Driver) -> Any:
        raise NotImplementedError

    def blame(self, error: BaseException, run: Run) -> None:
        """Mark the error of a call that was cut short before the node could: nothing, for one without a name."""

    def _drive(self, value: Any, run: Run) -> Any:
        return drive(self.run(value, run, SYNC))


class Driver(Protocol):
    """What engine code may await."""

    async def run(self, node: Node, value: Any, run: Run) -> Any:
        """Run a node in its own colour."""

    async def gather(
        self, nodes: Sequence[Node], values: Sequence[Any], run: Run
    ) -> list[tuple[Any, Exception | None]]:
        """Run nodes side by side; return each one's result or error, in order."""

    def attempts(self, retries: Any) -> AsyncIterator[Any]:
        """Iterate over the attempts of a stamina retry context, sleeping between them in this driver's colour."""

    async def sleep(self, seconds: float) -> None:
        """Wait, without holding up anything but this run."""

    async def ask(self, f: Callable[..., T], *args: Any) -> T:
        """Call what may block, such as a cache: here, or from a loop in a thread."""

    async def limited(self, node: Node, value: Any, run: Run, seconds: float) -> Any:
        """Run a node for at most `seconds`; synchronous code is judged after it returned."""


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run an engine coroutine to its end without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    coroutine.close()
    raise HookError("Engine code waited for something its driver did not supply.", hint="Await the driver only.")


class SyncDriver:
    """Runs pipelines in the calling thread."""

    __slots__ = ()

    async def run(self, node: Node, value: Any, run: Run) -> Any:
        if node.colour is Colour.SYNC:
            return node.call(value, run)
        if node.colour is Colour.ASYNC:
            return crossing.on_loop(lambda home: _within(run, AsyncDriver(home).run(node, value, run)))
        return await node.run(value, run, self)

    async def gather(
        self, nodes: Sequence[Node], values: Sequence[Any], run: Run
    ) -> list[tuple[Any, Exception | None]]:
        futures = [_submit(node, value, run) for node, value in zip(nodes, values, strict=True)]
        return [_settled(future, node, value, run) for future, node, value in zip(futures, nodes, values, strict=True)]

    def attempts(self, retries: Any) -> AsyncIterator[Any]:
        return _InPlace(iter(retries))

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 - no loop runs here

    async def ask(self, f: Callable[..., T], *args: Any) -> T:
        return f(*args)

    async def limited(self, node: Node, value: Any, run: Run, seconds: float) -> Any:
        started = time.monotonic()
        if node.colour is not Colour.SYNC:
            return crossing.on_loop(lambda home: _within(run, AsyncDriver(home).limited(node, value, run, seconds)))
        token = _narrow(seconds)
        try:
            result = node.call(value, run)
        finally:
            nearest_limit.reset(token)
        if time.monotonic() - started > seconds:
            raise _too_long(seconds)
        return result


SYNC = SyncDriver()


class AsyncDriver:
    """Runs pipelines on the running loop; synchronous parts go to `home`, the thread that waits, or to the pool."""

    __slots__ = ("home",)

    def __init__(self, home: crossing.Home | None = None) -> None:
        self.home = home

    async def run(self, node: Node, value: Any, run: Run) -> Any:
        if node.colour is not Colour.SYNC:
            return await node.run(value, run, self)
        if self.home is not None:
            return await self.home.run(node.call, value, run)
        return await crossing.in_thread(node.call, value, run)

    async def gather(
        self, nodes: Sequence[Node], values: Sequence[Any], run: Run
    ) -> list[tuple[Any, Exception | None]]:
        apart = AsyncDriver()
        pairs = zip(nodes, values, strict=True)
        cut: list[Place] = []
        try:
            return list(await asyncio.gather(*(_outcome(apart, node, value, run, cut) for node, value in pairs)))
        except asyncio.CancelledError as error:
            if cut:  # the first of those that were at work
                set_place(error, cut[0])
            raise

    def attempts(self, retries: Any) -> AsyncIterator[Any]:
        return aiter(retries)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def ask(self, f: Callable[..., T], *args: Any) -> T:
        return await crossing.in_thread(f, *args)

    async def limited(self, node: Node, value: Any, run: Run, seconds: float) -> Any:
        if node.colour is Colour.SYNC:
            return await AsyncDriver.run(self, _Limited(node, seconds), value, run)
        token = _narrow(seconds)
        try:
            async with asyncio.timeout(seconds) as limit:
                return await self.run(node, value, run)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise _too_long(seconds, error) from error
        finally:
            nearest_limit.reset(token)


class _Limited(Node):
    __slots__ = ("inner", "seconds")

    def __init__(self, inner: Node, seconds: float) -> None:
        super().__init__(Colour.SYNC)
        self.inner = inner
        self.seconds = seconds

    async def run(self, value: Any, run: Run, driver: Driver) -> Any:
        return await SYNC.limited(self.inner, value, run, self.seconds)


class _InPlace(AsyncIterator[Any]):
    """A synchronous iterator, for `async for`. No generator: a loop that happens to run here would adopt that."""

    __slots__ = ("_items",)

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items

    async def __anext__(self) -> Any:
        for item in self._items:
            return item
        raise StopAsyncIteration


def run(node: Node, value: Any, run: Run) -> Any:
    """Run a linked pipeline from synchronous code."""
    result = node.call(value, run) if node.colour is Colour.SYNC else drive(SYNC.run(node, value, run))
    return result.value if type(result) is Stop else result


async def arun(node: Node, value: Any, run: Run, *, anywhere: bool = False) -> Any:
    """Run a linked pipeline from asynchronous code.

    Asynchronous plugins run on the process's one loop, unless `anywhere` says that the running loop will do.
    """
    result = await _arun(node, value, run, anywhere)
    return result.value if type(result) is Stop else result


async def _arun(node: Node, value: Any, run: Run, anywhere: bool) -> Any:
    here = asyncio.get_running_loop()
    home = crossing.home()
    if node.colour is Colour.SYNC:
        return await AsyncDriver(home).run(node, value, run)
    work = _within(run, AsyncDriver(home).run(node, value, run))
    if anywhere:
        with crossing.using_loop(here):
            return await work
    there = crossing.process_loop()
    if here is there:
        return await work
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, there))


def colour_of(f: Callable[..., Any]) -> Colour:
    """Return the colour of a function, bound method or callable object."""
    code = f if inspect.isroutine(f) else getattr(f, "__call__", f)  # noqa: B004 - its colour, not whether it has one
    is_async = inspect.iscoroutinefunction(code) or inspect.isasyncgenfunction(code)
    return Colour.ASYNC if is_async else Colour.SYNC


def _narrow(seconds: float) -> Token[float | None]:
    """Note that what follows has so many seconds, if no limit further out passes sooner."""
    limit, outer = time.monotonic() + seconds, nearest_limit.get()
    return nearest_limit.set(limit if outer is None else min(limit, outer))


async def _within(run: Run, work: Coroutine[Any, Any, T]) -> T:
    """Await `work` until the run's deadline; the error names the innermost place that was cut short."""
    remaining = run.remaining()
    if remaining is None:
        return await work
    try:
        async with asyncio.timeout(remaining) as limit:
            return await work
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise _too_long(None, error) from error


def _too_long(seconds: float | None, cut: BaseException | None = None) -> DeadlineExceeded:
    what = "The run's deadline passed." if seconds is None else f"The time limit of {seconds:g} s passed."
    error = DeadlineExceeded(what, hint="Allow more time, or make the step faster.")
    place = place_of(cut.__cause__ or cut) if cut is not None else None
    if place is not None:
        set_place(error, place)
    return error


async def _outcome(
    driver: AsyncDriver, node: Node, value: Any, run: Run, cut: list[Place]
) -> tuple[Any, Exception | None]:
    crossing.leave_home()
    try:
        return await driver.run(node, value, run), None
    except DeadlineExceeded as error:  # by code that held the loop up, so that nobody was cut
        cut.append(place_of(error))
        return None, error
    except Exception as error:
        return None, error
    except asyncio.CancelledError as error:
        node.blame(error, run)
        cut.append(place_of(error))
        raise


def _submit(node: Node, value: Any, run: Run) -> Future[Any]:
    if node.colour is Colour.SYNC:
        return crossing.submit(node.call, value, run)
    return crossing.submit_coroutine(_within(run, AsyncDriver().run(node, value, run)))


def _settled(future: Future[Any], node: Node, value: Any, run: Run) -> tuple[Any, Exception | None]:
    """Wait for a member, no longer than the run may take.

    A pool thread does what still waits itself, so that nested members cannot starve the pool.
    """
    try:
        if node.colour is Colour.SYNC and crossing.in_pool_thread() and future.cancel():
            return node.call(value, run), None
        return future.result(timeout=run.remaining()), None
    except TimeoutError as error:
        if future.done():
            return None, error
        future.cancel()
        late = _too_long(None)
        node.blame(late, run)
        return None, late
    except Exception as error:
        return None, error
