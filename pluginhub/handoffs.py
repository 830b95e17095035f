"""Handing an instance's state to its successor, so that no run is interrupted and no update is lost.

Where a replaced instance has `get_state`, new runs that need it wait at its turnstile, running ones drain for a while;
then the state moves as plain JSON, the swap happens, and those who waited go on with the successor. If anything fails
before the swap, they go on with what they have.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

from pluginhub import lifecycles
from pluginhub.conf import settings
from pluginhub.context import Services
from pluginhub.exceptions import DeadlineExceeded, HookError, NotReady
from pluginhub.plugins import CompositePlugin, Plugin, hook_of

__all__ = ["Pair", "Turnstile", "check_health", "enter", "has_state", "moving", "staying"]


Pair: TypeAlias = "tuple[Turnstile, Plugin, Services, Plugin, Services]"
"""A turnstile with the older instance and the newer one, each with its services."""


class Turnstile:
    """Counts the runs inside one instance with state. Lives as long as the instance."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._inside = 0
        self._streams = 0
        self._closed = False
        self._moved = False
        self._together: frozenset[Turnstile] = frozenset()
        self._waiting: list[Future[None]] = []

    def enter(self, within: Collection[Turnstile] = ()) -> bool:
        """Count one more run; false while the state is moving, or has moved.

        One that is `within` a turnstile which moves together with this goes on: that waits for it, it cannot wait.
        """
        with self._lock:
            if self._closed and (self._moved or self._together.isdisjoint(within)):
                return False
            self._inside += 1
            return True

    def go_on(self) -> bool:
        """Count a run that is under way already: it cannot wait for a drain that waits for it.

        Returns whether the state is still here: else what the run changes is lost.
        """
        with self._lock:
            self._inside += 1
            return not self._moved

    def unlock(self) -> None:
        """Be free of threads that this process does not have: after a fork."""
        self._lock = threading.Condition()

    def attend(self) -> bool:
        """Count a stream, which nobody waits for; return whether the state is still here."""
        with self._lock:
            self._streams += 1
            return not self._moved

    def part(self) -> None:
        """Count a stream no more."""
        with self._lock:
            self._streams -= 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._lock.notify_all()

    def close(self, together: Collection[Turnstile] = ()) -> None:
        """Let nobody in; `together` are those that move as one with this, itself among them."""
        with self._lock:
            self._closed = True
            self._together = frozenset([self, *together])

    def drain(self, until: float) -> int:
        """Wait for runs until a moment of `time.monotonic`; return how many are inside still, and open streams."""
        with self._lock:
            self._lock.wait_for(lambda: not self._inside, timeout=max(0.0, until - time.monotonic()))
            return self._inside + self._streams

    def open(self, *, moved: bool) -> None:
        """Let those who wait go on: to the successor where the state has `moved`, else in here."""
        with self._lock:
            self._moved = moved
            self._closed = moved
            waiting, self._waiting = self._waiting, []
        for each in waiting:
            if each.set_running_or_notify_cancel():
                each.set_result(None)

    def wait(self, seconds: float | None) -> None:
        """Wait until it is worth trying again. Raises `DeadlineExceeded`."""
        try:
            self._opened().result(seconds)
        except TimeoutError:
            raise _too_late() from None

    async def await_(self, seconds: float | None) -> None:
        """The asynchronous twin of `wait`."""
        try:
            async with asyncio.timeout(seconds):
                await asyncio.wrap_future(self._opened())
        except TimeoutError:
            raise _too_late() from None

    def _opened(self) -> Future[None]:
        opened: Future[None] = Future()
        with self._lock:
            if self._closed and not self._moved:
                self._waiting.append(opened)
                return opened
        opened.set_result(None)
        return opened


def enter(turnstiles: Sequence[Turnstile]) -> Turnstile | None:
    """Enter all, or none and return the one to wait for."""
    stay = _stay.get() if turnstiles else None
    within = stay.turnstiles if stay is not None else ()
    for index, turnstile in enumerate(turnstiles):
        if not turnstile.enter(within):
            for entered in turnstiles[:index]:
                entered.leave()
            return turnstile
    return None


class _Stay:
    """Says of code, and of all that it calls, which turnstiles it is within. Lives until these are left."""

    __slots__ = ("turnstiles",)

    def __init__(self, turnstiles: frozenset[Turnstile]) -> None:
        self.turnstiles = turnstiles


