"""Computing once: a mark in the cache says that somebody is at it, and who comes meanwhile waits for the value.

Marks work across tasks, threads and processes, wherever the cache is shared. A mark goes with the value, with the error
that came instead, with a cancellation, or by itself. Who has waited and got nothing computes, and waits for nobody:
a hundred callers of what fails do not queue.
"""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Coroutine
from functools import partial
from time import monotonic
from typing import Any, TypeVar

from pluginhub import crossing
from pluginhub.caching.asking import MISSING, ask, cache, get, log, seconds
from pluginhub.context import Run
from pluginhub.drivers import Driver, SyncDriver

__all__ = ["MARK_SECONDS", "Mark"]

T = TypeVar("T")

MARK_SECONDS = 10
"""How long a mark lives at most, and so how long anybody waits for a process that was killed. What takes longer is
begun by others, too."""

SHORTEST_WAIT, LONGEST_WAIT = 0.002, 0.1
_PART = 0.25
"""Of the time that was waited so far: the next look comes after as much, and so a value is seen a quarter late."""


class Mark:
    """One caller's way to the value of a key: found, waited for, or computed. Lives as long as that call."""

    __slots__ = ("_asked", "_held", "_key", "_lock", "_name", "_over", "_token", "_until")

    def __init__(self, key: str) -> None:
        self._key = key
        self._name = f"pluginhub.mark:{key}"
        self._lock = threading.Lock()
        self._token = ""
        self._until = 0.0
        self._asked = self._held = self._over = False

    async def freeing(self, driver: Driver, work: Coroutine[Any, Any, T]) -> T:
        """Await what computes the value, and free the mark whatever comes of it."""
        try:
            result = await work
        except Exception:
            await self._let_go(driver)
            raise
        except BaseException:  # cancelled: nothing may be waited for
            if self._asked or self._held:
                _later(driver, self._free)
            raise
        await self._let_go(driver)
        return result

    async def find(self, driver: Driver, run: Run) -> Any:
        """Return the value that was looked for in vain and came meanwhile; `MISSING` where the caller computes it."""
        self._asked = True
        found, is_taken = await driver.ask(self._take)
        self._asked = False
        if not is_taken or (isinstance(driver, SyncDriver) and crossing.running_loop() is not None):
            return found  # a loop's thread that slept would hold up whoever computes there
        return await self._wait(driver, run)

    async def keep(self, driver: Driver, value: Any, ttl: float | None) -> None:
        """Keep a value, and free the mark."""
        await driver.ask(partial(self._keep, value, ttl))

    async def _wait(self, driver: Driver, run: Run) -> Any:
        """Look again and again, as long as it is the same one who computes, and the run may take."""
        started, whose = monotonic(), None
        while True:
            found, token = await driver.ask(self._peek)
            waited, remaining = monotonic() - started, run.remaining()
            is_over = token is None or token != (whose or token) or waited > MARK_SECONDS
            if found is not MISSING or is_over or (remaining is not None and remaining <= 0):
                return found
            whose = token
            pause = min(LONGEST_WAIT, max(SHORTEST_WAIT, waited * _PART)) * random.uniform(0.75, 1.25)
            await driver.sleep(pause if remaining is None else min(pause, remaining))

    async def _let_go(self, driver: Driver) -> None:
        if self._held:
            await driver.ask(self._free)

    # In a thread that may block

    def _take(self) -> tuple[Any, bool]:
        """Take the mark, or return that somebody else has it; or the value, if it is there by now."""
        with self._lock:
            if self._over:
                return MISSING, False
            self._token = uuid.uuid4().hex
            self._until = monotonic() + MARK_SECONDS / 2
            added = _quietly(lambda: cache().add(self._name, self._token, MARK_SECONDS))
            self._held = added is True
        if not self._held:
            return MISSING, added is False
        found = get(self._key)  # it may have come, and its mark gone, between the two
        if found is not MISSING:
            self._free()
        return found, False

    def _peek(self) -> tuple[Any, str | None]:
        """Return what is kept, and whose mark is there. The mark is read first: it goes after the value came."""
        both = _quietly(lambda: cache().get_many([self._name, self._key]))
        if both is MISSING:
            return MISSING, None
        return both.get(self._key, MISSING), both.get(self._name)

    def _keep(self, value: Any, ttl: float | None) -> None:
        try:
            ask(lambda: cache().set(self._key, value, seconds(ttl)))
        finally:
            self._free()

    def _free(self) -> None:
        """Remove the mark, if it is ours. Also called while another thread may be at taking it."""
        with self._lock:
            self._over = True
            if self._held:
                self._held = False
                _quietly(self._remove)

    def _remove(self) -> None:
        # Beyond half its life it may be somebody else's by now.
        if monotonic() < self._until or cache().get(self._name) == self._token:
            cache().delete(self._name)


def _quietly(question: Any) -> Any:
    try:
        return ask(question)
    except Exception as error:
        log.debug("A mark in the cache is left out: %s", error)
        return MISSING


def _later(driver: Driver, f: Any) -> None:
    if isinstance(driver, SyncDriver):
        f()
    else:
        crossing.submit(f)
