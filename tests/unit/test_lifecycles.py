"""How plugins and trees of them come up and go down: order, roll-back, limits, one change at a time."""

from __future__ import annotations

import asyncio
import copy
import logging
import math
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from pluginhub import CompositePlugin, Context, Plugin, chains, crossing, errands, lifecycles
from pluginhub.context import Services
from pluginhub.exceptions import DeadlineExceeded, Fatal, HookError, NotReady, place_of
from pluginhub.lifecycles import UNLIMITED, Limits, activate, deactivate, is_active
from pluginhub.testing import MemoryJobs, active
from tests.storms.trees import Tree, rage, storm, trees
from tests.unit.engine import Execute, in_both_colours

SOON = Limits(hook=0.05)
LONG = 30


class Recorder(CompositePlugin):
    """Writes what happens to it, and fails where it is told to."""

    def __init__(self, name: str, log: list[str], *, fail: str = "") -> None:
        self.name, self.log, self.fail = name, log, fail

    def activate(self, context: Context) -> None:
        self._note("up")

    async def deactivate(self, context: Context) -> None:
        self._note("down")

    def _note(self, what: str) -> None:
        self.log.append(f"{what} {self.name}")
        if self.fail == what:
            raise RuntimeError(f"{self.name} fails going {what}")


def tree(log: list[str], **fail: str) -> Recorder:
    root, left, leaf, right = (
        Recorder(name, log, fail=fail.get(name, "")) for name in ("root", "left", "leaf", "right")
    )
    root.add_plugin(left, key="left")
    left.add_plugin(leaf, key="leaf")
    root.add_plugin(right, key="right")
    return root


class Stuck(Plugin):
    """One of its synchronous hooks waits until it is released, and then fails if told to."""

    def __init__(self, *, up: bool = True, fail: bool = False) -> None:
        self.stuck_up, self.fail = up, fail
        self.entered, self.release = threading.Event(), threading.Event()
        self.log: list[str] = []

    def activate(self, context: Context) -> None:
        self.log.append("up")
        self._wait(self.stuck_up)
        self.log.append("is up")

    def deactivate(self, context: Context) -> None:
        self.log.append("down")
        self._wait(not self.stuck_up)

    def process(self, value: Any, context: Context) -> Any:
        return value

    def _wait(self, here: bool) -> None:
        self.entered.set()
        if here:
            assert self.release.wait(LONG)
            if self.fail:
                raise RuntimeError("late, and wrong")


def let_go(*parts: Stuck) -> None:
    """Release what waits, and wait until nothing goes on that was given up."""
    for part in parts:
        part.release.set()
    join_errands()


def join_errands() -> None:
    for thread in threading.enumerate():
        if thread.name == "pluginhub-errand" and thread is not threading.current_thread():
            thread.join(LONG)


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    made = Stuck()
    yield made
    let_go(made)


