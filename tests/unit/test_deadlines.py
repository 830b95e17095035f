"""Who is named when a run's deadline passes: the innermost that was at work, in both colours."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from pluginhub import CompositePlugin, Context, Plugin
from pluginhub.chains import Chain, Step
from pluginhub.exceptions import DeadlineExceeded, place_of
from pluginhub.policies import Policy
from tests.unit.engine import Execute, in_both_colours

SECONDS = 0.15
"""Of the runs here: enough for all that is quick."""


class Quick(Plugin):
    calls = 0

    def process(self, value: Any, context: Context) -> Any:
        Quick.calls += 1
        return value


class Late(Plugin):
    """Comes back when its time is over."""

    def process(self, value: Any, context: Context) -> Any:
        while time.monotonic() <= (context.deadline or 0):
            time.sleep(0.01)
        return value


class LateOnALoop(Plugin):
    """Holds the loop up until its time is over, so that nobody can cut it short."""

    async def process(self, value: Any, context: Context) -> Any:
        while time.monotonic() <= (context.deadline or 0):
            time.sleep(0.01)  # noqa: ASYNC251 - what a careless author writes
        return value


class Asleep(Plugin):
    async def process(self, value: Any, context: Context) -> Any:
        await asyncio.sleep(60)


class Caller(Plugin):
    """Calls its child, and is quick itself."""

    def __init__(self, child: Plugin) -> None:
        self.child = child

    def process(self, value: Any, context: Context) -> Any:
        return context.call(self.child, value)


late = pytest.mark.parametrize("kind", [Late, LateOnALoop, Asleep])


def missed(execute: Execute, targets: list[Any]) -> str:
    with pytest.raises(DeadlineExceeded) as caught:
        execute(targets, 1, timeout=SECONDS)
    return str(place_of(caught.value))


@late
@in_both_colours
def test_the_step_that_was_at_work_is_named_and_not_the_next(execute: Execute, kind: type[Plugin]) -> None:
    assert missed(execute, [Quick(), kind(), Quick()]) == f"'chain' step {kind.__name__!r} › plugin {kind.__name__!r}"


@late
@in_both_colours
def test_the_last_step_gives_no_late_result(execute: Execute, kind: type[Plugin]) -> None:
    assert missed(execute, [Quick(), kind()]).endswith(f"plugin {kind.__name__!r}")


@late
@in_both_colours
def test_the_innermost_of_nested_chains_is_named(execute: Execute, kind: type[Plugin]) -> None:
    inner = Chain([Quick(), kind()], name="inner")
    name = kind.__name__
    assert (
        missed(execute, [Quick(), inner, Quick()]) == f"'chain' step 'inner' › 'inner' step {name!r} › plugin {name!r}"
    )


@late
@in_both_colours
@pytest.mark.parametrize("strategy", ["sequence", "parallel", "first", "merge"])
def test_the_member_of_a_composition_is_named(execute: Execute, kind: type[Plugin], strategy: str) -> None:
    parent = type("Parent", (CompositePlugin,), {"strategy": strategy})()
    parent.add_plugin(kind(), key="slow")
    assert "'Parent' step 'slow'" in missed(execute, [parent])


@in_both_colours
def test_a_child_that_a_plugin_calls_is_named_before_its_caller(execute: Execute) -> None:
    assert missed(execute, [Caller(Late())]).endswith("plugin 'Late'")


@late
@in_both_colours
def test_a_policy_answers_for_no_missed_deadline(execute: Execute, kind: type[Plugin]) -> None:
    policy = Policy(attempts=3, on_failure="default", default=7)
    assert missed(execute, [Step(kind(), label="slow", policy=policy)]).startswith("'chain' step 'slow'")


@in_both_colours
def test_nothing_begins_after_the_deadline(execute: Execute) -> None:
    before = Quick.calls
    with pytest.raises(DeadlineExceeded):
        execute([Quick()], 1, timeout=-1)
    assert Quick.calls == before


@in_both_colours
def test_what_ends_in_time_is_not_late(execute: Execute) -> None:
    assert execute([Quick(), Quick()], 1, timeout=60) == 1


def test_the_words_name_nobody_else() -> None:
    with pytest.raises(DeadlineExceeded, match="deadline passed") as caught:
        Chain([Late(), Quick()]).execute(1, timeout=SECONDS)
    assert "Quick" not in str(caught.value)
