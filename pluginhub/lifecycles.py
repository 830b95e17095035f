"""How a plugin, and the tree below it, comes up and goes down.

A tree comes up parent first, then its children in order, and goes down in reverse. It is up as a whole or not at all:
where a required part of it fails, what came up before goes down again. Each hook has a time limit. Asynchronous hooks
are cancelled at theirs; a synchronous one runs in a thread of its own, and is left alone.

All of this waits, in the calling thread: never call it on an event loop's.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any, TypeAlias

from pluginhub.additions import Additions
from pluginhub.context import Services
from pluginhub.errands import Errand
from pluginhub.exceptions import HookError, NotReady, mark, problem_of
from pluginhub.hooks import HookCall, Late
from pluginhub.plugins import CompositePlugin, Plugin, hook_of

__all__ = ["UNLIMITED", "Limits", "absence", "activate", "call", "deactivate", "is_active"]

log = logging.getLogger("pluginhub.lifecycles")

LEAST_SECONDS = 0.1
"""What a `deactivate` gets even where its tree's time is used up: every one is called."""

Failures: TypeAlias = list[tuple[str, BaseException]]
"""Which hook failed, and how."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long hooks may take, in seconds: each, and all of a tree's on one way up or down.

    `math.inf` is no limit. Without any, synchronous hooks run in the caller's thread, and so in its transaction.
    """

    hook: float = 30.0
    tree: float = 60.0

    def __post_init__(self) -> None:
        if not (self.hook > 0 and self.tree > 0):
            raise HookError(f"Time limits are positive numbers of seconds, not {self.hook} and {self.tree}.")


UNLIMITED = Limits(math.inf, math.inf)


def activate(plugin: Plugin, services: Services | None = None, limits: Limits = Limits()) -> None:
    """Bring up a plugin and its sub-plugins, parent first, in order; where one fails, take down what came up.

    Does nothing where it is up; a second thread waits for the first and gets the same outcome. A sub-plugin that is not
    required may fail: it is left out. Raises the first error, with those of the way back as its notes;
    `DeadlineExceeded` for a hook that took too long, which then changes nothing any more.
    """
    services = services or _nameless(plugin)
    failures = _Ascent(services, limits).up(plugin)
    if failures:
        raise _first(failures, services)


def deactivate(plugin: Plugin, services: Services | None = None, limits: Limits = Limits()) -> None:
    """Take down a plugin's tree in reverse order, all of it, past failures; then raise them as one `ExceptionGroup`.

    Does nothing where it is not up; a second thread waits for the first and gets the same outcome.
    """
    services = services or _nameless(plugin)
    failures = _Descent(services, limits).down(plugin)
    if any(not isinstance(error, Exception) for _, error in failures):
        raise _first(failures, services)
    if failures:
        errors = [_noted(error, f"In {where}.") for where, error in failures]
        raise BaseExceptionGroup(f"{services.name} did not go down cleanly", errors)  # an ExceptionGroup: all are


def call(plugin: Plugin, hook_name: str, services: Services, *args: Any, seconds: float) -> Any:
    """Call a hook that takes no context, of either colour, within its limit; return its result.

    `None` where the plugin has no such hook. Sub-plugins are not asked. Raises what the hook raises, and
    `DeadlineExceeded`.
    """
    hook = hook_of(plugin, hook_name)
    if hook is None:
        return None
    try:
        one = HookCall(plugin, hook_name, hook, services, seconds)
        return one.wait(one.errand(*args))
    except BaseException as error:
        mark(error, registration=services.name, plugin=services.plugin)
        raise


def is_active(plugin: Plugin) -> bool:
    """Say whether a plugin is up: its tree came up, or its `activate` and its children did as parts of one."""
    life = _life(plugin)
    return life.up and life.change is None


def absence(plugin: Plugin) -> str:
    """Return why a sub-plugin that is not required was left out when its tree came up; else nothing."""
    return _life(plugin).absent


class _Change:
    """One coming up or going down, and how it ended."""

    __slots__ = ("failures", "over", "up")

    def __init__(self, up: bool) -> None:
        self.up = up
        self.over = threading.Event()
        self.failures: Failures = []


class _Life:
    """A plugin's state, kept beside it. Lives as long as the object; a copy of a plugin begins anew."""

    __slots__ = ("absent", "additions", "change", "errand", "lock", "up")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.change: _Change | None = None
        self.up = False
        self.absent = ""
        self.errand: Errand[Any] | None = None
        self.additions: Additions | None = None

    def __reduce__(self) -> tuple[type[_Life], tuple[()]]:
        return _Life, ()

    def settle(self, up: bool, work: Callable[[], Failures]) -> Failures:
        """Do `work` unless the plugin is up (or down) already. Who comes meanwhile waits, and gets the same outcome."""
        while True:
            with self.lock:
                other = self.change
                if other is None and self.up is up:
                    return []
                if other is None:
                    mine = self.change = _Change(up)
                    break
            if other in _under_way.get():
                raise HookError("A plugin's life cycle was changed by its own hook.", hint="Return, and do it after.")
            other.over.wait()
            if other.up is up:
                return other.failures
        token = _under_way.set((*_under_way.get(), mine))
        try:
            mine.failures = work()
        except BaseException as error:  # an interrupt of the waiting thread
            mine.failures = [("", error)]
            raise
        finally:
            _under_way.reset(token)
            self.change = None
            mine.over.set()
        return mine.failures


_under_way: ContextVar[tuple[_Change, ...]] = ContextVar("pluginhub_under_way", default=())


