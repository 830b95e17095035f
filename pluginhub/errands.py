"""Calls in threads of their own, for what may take too long: nothing can end a thread but what runs in it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import copy_context
from threading import Event, Lock, Thread
from typing import Any, Generic, TypeVar, cast

from pluginhub import crossing

__all__ = ["Errand", "GivenUp"]

T = TypeVar("T")

log = logging.getLogger("pluginhub.errands")


class GivenUp(TimeoutError):
    """What was waited for took too long, and was left alone."""


class Errand(Generic[T]):
    """One call in a thread of its own, which is waited for as long as it may take, and then left alone.

    The thread has the caller's context variables and its tenant's connection. What a call gives after it was given up
    is passed to `late(result, error)`, in that thread.
    """

    __slots__ = ("_done", "_ended", "_f", "_given_up", "_late", "_outcome", "_taken")

    def __init__(self, f: Callable[[], T], late: Callable[[Any, BaseException | None], Any]) -> None:
        self._f = f
        self._late = late
        self._done = Event()
        self._taken = Lock()
        self._outcome: tuple[T | None, BaseException | None] = (None, None)
        self._given_up = self._ended = False

    def run(self, seconds: float) -> T:
        """Return what the call returns. Raises what it raises, and `GivenUp` after `seconds`. Once only."""
        crossing.refuse_on_loop()
        work = copy_context().run
        thread = Thread(target=work, args=(self._work,), name="pluginhub-errand", daemon=True)
        try:
            thread.start()
            self._done.wait(seconds)
        except BaseException:  # the thread that waits was interrupted
            if not self._give_up():
                self._late(*self._outcome)
            raise
        if self._give_up():
            raise GivenUp(f"Not done within {seconds:g} s.")
        return self._release()

    def run_here(self) -> T:
        """Call it in this thread, and wait for it however long it takes."""
        return self._f()

    @property
    def astray(self) -> bool:
        """Whether the call was given up and goes on."""
        return self._given_up and not self._ended

    def _give_up(self) -> bool:
        """Leave the call alone; false where its outcome came first."""
        self._given_up = self._taken.acquire(blocking=False)
        if not self._given_up:
            self._done.wait()
        return self._given_up

    def _work(self) -> None:
        outcome = crossing.alone(self._f)
        if self._taken.acquire(blocking=False):
            self._outcome = outcome
            self._done.set()
            return
        _, error = crossing.alone(self._late, *outcome)
        if error is not None:
            log.error("What was to follow a late call failed", exc_info=error)
        self._ended = True

    def _release(self) -> T:
        result, error = self._outcome
        if error is None:
            return cast(T, result)
        try:
            raise error
        finally:
            del error, self._outcome
