"""What flows through the layers besides values: context variables, cancellation, the errors that are no failures."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

from pluginhub.interceptors import compose
from tests.unit.onion import Onion, asynchronous, in_all_colours, in_both_colours, synchronous, tagging

MARK: ContextVar[str] = ContextVar("MARK", default="unset")
DEEP = 100


async def through(request: Any, call_next: Any) -> Any:
    return await call_next(request)


async def forever(request: Any) -> None:
    await asyncio.Event().wait()


class TestContextVariables:
    @in_all_colours
    def test_context_variables_flow_both_ways(self, onion: Onion) -> None:
        async def outer(request: Any, call_next: Any) -> Any:
            MARK.set("outer")
            return [*(await call_next(request)), MARK.get()]

        async def inner(request: Any, call_next: Any) -> Any:
            seen = MARK.get()
            MARK.set("inner")
            return [seen, *(await call_next(request)), MARK.get()]

        async def core(request: Any) -> list[str]:
            seen = MARK.get()
            MARK.set("core")
            return [seen]

        assert onion(outer, inner, core=core)(1) == ["outer", "inner", "core", "core"]

    @in_all_colours
    def test_they_flow_outward_with_an_error_too(self, onion: Onion) -> None:
        async def outer(request: Any, call_next: Any) -> str:
            with pytest.raises(KeyError):
                await call_next(request)
            return MARK.get()

        async def fail(request: Any) -> None:
            MARK.set("failed")
            raise KeyError

        assert onion(outer, through, core=fail)(1) == "failed"

    @in_all_colours
    def test_a_reset_inside_leaves_the_outer_value(self, onion: Onion) -> None:
        async def outer(request: Any, call_next: Any) -> str:
            MARK.set("outer")
            await call_next(request)
            return MARK.get()

        async def core(request: Any) -> None:
            token = MARK.set("core")
            MARK.reset(token)

        assert onion(outer, through, core=core)(1) == "outer"

    async def test_no_layer_is_a_task(self) -> None:
        tasks = set()

        async def look(request: Any, call_next: Any) -> Any:
            tasks.add(asyncio.current_task())
            return await call_next(request)

        async def core(request: Any) -> None:
            tasks.add(asyncio.current_task())

        await compose(look, look)(1, core)
        assert tasks == {asyncio.current_task()}

    async def test_synchronous_layers_share_a_thread_which_is_not_the_loops(self) -> None:
        threads: list[int] = []

        def look(request: Any, call_next: Any) -> Any:
            threads.append(threading.get_ident())
            return call_next(request)

        await compose(look, tagging("b"), look)([], synchronous(through_core))
        assert len(set(threads)) == 1
        assert threads[0] != threading.get_ident()


class TestCancellation:
    @pytest.mark.parametrize(
        "colours",
        [(asynchronous,), (asynchronous, synchronous), (synchronous, asynchronous)],
        ids=["async", "async and sync", "sync and async"],
    )
    async def test_it_unwinds_innermost_first(self, colours: tuple[Callable[[Any], Any], ...]) -> None:
        seen: list[str] = []
        inside = asyncio.Event()

        async def core(request: Any) -> None:
            inside.set()
            try:
                await forever(request)
            finally:
                seen.append("core out")

        layers = [colours[n % len(colours)](tagging("abcd"[n], seen)) for n in range(4)]
        task = asyncio.ensure_future(compose(*layers)([], core))
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert seen == ["a in", "b in", "c in", "d in", "core out", "d out", "c out", "b out", "a out"]

    async def test_a_synchronous_layer_does_not_see_it_as_a_failure(self) -> None:
        seen: list[str] = []
        inside = asyncio.Event()

        def careless(request: Any, call_next: Any) -> Any:
            try:
                return call_next(request)
            except Exception as error:
                seen.append(repr(error))

        async def core(request: Any) -> None:
            inside.set()
            await forever(request)

        task = asyncio.ensure_future(compose(through, careless, through)([], core))
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert seen == []

    async def test_a_thread_that_computes_is_not_waited_for(self) -> None:
        inside, leave = asyncio.Event(), threading.Event()
        loop, done = asyncio.get_running_loop(), list[str]()

        def core(request: Any) -> None:
            loop.call_soon_threadsafe(inside.set)
            leave.wait(10)
            done.append("computed")

        task = asyncio.ensure_future(compose(through, through)([], core))
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert done == []
        leave.set()

    async def test_a_layer_may_end_it(self) -> None:
        """As anywhere in asyncio: what a layer returns in place of the cancellation is the result."""

        async def shielding(request: Any, call_next: Any) -> Any:
            try:
                return await call_next(request)
            except asyncio.CancelledError:
                return "ended"

        task = asyncio.ensure_future(compose(through, shielding)([], forever))
        await asyncio.sleep(0)
        task.cancel()
        assert await task == "ended"


class TestErrorsThatAreNoFailures:
    @in_both_colours
    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, BaseException])
    def test_base_exceptions_pass_and_every_layer_cleans_up(self, onion: Onion, error: type[BaseException]) -> None:
        seen: list[str] = []

        async def stop(request: Any) -> None:
            raise error

        with pytest.raises(error) as caught:
            onion(tagging("a", seen), tagging("b", seen), core=stop)([])
        assert type(caught.value) is error
        assert seen == ["a in", "b in", "b out", "a out"]

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, BaseException])
    def test_so_they_do_where_colours_mix(self, error: type[BaseException]) -> None:
        seen: list[str] = []

        def stop(request: Any) -> None:
            raise error

        def run() -> Any:
            return asyncio.run(compose(tagging("a", seen), synchronous(tagging("b", seen)))([], stop))

        with pytest.raises(error):
            run()
        assert seen == ["a in", "b in", "b out", "a out"]

    def test_stop_iteration_passes_synchronous_layers_as_itself(self) -> None:
        seen: list[str] = []

        def layer(request: Any, call_next: Any) -> Any:
            try:
                return call_next(request)
            finally:
                seen.append("out")

        with pytest.raises(StopIteration):
            compose(layer, layer)([], lambda request: next(iter(request)))
        assert seen == ["out", "out"]

    @pytest.mark.parametrize("error", [StopIteration, StopAsyncIteration])
    @pytest.mark.parametrize("colour", [synchronous, asynchronous])
    async def test_stop_iteration_ends_no_asynchronous_layer(self, colour: Any, error: type[Exception]) -> None:
        """Python makes StopIteration a RuntimeError where it would leave a coroutine as its end."""
        seen: list[str] = []

        def stop(request: Any) -> None:
            raise error

        with pytest.raises((RuntimeError, StopAsyncIteration)) as caught:
            await compose(tagging("a", seen), colour(tagging("b", seen)))([], stop)
        assert error in (type(caught.value), type(caught.value.__cause__))
        assert seen == ["a in", "b in", "b out", "a out"]

    @in_all_colours
    def test_an_error_is_itself_and_no_group(self, onion: Onion) -> None:
        error = KeyError("core")

        async def fail(request: Any) -> None:
            raise error

        with pytest.raises(KeyError) as caught:
            onion(through, through, through, core=fail)(1)
        assert caught.value is error


class TestDepth:
    @in_all_colours
    def test_a_hundred_layers_do_not_exhaust_the_stack(self, onion: Onion) -> None:
        assert len(onion(*[tagging(str(n)) for n in range(DEEP)])([])) == 2 * DEEP

    @pytest.mark.parametrize("colours", [(synchronous,), (asynchronous,), (synchronous, asynchronous)])
    def test_nor_does_a_compose_of_composes(self, colours: Any) -> None:
        async def core(request: Any) -> Any:
            return request

        composed = compose()
        for n in range(DEEP):
            composed = compose(colours[n % len(colours)](tagging(str(n))), composed)
        if colours == (synchronous,):
            assert len(composed([], synchronous(core))) == 2 * DEEP
        else:
            assert len(asyncio.run(composed([], core))) == 2 * DEEP

    def test_a_layer_takes_two_frames_of_the_stack(self) -> None:
        depths: list[int] = []

        def depth(request: Any) -> None:
            frame, count = sys._getframe(), 0
            while frame.f_back is not None:
                frame, count = frame.f_back, count + 1
            depths.append(count)

        def layer(request: Any, call_next: Any) -> Any:
            return call_next(request)

        async def adepth(request: Any) -> None:
            depth(request)

        compose(layer)(1, depth)
        compose(*[layer] * 11)(1, depth)
        assert depths[1] - depths[0] == 30  # its own, the guard's on the way in, and that of call_next
        asyncio.run(compose(through)(1, adepth))
        asyncio.run(compose(*[through] * 11)(1, adepth))
        assert depths[3] - depths[2] == 20


async def through_core(request: Any) -> Any:
    return request
