"""Circuit breakers: what fails again and again is left alone for a while, and then tried by one call.

A breaker is closed until, at a failing call, the share of failures among its last calls is too large: then it is open,
and calls fail at once. After a while it is half-open: one call goes through on trial, the others still fail at once.
Its success closes the breaker, its failure opens it anew (M. Nygard, "Release It!"). Each process has its own breakers.
"""

from __future__ import annotations

import math
import threading
from asyncio import CancelledError
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from time import monotonic
from typing import Any, Protocol

from pluginhub import forks
from pluginhub.context import Run
from pluginhub.drivers import Colour, Driver, Node, nearest_limit
from pluginhub.exceptions import BreakerOpen, InvalidInput, Stop, mark
from pluginhub.tracing import note

__all__ = ["Breaker", "Ticket", "admit", "broken", "judge"]

_deciding = threading.Lock()
"""One for all: breakers change rarely, and a call that succeeds takes no lock."""


def _anew() -> None:
    global _deciding
    _deciding = threading.Lock()


forks.in_child(_anew, "the lock of breakers")

_EARLY = 0.01
"""By how many seconds a loop's timer may be early on our clock: loops remember the time of their last turn."""


class Ticket(Protocol):
    """What a call that was let through tells its outcome. Lives as long as the call."""

    @property
    def succeeded(self) -> Callable[[], object]: ...

    def failed(self) -> None: ...

    def undecided(self) -> None:
        """Say nothing of what was called: the call was cancelled, or its input was refused."""


