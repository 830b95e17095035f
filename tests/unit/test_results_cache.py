"""Results that are kept: keys, hits, failures, and computing once. In memory; see the integration tests for Valkey."""

from __future__ import annotations

import asyncio
import decimal
import enum
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest
from django.core.cache import cache
from django.core.cache.backends.locmem import LocMemCache
from django.test.utils import override_settings
from hypothesis import given, settings
from hypothesis import strategies as st

from pluginhub import Context, Fatal, Plugin, Refuse, RetryLater, Stop, compositions, drivers, tracing
from pluginhub.caching import TenantCache, Terms, asking, kept, marks
from pluginhub.caching.marks import Mark
from pluginhub.caching.plain import is_plain, text_of
from pluginhub.context import Run, Services
from pluginhub.drivers import Node
from pluginhub.exceptions import (
    BreakerOpen,
    CachedFailure,
    Conflict,
    DeadlineExceeded,
    HookError,
    NotReady,
    place_of,
    problem_of,
)
from pluginhub.metrics import timings
from pluginhub.pipelines import Call, series
from pluginhub.policies import Policy, guard
from pluginhub.types import HOST, Caller, Tenant

Execute = Callable[..., Any]
Do = Callable[[Any, Context], Any]

ACME = Tenant("acme")
_ids = map(str, itertools.count())


def run_sync(node: Node, value: Any, run: Run | None = None) -> Any:
    return drivers.run(node, value, run or Run(id=next(_ids)))


def run_async(node: Node, value: Any, run: Run | None = None) -> Any:
    return asyncio.run(drivers.arun(node, value, run or Run(id=next(_ids)), anywhere=True))


both_hosts = pytest.mark.parametrize("execute", [run_sync, run_async], ids=["sync host", "async host"])


class Sync(Plugin):
    """Does as told, and counts how often."""

    def __init__(self, do: Do = lambda value, context: {"value": value}) -> None:
        super().__init__()
        self.do = do
        self.calls = 0

    def process(self, value: Any, context: Context) -> Any:
        self.calls += 1
        return self.do(value, context)


class Async(Sync):
    async def process(self, value: Any, context: Context) -> Any:
        self.calls += 1
        await asyncio.sleep(0)
        return self.do(value, context)


both_plugins = pytest.mark.parametrize("kind", [Sync, Async], ids=["sync plugin", "async plugin"])


@pytest.fixture(autouse=True)
def memory() -> Iterator[None]:
    """Django's cache in this process's memory."""
    backend = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "results"}
    with override_settings(CACHES={"default": backend}):
        cache.clear()
        asking._Outage.until = 0.0
        yield
        cache.clear()


def linked(plugin: Plugin, *, name: str = "cached", tenant: Tenant = ACME, **terms: Any) -> Node:
    services = Services(name=name, plugin=type(plugin).__name__, tenant=tenant)
    return kept(compositions.link(plugin, services), plugin, services, Terms(**{"seconds": 60, **terms}))


def caught(execute: Execute, node: Node, value: Any = 1) -> Exception:
    try:
        result = execute(node, value)
    except Exception as error:
        return error
    pytest.fail(f"It returned {result!r}.")


