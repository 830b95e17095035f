"""Work that many ask for at once and that is done once, in a thread of its own, apart from whoever waits for it.

Bringing a plugin up may take long. Those who wait wait each in their own way, a thread or a task, and take no place in
a pool that other tenants need.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from typing import Any, TypeVar

from pluginhub import crossing

__all__ = ["Flights"]

T = TypeVar("T")


class Flights:
    """What is under way, by name. Lives as long as the runtime it is done for."""

    __slots__ = ("_going", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._going: dict[str, Future[Any]] = {}

    def run(self, name: str, f: Callable[..., T], *args: Any) -> T:
        """Return what `f` returns, or raise what it raises: of the call under way, or of one begun now."""
        crossing.refuse_on_loop()
        result: T = self._join(name, f, *args).result()
        return result

    async def arun(self, name: str, f: Callable[..., T], *args: Any) -> T:
        """The asynchronous twin of `run`. A task that is cancelled leaves the others their call."""
        result: T = await asyncio.shield(asyncio.wrap_future(self._join(name, f, *args)))
        return result

    def _join(self, name: str, f: Callable[..., Any], *args: Any) -> Future[Any]:
        with self._lock:
            flight = self._going.get(name)
            if flight is not None:
                return flight
            flight = self._going[name] = Future()
        thread = threading.Thread(
            target=copy_context().run, args=(self._fly, name, flight, f, *args), name=f"pluginhub {name}", daemon=True
        )
        try:
            thread.start()
        except BaseException as error:  # there are too many
            self._land(name)
            flight.set_exception(error)
        return flight

    def _fly(self, name: str, flight: Future[Any], f: Callable[..., Any], *args: Any) -> None:
        result, error = crossing.alone(lambda: f(*args))
        self._land(name)
        if error is None:
            flight.set_result(result)
        else:
            flight.set_exception(error)

    def _land(self, name: str) -> None:
        with self._lock:
            self._going.pop(name, None)
