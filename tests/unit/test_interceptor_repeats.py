"""A `call_next` that may be called again: `call_next.repeatable()`."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pluginhub.exceptions import InterceptorError
from pluginhub.interceptors import Invocation, compose
from pluginhub.types import HOST
from tests.unit.onion import Onion, in_all_colours, tagging

TWICE = "greedy called call_next twice"
HASTY = "hasty returned before its call_next settled"
GONE = "called call_next after it had left"


async def through(request: Any, call_next: Any) -> Any:
    return await call_next(request)


async def core(request: Any) -> Any:
    return request


class TestRepeatable:
    @in_all_colours
    def test_it_calls_on_as_often_as_it_is_called(self, onion: Onion) -> None:
        async def thrice(request: int, call_next: Any) -> Any:
            again = call_next.repeatable()
            return [await again(request + each) for each in range(3)]

        assert onion(through, thrice, through)(1) == [1, 2, 3]

    @in_all_colours
    def test_a_layer_may_try_again(self, onion: Onion) -> None:
        tries: list[int] = []

        async def flaky(request: Any) -> str:
            tries.append(request)
            if len(tries) < 3:
                raise KeyError(len(tries))
            return "fine"

        async def retry(request: Any, call_next: Any) -> Any:
            again = call_next.repeatable()
            for _ in range(2):
                try:
                    return await again(request)
                except KeyError:
                    pass
            return await again(request)

        assert onion(retry, through, core=flaky)(7) == "fine"
        assert tries == [7, 7, 7]

    @in_all_colours
    def test_layers_further_in_begin_anew_at_each_pass(self, onion: Onion) -> None:
        seen: list[str] = []

        async def twice(request: Any, call_next: Any) -> Any:
            again = call_next.repeatable()
            await again(request)
            return await again(request)

        onion(twice, tagging("b", seen), twice, tagging("d", seen))([])
        assert seen == 2 * ["b in", "d in", "d out", "d in", "d out", "b out"]

    @in_all_colours
    def test_it_need_not_be_called(self, onion: Onion) -> None:
        async def ask(request: Any, call_next: Any) -> Any:
            call_next.repeatable()
            return "answered"

        assert onion(ask)(1) == "answered"

    @in_all_colours
    def test_call_next_is_used_up_by_asking(self, onion: Onion) -> None:
        async def greedy(request: Any, call_next: Any) -> Any:
            await call_next.repeatable()(request)
            return await call_next(request)

        with pytest.raises(InterceptorError, match=TWICE):
            onion(through, greedy)(1)

    @in_all_colours
    def test_swallowing_that_helps_no_more_than_otherwise(self, onion: Onion) -> None:
        async def greedy(request: Any, call_next: Any) -> Any:
            call_next.repeatable()
            try:
                call_next.repeatable()
            except InterceptorError:
                pass

        with pytest.raises(InterceptorError, match=TWICE):
            onion(through, greedy)(1)

    @in_all_colours
    def test_asking_after_calling_on_is_too_late(self, onion: Onion) -> None:
        async def greedy(request: Any, call_next: Any) -> Any:
            await call_next(request)
            call_next.repeatable()

        with pytest.raises(InterceptorError, match=TWICE):
            onion(through, greedy)(1)

    @in_all_colours
    def test_it_ends_with_the_layer(self, onion: Onion) -> None:
        kept: list[Any] = []

        async def keep(request: Any, call_next: Any) -> Any:
            kept.append(call_next.repeatable())
            return await kept[0](request)

        assert onion(keep)(1) == 1
        with pytest.raises(InterceptorError, match=GONE):
            asyncio.run(kept[0](1))

    async def test_passes_may_overlap_and_all_must_have_settled(self) -> None:
        async def both(request: Any, call_next: Any) -> Any:
            again = call_next.repeatable()
            return await asyncio.gather(again(1), again(2))

        async def hasty(request: Any, call_next: Any) -> Any:
            again = call_next.repeatable()
            again(0)
            return await again(request)

        assert await compose(both)(0, core) == [1, 2]
        with pytest.raises(InterceptorError, match=HASTY):
            await compose(hasty)(0, core)

    def test_so_must_those_in_threads(self) -> None:
        inside, leave = threading.Event(), threading.Event()

        def core(request: str) -> None:
            if request == "slow":
                inside.set()
                leave.wait(10)

        def hasty(request: Any, call_next: Any) -> Any:
            again = call_next.repeatable()
            pool.submit(again, "slow")
            inside.wait(10)
            return again("fast")

        with ThreadPoolExecutor(1) as pool:
            try:
                with pytest.raises(InterceptorError, match=HASTY):
                    compose(hasty)(1, core)
            finally:
                leave.set()

    @in_all_colours
    def test_each_pass_of_an_invocation_gets_a_value_of_its_own(self, onion: Onion) -> None:
        values: list[Any] = []

        async def spoil(request: Invocation) -> None:
            values.append(list(request.value))
            request.value.append("spoilt")

        async def twice(request: Any, call_next: Any) -> Any:
            again = call_next.repeatable()
            await again(request)
            await again(request)

        given = Invocation("it", ["clean"], HOST)
        onion(twice, core=spoil)(given)
        assert values == [["clean"], ["clean"]]
        assert given.value == ["clean"]

    @in_all_colours
    def test_any_other_request_is_passed_as_it_is(self, onion: Onion) -> None:
        async def twice(request: Any, call_next: Any) -> Any:
            again = call_next.repeatable()
            assert await again(request) is request
            return await again(request)

        request = ["it"]
        assert onion(twice)(request) is request