class TestHits:
    @both_plugins
    @both_hosts
    def test_the_same_input_is_computed_once(self, execute: Execute, kind: type[Sync]) -> None:
        node = linked(plugin := kind())
        assert [execute(node, {"a": 1, "b": 2}), execute(node, {"b": 2, "a": 1})] == [{"value": {"a": 1, "b": 2}}] * 2
        assert plugin.calls == 1

    @both_hosts
    @pytest.mark.parametrize("result", [None, 0, "", [], False, {}], ids=repr)
    def test_nothing_is_a_hit_too(self, execute: Execute, result: Any) -> None:
        node = linked(plugin := Sync(lambda value, context: result))
        assert [execute(node, 1), execute(node, 1)] == [result, result]
        assert plugin.calls == 1

    def test_every_hit_is_a_copy_of_its_own(self) -> None:
        node = linked(Sync())
        for _ in range(3):
            result = run_sync(node, 1)
            assert result == {"value": 1}
            result["value"] = "changed"

    @both_hosts
    def test_a_stop_ends_the_chain_again(self, execute: Execute) -> None:
        node = linked(plugin := Sync(lambda value, context: Stop("early")))
        chain = series("chain", [("first", node), ("second", compositions.link(Sync(lambda value, context: "late")))])
        assert [execute(chain, 1), execute(chain, 1)] == ["early", "early"]
        assert plugin.calls == 1

    def test_without_seconds_there_is_no_node(self) -> None:
        services = Services(name="cached", plugin="Sync")
        node = compositions.link(plugin := Sync(), services)
        assert kept(node, plugin, services, Terms(seconds=None)) is node

    def test_a_node_has_the_colour_of_what_it_keeps(self) -> None:
        assert linked(Sync()).colour is compositions.link(Sync()).colour
        assert linked(Async()).colour is compositions.link(Async()).colour

    @both_hosts
    def test_hits_and_misses_are_counted_and_hits_are_no_executions(self, execute: Execute) -> None:
        class Counted(Sync):
            pass

        timings(Counted.__name__, "acme").reset()
        node = linked(Counted())
        for value in (1, 1, 1, 2):
            execute(node, value)
        totals = timings(Counted.__name__, "acme").totals()
        assert totals[-2:] == [2, 2]
        assert sum(totals[: len(totals) - 4]) == 2

    def test_a_trace_says_what_came_from_the_cache(self) -> None:
        node = series("chain", [("step", linked(Sync()))])
        decisions = []
        for _ in range(2):
            run = Run(id="now", trace=tracing.Trace())
            with tracing.span(run, "step", "step", 1):
                run_sync(node, 1, run)
            decisions.append(json.dumps(run.trace.data()).count('"cached"'))
        assert decisions[0] == 0
        assert decisions[1] > 0


class Colours(enum.IntEnum):
    RED = 1


class TestKeys:
    def test_values_that_python_calls_equal_are_told_apart(self) -> None:
        node = linked(plugin := Sync())
        for value in (1, 1.0, True, "1", [1], {"1": 1}, None, "null", 0, -0.0, 0.0):
            assert repr(run_sync(node, value)) == repr({"value": value})
        assert plugin.calls == 11

    @pytest.mark.parametrize(
        "value", [object, (1,), {1: 2}, float("nan"), float("inf"), Colours.RED, {"a": {"b": (1,)}}, b"", [{None: 1}]]
    )
    def test_what_is_no_json_passes_by(self, value: Any) -> None:
        node = linked(plugin := Sync(lambda value, context: "result"))
        assert [run_sync(node, value), run_sync(node, value)] == ["result", "result"]
        assert plugin.calls == 2

    def test_a_value_that_contains_itself_passes_by(self) -> None:
        loop: list[Any] = []
        loop.append(loop)
        node = linked(plugin := Sync(lambda value, context: "result"))
        assert [run_sync(node, loop), run_sync(node, loop)] == ["result", "result"]
        assert plugin.calls == 2

    @pytest.mark.parametrize(
        "other",
        [
            {"tenant": Tenant("globex")},
            {"name": "other"},
            {"code": "2"},
            {"config": {"by": 2}},
            {"config_version": 2},
            {"resets": lambda: 1},
            {"seconds": 30},
        ],
        ids=lambda other: next(iter(other)),
    )
    def test_what_shapes_a_result_keeps_it_apart(self, other: dict[str, Any]) -> None:
        run_sync(linked(Sync()), 1)
        run_sync(linked(plugin := Sync(), **other), 1)
        assert plugin.calls == 1

    def test_another_plugin_of_that_name_has_results_of_its_own(self) -> None:
        class Other(Sync):
            pass

        run_sync(linked(Sync()), 1)
        run_sync(linked(plugin := Other()), 1)
        assert plugin.calls == 1

    def test_a_reset_counts_at_once(self) -> None:
        resets = [0]
        node = linked(plugin := Sync(), resets=lambda: resets[0])
        run_sync(node, 1)
        resets[0] = 1
        run_sync(node, 1)
        assert plugin.calls == 2

    @given(st.data())
    @settings(max_examples=50, deadline=None)
    def test_texts_are_equal_only_for_the_same_json(self, data: st.DataObject) -> None:
        scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3)
        values = st.recursive(
            scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3)
        )
        one, other = data.draw(values), data.draw(values)
        texts = text_of(one), text_of(other)
        if None not in texts:
            assert (texts[0] == texts[1]) == (_told(one) == _told(other))