_stay: ContextVar[_Stay | None] = ContextVar("pluginhub_stay", default=None)


@contextmanager
def staying(turnstiles: Sequence[Turnstile]) -> Iterator[None]:
    """Be within turnstiles that were entered, and leave them with the block: what runs in it need not wait for it."""
    outer = _stay.get()
    stay = _Stay(frozenset(turnstiles) | (outer.turnstiles if outer is not None else frozenset()))
    token = _stay.set(stay)
    try:
        yield
    finally:
        _stay.reset(token)
        stay.turnstiles = frozenset()  # a task that was started inside is within no more
        for turnstile in turnstiles:
            turnstile.leave()


@contextmanager
def moving(pairs: Sequence[Pair], seconds: float) -> Iterator[int]:
    """Move states from older to newer instances, then let the block swap them.

    Yields how many runs outlive it, after draining for `seconds`: what they change in memory from here on is lost.
    Raises `NotReady` where a state cannot be read, migrated or restored; the older instances then serve on.
    """
    turnstiles = [pair[0] for pair in pairs]
    moved = False
    for turnstile in turnstiles:
        turnstile.close(turnstiles)
    try:
        until = time.monotonic() + seconds
        outliving = sum(turnstile.drain(until) for turnstile in turnstiles)
        for _, older, its, newer, theirs in pairs:
            _restore(newer, theirs, _states(older, its))
        yield outliving
        moved = True
    finally:
        for turnstile in turnstiles:
            turnstile.open(moved=moved)


def has_state(plugin: Plugin) -> bool:
    """Say whether a plugin, or one below it, hands state over."""
    return any(hook_of(each, "get_state") is not None for _, each in _named(plugin))


def check_health(plugin: Plugin, services: Services) -> None:
    """Ask a plugin and all below it whether they can serve. Raises `NotReady` where one says no."""
    for _, each in _named(plugin):
        if hook_of(each, "health") is None:
            continue
        try:
            healthy = lifecycles.call(each, "health", services, seconds=settings.HOOK_SECONDS)
        except Exception as error:
            raise _not_ready(services, "is not healthy", error) from error
        if healthy is False:
            raise NotReady(f"{services.name!r} is not healthy: health() returned False.", hint=_WAY_OUT)


_WAY_OUT = "The older one serves on. Correct the plugin, or its configuration, and publish or reload again."


def _states(plugin: Plugin, services: Services) -> dict[str, tuple[int, Any]]:
    """Return what `get_state` gives, by the path of the plugin in its tree, with its `state_version`."""
    found = {}
    for path, each in _named(plugin):
        if hook_of(each, "get_state") is not None:
            try:
                state = lifecycles.call(each, "get_state", services, seconds=settings.HOOK_SECONDS)
                found[path] = (type(each).state_version, json.loads(json.dumps(state, allow_nan=False)))
            except Exception as error:
                raise _not_ready(services, "did not give its state as plain JSON", error) from error
    return found


def _restore(plugin: Plugin, services: Services, states: dict[str, tuple[int, Any]]) -> None:
    for path, each in _named(plugin):
        if path not in states or hook_of(each, "restore_state") is None:
            continue
        version, state = states[path]
        try:
            if version != type(each).state_version:
                state = type(each).migrate_state(state, version)
            lifecycles.call(each, "restore_state", services, state, seconds=settings.HOOK_SECONDS)
        except Exception as error:
            raise _not_ready(services, f"did not take its state of version {version}", error) from error


def _named(plugin: Plugin, path: str = "") -> Iterator[tuple[str, Plugin]]:
    """Yield a plugin and all below it that are up, each with its path."""
    yield path, plugin
    if isinstance(plugin, CompositePlugin):
        for key, child, _ in plugin.members:
            if lifecycles.is_active(child):
                yield from _named(child, f"{path}/{key}")


def _not_ready(services: Services, what: str, error: Exception) -> NotReady:
    detail = error.detail if isinstance(error, HookError | NotReady) else f"{type(error).__name__}: {error}"
    return NotReady(f"{services.name!r} {what}: {detail}", hint=_WAY_OUT)


def _too_late() -> DeadlineExceeded:
    return DeadlineExceeded("The run's deadline passed while a plugin was being replaced.", hint="Try again.")
