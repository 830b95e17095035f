"""The trees storm: generated trees of plugins, with faults at any hook, on the way up and on the way down.

Every hook writes what it does into a ledger, which knows nothing of the library. Replayed, it says whether a tree came
up parent first and in order, whether what came up went down in exact reverse and once, and whether anything was left.
The same with a life cycle that does not roll back must leave something, or the storm proves nothing.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias
from unittest.mock import patch

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pluginhub import CompositePlugin, Context, lifecycles
from pluginhub.context import Services
from tests.figures import Figure

__all__ = ["Tally", "Tree", "figures", "rage", "storm", "trees"]

Fault = Literal["", "error", "exit", "interrupt", "cancel", "hang", "hang and fail", "stubborn"]
Way = Literal["up", "down"]
Called: TypeAlias = "list[tuple[str, Tree]]"

QUICK: tuple[Fault, ...] = ("error", "exit", "interrupt", "cancel")
SLOW: tuple[Fault, ...] = ("hang", "hang and fail", "stubborn")
RAISED = {"error": RuntimeError, "exit": SystemExit, "interrupt": KeyboardInterrupt, "cancel": asyncio.CancelledError}

DEPTH, PLUGINS, TREES = 4, 12, 2_000
HOOK_SECONDS = (0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12)
"""The limits to try where hooks hang. The others end at once; where they do not, the machine was busy: see `storm`."""


@dataclass(slots=True, eq=False)
class Tree:
    """A plugin and what is below it, as it was drawn: its hooks' colours and faults."""

    number: int
    """Its place in the order of coming up."""
    depth: int
    hooks: frozenset[Way]
    colours: dict[Way, str]
    required: bool
    parent: Tree | None = field(default=None, repr=False)
    faults: dict[str, Fault] = field(default_factory=dict)
    children: list[Tree] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"Plugin{self.number}"

    def walk(self) -> Iterator[Tree]:
        yield self
        for child in self.children:
            yield from child.walk()

    def line(self) -> Iterator[Tree]:
        """Yield this one and those above it."""
        yield self
        if self.parent is not None:
            yield from self.parent.line()

    @property
    def kept(self) -> bool:
        """Whether the ledger knows when it comes and when it goes."""
        return self.hooks == {"up", "down"}


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """Draw a tree, and up to five faults, of which some wait past the time limit."""
    both: frozenset[Way] = frozenset({"up", "down"})
    one: frozenset[Way] = frozenset({"up"})
    hooks = st.sampled_from([both] * 4 + [one, both - both])
    colour = st.sampled_from(["sync", "async"])
    drawn: list[Tree] = []
    for _ in range(draw(st.integers(1, PLUGINS))):
        parents = [each for each in drawn if each.depth < DEPTH]
        parent = draw(st.sampled_from(parents)) if parents else None
        colours: dict[Way, str] = {"up": draw(colour), "down": draw(colour)}
        tree = Tree(0, parent.depth + 1 if parent else 1, draw(hooks), colours, draw(st.integers(0, 2)) != 0, parent)
        drawn.append(tree)
        if parent is not None:
            parent.children.append(tree)
    for number, tree in enumerate(drawn[0].walk()):
        tree.number = number
    for _ in range(draw(st.integers(0, 5))):
        kinds = SLOW if draw(st.integers(0, 3)) == 0 else QUICK
        way: Way = "up" if draw(st.booleans()) else "down"
        draw(st.sampled_from(drawn)).faults[way] = draw(st.sampled_from(kinds))
    return drawn[0]