def _told(value: Any) -> str:
    """A value with the types of all its parts, and its keys in order."""
    if isinstance(value, dict):
        return f"{{{sorted((key, _told(each)) for key, each in value.items())}}}"
    return f"[{[_told(each) for each in value]}]" if isinstance(value, list) else repr(value)


class TestWhatIsKept:
    @pytest.mark.parametrize(
        "result", [(1, [2]), {1: {2, 3}}, b"x", decimal.Decimal("1.10"), datetime(2026, 1, 2), {"a": (None,)}]
    )
    def test_python_s_own_values_come_back_as_they_were(self, result: Any) -> None:
        node = linked(plugin := Sync(lambda value, context: result))
        assert run_sync(node, 1) == run_sync(node, 1) == result
        assert type(run_sync(node, 1)) is type(result)
        assert plugin.calls == 1

    @both_plugins
    @both_hosts
    def test_instances_of_classes_pass_by(self, execute: Execute, kind: type[Sync]) -> None:
        class Rate:
            pass

        results: list[Any] = [Rate(), {"rate": Rate()}, lambda: 1, Colours.RED]
        for number, result in enumerate(results):
            node = linked(plugin := kind(_return(result)))
            assert execute(node, number) is result
            assert execute(node, number) is result
            assert plugin.calls == 2
        assert not is_plain(results[0])

    def test_what_somebody_else_put_there_is_a_miss(self, monkeypatch: pytest.MonkeyPatch) -> None:
        keys: list[str] = []
        monkeypatch.setattr(Mark, "__init__", _noting(Mark.__init__, keys))
        node = linked(plugin := Sync())
        for strange in ({"value": 2}, ("result",), ("odd", 1)):
            run_sync(node, 1)
            cache.set(keys[-1], strange)
        run_sync(node, 1)
        assert plugin.calls == 4

    def test_what_this_code_cannot_read_is_a_miss(self, monkeypatch: pytest.MonkeyPatch) -> None:
        keys: list[str] = []
        monkeypatch.setattr(Mark, "__init__", _noting(Mark.__init__, keys))
        node = linked(plugin := Sync())
        run_sync(node, 1)
        _Vanishing.__qualname__ = _Vanishing.__name__ = "Vanishing"
        globals()["Vanishing"] = _Vanishing
        cache.set(keys[-1], ("result", _Vanishing()))
        TenantCache(ACME, "own").set("key", _Vanishing())
        del globals()["Vanishing"]
        assert run_sync(node, 1) == {"value": 1}
        assert plugin.calls == 2
        assert TenantCache(ACME, "own").get("key", "default") == "default"
        assert TenantCache(ACME, "own").get_or_set("key", lambda: "made") == "made"


class _Vanishing:
    pass


def _noting(init: Any, keys: list[str]) -> Any:
    def noted(self: Mark, key: str) -> None:
        keys.append(key)
        init(self, key)

    return noted


