"""Step policies: every rule, in both colours, with targets and fallbacks of both colours."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
import stamina

from pluginhub import Context, Fatal, Plugin, Refuse, RetryLater, Stop, chains
from pluginhub.chains import Chain, Step
from pluginhub.exceptions import DeadlineExceeded, HookError, NotReady, place_of, problem_of
from pluginhub.expressions import ExpressionError
from pluginhub.policies import Policy
from tests.unit.engine import Execute, in_both_colours

Body = Callable[[Any], Any]
of_both_colours = pytest.mark.parametrize("target", ["sync", "async"])


class Doing(Plugin):
    """Does what it is given, and remembers what it was given."""

    def __init__(self, body: Body) -> None:
        self.body = body
        self.calls: list[Any] = []

    def process(self, value: Any, context: Context) -> Any:
        self.calls.append(value)
        return self.body(value)


class AsyncDoing(Doing):
    async def process(self, value: Any, context: Context) -> Any:
        await asyncio.sleep(0)
        return super().process(value, context)


def doing(colour: str, body: Body) -> Doing:
    return (Doing if colour == "sync" else AsyncDoing)(body)


def failing(colour: str, error: Exception | type[Exception] = OSError) -> Doing:
    def fail(value: Any) -> Any:
        raise error

    return doing(colour, fail)


def step(plugin: Any, **policy: Any) -> Step:
    return Step(plugin, label="it", policy=Policy(**{"backoff": 0.001, **policy}))


def double(value: Any) -> Any:
    return value * 2


# Whether it runs


@in_both_colours
@of_both_colours
@pytest.mark.parametrize(("weight", "calls"), [(5, 0), (50, 1)])
def test_a_step_whose_condition_is_not_true_is_left_out(execute: Execute, target: str, weight: int, calls: int) -> None:
    plugin = doing(target, lambda value: {**value, "heavy": True})
    value = {"weight": weight}
    result = execute([step(plugin, condition="weight > `10`")], value)
    assert result == ({"weight": 50, "heavy": True} if calls else value)
    assert len(plugin.calls) == calls


@in_both_colours
def test_a_step_that_is_left_out_maps_nothing(execute: Execute) -> None:
    plugin = doing("sync", double)
    policy: dict[str, Any] = {"condition": "no", "input": "a", "output": "result"}
    assert execute([step(plugin, **policy)], {"a": 1}) == {"a": 1}


# On what


@in_both_colours
@of_both_colours
def test_the_input_mapping_makes_what_the_target_takes(execute: Execute, target: str) -> None:
    assert execute([step(doing(target, double), input="order.weight")], {"order": {"weight": 4}}) == 8


@in_both_colours
@of_both_colours
def test_the_output_mapping_sees_the_steps_value_and_the_result(execute: Execute, target: str) -> None:
    mapped = step(doing(target, double), input="weight", output="merge(input, {price: result})")
    assert execute([mapped], {"weight": 4, "to": "ZRH"}) == {"weight": 4, "to": "ZRH", "price": 8}


@in_both_colours
@of_both_colours
def test_the_output_mapping_sees_the_value_as_it_was(execute: Execute, target: str) -> None:
    def spoil(value: list[int]) -> int:
        value.append(9)
        return len(value)

    mapped = step(doing(target, spoil), input="rows", output="{rows: input.rows, n: result}")
    assert execute([mapped], {"rows": [1]}) == {"rows": [1], "n": 2}


@in_both_colours
def test_what_the_target_mutates_is_not_the_steps_value(execute: Execute) -> None:
    def spoil(value: list[int]) -> None:
        value.append(9)
        raise OSError

    assert execute([step(doing("sync", spoil), input="rows", on_failure="skip")], {"rows": [1]}) == {"rows": [1]}


@pytest.mark.parametrize("field", ["condition", "input", "output"])
def test_an_expression_that_cannot_be_used_is_refused_when_linked(field: str) -> None:
    with pytest.raises(HookError, match=rf"{field}.*Unexpected '\.' at character 3"):
        Chain([step(doing("sync", double), **{field: "a..b"})])


@in_both_colours
@pytest.mark.parametrize("field", ["condition", "input", "output"])
def test_an_expression_that_fails_is_an_error_of_its_step_and_no_attempt(execute: Execute, field: str) -> None:
    plugin = doing("sync", lambda value: value)
    with pytest.raises(ExpressionError) as failed:
        execute([Chain([step(plugin, attempts=3, **{field: "length(`1`)"})], name="inner")], 1)
    assert place_of(failed.value).steps == (("chain", "inner"), ("inner", "it"))
    assert len(plugin.calls) == (1 if field == "output" else 0)


@in_both_colours
@pytest.mark.parametrize("field", ["condition", "input", "output"])
def test_on_failure_applies_to_an_expression_that_fails(execute: Execute, field: str) -> None:
    wrong = {field: "length(`1`)"}
    plugin = doing("sync", double)
    assert execute([step(plugin, on_failure="skip", **wrong)], 1) == 1
    assert execute([step(plugin, on_failure="default", default=[7], **wrong)], 1) == [7]


@in_both_colours
def test_a_fallback_stands_in_where_the_condition_fails(execute: Execute) -> None:
    instead = doing("sync", double)
    assert execute([step(failing("sync"), condition="sum(@)", on_failure="fallback", fallback=instead)], 4) == 8


@in_both_colours
def test_what_cannot_be_mapped_is_given_to_no_fallback(execute: Execute) -> None:
    instead = doing("sync", double)
    with pytest.raises(ExpressionError, match="input mapping") as failed:
        execute([step(failing("sync"), input="sum(@)", on_failure="fallback", fallback=instead)], 4)
    assert instead.calls == []
    assert place_of(failed.value).steps == (("chain", "it"),)


# Attempts


@in_both_colours
@of_both_colours
def test_each_attempt_gets_its_own_copy_of_what_was_mapped(execute: Execute, target: str) -> None:
    def spoil(value: list[int]) -> list[int]:
        value.append(9)
        if len(plugin.calls) < 3:
            raise OSError
        return value

    plugin = doing(target, spoil)
    assert execute([step(plugin, attempts=3, input="rows")], {"rows": [1]}) == [1, 9]
    assert len({id(value) for value in plugin.calls}) == 3


@in_both_colours
@of_both_colours
@pytest.mark.parametrize("error", [Fatal("no"), Refuse("no"), NotReady("no")], ids=lambda error: type(error).__name__)
def test_what_cannot_get_better_is_not_tried_again(execute: Execute, target: str, error: Exception) -> None:
    plugin = failing(target, error)
    with pytest.raises(type(error)):
        execute([step(plugin, attempts=5)], 1)
    assert len(plugin.calls) == 1


@in_both_colours
@of_both_colours
def test_then_the_policy_and_with_fail_the_last_error(execute: Execute, target: str) -> None:
    def count(value: Any) -> Any:
        raise OSError(f"call {len(plugin.calls)}")

    plugin = doing(target, count)
    with pytest.raises(OSError, match="call 3"):
        execute([step(plugin, attempts=3)], 1)
    assert execute([step(plugin, attempts=3, on_failure="default", default="d")], 1) == "d"
    assert len(plugin.calls) == 6


@in_both_colours
def test_no_attempt_begins_after_a_back_off_that_would_pass_the_deadline(execute: Execute) -> None:
    plugin = failing("sync")
    started = time.monotonic()
    with pytest.raises(OSError):  # noqa: PT011 - it has no message
        execute([step(plugin, attempts=5, backoff=50)], 1, timeout=5)
    assert len(plugin.calls) == 1
    assert time.monotonic() - started < 4


@in_both_colours
def test_a_delay_of_less_than_nothing_is_none(execute: Execute) -> None:
    plugin = failing("sync", RetryLater(delay=-5))
    with pytest.raises(RetryLater):
        execute([step(plugin, attempts=2)], 1)
    assert len(plugin.calls) == 2


@in_both_colours
def test_the_log_of_a_retry_names_the_step(execute: Execute) -> None:
    seen: list[stamina.instrumentation.RetryDetails] = []

    def see(details: stamina.instrumentation.RetryDetails) -> None:
        seen.append(details)

    stamina.instrumentation.set_on_retry_hooks([see])
    try:
        with pytest.raises(OSError):  # noqa: PT011 - it has no message
            execute([step(failing("sync"), attempts=2)], 1)
    finally:
        stamina.instrumentation.set_on_retry_hooks(None)
    assert [(each.name, each.args) for each in seen] == [("pluginhub.step", ("it",))]


@in_both_colours
@of_both_colours
def test_the_time_limit_is_that_of_each_attempt(execute: Execute, target: str) -> None:
    class Slow(Plugin):
        calls = 0

        def process(self, value: Any, context: Context) -> Any:
            Slow.calls += 1
            time.sleep(0.4 if Slow.calls < 3 else 0)
            return "in time"

    class AsyncSlow(Plugin):
        async def process(self, value: Any, context: Context) -> Any:
            Slow.calls += 1
            await asyncio.sleep(60 if Slow.calls < 3 else 0)
            return "in time"

    slow = Slow() if target == "sync" else AsyncSlow()
    assert execute([step(slow, attempts=3, time_limit=0.3)], 1) == "in time"
    assert Slow.calls == 3


# On failure


@in_both_colours
@of_both_colours
@pytest.mark.parametrize("instead", ["sync", "async"])
def test_a_fallback_gets_what_the_target_got_and_its_result_is_mapped(
    execute: Execute, target: str, instead: str
) -> None:
    def spoil(value: list[int]) -> None:
        value.append(9)
        raise OSError

    mapped = step(
        doing(target, spoil),
        input="rows",
        output="{n: result, rows: input.rows}",
        on_failure="fallback",
        fallback=doing(instead, len),
    )
    assert execute([mapped, doing("sync", lambda value: {**value, "on": True})], {"rows": [1]}) == {
        "n": 1,
        "rows": [1],
        "on": True,
    }


@in_both_colours
def test_a_chain_may_stand_in(execute: Execute) -> None:
    instead = Chain([doing("sync", double), doing("async", double)], name="table")
    assert execute([step(failing("async"), on_failure="fallback", fallback=instead)], 1) == 4


@in_both_colours
@of_both_colours
@pytest.mark.parametrize("instead", ["sync", "async"])
def test_a_fallback_that_fails_too_raises_its_error_with_the_first_and_both_names(
    execute: Execute, target: str, instead: str
) -> None:
    first, second = ValueError("first"), OSError("second")
    fallen = step(
        failing(target, first), on_failure="fallback", fallback=Chain([failing(instead, second)], name="table")
    )
    with pytest.raises(OSError, match="second") as failed:
        execute([fallen], 1)
    place = place_of(failed.value)
    name = "Doing" if instead == "sync" else "AsyncDoing"
    assert place.steps == (("chain", "it"), ("it", "fallback table"), ("table", name))
    assert place.plugin == name
    assert problem_of(failed.value)["path"] == ["chain › it", "it › fallback table", f"table › {name}"]
    contexts, error = [], failed.value.__context__
    while error is not None:
        contexts.append(error)
        error = error.__context__
    assert first in contexts


@in_both_colours
def test_a_fallback_has_the_time_limit_anew_and_one_attempt(execute: Execute) -> None:
    class Slow(Plugin):
        async def process(self, value: Any, context: Context) -> Any:
            await asyncio.sleep(60)

    within = doing("sync", double)
    assert execute([step(Slow(), time_limit=0.2, on_failure="fallback", fallback=within)], 4) == 8
    with pytest.raises(DeadlineExceeded, match=r"0\.05 s") as failed:
        execute([step(failing("sync"), time_limit=0.05, on_failure="fallback", fallback=Slow())], 4)
    assert place_of(failed.value).steps[-1] == ("it", "fallback Slow")
    once = failing("sync")
    with pytest.raises(OSError):  # noqa: PT011 - it has no message
        execute([step(failing("sync"), attempts=3, on_failure="fallback", fallback=once)], 4)
    assert len(once.calls) == 1


@in_both_colours
def test_a_default_is_given_as_it_is_and_anew_each_time(execute: Execute) -> None:
    chain: list[Any] = [
        step(failing("sync"), output="{mapped: result}", on_failure="default", default=[]),
        doing("sync", lambda value: value.append(1) or value),
    ]
    linked = Chain(chain)
    assert [linked.execute(0), linked.execute(0)] == [[1], [1]]
    assert execute(chain, 0) == [1]


@in_both_colours
def test_skip_passes_the_steps_own_value_on(execute: Execute) -> None:
    skipped = step(failing("sync"), input="a", output="{mapped: result}", on_failure="skip")
    assert execute([skipped], {"a": 1}) == {"a": 1}


@in_both_colours
@of_both_colours
@pytest.mark.parametrize("by", ["target", "fallback"])
@pytest.mark.parametrize("raised", [False, True])
def test_stop_ends_the_chain_and_is_mapped_by_nobody(execute: Execute, target: str, by: str, raised: bool) -> None:
    def stop(value: Any) -> Any:
        if raised:
            raise Stop("enough")
        return Stop("enough")

    stopping, later = doing(target, stop), doing("sync", double)
    policy: dict[str, Any] = {"output": "{mapped: result}", "attempts": 2, "on_failure": "fallback"}
    stopped = (
        step(stopping, fallback=later, **policy)
        if by == "target"
        else step(failing(target), fallback=stopping, **policy)
    )
    assert execute([stopped, later], 1) == "enough"
    assert later.calls == []


@in_both_colours
@of_both_colours
@pytest.mark.parametrize("on_failure", ["skip", "default", "fallback"])
@pytest.mark.parametrize("attempts", [1, 3])
def test_a_deadline_that_passed_is_not_answered(execute: Execute, target: str, on_failure: Any, attempts: int) -> None:
    class Slow(Plugin):
        def process(self, value: Any, context: Context) -> Any:
            time.sleep(0.1)
            raise OSError("too late to matter")

    class AsyncSlow(Plugin):
        async def process(self, value: Any, context: Context) -> Any:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                raise OSError("too late to matter") from None

    instead = doing("sync", double)
    slow = Slow() if target == "sync" else AsyncSlow()
    late = step(slow, attempts=attempts, on_failure=on_failure, fallback=instead if on_failure == "fallback" else None)
    with pytest.raises((DeadlineExceeded, OSError)):
        execute([late], 1, timeout=0.05)
    assert instead.calls == []


# What ends a run


@pytest.mark.parametrize("on_failure", ["fail", "skip", "default", "fallback"])
@pytest.mark.parametrize("attempts", [1, 3])
@pytest.mark.parametrize("swallowed", [False, True])
async def test_a_cancellation_is_not_answered(on_failure: Any, attempts: int, swallowed: bool) -> None:
    begun = asyncio.Event()
    instead = doing("async", double)

    class Waiting(Plugin):
        calls = 0

        async def process(self, value: Any, context: Context) -> Any:
            Waiting.calls += 1
            begun.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if not swallowed:
                    raise
                raise OSError("made of a cancellation") from None

    waiting = step(
        Waiting(), attempts=attempts, on_failure=on_failure, fallback=instead if on_failure == "fallback" else None
    )
    task = asyncio.create_task(chains.aexecute([waiting], 1))
    await begun.wait()
    task.cancel()
    with pytest.raises(OSError if swallowed else asyncio.CancelledError):
        await task
    assert Waiting.calls == 1
    assert instead.calls == []


@of_both_colours
@pytest.mark.parametrize("on_failure", ["skip", "default", "fallback"])
async def test_a_cancellation_during_the_back_off_is_not_answered(target: str, on_failure: Any) -> None:
    begun, loop = asyncio.Event(), asyncio.get_running_loop()
    instead, beside = doing("async", double), doing("async", lambda value: value)

    def fail(value: Any) -> Any:
        loop.call_soon_threadsafe(begun.set)
        raise OSError

    plugin = doing(target, fail)
    policy: dict[str, Any] = {"fallback": instead} if on_failure == "fallback" else {}
    # A synchronous step waits in its thread, which nobody can cut: the caller goes on, and nothing else begins.
    waiting = step(plugin, attempts=2, backoff=30 if target == "async" else 0.2, on_failure=on_failure, **policy)
    task = asyncio.create_task(chains.aexecute([beside, waiting, instead], 1))
    await begun.wait()
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    if target == "async":
        assert len(plugin.calls) == 1
    assert instead.calls == []


async def test_an_earlier_cancellation_that_was_survived_takes_no_policy_away() -> None:
    async def survive() -> Any:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass
        return await chains.aexecute([step(failing("async"), attempts=2, on_failure="default", default="d")], 1)

    task = asyncio.create_task(survive())
    await asyncio.sleep(0)
    task.cancel()
    assert await task == "d"


@in_both_colours
@of_both_colours
@pytest.mark.parametrize("attempts", [1, 3])
def test_an_interrupt_of_the_process_is_not_answered(execute: Execute, target: str, attempts: int) -> None:
    calls = []

    class Interrupted(BaseException):
        """As KeyboardInterrupt, which the loop and pytest would take for themselves."""

    def interrupt(value: Any) -> Any:
        calls.append(value)
        raise Interrupted

    with pytest.raises(Interrupted):
        execute([step(doing(target, interrupt), attempts=attempts, on_failure="default", default=1)], 1)
    assert len(calls) == 1


@in_both_colours
@of_both_colours
def test_a_plugin_that_tries_to_end_the_process_failed(execute: Execute, target: str) -> None:
    def leave(value: Any) -> Any:
        raise SystemExit(3)

    plugin = doing(target, leave)
    assert execute([step(plugin, attempts=3, on_failure="default", default="d")], 1) == "d"
    assert len(plugin.calls) == 1


@pytest.mark.parametrize(
    "policy",
    [{"on_failure": "fallback"}, {"fallback": Chain([])}, {"on_failure": "skip", "fallback": Chain([])}],
    ids=["none", "unasked", "skip"],
)
def test_a_fallback_and_its_policy_go_together(policy: dict[str, Any]) -> None:
    with pytest.raises(HookError, match="go together"):
        Policy(**policy)


def test_what_is_no_plugin_cannot_stand_in() -> None:
    with pytest.raises(HookError, match="cannot be a step"):
        Chain([step(failing("sync"), on_failure="fallback", fallback="a name")])