class Breaker:
    """Opens for `seconds` when `rate` of its last `calls` calls failed. Lives as long as a plugin instance.

    `when_opened` is called each time; `clock` counts seconds.
    """

    __slots__ = ("_clock", "_facts", "_trial", "_until", "_when_opened", "calls", "rate", "seconds", "window")

    def __init__(
        self,
        rate: float,
        calls: int,
        seconds: float,
        *,
        when_opened: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.rate = rate
        self.calls = calls
        self.seconds = seconds
        self.window: _Window | None = _Window(self)
        """Where outcomes are counted while it is closed."""
        self._when_opened = when_opened
        self._clock = clock
        self._trial: _Trial | None = None
        self._until = 0.0
        """When the next call may go through, on trial, where it is not closed."""
        self._facts: dict[str, Any] = {}

    @property
    def state(self) -> str:
        """One word: `closed`, `open` or `half-open`."""
        if self.window is not None:
            return "closed"
        return "half-open" if self._trial is not None or self._clock() >= self._until else "open"

    def enter(self) -> Ticket | float:
        """Let a call through, or return in how many seconds to come again."""
        with _deciding:
            if self.window is not None:
                return self.window
            now = self._clock()
            if now < self._until:
                return self._until - now
            self._trial = _Trial(self)  # a trial that does not end is given up, too
            self._wait()
            return self._trial

    def close(self) -> None:
        """Begin anew: forget what failed, and whatever is still on its way."""
        with _deciding:
            self.window, self._trial = _Window(self), None

    def data(self) -> dict[str, Any] | None:
        """Return how it stands as JSON, or `None` while it is closed: `failed` of `calls` calls opened it `since`."""
        with _deciding:
            state = self.state
            return None if state == "closed" else {"state": state, **self._facts}

    def _open(self, failed: int, calls: int) -> None:
        self._facts = {"since": _said(0), "failed": failed, "calls": calls}
        self.window = None
        self._wait()

    def _wait(self) -> None:
        self._until = self._clock() + self.seconds
        self._facts["retry_at"] = _said(self.seconds)


class _Window:
    """The last outcomes of a closed breaker. Lives until it opens, so that what ends later counts for nothing.

    Outcomes are numbered, and only the numbers of failures are kept. Taking a number is one step of the interpreter's,
    and so needs no lock.
    """

    __slots__ = ("_breaker", "_failures", "succeeded")

    def __init__(self, breaker: Breaker) -> None:
        self.succeeded = count(1).__next__
        self._breaker = breaker
        self._failures: deque[int] = deque()

    def failed(self) -> None:
        breaker = self._breaker
        with _deciding:
            number = self.succeeded()
            self._failures.append(number)
            while self._failures[0] <= number - breaker.calls:
                self._failures.popleft()
            failed = len(self._failures)
            opens = breaker.window is self and number >= breaker.calls and failed / breaker.calls >= breaker.rate
            if opens:
                breaker._open(failed, breaker.calls)
        if opens:
            breaker._when_opened()

    def undecided(self) -> None:
        return


class _Trial:
    """The one call that a half-open breaker lets through; nothing it says counts when it has been given up."""

    __slots__ = ("_breaker",)

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker

    def succeeded(self) -> None:
        with _deciding:
            if self._breaker._trial is self:
                self._breaker.window, self._breaker._trial = _Window(self._breaker), None

    def failed(self) -> None:
        breaker = self._breaker
        with _deciding:
            opens = breaker._trial is self
            if opens:
                breaker._trial = None
                breaker._wait()
        if opens:
            breaker._when_opened()

    def undecided(self) -> None:
        """Leave the place to the next call."""
        breaker = self._breaker
        with _deciding:
            if breaker._trial is self:
                breaker._trial, breaker._until = None, breaker._clock()


def broken(node: Node, breaker: Breaker | None, name: str, plugin: str = "") -> Node:
    """Link a registration's node with its breaker, if it has one; `name` and `plugin` are for errors."""
    return node if breaker is None else _Broken(node, breaker, name, plugin)


def admit(breaker: Breaker, run: Run, name: str, plugin: str = "") -> Ticket:
    """Let a call of a registration through; `judge` its outcome. Raises `BreakerOpen`."""
    ticket = breaker.enter()
    if not isinstance(ticket, float):
        return ticket
    note(run, decision="refused by an open breaker")
    error = BreakerOpen(
        f"{name!r} failed too often of late and is left alone: its circuit breaker is open.",
        hint=f"Try again in {math.ceil(ticket)} s. Who may change the registration can close its breaker in the admin.",
        retry_after=ticket,
    )
    mark(error, registration=name, plugin=plugin or None, run=run.id)
    raise error


def judge(ticket: Ticket, error: BaseException, run: Run) -> None:
    """Tell a ticket what a call raised.

    Refused input and cancellation say nothing of the plugin, unless a time limit or the deadline was what cancelled it.
    """
    if isinstance(error, Stop):
        ticket.succeeded()
    elif isinstance(error, Exception):
        ticket.undecided() if isinstance(error, InvalidInput) else ticket.failed()
    elif isinstance(error, CancelledError) and _is_late(run):
        ticket.failed()
    else:
        ticket.undecided()


class _Broken(Node):
    __slots__ = ("_breaker", "_inner", "_name", "_plugin")

    def __init__(self, inner: Node, breaker: Breaker, name: str, plugin: str) -> None:
        super().__init__(inner.colour)
        self._inner = inner
        self._breaker = breaker
        self._name = name
        self._plugin = plugin
        if self.colour is Colour.SYNC:
            self.call = self._direct()

    async def run(self, value: Any, run: Run, driver: Driver) -> Any:
        if _is_over(run):
            return await driver.run(self._inner, value, run)
        ticket = self._breaker.window or admit(self._breaker, run, self._name, self._plugin)
        try:
            result = await driver.run(self._inner, value, run)
        except BaseException as error:
            judge(ticket, error, run)
            raise
        _count(ticket)
        return result

    def _direct(self) -> Callable[[Any, Run], Any]:
        """Return the way through in synchronous code, as short as it can be."""
        inner, breaker, name, plugin, limit = self._inner.call, self._breaker, self._name, self._plugin, nearest_limit

        def call(value: Any, run: Run) -> Any:
            if run.deadline is not None and monotonic() > run.deadline:
                return inner(value, run)  # which says that it is late: not the plugin's fault
            ticket = breaker.window or admit(breaker, run, name, plugin)
            try:
                result = inner(value, run)
            except BaseException as error:
                judge(ticket, error, run)
                raise
            if limit.get() is None:
                ticket.succeeded()
            else:
                _count(ticket)
            return result

        return call


def _count(ticket: Ticket) -> None:
    """Count what came back, perhaps after its step's time limit: that is judged further out."""
    limit = nearest_limit.get()
    if limit is not None and monotonic() > limit:
        ticket.failed()
    else:
        ticket.succeeded()


def _is_over(run: Run) -> bool:
    return run.deadline is not None and monotonic() > run.deadline


def _is_late(run: Run) -> bool:
    """Say whether what is cancelled now had its time."""
    limit, now = nearest_limit.get(), monotonic() + _EARLY
    return (limit is not None and now >= limit) or (run.deadline is not None and now >= run.deadline)


def _said(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="seconds")