class TestTheAuthorsKey:
    @both_plugins
    @both_hosts
    def test_it_decides_what_is_the_same(self, execute: Execute, kind: type[Sync]) -> None:
        class Rounded(kind):  # type: ignore[misc, valid-type]
            def cache_key(self, value: Any, context: Context) -> str:
                return str(round(value))

        node = linked(plugin := Rounded())
        assert [execute(node, value) for value in (1.1, 0.9, 2)] == [{"value": 1.1}, {"value": 1.1}, {"value": 2}]
        assert plugin.calls == 2

    @both_plugins
    @both_hosts
    def test_it_may_be_asynchronous(self, execute: Execute, kind: type[Sync]) -> None:
        class Slow(kind):  # type: ignore[misc, valid-type]
            async def cache_key(self, value: Any, context: Context) -> str:
                await asyncio.sleep(0)
                return "all"

        node = linked(plugin := Slow())
        assert [execute(node, 1), execute(node, 2)] == [{"value": 1}] * 2
        assert plugin.calls == 1

    def test_it_may_be_a_classmethod_and_makes_keys_for_what_is_no_json(self) -> None:
        class Typed(Sync):
            @classmethod
            def cache_key(cls, value: Any, context: Context) -> str:
                return str(type(value))

        node = linked(plugin := Typed(lambda value, context: "result"))
        assert [run_sync(node, {1}), run_sync(node, {2})] == ["result"] * 2
        assert plugin.calls == 1

    @both_hosts
    def test_none_keeps_nothing(self, execute: Execute) -> None:
        class Never(Sync):
            def cache_key(self, value: Any, context: Context) -> None:
                return None

        node = linked(plugin := Never())
        execute(node, 1)
        execute(node, 1)
        assert plugin.calls == 2

    def test_it_may_tell_callers_apart(self) -> None:
        class Personal(Sync):
            def cache_key(self, value: Any, context: Context) -> str:
                return f"{context.caller.name} {value}"

        node = linked(Personal(lambda value, context: context.caller.name))
        vera = Run(id="now", caller=Caller("vera", "http"))
        assert [run_sync(node, 1), run_sync(node, 1, vera), run_sync(node, 1)] == [HOST.name, "vera", HOST.name]

    @both_hosts
    def test_another_type_is_a_broken_hook(self, execute: Execute) -> None:
        class Broken(Sync):
            def cache_key(self, value: Any, context: Context) -> Any:
                return 7

        error = caught(execute, linked(Broken()))
        assert isinstance(error, HookError)
        assert str(error).startswith("cache_key of Broken returned int. Return a str")
        assert (place_of(error).registration, place_of(error).plugin) == ("cached", "Broken")

    @both_hosts
    def test_its_errors_are_the_plugin_s(self, execute: Execute) -> None:
        class Failing(Sync):
            def cache_key(self, value: Any, context: Context) -> Any:
                raise Refuse("No.") if value else SystemExit

        timings("Failing", "acme").reset()
        node = linked(plugin := Failing())
        assert isinstance(caught(execute, node, 1), Refuse)
        assert isinstance(error := caught(execute, node, 0), Fatal)
        assert place_of(error).plugin == "Failing"
        assert plugin.calls == 0
        assert timings("Failing", "acme").totals()[-3] == 1


def _return(result: Any) -> Do:
    return lambda value, context: result


def _raise(error: Exception) -> Do:
    def do(value: Any, context: Context) -> Any:
        raise error

    return do


FAILURES = [
    Refuse("Unknown airport.", errors={"origin": "No airport has the code XXX."}),
    Fatal("It is over.", hint="Go home."),
    Conflict("Taken.", hint="Take another.", by="vera"),
    ValueError("secret detail"),
]


