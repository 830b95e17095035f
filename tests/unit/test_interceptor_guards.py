"""What a layer must not do with `call_next`, what it may ask for, and what comes of a deadline that it uses up."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pluginhub import drivers
from pluginhub.context import Run
from pluginhub.exceptions import DeadlineExceeded, InterceptorError, place_of
from pluginhub.interceptors import around_calls, compose
from pluginhub.pipelines import Call
from tests.unit.onion import Onion, in_all_colours, synchronous, tagging

TWICE = "greedy called call_next twice"
HASTY = "hasty returned before its call_next settled"
GONE = "called call_next after it had left"


async def through(request: Any, call_next: Any) -> Any:
    return await call_next(request)


class TestTwice:
    @in_all_colours
    def test_calling_on_twice_is_an_error_that_names_the_layer(self, onion: Onion) -> None:
        async def greedy(request: Any, call_next: Any) -> Any:
            await call_next(request)
            return await call_next(request)

        with pytest.raises(InterceptorError, match=TWICE):
            onion(through, greedy, through)(1)

    @in_all_colours
    def test_the_core_is_reached_once(self, onion: Onion) -> None:
        seen: list[int] = []

        async def greedy(request: Any, call_next: Any) -> Any:
            await call_next(request)
            return await call_next(request)

        async def core(request: int) -> None:
            seen.append(request)

        with pytest.raises(InterceptorError):
            onion(greedy, core=core)(1)
        assert seen == [1]

    @in_all_colours
    def test_a_layer_that_swallows_that_error_fails_when_it_returns(self, onion: Onion) -> None:
        async def greedy(request: Any, call_next: Any) -> Any:
            result = await call_next(request)
            try:
                await call_next(request)
            except InterceptorError:
                pass
            return result

        with pytest.raises(InterceptorError, match=TWICE):
            onion(through, greedy)(1)

    @in_all_colours
    def test_calling_on_after_the_first_failed_is_twice_too(self, onion: Onion) -> None:
        async def greedy(request: Any, call_next: Any) -> Any:
            try:
                return await call_next(request)
            except KeyError:
                return await call_next(request)

        async def fail(request: Any) -> None:
            raise KeyError

        with pytest.raises(InterceptorError, match=TWICE):
            onion(through, greedy, core=fail)(1)

    @in_all_colours
    def test_what_a_layer_cleans_up_is_cleaned_up(self, onion: Onion) -> None:
        seen: list[str] = []

        async def greedy(request: Any, call_next: Any) -> Any:
            try:
                await call_next(request)
                await call_next(request)
            finally:
                seen.append("cleaned")

        with pytest.raises(InterceptorError, match=TWICE):
            onion(tagging("a", seen), greedy)([])
        assert seen == ["a in", "cleaned", "a out"]

    def test_of_two_threads_one_may_call_on(self) -> None:
        start = threading.Barrier(2)

        def greedy(request: Any, call_next: Any) -> Any:
            def call() -> Any:
                start.wait(10)
                try:
                    return call_next(request)
                except InterceptorError as error:
                    return error

            with ThreadPoolExecutor(2) as pool:
                results = [each.result() for each in [pool.submit(call), pool.submit(call)]]
            assert sorted(type(each).__name__ for each in results) == ["InterceptorError", "int"]

        for _ in range(50):
            with pytest.raises(InterceptorError, match=TWICE):
                compose(greedy)(1, lambda request: request)

    def test_calling_on_while_the_first_call_is_under_way_is_twice(self) -> None:
        kept: list[Any] = []

        def greedy(request: Any, call_next: Any) -> Any:
            kept.append(call_next)
            return call_next(request)

        def core(request: Any) -> None:
            with pytest.raises(InterceptorError, match=TWICE):
                kept[0](request)

        with pytest.raises(InterceptorError, match=TWICE):
            compose(greedy)(1, core)


class TestLeaving:
    async def test_what_call_next_returns_is_a_coroutine(self) -> None:
        async def look(request: Any, call_next: Any) -> Any:
            going = call_next(request)
            assert inspect.iscoroutine(going)
            return await going

        assert await compose(look, look)(1, synchronous(through_core)) == 1
        assert await compose(look, look)(1, through_core) == 1

    async def test_returning_without_waiting_is_an_error_that_names_the_layer(self) -> None:
        async def hasty(request: Any, call_next: Any) -> Any:
            call_next(request)
            return "early"

        for core in (through_core, synchronous(through_core)):
            with pytest.raises(InterceptorError, match=HASTY):
                await compose(through, hasty, through)(1, core)

    async def test_so_it_is_while_a_task_calls_on(self) -> None:
        tasks: list[Any] = []

        async def slow(request: Any) -> Any:
            await asyncio.sleep(0.01)
            return "late"

        async def hasty(request: Any, call_next: Any) -> Any:
            tasks.append(asyncio.ensure_future(call_next(request)))
            await asyncio.sleep(0)
            return "early"

        with pytest.raises(InterceptorError, match=HASTY):
            await compose(hasty)([], slow)
        assert await tasks[0] == "late"

    def test_so_it_is_while_a_thread_calls_on(self) -> None:
        inside, leave = threading.Event(), threading.Event()

        def core(request: Any) -> None:
            inside.set()
            leave.wait(10)

        def hasty(request: Any, call_next: Any) -> Any:
            pool.submit(call_next, request)
            inside.wait(10)
            return "early"

        with ThreadPoolExecutor(1) as pool:
            try:
                with pytest.raises(InterceptorError, match=HASTY):
                    compose(hasty)(1, core)
            finally:
                leave.set()

    async def test_a_task_that_is_awaited_may_call_on(self) -> None:
        async def patient(request: Any, call_next: Any) -> Any:
            return await asyncio.ensure_future(call_next(request))

        async def limited(request: Any, call_next: Any) -> Any:
            return await asyncio.wait_for(call_next(request), 10)

        assert await compose(patient, limited)(1, through_core) == 1

    async def test_a_call_that_was_given_up_has_settled(self) -> None:
        async def forever(request: Any) -> None:
            await asyncio.Event().wait()

        async def impatient(request: Any, call_next: Any) -> Any:
            try:
                return await asyncio.wait_for(call_next(request), 0.01)
            except TimeoutError:
                return "gave up"

        assert await compose(impatient)(1, forever) == "gave up"

    @in_all_colours
    @pytest.mark.parametrize("fails", [False, True])
    def test_calling_on_after_leaving_is_an_error(self, onion: Onion, fails: bool) -> None:
        kept: list[Any] = []

        async def keep(request: Any, call_next: Any) -> Any:
            kept.append(call_next)
            if fails:
                raise KeyError
            return "left"

        try:
            assert onion(keep)(1) == "left"
        except KeyError:
            assert fails
        with pytest.raises(InterceptorError, match=GONE):
            asyncio.run(kept[0](1))

    def test_a_synchronous_layer_that_returns_a_coroutine_is_told(self) -> None:
        def wrapped(request: Any, call_next: Any) -> Any:
            return through(request, call_next)

        with pytest.raises(InterceptorError, match="wrapped returned a coroutine"):
            compose(wrapped)(1, lambda request: request)


async def through_core(request: Any) -> Any:
    return request


class TestDeadlines:
    """Run without `compose`, which has no deadline of its own: as the hub links interceptors around a target."""

    def run(self, interceptor: Any, core: Any, seconds: float) -> Any:
        node = around_calls("it", [interceptor], Call(core))
        run = Run(deadline=time.monotonic() + seconds)
        if asyncio.iscoroutinefunction(interceptor):
            return asyncio.run(drivers.arun(node, 1, run, anywhere=True))
        return drivers.run(node, 1, run)

    @pytest.mark.parametrize("is_repeatable", [False, True])
    def test_a_layer_that_uses_it_up_before_it_calls_on_is_named(self, is_repeatable: bool) -> None:
        def slow(request: Any, call_next: Any) -> Any:
            time.sleep(0.02)
            return (call_next.repeatable() if is_repeatable else call_next)(request)

        with pytest.raises(DeadlineExceeded, match=r"before the interceptor .*slow called on") as caught:
            self.run(slow, lambda value, run: pytest.fail("called on"), 0.01)
        assert "slow" in str(place_of(caught.value).plugin)

    @pytest.mark.parametrize("is_repeatable", [False, True])
    def test_so_is_an_asynchronous_one_that_holds_the_loop(self, is_repeatable: bool) -> None:
        async def slow(request: Any, call_next: Any) -> Any:
            time.sleep(0.02)  # noqa: ASYNC251 - what it should not do
            return await (call_next.repeatable() if is_repeatable else call_next)(request)

        with pytest.raises(DeadlineExceeded, match=r"before the interceptor .*slow called on") as caught:
            self.run(slow, lambda value, run: pytest.fail("called on"), 0.01)
        assert "slow" in str(place_of(caught.value).plugin)

    def test_so_is_an_asynchronous_one_that_is_cut_short(self) -> None:
        async def slow(request: Any, call_next: Any) -> Any:
            await asyncio.sleep(10)

        with pytest.raises(DeadlineExceeded) as caught:
            self.run(slow, lambda value, run: pytest.fail("called on"), 0.01)
        assert "slow" in str(place_of(caught.value).plugin)

    def test_a_plugin_is_named_by_its_class(self) -> None:
        class Slow:
            def intercept(self, request: Any, call_next: Any) -> Any:
                time.sleep(0.02)
                return call_next(request)

        with pytest.raises(DeadlineExceeded, match="the interceptor Slow called on") as caught:
            self.run(Slow().intercept, lambda value, run: None, 0.01)
        assert place_of(caught.value).plugin == "Slow"

    def test_a_layer_may_answer_in_place_of_what_came_too_late(self) -> None:
        def mend(request: Any, call_next: Any) -> Any:
            time.sleep(0.02)
            try:
                return call_next(request)
            except DeadlineExceeded:
                return "mended"

        assert self.run(mend, lambda value, run: pytest.fail("called on"), 0.01) == "mended"
