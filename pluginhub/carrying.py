"""What goes along with a call between layers of different colours: context variables back, and cancellation down.

`crossing` gives the other side a copy of the context. What is changed there is carried back when the call ends; and
where the asynchronous caller is cancelled, so is what runs asynchronously beneath the thread it waits for, and that
unwinds first. A thread that merely computes cannot be stopped, and is not waited for.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent import futures
from contextvars import Context, ContextVar, copy_context
from typing import Any

from pluginhub.context import Run
from pluginhub.drivers import SYNC, Colour, Driver, Node, drive

__all__ = ["Inward", "asynchronously", "caller", "inward"]

Inward = Callable[[Any, Run, Driver], Any]
"""How an asynchronous layer calls on: a coroutine function `(request, run, driver)`."""


def caller(node: Node) -> Callable[[Any, Run], Any]:
    """Return how a synchronous layer calls a node."""
    if node.colour is Colour.SYNC:
        return node.call
    if node.colour is Colour.MIXED:
        return lambda request, run: drive(SYNC.run(node, request, run))
    carried = _Carried(node)

    def call(request: Any, run: Run) -> Any:
        parcel = _Parcel(request, _above())
        try:
            return drive(SYNC.run(carried, parcel, run))
        except futures.CancelledError:  # an Exception, which the layer might take for a failure
            raise asyncio.CancelledError from None
        finally:
            parcel.unpack()

    return call


def inward(node: Node) -> Inward:
    """Return how an asynchronous layer calls a node."""
    if node.colour is not Colour.SYNC:
        return node.run
    carried = _Carried(node)

    async def go(request: Any, run: Run, driver: Driver) -> Any:
        parcel = _Parcel(request)
        try:
            return await driver.run(carried, parcel, run)
        except asyncio.CancelledError:
            await parcel.give_up()
            raise
        finally:
            parcel.unpack()

    return go


def asynchronously(node: Node) -> Node:
    """Return a node to be run on a loop from its outermost code on: what crosses is carried from there."""
    return node if node.colour is not Colour.SYNC else _Outermost(node)


class _Outermost(Node):
    __slots__ = ("_inward",)

    def __init__(self, node: Node) -> None:
        super().__init__(Colour.ASYNC)
        self._inward = inward(node)

    async def run(self, value: Any, run: Run, driver: Driver) -> Any:
        return await self._inward(value, run, driver)


class _Carried(Node):
    """A node at the far side of a crossing; its value is a parcel."""

    __slots__ = ("_inner",)

    def __init__(self, inner: Node) -> None:
        super().__init__(inner.colour)
        self._inner = inner
        if self.colour is Colour.SYNC:
            self.call = self._call

    def _call(self, parcel: _Parcel, run: Run) -> Any:
        parcel.thread = threading.get_ident()
        token = _carrying.set(parcel)
        before = copy_context()
        try:
            return self._inner.call(parcel.request, run)
        finally:
            parcel.pack(before)
            _carrying.reset(token)
            parcel.done.set_result(None)

    async def run(self, parcel: _Parcel, run: Run, driver: Driver) -> Any:
        above = parcel.above
        if above is not None:
            above.descend(asyncio.current_task())
        before = copy_context()
        try:
            return await self._inner.run(parcel.request, run, driver)
        finally:
            parcel.pack(before)
            if above is not None:
                above.ascend()


class _Parcel:
    """One call across, as both sides see it. Lives as long as that call."""

    __slots__ = ("_changed", "_is_given_up", "_lock", "_task", "above", "done", "request", "thread")

    def __init__(self, request: Any, above: _Parcel | None = None) -> None:
        self.request = request
        self.above = above
        """The call that led into this thread, to be told of the task that goes on from here."""
        self.thread = 0
        self.done: futures.Future[None] = futures.Future()
        self.done.set_running_or_notify_cancel()  # whoever waits for it cannot cancel it
        self._changed: list[tuple[ContextVar[Any], Any]] = []
        self._is_given_up = False
        self._lock = threading.Lock()
        self._task: asyncio.Task[Any] | None = None

    def pack(self, before: Context) -> None:
        """Note which context variables were set at the far side; those of the crossing itself were set before."""
        after = copy_context()
        self._changed = [(variable, value) for variable, value in after.items() if _of(before, variable) is not value]

    def unpack(self) -> None:
        """Set them at the near side."""
        for variable, value in self._changed:
            variable.set(value)

    def descend(self, task: asyncio.Task[Any] | None) -> None:
        """Note the task that the thread waits for. Raises where the call was given up meanwhile."""
        with self._lock:
            if self._is_given_up:
                raise asyncio.CancelledError
            self._task = task

    def ascend(self) -> None:
        with self._lock:
            self._task = None

    async def give_up(self) -> None:
        """Cancel what goes on asynchronously beneath the thread, and wait until that has unwound."""
        with self._lock:
            self._is_given_up = True
            task = self._task
        if task is not None:
            task.get_loop().call_soon_threadsafe(task.cancel)
            await asyncio.wrap_future(self.done)


_carrying: ContextVar[_Parcel | None] = ContextVar("pluginhub_carrying", default=None)


def _above() -> _Parcel | None:
    """Return the call that led into this thread, if this is not a task or a thread that a layer started aside."""
    parcel = _carrying.get()
    return parcel if parcel is not None and parcel.thread == threading.get_ident() else None


def _of(context: Context, variable: ContextVar[Any]) -> Any:
    return context.get(variable, _ABSENT)


_ABSENT = object()