class TestFailures:
    @both_plugins
    @both_hosts
    def test_they_are_not_kept_unless_asked(self, execute: Execute, kind: type[Sync]) -> None:
        node = linked(plugin := kind(_raise(ValueError("no"))))
        for _ in range(2):
            assert isinstance(caught(execute, node), ValueError)
        assert plugin.calls == 2

    @both_plugins
    @both_hosts
    @pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
    def test_they_are_the_same_problem_again(self, execute: Execute, kind: type[Sync], error: Exception) -> None:
        node = linked(plugin := kind(_raise(error)), failures=60)
        first = caught(execute, series("first chain", [("first step", node)]))
        problem = json.dumps(problem_of(first), sort_keys=True).replace("first", "second")
        again = caught(execute, series("second chain", [("second step", node)]))
        assert plugin.calls == 1
        assert json.dumps(problem_of(again), sort_keys=True) == problem
        assert isinstance(again, CachedFailure)
        assert "secret" not in str(again)

    def test_to_policies_and_jobs_they_are_what_they_were(self) -> None:
        kinds = []
        for number, error in enumerate(FAILURES):
            node = linked(Sync(_raise(error)), failures=60)
            caught(run_sync, node, number)
            again = caught(run_sync, node, number)
            kinds.append((isinstance(again, Refuse), isinstance(again, Fatal), getattr(again, "status", None)))
        assert kinds == [(True, False, 422), (False, True, 500), (False, False, 409), (False, False, 500)]

    def test_attempts_of_the_run_that_failed_go_on_and_those_of_others_are_not_spent(self) -> None:
        node = linked(plugin := Sync(_raise(ValueError("no"))), failures=60)
        asked: list[Any] = []

        def counted(value: Any, run: Run) -> Any:
            asked.append(value)
            return node.call(value, run)

        step = guard(Call(counted), Policy(attempts=3, backoff=0.001))
        assert isinstance(caught(run_sync, step), ValueError)
        assert (len(asked), plugin.calls) == (3, 3)
        assert isinstance(caught(run_sync, step), CachedFailure)
        assert (len(asked), plugin.calls) == (4, 3)

    @both_hosts
    @pytest.mark.parametrize(
        "error",
        [
            NotReady("Not yet."),
            BreakerOpen("Left alone.", retry_after=3),
            RetryLater("Busy.", delay=2),
            DeadlineExceeded("Too long."),
            CachedFailure("ValueError", None),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_those_of_the_moment_are_never_kept(self, execute: Execute, error: Exception) -> None:
        node = linked(plugin := Sync(_raise(error)), failures=60)
        for _ in range(2):
            assert caught(execute, node) is error
        assert plugin.calls == 2

    def test_one_that_cannot_be_kept_passes_by(self) -> None:
        node = linked(plugin := Sync(_raise(Conflict("Taken.", by=object()))), failures=60)
        for _ in range(2):
            assert not isinstance(caught(run_sync, node), CachedFailure)
        assert plugin.calls == 2

    def test_each_raise_is_an_error_of_its_own(self) -> None:
        node = linked(Sync(_raise(ValueError("no"))), failures=60)
        caught(run_sync, node)
        assert caught(run_sync, node) is not caught(run_sync, node)


class TestOnce:
    @both_plugins
    def test_threads_and_tasks_compute_once(self, kind: type[Sync]) -> None:
        node = linked(plugin := _slow(kind))
        assert _storm(node, 20) == [{"value": 7}] * 40
        assert plugin.calls == 1

    @both_plugins
    def test_and_more_than_once_without_marks(self, kind: type[Sync], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Mark, "_take", lambda self: (asking.get(self._key), False))
        node = linked(plugin := _slow(kind))
        _storm(node, 20)
        assert plugin.calls > 1

    def test_callers_of_what_fails_do_not_queue(self) -> None:
        going, most = [0], [0]

        def fail(value: Any, context: Context) -> Any:
            going[0] += 1
            most[0] = max(most[0], going[0])
            time.sleep(0.05)
            going[0] -= 1
            raise ValueError("no")

        node = linked(Sync(fail))
        with ThreadPoolExecutor(20) as pool:
            errors = list(pool.map(lambda _: type(caught(run_sync, node, 7)), range(20)))
        assert errors == [ValueError] * 20
        assert most[0] > 10

    def test_who_waited_for_one_does_not_wait_for_the_next(self, monkeypatch: pytest.MonkeyPatch) -> None:
        names: list[str] = []
        _occupied(monkeypatch)
        monkeypatch.setattr(Mark, "__init__", _noting(Mark.__init__, names))
        monkeypatch.setattr(marks, "MARK_SECONDS", 600)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(run_sync, linked(Sync()), 1)
            _until(lambda: bool(names))
            time.sleep(0.05)
            assert not waiting.done()
            try:
                cache.set(f"pluginhub.mark:{names[0]}", "another's", 600)
                assert waiting.result(10) == {"value": 1}
            finally:
                cache.delete(f"pluginhub.mark:{names[0]}")

    def test_a_mark_that_was_given_up_is_not_taken_any_more(self) -> None:
        mark = Mark("key")
        mark._free()
        assert mark._take() == (asking.MISSING, False)
        assert cache.get("pluginhub.mark:key") is None

    def test_a_cancelled_computation_frees_its_mark(self, monkeypatch: pytest.MonkeyPatch) -> None:
        names: list[str] = []
        monkeypatch.setattr(marks, "MARK_SECONDS", 600)
        monkeypatch.setattr(Mark, "__init__", _noting(Mark.__init__, names))

        begun = threading.Event()

        class Endless(Plugin):
            async def process(self, value: Any, context: Context) -> Any:
                begun.set()
                await asyncio.sleep(60)

        async def cancel() -> None:
            task = asyncio.create_task(drivers.arun(linked(Endless()), 1, Run(), anywhere=True))
            assert await asyncio.to_thread(begun.wait, 10)
            assert cache.get(f"pluginhub.mark:{names[0]}") is not None
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(cancel())
        _until(lambda: cache.get(f"pluginhub.mark:{names[0]}") is None)

    def test_a_look_that_was_cancelled_leaves_no_mark(self, monkeypatch: pytest.MonkeyPatch) -> None:
        names: list[str] = []
        reached, go_on = threading.Event(), threading.Event()
        monkeypatch.setattr(marks, "MARK_SECONDS", 600)
        add = LocMemCache.add
        monkeypatch.setattr(Mark, "__init__", _noting(Mark.__init__, names))

        def slow_add(self: LocMemCache, *args: Any) -> bool:
            reached.set()
            assert go_on.wait(10)
            return add(self, *args)

        monkeypatch.setattr(LocMemCache, "add", slow_add)

        async def cancel() -> None:
            task = asyncio.create_task(drivers.arun(linked(Async()), 1, Run(), anywhere=True))
            assert await asyncio.to_thread(reached.wait, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            go_on.set()

        asyncio.run(cancel())
        _until(lambda: cache.get(f"pluginhub.mark:{names[0]}") is None)
        time.sleep(0.05)
        assert cache.get(f"pluginhub.mark:{names[0]}") is None

    def test_a_mark_is_removed_only_by_who_set_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        names: list[str] = []
        monkeypatch.setattr(Mark, "__init__", _noting(Mark.__init__, names))
        monkeypatch.setattr(marks, "MARK_SECONDS", 0.01)  # in memory, whole seconds are not needed

        def outlive(value: Any, context: Context) -> str:
            time.sleep(0.03)
            assert cache.add(f"pluginhub.mark:{names[0]}", "somebody else's", 60)
            return "result"

        assert run_sync(linked(Sync(outlive)), 1) == "result"
        assert cache.get(f"pluginhub.mark:{names[0]}") == "somebody else's"

    @both_plugins
    @both_hosts
    def test_nobody_waits_past_the_deadline(
        self, execute: Execute, kind: type[Sync], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _occupied(monkeypatch)
        plugin = kind()
        with pytest.raises(DeadlineExceeded):
            execute(linked(plugin), 1, Run(id="now", deadline=time.monotonic() + 0.1))
        assert plugin.calls == 0

    @both_plugins
    @both_hosts
    def test_nobody_waits_longer_than_a_mark_lives(
        self, execute: Execute, kind: type[Sync], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _occupied(monkeypatch)
        monkeypatch.setattr(marks, "MARK_SECONDS", 0.1)
        assert execute(linked(plugin := kind()), 1) == {"value": 1}
        assert plugin.calls == 1

    @both_hosts
    def test_what_passes_by_frees_its_mark(self, execute: Execute, monkeypatch: pytest.MonkeyPatch) -> None:
        names: list[str] = []
        monkeypatch.setattr(Mark, "__init__", _noting(Mark.__init__, names))
        execute(linked(Sync(lambda value, context: object())), 1)
        caught(execute, linked(Sync(_raise(ValueError("no")))), 2)
        assert [cache.get(f"pluginhub.mark:{name}") for name in names] == [None, None]


class TestGetOrSet:
    def test_threads_and_tasks_make_it_once(self) -> None:
        mine, made = TenantCache(ACME, "notes"), []

        def make() -> str:
            time.sleep(0.1)
            made.append(1)
            return "made"

        async def amake() -> str:
            return await asyncio.to_thread(make)

        async def tasks() -> list[Any]:
            return await asyncio.gather(*(mine.aget_or_set("x", amake) for _ in range(20)))

        with ThreadPoolExecutor(21) as pool:
            futures = [pool.submit(mine.get_or_set, "x", make) for _ in range(20)]
            several = pool.submit(asyncio.run, tasks())
            assert [each.result() for each in futures] + several.result() == ["made"] * 40
        assert made == [1]

    def test_a_loop_s_thread_does_not_wait(self) -> None:
        mine = TenantCache(ACME, "notes")
        assert cache.add(f"pluginhub.mark:{mine._key('x')}", "somebody's", 60)

        async def impatient() -> tuple[str, float]:
            started = time.monotonic()
            return mine.get_or_set("x", lambda: "made"), time.monotonic() - started

        made, seconds = asyncio.run(impatient())
        assert made == "made"
        assert seconds < marks.MARK_SECONDS / 2

    def test_a_key_that_looks_like_a_mark_is_no_mark(self) -> None:
        mine = TenantCache(ACME, "notes")
        mine.set("pluginhub.mark:x", "mine")
        assert mine.get_or_set("x", lambda: "made") == "made"
        assert mine.get("pluginhub.mark:x") == "mine"

    def test_errors_free_the_mark(self) -> None:
        mine = TenantCache(ACME, "notes")
        with pytest.raises(ZeroDivisionError):
            mine.get_or_set("x", lambda: 1 // 0)
        assert cache.get(f"pluginhub.mark:{mine._key('x')}") is None

    def test_a_value_that_cannot_be_pickled_is_the_author_s_error(self) -> None:
        mine = TenantCache(ACME, "notes")
        with pytest.raises(Exception, match="pickle"):
            mine.get_or_set("x", lambda: lambda: 1)
        assert cache.get(f"pluginhub.mark:{mine._key('x')}") is None


def _slow(kind: type[Sync]) -> Sync:
    class SlowAsync(Async):
        async def process(self, value: Any, context: Context) -> Any:
            self.calls += 1
            await asyncio.sleep(0.1)
            return {"value": value}

    def slowly(value: Any, context: Context) -> Any:
        time.sleep(0.1)
        return {"value": value}

    return SlowAsync() if kind is Async else Sync(slowly)


def _storm(node: Node, size: int) -> list[Any]:
    """Ask for one cold key in `size` threads and `size` tasks at once."""
    ready = threading.Barrier(size + 1)

    def ask() -> Any:
        ready.wait()
        return run_sync(node, 7)

    async def tasks() -> list[Any]:
        return await asyncio.gather(*(drivers.arun(node, 7, Run(), anywhere=True) for _ in range(size)))

    def all_tasks() -> list[Any]:
        ready.wait()
        return asyncio.run(tasks())

    with ThreadPoolExecutor(size + 1) as pool:
        several = pool.submit(all_tasks)
        futures = [pool.submit(ask) for _ in range(size)]
        return [each.result() for each in futures] + several.result()


def _occupied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let somebody compute whatever is looked for, and never end."""

    def noted(self: Mark, key: str) -> None:
        init(self, key)
        cache.add(f"pluginhub.mark:{key}", "somebody's", 60)

    init: Any = Mark.__init__
    monkeypatch.setattr(Mark, "__init__", noted)


def _until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)