def in_thread(act: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Start a thread; the list gets what it returned or raised."""
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.append(act())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    return thread, outcome


class Waiting:
    """Knows when the second of two threads waits for the first."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen = seen = threading.Event()

        class Over(threading.Event):
            def wait(self, timeout: float | None = None) -> bool:
                seen.set()
                return super().wait(timeout)

        def made(change: Any, up: bool) -> None:
            change.up, change.over, change.failures = up, Over(), []

        monkeypatch.setattr(lifecycles._Change, "__init__", made)


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Waiting:
    return Waiting(monkeypatch)


class TestOrder:
    def test_a_tree_comes_up_parent_first_and_goes_down_in_reverse(self) -> None:
        log: list[str] = []
        root = tree(log)
        activate(root)
        assert log == ["up root", "up left", "up leaf", "up right"]
        log.clear()
        deactivate(root)
        assert log == ["down right", "down leaf", "down left", "down root"]

    def test_a_failing_activation_takes_down_what_came_up_in_reverse(self) -> None:
        log: list[str] = []
        root = tree(log, leaf="up", left="down", root="down")
        with pytest.raises(RuntimeError, match="leaf fails going up") as caught:
            activate(root)
        assert log == ["up root", "up left", "up leaf", "down left", "down root"]
        assert not any(map(is_active, root.walk()))
        assert [note.split(": ")[0] for note in caught.value.__notes__] == [
            "Also, in Recorder.deactivate",
            "Also, in Recorder.deactivate",
        ]
        assert "left fails going down" in caught.value.__notes__[0]

    def test_an_error_says_whose_it_is(self) -> None:
        with pytest.raises(RuntimeError) as caught:
            activate(tree([], root="up"), Services(name="engine", plugin="machine"))
        assert (place_of(caught.value).registration, place_of(caught.value).plugin) == ("engine", "machine")

    def test_going_down_goes_on_past_failures_and_reports_them_together(self) -> None:
        log: list[str] = []
        root = tree(log, leaf="down", root="down")
        activate(root)
        with pytest.raises(ExceptionGroup, match="Recorder did not go down cleanly") as caught:
            deactivate(root)
        assert [str(error) for error in caught.value.exceptions] == ["leaf fails going down", "root fails going down"]
        assert caught.value.exceptions[0].__notes__ == ["In Recorder.deactivate."]
        assert log[-1] == "down root"

    def test_what_a_parent_adds_in_its_activate_comes_up_with_it(self) -> None:
        log: list[str] = []

        class Parent(CompositePlugin):
            def activate(self, context: Context) -> None:
                self.add_plugin(Recorder("child", log))

        parent = Parent()
        activate(parent)
        deactivate(parent)
        assert log == ["up child", "down child"]

    def test_each_hook_may_be_missing(self) -> None:
        log: list[str] = []

        class Up(CompositePlugin):
            def activate(self, context: Context) -> None:
                log.append("up")

        class Down(Plugin):
            def deactivate(self, context: Context) -> None:
                log.append("down")

        root = Up()
        root.add_plugin(Down())
        root.add_plugin(Plugin())
        activate(root)
        deactivate(root)
        assert log == ["up", "down"]

    def test_what_is_no_hook_is_refused_and_stops_nobody_else(self) -> None:
        log: list[str] = []

        class Odd(Plugin):
            deactivate = "soon"

        root = tree(log)
        root.add_plugin(Odd())
        activate(root)
        with pytest.raises(ExceptionGroup) as caught:
            deactivate(root)
        assert isinstance(caught.value.exceptions[0], HookError)
        assert log[4:] == ["down right", "down leaf", "down left", "down root"]


class TestOneChangeAtATime:
    def test_what_is_up_is_brought_up_by_nobody_again(self) -> None:
        log: list[str] = []
        root = tree(log)
        deactivate(root)
        activate(root)
        activate(root)
        assert len(log) == 4
        deactivate(root)
        deactivate(root)
        assert len(log) == 8

    def test_after_going_down_it_may_come_up_anew(self) -> None:
        log: list[str] = []
        root = tree(log)
        for _ in range(2):
            activate(root)
            deactivate(root)
        assert log[:8] == log[8:]

    @pytest.mark.parametrize("fail", [False, True])
    def test_two_threads_at_once_get_the_same_outcome_of_one_call(
        self, stuck: Stuck, waiting: Waiting, fail: bool
    ) -> None:
        stuck.fail = fail
        first, one = in_thread(lambda: activate(stuck))
        assert stuck.entered.wait(LONG)
        second, other = in_thread(lambda: activate(stuck))
        assert waiting.seen.wait(LONG)
        assert not is_active(stuck)
        stuck.release.set()
        first.join(LONG)
        second.join(LONG)
        assert stuck.log.count("up") == 1
        assert one == other
        assert isinstance(one[0], RuntimeError) if fail else one == [None]

    def test_two_threads_take_it_down_once(self, waiting: Waiting) -> None:
        stuck = Stuck(up=False, fail=True)
        activate(stuck)
        stuck.entered.clear()
        first, one = in_thread(lambda: deactivate(stuck))
        assert stuck.entered.wait(LONG)
        second, other = in_thread(lambda: deactivate(stuck))
        assert waiting.seen.wait(LONG)
        stuck.release.set()
        first.join(LONG)
        second.join(LONG)
        assert stuck.log.count("down") == 1
        assert [str(error) for error in one[0].exceptions] == [str(error) for error in other[0].exceptions]

    def test_who_takes_down_what_comes_up_waits_for_it(self, stuck: Stuck, waiting: Waiting) -> None:
        first, _ = in_thread(lambda: activate(stuck))
        assert stuck.entered.wait(LONG)
        second, _ = in_thread(lambda: deactivate(stuck))
        assert waiting.seen.wait(LONG)
        assert stuck.log == ["up"]
        stuck.release.set()
        first.join(LONG)
        second.join(LONG)
        assert stuck.log == ["up", "is up", "down"]

    def test_a_hook_cannot_wait_for_itself(self) -> None:
        class Eager(Plugin):
            def activate(self, context: Context) -> None:
                lifecycles.activate(self)

        with pytest.raises(HookError, match="by its own hook"):
            activate(Eager())

    def test_a_child_may_be_brought_up_before_its_parent(self) -> None:
        log: list[str] = []
        root = tree(log)
        activate(root.children[1])
        activate(root)
        assert log == ["up right", "up root", "up left", "up leaf"]

    def test_a_copy_has_a_life_of_its_own(self) -> None:
        log: list[str] = []
        root = Recorder("root", log)
        activate(root)
        assert not is_active(copy.deepcopy(root))


class TestLimits:
    def test_a_synchronous_hook_is_given_up_and_its_late_success_taken_back_once(self, stuck: Stuck) -> None:
        log: list[str] = []
        root = Recorder("root", log)
        root.add_plugin(stuck)
        with pytest.raises(DeadlineExceeded, match=r"Stuck\.activate of 'engine' took longer than 0\.05 s"):
            activate(root, Services(name="engine"), SOON)
        assert log == ["up root", "down root"]
        let_go(stuck)
        assert stuck.log == ["up", "is up", "down"]
        assert not is_active(stuck)

    def test_what_fails_late_needs_no_taking_down(self, stuck: Stuck) -> None:
        stuck.fail = True
        with pytest.raises(DeadlineExceeded):
            activate(stuck, limits=SOON)
        let_go(stuck)
        assert stuck.log == ["up"]

    def test_what_is_given_up_may_add_nothing_any_more(self) -> None:
        release = threading.Event()
        refused: list[str] = []

        class Late(Plugin):
            def activate(self, context: Context) -> None:
                release.wait(LONG)
                with pytest.raises(HookError, match="activate only"):
                    context.middleware.use(lambda request, call_next: call_next(request))
                with pytest.raises(HookError, match="activate only"):
                    context.jobs.process("late", lambda data, context: None)
                refused.append("both")

        class Sibling(Plugin):
            """Comes up while the late one is at it, and so opens what was closed to it."""

            def activate(self, context: Context) -> None:
                release.set()
                join_errands()

        root = CompositePlugin()
        root.add_plugin(Late(), required=False)
        root.add_plugin(Sibling())
        services = Services(jobs=MemoryJobs())
        activate(root, services, Limits(hook=0.2))
        assert refused == ["both"]
        assert services.middleware.added == []

    def test_while_a_hook_that_was_given_up_goes_on_it_does_not_come_up(self, stuck: Stuck) -> None:
        with pytest.raises(DeadlineExceeded):
            activate(stuck, limits=SOON)
        with pytest.raises(NotReady, match="still runs"):
            activate(stuck)
        let_go(stuck)
        activate(stuck)
        assert is_active(stuck)

    def test_a_stuck_deactivate_is_given_up_and_the_others_are_called(self) -> None:
        stuck = Stuck(up=False)
        log: list[str] = []
        root = Recorder("root", log)
        root.add_plugin(stuck)
        activate(root)
        with pytest.raises(ExceptionGroup) as caught:
            deactivate(root, limits=SOON)
        let_go(stuck)
        assert [type(error) for error in caught.value.exceptions] == [DeadlineExceeded]
        assert "Stuck.deactivate of 'Recorder' took longer" in str(caught.value.exceptions[0])
        assert log == ["up root", "down root"]
        assert stuck.log.count("down") == 1

    def test_an_asynchronous_hook_is_cancelled_and_cleans_up(self) -> None:
        log = []

        class Slow(Plugin):
            async def activate(self, context: Context) -> None:
                try:
                    await asyncio.sleep(LONG)
                finally:
                    await asyncio.sleep(0)
                    log.append("cleaned up")

        slow = Slow()
        with pytest.raises(DeadlineExceeded, match=r"Slow\.activate took longer than 0\.05 s"):
            activate(slow, limits=SOON)
        assert log == ["cleaned up"]
        with pytest.raises(DeadlineExceeded):
            activate(slow, limits=SOON)

    def test_a_hooks_own_time_out_is_its_own(self) -> None:
        class Impatient(Plugin):
            async def activate(self, context: Context) -> None:
                async with asyncio.timeout(0.01):
                    await asyncio.sleep(LONG)

        with pytest.raises(TimeoutError) as caught:
            activate(Impatient())
        assert type(caught.value) is TimeoutError

    def test_a_hook_knows_its_deadline(self) -> None:
        seen: list[bool] = []

        class Curious(Plugin):
            def activate(self, context: Context) -> None:
                seen.append(context.deadline is not None)

        for limits in (Limits(), UNLIMITED):
            activate(Curious(), limits=limits)
        assert seen == [True, False]

    def test_a_tree_has_a_limit_of_its_own(self) -> None:
        log: list[str] = []
        root = CompositePlugin()
        parts = [Stuck() for _ in range(3)]
        for number, part in enumerate(parts):
            root.add_plugin(part, key=str(number), required=False)
        root.add_plugin(Recorder("last", log))
        with pytest.raises(DeadlineExceeded, match=r"no time left for Recorder\.activate"):
            activate(root, limits=Limits(hook=0.2, tree=0.3))
        let_go(*parts)
        assert parts[2].log == log == []

    def test_every_deactivate_is_called_although_the_time_is_up(self) -> None:
        root = CompositePlugin()
        parts = [Stuck(up=False) for _ in range(3)]
        for number, part in enumerate(parts):
            root.add_plugin(part, key=str(number))
        activate(root)
        with pytest.raises(ExceptionGroup) as caught:
            deactivate(root, limits=Limits(hook=0.05, tree=0.05))
        let_go(*parts)
        assert len(caught.value.exceptions) == 3
        assert [part.log.count("down") for part in parts] == [1, 1, 1]

    def test_limits_are_positive(self) -> None:
        with pytest.raises(HookError, match="positive"):
            Limits(hook=0)
        with pytest.raises(HookError, match="positive"):
            Limits(tree=math.nan)


class TestThreads:
    def test_a_limited_hook_has_a_thread_of_its_own_with_the_callers_context(self) -> None:
        shade: ContextVar[str] = ContextVar("shade")
        seen: list[tuple[str, str]] = []

        class Chameleon(Plugin):
            def activate(self, context: Context) -> None:
                seen.append((shade.get(), threading.current_thread().name))

            async def deactivate(self, context: Context) -> None:
                seen.append((shade.get(), threading.current_thread().name))

        shade.set("green")
        plugin = Chameleon()
        activate(plugin)
        deactivate(plugin)
        assert [where for where, _ in seen] == ["green", "green"]
        assert threading.current_thread().name not in [name for _, name in seen]

    def test_without_a_limit_synchronous_hooks_run_in_the_callers_thread(self) -> None:
        class Homely(Plugin):
            def activate(self, context: Context) -> None:
                self.thread = threading.current_thread()

        with active(Homely()) as plugin:
            assert plugin.thread is threading.current_thread()

    def test_a_plugin_without_hooks_costs_no_thread(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            raise AssertionError("a thread was made")

        monkeypatch.setattr(errands, "Thread", refuse)
        plugin = CompositePlugin()
        plugin.add_plugin(Plugin())
        activate(plugin)
        deactivate(plugin)

    def test_the_loops_own_thread_is_refused(self) -> None:
        async def on_the_loop() -> None:
            with pytest.raises(HookError, match="event loop's thread"):
                activate(Recorder("root", []))

        crossing.on_loop(lambda _: on_the_loop())


class TestWhatEndsOthers:
    @pytest.mark.parametrize("colour", ["sync", "async"])
    @pytest.mark.parametrize(
        ("raised", "seen"),
        [(SystemExit, Fatal), (KeyboardInterrupt, KeyboardInterrupt), (asyncio.CancelledError, HookError)],
        ids=["exit", "interrupt", "cancel"],
    )
    def test_it_rolls_back_and_ends_nobody(
        self, raised: type[BaseException], seen: type[BaseException], colour: str
    ) -> None:
        class Rude(Plugin):
            def activate(self, context: Context) -> None:
                raise raised

        class AsyncRude(Plugin):
            async def activate(self, context: Context) -> None:
                raise raised

        log: list[str] = []
        root = Recorder("root", log)
        root.add_plugin(Rude() if colour == "sync" else AsyncRude())
        with pytest.raises(seen):
            activate(root)
        assert log == ["up root", "down root"]

    def test_an_interrupt_on_the_way_down_is_raised_itself_when_all_are_down(self) -> None:
        class Rude(Plugin):
            def deactivate(self, context: Context) -> None:
                raise KeyboardInterrupt

        log: list[str] = []
        root = Recorder("root", log, fail="down")
        root.add_plugin(Rude())
        activate(root)
        with pytest.raises(KeyboardInterrupt) as caught:
            deactivate(root)
        assert log == ["up root", "down root"]
        assert "root fails going down" in caught.value.__notes__[0]

    def test_who_waits_may_be_interrupted(self, stuck: Stuck, monkeypatch: pytest.MonkeyPatch) -> None:
        """As by Ctrl-C; a signal itself may come before the thread waits, and is then noticed only afterwards."""
        interrupted = threading.Event()

        class Done(threading.Event):
            def wait(self, timeout: float | None = None) -> bool:
                while not super().wait(0.01):
                    if stuck.entered.is_set() and not interrupted.is_set():
                        interrupted.set()
                        raise KeyboardInterrupt
                return True

        monkeypatch.setattr(errands, "Event", Done)
        log: list[str] = []
        root = Recorder("root", log)
        root.add_plugin(stuck)
        with pytest.raises(KeyboardInterrupt):
            activate(root)
        assert log == ["up root", "down root"]
        let_go(stuck)
        assert stuck.log == ["up", "is up", "down"]


class TestOptional:
    def left_out(self) -> tuple[CompositePlugin, CompositePlugin, list[str]]:
        log: list[str] = []

        class Parent(CompositePlugin):
            strategy = "merge"

        parent, branch = Parent(), Recorder("branch", log)
        branch.add_plugin(Adding(), key="add")
        branch.add_plugin(Recorder("leaf", log, fail="up"), key="leaf")
        parent.add_plugin(branch, key="branch", required=False)
        parent.add_plugin(Adding(), key="add")
        return parent, branch, log

    @in_both_colours
    def test_one_that_does_not_come_up_is_left_out(self, execute: Execute, caplog: pytest.LogCaptureFixture) -> None:
        parent, branch, log = self.left_out()
        with caplog.at_level(logging.WARNING, "pluginhub.lifecycles"):
            activate(parent)
        assert log == ["up branch", "up leaf", "down branch"]
        assert is_active(parent)
        assert not is_active(branch)
        assert "Parent goes on without its Recorder" in caplog.text
        assert "leaf fails going up" in caplog.text
        assert execute([parent], 1) == {"add": 2}

    @in_both_colours
    def test_calling_it_says_why_it_is_not_there(self, execute: Execute) -> None:
        class Asking(CompositePlugin):
            async def process(self, value: Any, context: Context) -> Any:
                return await context.acall(self.children[0], value)

        class Lame(Plugin):
            def activate(self, context: Context) -> None:
                raise NotReady("The crutch is missing.")

            def process(self, value: Any, context: Context) -> Any:
                return value

        parent = Asking()
        lame = parent.add_plugin(Lame(), required=False)
        activate(parent)
        assert lifecycles.absence(lame) == "The crutch is missing."
        with pytest.raises(NotReady, match="its parent came up: The crutch is missing"):
            execute([parent], 1)
        deactivate(parent)

    def test_it_has_another_chance_in_the_next_life(self) -> None:
        parent, branch, _ = self.left_out()
        activate(parent)
        deactivate(parent)
        branch.children[1].fail = ""  # type: ignore[attr-defined]
        activate(parent)
        assert is_active(branch)
        assert lifecycles.absence(branch) == ""

    def test_what_it_had_added_is_withdrawn(self) -> None:
        class Adds(CompositePlugin):
            def activate(self, context: Context) -> None:
                context.middleware.use(lambda request, call_next: call_next(request))
                context.jobs.process("import", lambda data, context: None)

        services = Services(jobs=MemoryJobs())
        root, branch = CompositePlugin(), Adds()
        root.add_plugin(branch, required=False)
        branch.add_plugin(Recorder("leaf", [], fail="up"))
        activate(root, services)
        assert services.middleware.added == []
        assert services.jobs.handlers == {}  # type: ignore[union-attr]

    def test_an_interrupt_is_no_reason_to_go_on_without_it(self) -> None:
        class Rude(Plugin):
            def activate(self, context: Context) -> None:
                raise KeyboardInterrupt

        root = CompositePlugin()
        root.add_plugin(Rude(), required=False)
        with pytest.raises(KeyboardInterrupt):
            activate(root)


class Adding(Plugin):
    def process(self, value: int, context: Context) -> int:
        return value + 1


class TestAdditions:
    def test_they_count_from_coming_up_to_going_down(self) -> None:
        class Adds(Plugin):
            def activate(self, context: Context) -> None:
                context.middleware.use(lambda request, call_next: call_next(request), scope="job")
                context.jobs.process("import", lambda data, context: None)
                context.provide(Adding, Adding())

        jobs = MemoryJobs()
        jobs.handlers["export"] = print
        services = Services(jobs=jobs)
        plugin = Adds()
        for _ in range(2):
            activate(plugin, services)
            assert [scope for scope, _ in services.middleware.added] == ["job"]
            assert sorted(jobs.handlers) == ["export", "import"]
            assert list(services.provided) == [Adding]
            deactivate(plugin, services)
            assert services.middleware.added == []
            assert services.provided == {}
            assert sorted(jobs.handlers) == ["export"]
        assert not services.middleware.open
        assert not jobs.open


class TestOtherHooks:
    class Stateful(Plugin):
        def __init__(self) -> None:
            self.state = 1

        def get_state(self) -> Any:
            return {"state": self.state}

        async def restore_state(self, state: Any) -> None:
            await asyncio.sleep(0)
            self.state = state["state"]

    def test_either_colour_gets_its_arguments_and_gives_its_result(self) -> None:
        plugin, services = self.Stateful(), Services()
        assert lifecycles.call(plugin, "get_state", services, seconds=LONG) == {"state": 1}
        assert lifecycles.call(plugin, "restore_state", services, {"state": 2}, seconds=LONG) is None
        assert plugin.state == 2

    def test_one_that_is_not_defined_gives_nothing(self) -> None:
        assert lifecycles.call(Plugin(), "health", Services(), seconds=LONG) is None

    def test_its_limit_and_its_place_are_told(self) -> None:
        release = threading.Event()

        class Ill(Plugin):
            def health(self) -> bool:
                return release.wait(LONG)

        with pytest.raises(DeadlineExceeded, match=r"Ill\.health of 'patient' took longer") as caught:
            lifecycles.call(Ill(), "health", Services(name="patient", plugin="ill"), seconds=0.05)
        release.set()
        assert place_of(caught.value).registration == "patient"


# Generated trees


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(trees())
def test_a_tree_is_up_as_a_whole_or_not_at_all(tree: Tree) -> None:
    storm(tree)


def without_roll_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycles._Ascent, "_roll_back", lambda *_: [])


def in_the_order_of_coming_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycles, "reversed", list, raising=False)


def leaving_open_what_comes_up_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycles, "_came_up_late", lambda *_: None)


def as_often_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycles._Life, "settle", lambda life, up, work: work())


@pytest.mark.parametrize(
    "mutate", [without_roll_back, in_the_order_of_coming_up, leaving_open_what_comes_up_late, as_often_as_asked]
)
def test_the_generated_trees_find_a_life_cycle_that_is_wrong(
    mutate: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    assert rage(300, until_wrong=True).wrong == 1


def test_chains_bring_nothing_up() -> None:
    log: list[str] = []
    root = Recorder("root", log)
    root.add_plugin(Adding())
    assert chains.execute([root], 1) == 2
    assert log == []