class Ledger:
    """What the hooks of one tree did, in order; and what that means."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.released = threading.Event()
        self.cured = False
        self.expected = 0.0
        self.events: list[tuple[str, Tree]] = []
        self.alive: list[Tree] = []
        self.late: list[Tree] = []
        self._read = 0
        self._highest = -1

    # Written by the hooks

    def note(self, what: str, tree: Tree) -> None:
        self.events.append((what, tree))  # one hook at a time, or late

    def fault(self, tree: Tree, way: Way) -> Fault:
        fault = "" if self.cured else tree.faults.get(way, "")
        if fault in SLOW and not self.released.is_set():
            patient = fault == "stubborn" and tree.colours[way] == "async"
            self.expected += self.seconds * (2 if patient else 1)
        return fault

    # Read by the judge

    def replay(self, until: int | None = None) -> Called:
        """Judge what was written since the last time, and return it."""
        new = self.events[self._read : until]
        self._highest = -1
        self._read += len(new)
        for what, tree in new:
            getattr(self, f"_{what.replace(' ', '_')}")(tree)
        return new

    def _up(self, tree: Tree) -> None:
        assert tree.number > self._highest, f"{tree.name} came up again, or out of order"
        assert tree not in self.alive, f"{tree.name} was brought up twice"
        for above in tree.line():
            assert above is tree or above in self.alive or not above.kept, f"{tree.name} came up before {above.name}"
        self._highest = tree.number

    def _is_up(self, tree: Tree) -> None:
        if tree.kept:
            self.alive.append(tree)

    def _late_up(self, tree: Tree) -> None:
        if tree.kept:
            self.late.append(tree)

    def _down(self, tree: Tree) -> None:
        if tree in self.late:
            self.late.remove(tree)
            return
        assert self.alive, f"{tree.name} went down, and was not up"
        assert self.alive.pop() is tree, f"{tree.name} went down before its time"


@dataclass(slots=True)
class Life:
    """How one tree came up and went down, and how much of the ledger tells of each."""

    up: BaseException | None
    active: set[str]
    ups: int
    down: BaseException | None
    downs: int
    seconds: float


def storm(tree: Tree) -> int:
    """Bring a tree up and down, twice, the second time without its faults. Return how many hooks failed.

    Raises `AssertionError` where the ledger says that something was left, was called twice, or in another order.
    Where the machine was so busy that a hook may have been late by that alone, the tree has another turn.
    """
    slow = any(fault in SLOW for each in tree.walk() for fault in each.faults.values())
    for seconds in HOOK_SECONDS:
        ledger = Ledger(seconds)
        plugin = _grow(tree, ledger)
        life = _live(plugin, ledger, lifecycles.Limits(seconds if slow else 30.0))
        ledger.released.set()
        _join()
        if not slow or life.seconds < ledger.expected + seconds / 2:
            return _judge(plugin, tree, ledger, life)
    raise RuntimeError("This machine is too busy to tell what is late.")


def _live(plugin: CompositePlugin, ledger: Ledger, limits: lifecycles.Limits) -> Life:
    started = time.monotonic()
    up = _caught(lifecycles.activate, plugin, limits)
    active = {type(each).__name__ for each in plugin.walk() if lifecycles.is_active(each)}
    if up is None:
        lifecycles.activate(plugin)  # changes nothing
    ups = len(ledger.events)
    down = _caught(lifecycles.deactivate, plugin, limits)
    lifecycles.deactivate(plugin)  # changes nothing
    return Life(up, active, ups, down, len(ledger.events), time.monotonic() - started)


def _judge(plugin: CompositePlugin, tree: Tree, ledger: Ledger, life: Life) -> int:
    called = ledger.replay(life.ups)
    _judge_up(tree, ledger, called, life)
    called += ledger.replay(life.downs)
    _judge_down(ledger, called[life.ups :], life.down)
    ledger.replay()
    assert not ledger.late, f"{ledger.late} came up late, and stay open"
    _second_life(plugin, tree, ledger)
    return sum(bool(_fails(what, each)) for what, each in called)


def _judge_up(tree: Tree, ledger: Ledger, called: Called, life: Life) -> None:
    failed = [each for what, each in called if what == "up" and _fails(what, each)]
    fatal = [each for each in failed if _optional(each) is None]
    fatal += [each for what, each in called if _fails(what, each) == "interrupt"]
    assert (life.up is not None) == bool(fatal), f"It ended with {life.up!r}, where {fatal} failed"
    if life.up is not None:
        if all(each.required for each in tree.walk()):
            told = [note for note in getattr(life.up, "__notes__", ()) if note.startswith("Also, in ")]
            assert len(told) == sum(bool(_fails(what, each)) for what, each in called) - 1, "Not all was reported"
        assert not ledger.alive, f"{ledger.alive} were left half active"
        assert not life.active, f"{life.active} seem active"
        return
    left_out = [each for top in map(_optional, failed) if top is not None for each in top.walk()]
    whole = [each for each in tree.walk() if each not in left_out]
    assert [each for each in whole if each.kept] == ledger.alive, "It is neither up nor down"
    assert {each.name for each in whole} == life.active


def _judge_down(ledger: Ledger, called: Called, error: BaseException | None) -> None:
    failed = [_fails(what, each) for what, each in called if what == "down" and _fails(what, each)]
    assert not ledger.alive, f"{ledger.alive} were left"
    if "interrupt" in failed:
        assert isinstance(error, KeyboardInterrupt)
    elif failed:
        assert isinstance(error, ExceptionGroup)
        assert len(error.exceptions) == len(failed)
    else:
        assert error is None


def _second_life(plugin: CompositePlugin, tree: Tree, ledger: Ledger) -> None:
    ledger.cured = True
    lifecycles.activate(plugin)
    ledger.replay()
    assert ledger.alive == [each for each in tree.walk() if each.kept]
    lifecycles.deactivate(plugin)
    ledger.replay()
    assert not ledger.alive


def _optional(tree: Tree) -> Tree | None:
    """Return what is left out where this one fails: the nearest that is optional. Of the root, nobody asks."""
    return next((above for above in tree.line() if above.parent is not None and not above.required), None)


def _fails(what: str, tree: Tree) -> Fault:
    return tree.faults.get(what, "")


# The plugins


def _grow(tree: Tree, ledger: Ledger) -> CompositePlugin:
    named = {"up": "activate", "down": "deactivate"}
    hooks = {named[way]: _hook(tree, way, ledger) for way in sorted(tree.hooks)}
    plugin: CompositePlugin = type(tree.name, (CompositePlugin,), hooks)()
    for child in tree.children:
        plugin.add_plugin(_grow(child, ledger), key=child.name, required=child.required)
    return plugin


def _hook(tree: Tree, way: Way, ledger: Ledger) -> Callable[..., Any]:
    def end(fault: Fault, late: bool) -> None:
        if fault in RAISED or fault == "hang and fail":
            raise RAISED.get(fault, RuntimeError)(f"{tree.name} {way}")
        if way == "up":
            ledger.note("late up" if late else "is up", tree)

    def hook(self: Any, context: Context) -> None:
        ledger.note(way, tree)
        fault = ledger.fault(tree, way)
        late = fault in SLOW and not ledger.released.is_set()
        if late:
            ledger.released.wait(60)
        end(fault, late)

    async def ahook(self: Any, context: Context) -> None:
        ledger.note(way, tree)
        fault = ledger.fault(tree, way)
        late = fault in SLOW and not ledger.released.is_set()
        if late and fault == "stubborn":
            await _ignore_cancelling(ledger.released)
        elif late:
            await asyncio.sleep(60)
        end(fault, late)

    return ahook if tree.colours[way] == "async" else hook


async def _ignore_cancelling(released: threading.Event) -> None:
    while not released.is_set():
        try:
            await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            continue


def _caught(act: Callable[..., None], plugin: Any, limits: lifecycles.Limits) -> BaseException | None:
    try:
        act(plugin, Services(name="tree", plugin="tree"), limits)
    except BaseException as error:
        return error
    return None


def _join() -> None:
    """Wait for the hooks that were given up."""
    for thread in threading.enumerate():
        if thread.name == "pluginhub-errand":
            thread.join(30)


@dataclass(slots=True)
class Tally:
    """What a storm met."""

    trees: int = 0
    failed: int = 0
    wrong: int = 0
    first: str = ""


def rage(count: int, *, until_wrong: bool = False) -> Tally:
    """Bring `count` generated trees up and down, always the same; count the hooks that failed, and what was wrong."""
    tally = Tally()

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(trees())
    def one(tree: Tree) -> None:
        if until_wrong and tally.wrong:
            return
        tally.trees += 1
        try:
            tally.failed += storm(tree)
        except AssertionError as error:
            tally.wrong += 1
            tally.first = tally.first or f"{error} in {tree}"

    one()
    return tally


def figures() -> Iterator[Figure]:
    """Run the long storm, and a short one with a life cycle that does not roll back."""
    logging.getLogger("pluginhub").setLevel(logging.CRITICAL)
    seen = rage(TREES)
    told = f"{seen.trees:,} trees in which {seen.failed:,} hooks failed: {seen.wrong} left half active, or out of order"
    yield Figure("Generated trees of plugins with faults at any hook", "0 half active", told, "make figures")
    with patch.object(lifecycles._Ascent, "_roll_back", lambda *_: []):
        bare = rage(TREES // 10)
    told = f"{bare.wrong} of {bare.trees}"
    yield Figure("The same without roll-back", "more than 0", told, "make figures")
