"""Circuit breakers: when they open, who is let through on trial, and what counts as a failure."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluginhub import Context, Fatal, Plugin, Refuse, RetryLater, Stop, breakers, drivers
from pluginhub.breakers import Breaker, broken
from pluginhub.compositions import link
from pluginhub.context import Run
from pluginhub.drivers import Node
from pluginhub.exceptions import BreakerOpen, DeadlineExceeded, InvalidInput, place_of, problem_of
from pluginhub.pipelines import Call, series
from pluginhub.policies import Policy, guard
from pluginhub.tracing import Trace
from tests.forking import held, in_child

Caller = Callable[[Node, Any], Any]


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def run_sync(node: Node, value: Any = None, run: Run | None = None) -> Any:
    return drivers.run(node, value, run or Run())


def run_async(node: Node, value: Any = None, run: Run | None = None) -> Any:
    return asyncio.run(drivers.arun(node, value, run or Run(), anywhere=True))


in_both_colours = pytest.mark.parametrize("call", [run_sync, run_async], ids=["sync", "async"])


class Told(Plugin):
    """Do as it is told: return a value, or raise an error."""

    def process(self, value: Any, context: Context) -> Any:
        if isinstance(value, BaseException):
            raise value
        return value


class AsyncTold(Plugin):
    async def process(self, value: Any, context: Context) -> Any:
        await asyncio.sleep(0)
        return Told().process(value, context)


both_plugins = pytest.mark.parametrize("plugin", [Told(), AsyncTold()], ids=["def", "async-def"])


def made(plugin: Plugin | None = None, *, calls: int = 2, rate: float = 0.5) -> tuple[Breaker, Node, Clock]:
    clock = Clock()
    breaker = Breaker(rate, calls, 10, clock=clock)
    return breaker, broken(link(plugin or Told()), breaker, "flaky", "told"), clock


def failing(node: Node, times: int = 1, call: Caller = run_sync) -> None:
    for _ in range(times):
        with pytest.raises(OSError, match="down"):
            call(node, OSError("down"))


def refused(node: Node, call: Caller = run_sync) -> BreakerOpen:
    with pytest.raises(BreakerOpen) as caught:
        call(node, "not even tried")
    return caught.value


def _soon(done: Callable[[], bool]) -> bool:
    until = time.monotonic() + 20
    while not done() and time.monotonic() < until:
        time.sleep(0.001)
    return done()


class TestOpening:
    @in_both_colours
    @both_plugins
    def test_it_opens_when_the_share_of_failures_is_reached(self, call: Caller, plugin: Plugin) -> None:
        breaker, node, _ = made(plugin, calls=4)
        call(node, 1)
        call(node, 1)
        failing(node, 1, call)
        assert breaker.state == "closed"
        failing(node, 1, call)
        assert breaker.state == "open"
        refused(node, call)

    def test_it_does_not_open_before_it_has_seen_enough(self) -> None:
        breaker, node, _ = made(calls=5, rate=0.1)
        failing(node, 4)
        assert breaker.state == "closed"
        failing(node)
        assert breaker.state == "open"

    def test_only_the_last_calls_count(self) -> None:
        breaker, node, _ = made(calls=4)
        failing(node, 1)
        for _ in range(3):
            run_sync(node, 1)
        failing(node, 1)
        assert breaker.state == "closed", "the first failure is five calls ago"
        failing(node, 1)
        assert breaker.state == "open"

    def test_a_success_never_opens_it(self) -> None:
        breaker, node, _ = made(calls=4)
        failing(node, 2)
        run_sync(node, 1)
        run_sync(node, 1)
        assert breaker.state == "closed"

    def test_what_was_under_way_when_it_opened_counts_for_nothing(self) -> None:
        breaker, _, clock = made()
        late = [breaker.enter(), breaker.enter()]
        for each in (breaker.enter(), breaker.enter()):
            each.failed()  # type: ignore[union-attr]
        clock.now += 10
        breaker.enter().succeeded()  # type: ignore[union-attr]
        for each in late:
            each.failed()  # type: ignore[union-attr]
        assert breaker.state == "closed"

    def test_the_error_says_who_and_when_to_come_again(self) -> None:
        _, node, clock = made()
        failing(node, 2)
        clock.now += 2.5
        error = refused(node)
        assert (error.status, error.retry_after, place_of(error).registration) == (503, 7.5, "flaky")
        assert problem_of(error) == {
            "type": "about:blank",
            "title": error.title,
            "status": 503,
            "detail": "'flaky' failed too often of late and is left alone: its circuit breaker is open.",
            "hint": "Try again in 8 s. Who may change the registration can close its breaker in the admin.",
            "retry_after": 7.5,
            "registration": "flaky",
            "plugin": "told",
        }

    @in_both_colours
    def test_a_trace_says_that_it_was_refused(self, call: Any) -> None:
        _, node, _ = made(calls=1, rate=1)
        trace = Trace()
        refusing = series("chain", [("step", node), ("after", node)])
        failing(node, 1, call)
        with pytest.raises(BreakerOpen):
            call(refusing, 1, Run(trace=trace))
        assert trace.data()[0]["decision"] == "refused by an open breaker"

    def test_each_opening_is_told(self) -> None:
        opened: list[str] = []
        clock = Clock()
        breaker = Breaker(1, 1, 10, clock=clock, when_opened=lambda: opened.append(breaker.state))
        node = broken(link(Told()), breaker, "flaky")
        failing(node)
        refused(node)
        clock.now += 10
        failing(node)
        assert opened == ["open", "open"]

    def test_without_a_breaker_the_node_stays_as_it_is(self) -> None:
        node = link(Told())
        assert broken(node, None, "flaky") is node


class TestTrial:
    @in_both_colours
    @both_plugins
    def test_its_success_closes_the_breaker_which_begins_anew(self, call: Caller, plugin: Plugin) -> None:
        breaker, node, clock = made(plugin)
        failing(node, 2, call)
        clock.now += 9.9
        refused(node, call)
        clock.now += 0.1
        assert breaker.state == "half-open"
        assert call(node, 7) == 7
        assert breaker.state == "closed"
        failing(node, 1, call)
        assert breaker.state == "closed", "what failed before is forgotten"

    @in_both_colours
    @both_plugins
    def test_its_failure_opens_the_breaker_anew(self, call: Caller, plugin: Plugin) -> None:
        breaker, node, clock = made(plugin)
        failing(node, 2, call)
        clock.now += 10
        failing(node, 1, call)
        assert breaker.state == "open"
        clock.now += 9
        assert refused(node, call).retry_after == 1

    def test_the_others_fail_at_once_meanwhile(self) -> None:
        breaker, node, clock = made()
        failing(node, 2)
        clock.now += 10
        breaker.enter()
        assert breaker.state == "half-open"
        refused(node)

    @pytest.mark.parametrize(
        "error",
        [Refuse("No."), InvalidInput("No."), asyncio.CancelledError(), KeyboardInterrupt(), GeneratorExit()],
        ids=lambda error: type(error).__name__,
    )
    def test_one_that_says_nothing_leaves_its_place_to_the_next(self, error: BaseException) -> None:
        breaker, node, clock = made()
        failing(node, 2)
        clock.now += 10
        with pytest.raises(type(error)):
            run_sync(node, error)
        assert breaker.state == "half-open"
        assert run_sync(node, 1) == 1
        assert breaker.state == "closed"

    def test_one_that_does_not_end_is_given_up(self) -> None:
        breaker, node, clock = made()
        failing(node, 2)
        clock.now += 10
        lost = breaker.enter()
        assert not isinstance(lost, float)
        clock.now += 9.9
        refused(node)
        clock.now += 0.1
        second = breaker.enter()
        assert not isinstance(second, float)
        lost.succeeded()
        assert breaker.state == "half-open", "nothing it says counts any more"
        lost.failed()
        lost.undecided()
        refused(node)
        second.succeeded()
        assert breaker.state == "closed"

    def test_there_is_one_at_a_time_however_many_ask(self) -> None:
        """Eight threads never stop calling; each time the clock moves on, one call goes through, and no other."""
        trials, stop, outcomes = [0], threading.Event(), Counter[str]()

        class Fails(Plugin):
            def process(self, value: Any, context: Context) -> Any:
                trials[0] += 1
                time.sleep(0.001)  # so that the others ask meanwhile
                raise OSError("down")

        _, node, clock = made(Fails())
        failing(node, 2)

        def hammer() -> None:
            while not stop.is_set():
                try:
                    run_sync(node)
                except (OSError, BreakerOpen) as error:
                    outcomes[type(error).__name__] += 1

        threads = [threading.Thread(target=hammer) for _ in range(8)]
        for thread in threads:
            thread.start()
        for turn in range(1, 31):
            clock.now += 10
            assert _soon(lambda turn=turn: outcomes["OSError"] >= turn)  # type: ignore[misc]
        stop.set()
        for thread in threads:
            thread.join()
        assert (trials[0], outcomes["OSError"]) == (32, 30)
        assert outcomes["BreakerOpen"] > 0

    def test_counting_loses_nothing_among_threads(self) -> None:
        """Successes take no lock: every one of them has a number of its own all the same."""
        breaker, node, _ = made(calls=1000, rate=1)

        def succeed() -> None:
            for _ in range(5000):
                run_sync(node, 1)

        threads = [threading.Thread(target=succeed) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert breaker.window is not None
        assert breaker.window.succeeded() == 8 * 5000 + 1


class TestOutcomes:
    @in_both_colours
    @both_plugins
    @pytest.mark.parametrize(
        "error",
        [OSError("down"), RetryLater(), Fatal("no"), DeadlineExceeded("late"), BreakerOpen("inner", retry_after=1)],
        ids=lambda error: type(error).__name__,
    )
    def test_these_are_failures(self, error: Exception, call: Caller, plugin: Plugin) -> None:
        breaker, node, _ = made(plugin, calls=1, rate=1)
        with pytest.raises(type(error)):
            call(node, error)
        assert breaker.state == "open"

    @in_both_colours
    @both_plugins
    @pytest.mark.parametrize("error", [Refuse("No."), InvalidInput("No.")], ids=lambda error: type(error).__name__)
    def test_refused_input_is_the_callers_fault(self, error: Exception, call: Caller, plugin: Plugin) -> None:
        breaker, node, _ = made(plugin, calls=1, rate=1)
        with pytest.raises(type(error)):
            call(node, error)
        assert breaker.state == "closed"

    @in_both_colours
    @both_plugins
    def test_an_early_stop_is_a_success(self, call: Caller, plugin: Plugin) -> None:
        breaker, node, clock = made(plugin)
        failing(node, 2, call)
        clock.now += 10
        assert call(node, Stop(5)) == 5
        assert breaker.state == "closed"

    def test_a_stop_that_travels_as_an_error_is_none(self) -> None:
        def stop(value: Any, run: Run) -> Any:
            raise Stop(value)

        breaker = Breaker(1, 1, 10)
        with pytest.raises(Stop):
            broken(Call(stop), breaker, "flaky").call(1, Run())
        assert breaker.state == "closed"

    def test_cancellation_says_nothing(self) -> None:
        class Waits(Plugin):
            async def process(self, value: Any, context: Context) -> Any:
                await asyncio.sleep(60)

        breaker, node, _ = made(Waits(), calls=1, rate=1)

        async def cancel() -> None:
            task = asyncio.create_task(drivers.arun(node, None, Run(deadline=time.monotonic() + 60), anywhere=True))
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(cancel())
        assert breaker.state == "closed"

    @in_both_colours
    @pytest.mark.parametrize("limit", ["deadline", "time limit"])
    def test_what_is_cut_short_by_a_limit_failed(self, call: Any, limit: str) -> None:
        """It is cancelled, as it would be by its caller; the error is made further out."""

        class Waits(Plugin):
            async def process(self, value: Any, context: Context) -> Any:
                await asyncio.sleep(60)

        breaker, node, _ = made(Waits(), calls=1, rate=1)
        run = Run(deadline=time.monotonic() + 0.02) if limit == "deadline" else Run(deadline=time.monotonic() + 60)
        around = guard(node, Policy(time_limit=0.02)) if limit == "time limit" else node
        with pytest.raises(DeadlineExceeded):
            call(around, None, run)
        assert breaker.state == "open"

    @in_both_colours
    def test_synchronous_code_that_comes_back_after_its_time_limit_failed(self, call: Any) -> None:
        class Sleeps(Plugin):
            def process(self, value: Any, context: Context) -> Any:
                time.sleep(0.02)

        breaker, node, _ = made(Sleeps(), calls=1, rate=1)
        with pytest.raises(DeadlineExceeded):
            call(guard(node, Policy(time_limit=0.001)), None)
        assert breaker.state == "open"
        assert drivers.nearest_limit.get() is None

    @in_both_colours
    @both_plugins
    def test_what_never_began_did_not_fail(self, call: Any, plugin: Plugin) -> None:
        breaker, node, _ = made(plugin, calls=1, rate=1)
        with pytest.raises(DeadlineExceeded):
            call(node, 1, Run(deadline=time.monotonic() - 1))
        assert breaker.state == "closed"


class TestClosing:
    def test_an_operator_closes_it_and_it_begins_anew(self) -> None:
        breaker, node, _ = made()
        failing(node, 2)
        breaker.close()
        failing(node, 1)
        assert breaker.state == "closed"
        assert run_sync(node, 3) == 3

    def test_a_trial_under_way_says_nothing_any_more(self) -> None:
        opened: list[str] = []
        clock = Clock()
        breaker = Breaker(1, 1, 10, clock=clock, when_opened=lambda: opened.append("opened"))
        failing(broken(link(Told()), breaker, "flaky"))
        clock.now += 10
        trial = breaker.enter()
        assert not isinstance(trial, float)
        breaker.close()
        trial.failed()
        assert (breaker.state, opened) == ("closed", ["opened"])

    def test_it_forgets_what_failed_while_closed(self) -> None:
        breaker, node, _ = made()
        failing(node, 1)
        breaker.close()
        failing(node, 1)
        assert breaker.state == "closed"


def test_a_closed_one_has_nothing_to_tell_and_an_open_one_says_why() -> None:
    breaker, node, clock = made(calls=4)
    assert breaker.data() is None
    run_sync(node, 1)
    failing(node, 3)
    data = breaker.data()
    assert data is not None
    assert data.keys() == {"state", "since", "failed", "calls", "retry_at"}
    assert (data["state"], data["failed"], data["calls"]) == ("open", 3, 4)
    clock.now += 10
    assert breaker.data() == {**data, "state": "half-open"}


# Against a model


class Model:
    """A breaker, written to be read: every outcome of the window is kept."""

    def __init__(self, rate: float, calls: int, seconds: float) -> None:
        self.rate, self.calls, self.seconds = rate, calls, seconds
        self.epoch, self.outcomes = 0, list[bool]()
        self.until: float | None = None
        self.trial: object | None = None

    def enter(self, now: float) -> Any:
        if self.until is None:
            return self.epoch
        if now < self.until:
            return None
        self.until, self.trial = now + self.seconds, object()
        return self.trial

    def settle(self, ticket: Any, outcome: str, now: float) -> None:
        if ticket == self.epoch and self.until is None and outcome != "undecided":
            self.outcomes = [*self.outcomes, outcome == "failed"][-self.calls :]
            share = sum(self.outcomes) / self.calls
            if outcome == "failed" and len(self.outcomes) == self.calls and share >= self.rate:
                self.until, self.epoch = now + self.seconds, self.epoch + 1
        elif ticket is self.trial:
            self.trial = None
            if outcome == "succeeded":
                self.close()
            else:
                self.until = now + self.seconds if outcome == "failed" else now

    def close(self) -> None:
        self.outcomes, self.until, self.trial, self.epoch = [], None, None, self.epoch + 1


STEPS = st.one_of(
    st.just(("enter",)),
    st.tuples(st.just("settle"), st.integers(0, 5), st.sampled_from(["succeeded", "failed", "failed", "undecided"])),
    st.tuples(st.just("pass"), st.sampled_from([1.0, 4.0, 5.0])),
    st.sampled_from([("close",), ("pass", 5.0)]),
)


@given(rate=st.sampled_from([0.1, 0.5, 1.0]), calls=st.integers(1, 4), steps=st.lists(STEPS, min_size=20, max_size=120))
def test_any_history_leads_where_the_model_says(rate: float, calls: int, steps: list[Any]) -> None:
    clock, tickets = Clock(), list[tuple[Any, Any]]()
    breaker, model = Breaker(rate, calls, 5, clock=clock), Model(rate, calls, 5)
    for step in itertools.chain.from_iterable((each, ("enter",)) for each in steps):
        if step[0] == "enter":
            ticket, expected = breaker.enter(), model.enter(clock.now)
            assert isinstance(ticket, float) == (expected is None)
            if expected is not None:
                tickets.append((ticket, expected))
        elif step[0] == "settle" and tickets:
            ticket, expected = tickets.pop(step[1] % len(tickets))
            getattr(ticket, step[2])()
            model.settle(expected, step[2], clock.now)
        elif step[0] == "pass":
            clock.now += step[1]
        elif step[0] == "close":
            breaker.close()
            model.close()
        assert (breaker.window is None) == (model.until is not None)


def test_a_child_can_decide_while_its_parent_was_deciding() -> None:
    def decide() -> str:
        breaker, node, _ = made()
        failing(node, 2)
        return breaker.state

    with held({"deciding": breakers._deciding}):
        assert in_child(decide) == "open"
