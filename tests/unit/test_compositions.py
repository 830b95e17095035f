"""Parents with sub-plugins: how their strategies run them."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from pluginhub import CompositePlugin, Context, Plugin, chains
from pluginhub.exceptions import DeadlineExceeded, HookError, Stop, place_of
from tests.unit.engine import Execute, in_both_colours


class Add(Plugin):
    def __init__(self, by: int) -> None:
        self.by = by

    def process(self, value: int, context: Context) -> int:
        return value + self.by


class AsyncAdd(Add):
    async def process(self, value: int, context: Context) -> int:  # type: ignore[override]
        await asyncio.sleep(0)
        return value + self.by


class Boom(Plugin):
    def process(self, value: Any, context: Context) -> Any:
        raise ValueError("boom")


def parent(strategy: Any, *members: tuple[str, Plugin, bool]) -> CompositePlugin:
    kind = type("Parent", (CompositePlugin,), {"strategy": strategy})
    made: CompositePlugin = kind()
    for key, plugin, required in members:
        made.add_plugin(plugin, key=key, required=required)
    return made


TWO = (("one", Add(1), True), ("ten", AsyncAdd(10), True))


@in_both_colours
@pytest.mark.parametrize(
    ("strategy", "result"),
    [("sequence", 16), ("parallel", [6, 15]), ("first", 6), ("merge", {"one": 6, "ten": 15})],
)
def test_each_strategy(execute: Execute, strategy: str, result: Any) -> None:
    assert execute([parent(strategy, *TWO)], 5) == result


@in_both_colours
def test_the_first_that_succeeds_answers(execute: Execute) -> None:
    assert execute([parent("first", ("bad", Boom(), True), *TWO)], 5) == 6


@in_both_colours
def test_when_none_succeeds_the_last_error_is_raised_with_its_place(execute: Execute) -> None:
    with pytest.raises(ValueError, match="boom") as caught:
        execute([parent("first", ("bad", Boom(), True), ("worse", Boom(), True))], 5)
    assert place_of(caught.value).steps[-1] == ("Parent", "worse")


@in_both_colours
@pytest.mark.parametrize(
    ("strategy", "result"),
    [("sequence", 16), ("parallel", [6, 15]), ("merge", {"one": 6, "ten": 15})],
)
def test_an_optional_member_that_fails_is_left_out(execute: Execute, strategy: str, result: Any) -> None:
    assert execute([parent(strategy, ("bad", Boom(), False), *TWO)], 5) == result


@in_both_colours
@pytest.mark.parametrize("strategy", ["sequence", "parallel", "merge"])
def test_a_required_member_that_fails_fails_the_composition(execute: Execute, strategy: str) -> None:
    with pytest.raises(ValueError, match="boom") as caught:
        execute([parent(strategy, *TWO, ("bad", Boom(), True))], 5)
    assert ("Parent", "bad") in place_of(caught.value).steps


@in_both_colours
def test_members_side_by_side_get_their_own_copy(execute: Execute) -> None:
    class Append(Plugin):
        def process(self, value: list[int], context: Context) -> list[int]:
            value.append(len(value))
            return value

    assert execute([parent("parallel", ("a", Append(), True), ("b", Append(), True))], [7]) == [[7, 1], [7, 1]]


@in_both_colours
def test_members_run_side_by_side(execute: Execute) -> None:
    class Meet(Plugin):
        """Returns only when its twin runs at the same time."""

        gate = threading.Barrier(2)

        def process(self, value: Any, context: Context) -> str:
            self.gate.wait(timeout=10)
            return threading.current_thread().name

    names = execute([parent("parallel", ("a", Meet(), True), ("b", Meet(), True))], 0)
    assert len(set(names)) == 2
    assert threading.current_thread().name not in names


@in_both_colours
def test_nested_parallel_members_do_not_starve_the_pool(execute: Execute) -> None:
    inner = parent("parallel", *((str(n), Add(n), True) for n in range(3)))
    for _ in range(3):
        inner = parent("parallel", *((str(n), inner_copy(inner), True) for n in range(4)))
    started = time.monotonic()
    execute([inner], 0)
    assert time.monotonic() - started < 60


def inner_copy(plugin: CompositePlugin) -> CompositePlugin:
    return parent(plugin.strategy, *plugin.members)


@in_both_colours
def test_a_parent_with_code_of_its_own_calls_its_children(execute: Execute) -> None:
    class Cheapest(CompositePlugin):
        async def process(self, value: int, context: Context) -> int:
            return min([int(await context.acall(child, value)) for child in self.children])

    cheapest = Cheapest()
    cheapest.add_plugin(Add(5))
    cheapest.add_plugin(AsyncAdd(3))
    assert execute([cheapest], 1) == 4


@in_both_colours
def test_a_parents_synchronous_code_calls_children_of_both_colours(execute: Execute) -> None:
    class Dearest(CompositePlugin):
        def process(self, value: int, context: Context) -> int:
            return int(max(context.call(child, value) for child in self.children))

    dearest = Dearest()
    for key, plugin, _ in TWO:
        dearest.add_plugin(plugin, key=key)
    dearest.add_plugin(parent("sequence", *TWO), key="both")
    assert execute([dearest], 1) == 12


@in_both_colours
@pytest.mark.parametrize(
    ("strategy", "result"), [("sequence", 26), ("parallel", [16, 15]), ("first", 16), ("merge", {"in": 16, "ten": 15})]
)
def test_compositions_nest(execute: Execute, strategy: str, result: Any) -> None:
    inner = parent("sequence", ("one", AsyncAdd(1), True), ("ten", Add(10), True))
    assert execute([parent(strategy, ("in", inner, True), ("ten", AsyncAdd(10), True))], 5) == result


@in_both_colours
@pytest.mark.parametrize(("strategy", "result"), [("sequence", 5), ("parallel", []), ("merge", {})])
def test_when_all_are_optional_and_fail_nothing_is_left(execute: Execute, strategy: str, result: Any) -> None:
    assert execute([parent(strategy, ("bad", Boom(), False), ("worse", Boom(), False))], 5) == result


@in_both_colours
@pytest.mark.parametrize(("strategy", "result"), [("parallel", [7, 6]), ("merge", {"stop": 7, "one": 6}), ("first", 7)])
def test_a_member_that_stops_ends_itself_alone(execute: Execute, strategy: str, result: Any) -> None:
    class Ends(Plugin):
        async def process(self, value: int, context: Context) -> Any:
            return Stop(7)

    assert execute([parent(strategy, ("stop", Ends(), True), ("one", Add(1), True))], 5) == result


@in_both_colours
def test_without_members_there_is_no_first(execute: Execute) -> None:
    with pytest.raises(HookError, match="has no members"):
        execute([parent("first")], 5)


def test_a_strategy_that_does_not_exist_is_refused_when_it_is_linked() -> None:
    with pytest.raises(HookError, match="no strategy 'any'"):
        chains.Chain([parent("any")])


def test_sub_plugins_are_checked_when_added() -> None:
    mother = CompositePlugin()
    mother.add_plugin(Add(1))
    with pytest.raises(HookError, match="no Plugin instance"):
        mother.add_plugin(Add)  # type: ignore[type-var]
    with pytest.raises(HookError, match="already has"):
        mother.add_plugin(Add(2))
    with pytest.raises(HookError, match="cannot contain itself"):
        mother.add_plugin(mother)
    child = CompositePlugin()
    mother.add_plugin(child)
    with pytest.raises(HookError, match="cannot contain itself"):
        child.add_plugin(mother)


def test_children_need_no_call_of_the_parents_constructor() -> None:
    class Quiet(CompositePlugin):
        def __init__(self) -> None:
            self.add_plugin(Add(1))

    assert len(Quiet().children) == 1


@in_both_colours
def test_a_member_that_outlasts_the_deadline_is_not_waited_for(execute: Execute) -> None:
    class Stuck(Plugin):
        release = threading.Event()

        def process(self, value: Any, context: Context) -> Any:
            self.release.wait(60)

    started = time.monotonic()
    try:
        with pytest.raises(DeadlineExceeded):
            execute([parent("parallel", ("stuck", Stuck(), True), *TWO)], 1, timeout=0.2)
        assert time.monotonic() - started < 30
    finally:
        Stuck.release.set()


def test_many_at_once_whose_asynchronous_code_needs_threads_do_not_starve_the_pool() -> None:
    class Hopping(Plugin):
        async def process(self, value: int, context: Context) -> int:
            return int(await context.acall(Add(1), value))

    def nested(value: int) -> Any:
        return parent("parallel", *((str(n), Hopping(), True) for n in range(4)))

    many = parent("parallel", *((str(n), nested(n), True) for n in range(40)))
    assert chains.execute([many], 1, timeout=60) == [[2] * 4] * 40
