"""Chains over plain plugin objects."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import Any

import pytest
from pydantic import BaseModel

from pluginhub import Context, Fatal, Plugin, Refuse, RetryLater, Stop, chains
from pluginhub.chains import Chain, Step
from pluginhub.exceptions import DeadlineExceeded, HookError, InvalidInput, place_of, problem_of
from pluginhub.policies import Policy
from tests.unit.engine import Execute, in_both_colours


class Add(Plugin):
    def __init__(self, by: int = 1) -> None:
        self.by = by

    def process(self, value: int, context: Context) -> int:
        return value + self.by


class AsyncDouble(Plugin):
    async def process(self, value: int, context: Context) -> int:
        await asyncio.sleep(0)
        return value * 2


class Boom(Plugin):
    def process(self, value: Any, context: Context) -> Any:
        raise ValueError("secret detail")


class AsyncBoom(Plugin):
    async def process(self, value: Any, context: Context) -> Any:
        raise ValueError("secret detail")


class Where(Plugin):
    """Appends the name of the thread it runs in."""

    def process(self, value: list[str], context: Context) -> list[str]:
        return [*value, threading.current_thread().name]


class AsyncWhere(Plugin):
    async def process(self, value: list[str], context: Context) -> list[str]:
        return [*value, f"loop {id(asyncio.get_running_loop())}"]


@in_both_colours
def test_each_step_takes_what_the_one_before_gave(execute: Execute) -> None:
    assert execute([Add(), AsyncDouble(), Add(10)], 1) == 14


@in_both_colours
def test_an_empty_chain_gives_its_input(execute: Execute) -> None:
    assert execute([], 7) == 7


@in_both_colours
def test_a_chain_is_a_step_of_another(execute: Execute) -> None:
    assert execute([Chain([Add(), Chain([AsyncDouble()])]), Add()], 1) == 5


def test_neighbouring_synchronous_steps_cross_into_one_thread_once() -> None:
    hops: list[str] = asyncio.run(chains.aexecute([Where()] * 5, []))
    assert len(set(hops)) == 1
    assert hops[0] != threading.current_thread().name


def test_synchronous_steps_use_the_synchronous_callers_thread_between_asynchronous_ones() -> None:
    threads = chains.execute([Where(), AsyncWhere(), Where(), AsyncWhere(), AsyncWhere(), Where()], [])
    mine = threading.current_thread().name
    assert [threads[0], threads[2], threads[5]] == [mine] * 3
    assert len({threads[1], threads[3], threads[4]}) == 1


def test_a_synchronous_chain_makes_no_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio, "new_event_loop", lambda: pytest.fail("an event loop was made"))
    assert chains.execute([Add(), Add()], 0) == 2


def test_synchronous_code_on_the_loops_thread_is_told_to_use_the_twin() -> None:
    async def wrong() -> None:
        chains.execute([AsyncDouble()], 1)

    # A loop of its own may be crossed to; the loop of the running thread may not.
    async def also_wrong() -> None:
        await chains.aexecute([Nested()], 1)

    class Nested(Plugin):
        async def process(self, value: int, context: Context) -> int:
            return int(context.call(AsyncDouble(), value))

    asyncio.run(wrong())
    with pytest.raises(HookError, match="asynchronous twin"):
        asyncio.run(also_wrong())


@in_both_colours
@pytest.mark.parametrize("broken", [Boom, AsyncBoom])
def test_an_error_is_raised_as_itself_and_says_where(execute: Execute, broken: type[Plugin]) -> None:
    with pytest.raises(ValueError, match="secret detail") as caught:
        execute([Add(), Chain([broken()], name="inner")], 1)
    place = place_of(caught.value)
    assert place.steps == (("chain", "inner"), ("inner", broken.__name__))
    assert place.plugin == broken.__name__
    problem = problem_of(caught.value)
    assert (problem["status"], problem["chain"], problem["step"]) == (500, "inner", broken.__name__)
    assert "secret" not in str(problem)


@in_both_colours
@pytest.mark.parametrize("raised", [False, True])
def test_stop_ends_its_own_chain_with_a_result(execute: Execute, raised: bool) -> None:
    class Early(Plugin):
        def process(self, value: Any, context: Context) -> Any:
            if raised:
                raise Stop(value * 100)
            return Stop(value * 100)

    assert execute([Add(), Early(), AsyncBoom(), Boom()], 1) == 200
    assert execute([Chain([Early(), Boom()]), Add()], 1) == 101


def test_a_stop_of_ones_own_is_refused_where_it_is_declared() -> None:
    with pytest.raises(HookError, match="Done cannot be a subclass of Stop"):
        type("Done", (Stop,), {})


@in_both_colours
def test_a_missed_deadline_names_the_step_it_stopped_at(execute: Execute) -> None:
    class Slow(Plugin):
        def process(self, value: Any, context: Context) -> Any:
            time.sleep(0.05)
            return value

    with pytest.raises(DeadlineExceeded) as caught:
        execute([Slow(), Slow(), Add()], 1, timeout=0.02)
    assert place_of(caught.value).steps == (("chain", "Slow"),)
    assert problem_of(caught.value)["status"] == 504


@in_both_colours
def test_a_deadline_cuts_asynchronous_code_and_names_the_innermost_culprit(execute: Execute) -> None:
    class Forever(Plugin):
        async def process(self, value: Any, context: Context) -> Any:
            await asyncio.sleep(60)

    with pytest.raises(DeadlineExceeded) as caught:
        execute([Chain([Forever()], name="inner")], 1, timeout=0.05)
    assert place_of(caught.value).plugin == "Forever"


@in_both_colours
def test_attempts_end_with_the_first_success(execute: Execute) -> None:
    class Flaky(Plugin):
        calls = 0

        def process(self, value: list[int], context: Context) -> list[int]:
            Flaky.calls += 1
            value.append(Flaky.calls)
            if Flaky.calls < 3:
                raise OSError("not yet")
            return value

    Flaky.calls = 0
    # Each attempt got its own copy of the value.
    assert execute([Step(Flaky(), policy=Policy(attempts=3, backoff=0.001))], []) == [3]


@in_both_colours
def test_the_last_error_wins_when_attempts_run_out(execute: Execute) -> None:
    class Counting(Plugin):
        calls = 0

        async def process(self, value: Any, context: Context) -> Any:
            Counting.calls += 1
            raise OSError(f"call {Counting.calls}")

    Counting.calls = 0
    with pytest.raises(OSError, match="call 2"):
        execute([Step(Counting(), policy=Policy(attempts=2, backoff=0.001))], 1)


@in_both_colours
@pytest.mark.parametrize("error", [Fatal("no"), Refuse("no")], ids=["Fatal", "Refuse"])
def test_a_plugin_may_end_its_attempts(execute: Execute, error: Exception) -> None:
    class Giving(Plugin):
        calls = 0

        def process(self, value: Any, context: Context) -> Any:
            Giving.calls += 1
            raise error

    Giving.calls = 0
    with pytest.raises(type(error)):
        execute([Step(Giving(), policy=Policy(attempts=5, backoff=0.001))], 1)
    assert Giving.calls == 1


@in_both_colours
def test_retry_later_chooses_the_wait(execute: Execute) -> None:
    class Later(Plugin):
        calls = 0

        def process(self, value: Any, context: Context) -> Any:
            Later.calls += 1
            if Later.calls == 1:
                raise RetryLater(delay=0.01)
            return value

    Later.calls = 0
    started = time.monotonic()
    assert execute([Step(Later(), policy=Policy(attempts=2, backoff=30))], 1) == 1
    assert time.monotonic() - started < 10


@in_both_colours
def test_a_failing_step_is_skipped_or_gives_its_default(execute: Execute) -> None:
    assert execute([Add(), Step(Boom(), policy=Policy(on_failure="skip")), Add()], 1) == 3
    assert execute([Step(AsyncBoom(), policy=Policy(on_failure="default", default=40)), Add(2)], 1) == 42


@in_both_colours
def test_a_time_limit_counts_as_a_failure_of_its_step(execute: Execute) -> None:
    class Slow(Plugin):
        async def process(self, value: Any, context: Context) -> Any:
            await asyncio.sleep(60)

    limited = Step(Slow(), policy=Policy(time_limit=0.02, on_failure="default", default=5))
    assert execute([limited, Add()], 1) == 6
    with pytest.raises(DeadlineExceeded, match=r"0\.02 s"):
        execute([Step(Slow(), policy=Policy(time_limit=0.02))], 1)


@in_both_colours
def test_input_and_output_are_checked(execute: Execute) -> None:
    class Typed(Plugin):
        class Input(BaseModel):
            weight: float

        class Output(BaseModel):
            price: float

        def process(self, value: dict[str, Any], context: Context) -> dict[str, Any]:
            return {"price": value["weight"] * 2} if value["weight"] < 100 else {"cost": 1}

    assert execute([Typed()], {"weight": 2}) == {"price": 4}
    with pytest.raises(InvalidInput) as refused:
        execute([Typed()], {"weight": "heavy"})
    assert list(refused.value.errors) == ["weight"]
    with pytest.raises(HookError, match="does not fit its Output"):
        execute([Typed()], {"weight": 1000})


@in_both_colours
def test_a_plugin_calls_its_child_in_either_colour(execute: Execute) -> None:
    class Calling(Plugin):
        async def process(self, value: int, context: Context) -> int:
            return int(await context.acall(Add(5), value))

    class CallingBack(Plugin):
        def process(self, value: int, context: Context) -> int:
            return int(context.call(AsyncDouble(), value))

    assert execute([Calling(), CallingBack()], 1) == 12


def test_what_is_no_plugin_is_refused_when_linked() -> None:
    with pytest.raises(HookError, match="cannot be a step"):
        chains.execute([Add], 1)  # type: ignore[list-item]
    with pytest.raises(HookError, match="no process hook"):
        chains.execute([Plugin()], 1)


def test_without_a_hub_there_is_no_tenant_and_the_error_says_so() -> None:
    class Storing(Plugin):
        def process(self, value: Any, context: Context) -> Any:
            return context.storage.get("x")

    with pytest.raises(Exception, match=r"pluginhub\.testing"):
        chains.execute([Storing()], 1)


@pytest.mark.parametrize("policy", [{"attempts": 0}, {"time_limit": 0}, {"on_failure": "ignore"}])
def test_an_impossible_policy_is_refused(policy: dict[str, Any]) -> None:
    with pytest.raises(HookError):
        Policy(**policy)


@in_both_colours
@pytest.mark.parametrize("member", ["sync", "async"])
def test_a_plugin_cannot_end_the_process(execute: Execute, member: str) -> None:
    class Exiting(Plugin):
        def process(self, value: Any, context: Context) -> Any:
            sys.exit(3)

    class AsyncExiting(Plugin):
        async def process(self, value: Any, context: Context) -> Any:
            sys.exit(3)

    exiting = Exiting() if member == "sync" else AsyncExiting()
    with pytest.raises(Fatal, match="end the process") as caught:
        execute([exiting], 1)
    assert place_of(caught.value).plugin == type(exiting).__name__
    assert execute([AsyncDouble()], 2) == 4


@in_both_colours
def test_stop_iteration_of_a_plugin_is_an_error_with_its_place(execute: Execute) -> None:
    class Exhausted(Plugin):
        def process(self, value: Any, context: Context) -> Any:
            return next(iter(()))

    with pytest.raises(RuntimeError, match="StopIteration") as caught:
        execute([Exhausted()], 1)
    assert place_of(caught.value).plugin == "Exhausted"


@in_both_colours
def test_an_instance_raised_again_keeps_no_place_of_an_earlier_run(execute: Execute) -> None:
    again = Refuse("the same every time")

    class Refusing(Plugin):
        def process(self, value: Any, context: Context) -> Any:
            raise again

    for name in ("first", "second"):
        with pytest.raises(Refuse):
            execute([Chain([Refusing()], name=name)], 1)
    assert [chain for chain, _ in place_of(again).steps] == ["chain", "second"]


@in_both_colours
def test_no_attempt_waits_past_the_deadline(execute: Execute) -> None:
    class Later(Plugin):
        def process(self, value: Any, context: Context) -> Any:
            raise RetryLater(delay=60)

    started = time.monotonic()
    with pytest.raises(RetryLater):
        execute([Step(Later(), policy=Policy(attempts=2))], 1, timeout=1)
    assert time.monotonic() - started < 30


def test_an_asynchronous_plugins_synchronous_child_runs_in_the_synchronous_callers_thread() -> None:
    class Calling(Plugin):
        async def process(self, value: list[str], context: Context) -> Any:
            return await context.acall(Where(), value)

    assert chains.execute([Calling()], []) == [threading.current_thread().name]


def test_a_deadline_that_passes_while_the_callers_thread_works_is_a_missed_deadline() -> None:
    class Slow(Plugin):
        def process(self, value: Any, context: Context) -> Any:
            time.sleep(0.3)

    class Waiting(Plugin):
        async def process(self, value: Any, context: Context) -> Any:
            return await context.acall(Slow(), value)

    with pytest.raises(DeadlineExceeded):
        chains.execute([Waiting()], 1, timeout=0.1)