class _Ascent:
    """One tree's way up."""

    __slots__ = ("_limits", "_services", "_until", "_way_back")

    def __init__(self, services: Services, limits: Limits) -> None:
        self._services = services
        self._limits = limits
        self._until = monotonic() + limits.tree
        self._way_back: _Descent | None = None

    def up(self, plugin: Plugin) -> Failures:
        life = _life(plugin)
        return life.settle(True, partial(self._up, plugin, life))

    def _up(self, plugin: Plugin, life: _Life) -> Failures:
        try:
            failures = self._own(plugin, life) or self._children(plugin)
        except BaseException as error:  # what is no hook at all; an interrupt between two hooks
            failures = [(type(plugin).__name__, error)]
        return failures + self._roll_back(plugin, life) if failures else failures

    def _own(self, plugin: Plugin, life: _Life) -> Failures:
        life.absent = ""
        if life.errand is not None and life.errand.astray:
            raise NotReady(
                f"A hook of this {type(plugin).__name__} that was given up still runs.",
                hint="Try again when it has ended, or make a new one.",
            )
        hook = hook_of(plugin, "activate")
        if hook is not None:
            failures = self._activate(plugin, life, hook)
            if failures:
                return failures
        life.up = True
        return []

    def _activate(self, plugin: Plugin, life: _Life, hook: Callable[..., Any]) -> Failures:
        added = Additions(self._services)
        seconds = min(self._limits.hook, self._until - monotonic())
        late = partial(_came_up_late, plugin, self._services, self._limits)
        failures = _attempt(life, HookCall(plugin, "activate", hook, added.services, seconds), late)
        added.close()
        if not failures:
            added.keep()
            life.additions = added
        return failures

    def _children(self, plugin: Plugin) -> Failures:
        for _, child, required in _members(plugin):
            failures = self.up(child)
            if failures and (required or not all(isinstance(error, Exception) for _, error in failures)):
                return failures
            if failures:
                self._leave_out(child, failures)
        return []

    def _leave_out(self, child: Plugin, failures: Failures) -> None:
        error = _first(failures, self._services)
        _life(child).absent = str(problem_of(error)["detail"])
        self._way_back = None
        log.warning("%s goes on without its %s", self._services.name, type(child).__name__, exc_info=error)

    def _roll_back(self, plugin: Plugin, life: _Life) -> Failures:
        """Take down what came up of a tree. The whole way back has one tree's time."""
        if self._way_back is None:
            self._way_back = _Descent(self._services, self._limits)
        return self._way_back.take_down(plugin, life)


class _Descent:
    """One tree's way down."""

    __slots__ = ("_limits", "_services", "_until")

    def __init__(self, services: Services, limits: Limits) -> None:
        self._services = services
        self._limits = limits
        self._until = monotonic() + limits.tree

    def down(self, plugin: Plugin) -> Failures:
        life = _life(plugin)
        return life.settle(False, partial(self.take_down, plugin, life))

    def take_down(self, plugin: Plugin, life: _Life) -> Failures:
        failures: Failures = []
        steps = [partial(self.down, child) for _, child, _ in reversed(_members(plugin))]
        for step in (*steps, partial(self._own, plugin, life)):
            try:
                failures += step()
            except BaseException as error:  # as on the way up; the others go down nevertheless
                failures.append((type(plugin).__name__, error))
        return failures

    def _own(self, plugin: Plugin, life: _Life) -> Failures:
        if not life.up:
            return []
        life.up = False
        if life.additions is not None:
            life.additions.withdraw()
            life.additions = None
        hook = hook_of(plugin, "deactivate")
        if hook is None:
            return []
        left = max(self._until - monotonic(), LEAST_SECONDS)
        return _attempt(life, HookCall(plugin, "deactivate", hook, self._services, min(self._limits.hook, left)))


def _attempt(life: _Life, one: HookCall, late: Late = lambda result, error: None) -> Failures:
    """Call a hook with a context; return how it failed, if it did."""
    errand = life.errand = one.errand(one.context(), late=late)
    try:
        one.wait(errand)
    except BaseException as error:
        return [(str(one), error)]
    finally:
        if not errand.astray:
            life.errand = None
    return []


def _came_up_late(plugin: Plugin, services: Services, limits: Limits, _: Any, error: BaseException | None) -> None:
    """Take down, once, what came up after it had been given up, so that nothing stays open."""
    where = f"{type(plugin).__name__}.activate of {services.name}"
    if error is not None:
        log.warning("%s failed, after it had been given up", where, exc_info=error)
        return
    log.warning("%s came to its end after it had been given up; it is taken down", where)
    hook = hook_of(plugin, "deactivate")
    if hook is not None:
        one = HookCall(plugin, "deactivate", hook, services, limits.hook)
        one.now(one.context())


def _first(failures: Failures, services: Services) -> BaseException:
    """Return what to raise: the first error, or an interrupt among them; the others are its notes."""
    first = next((error for _, error in failures if not isinstance(error, Exception)), failures[0][1])
    mark(first, registration=services.name, plugin=services.plugin)
    for where, error in failures:
        if error is not first:
            _noted(first, f"Also, in {where}: {error!r}")
    return first


def _noted(error: BaseException, note: str) -> BaseException:
    if note not in getattr(error, "__notes__", ()):  # those who waited for one outcome raise the same error
        error.add_note(note)
    return error


def _members(plugin: Plugin) -> Sequence[tuple[str, Plugin, bool]]:
    return plugin.members if isinstance(plugin, CompositePlugin) else ()


def _life(plugin: Plugin) -> _Life:
    # As with a composite's members: an author's constructor need not call ours.
    life: _Life | None = plugin.__dict__.get("_pluginhub_life")
    return plugin.__dict__.setdefault("_pluginhub_life", _Life()) if life is None else life


def _nameless(plugin: Plugin) -> Services:
    return Services(name=type(plugin).__name__, plugin=type(plugin).__name__)
