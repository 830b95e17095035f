"""Interceptors of streams wrap the iteration: what they see, what they may change, and how all of it ends."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from pluginhub import crossing
from pluginhub.exceptions import Fatal, InterceptorError, Refuse, place_of
from pluginhub.layers import Interceptor, Invocation
from pluginhub.streaming import generators
from tests.unit.layering import (
    KINDS,
    Consume,
    Ledger,
    by_for,
    counting,
    errors,
    layer,
    looping,
    of_any_colour,
    of_any_kind,
    pulling,
    whoever_consumes,
)


@pytest.fixture
def ledger() -> Ledger:
    return []


class Cursor:
    """Give 1 for ever; what Python collects is not closed."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        return 1

    def close(self) -> None:
        self._ledger.append("cursor")


def closings(ledger: Ledger) -> list[str]:
    return [each for each in ledger if isinstance(each, str)]


# What a layer sees and does


@whoever_consumes
@of_any_colour
@of_any_kind
def test_a_layer_sees_each_item(consume: Consume, colour: str, kind: str, ledger: Ledger) -> None:
    assert consume(counting(colour, ledger), [layer(kind, "a", ledger)], 3) == ["a1", "a2", "a3"]
    assert sorted(closings(ledger)) == ["a", "source"]


@whoever_consumes
@of_any_colour
@pytest.mark.parametrize("kinds", [[*KINDS, "generator"], [*KINDS[::-1], "async generator"]], ids=["down", "up"])
def test_five_layers_of_mixed_colours_stand_outermost_first(
    consume: Consume, colour: str, kinds: list[str], ledger: Ledger
) -> None:
    layers = [layer(kind, name, ledger) for kind, name in zip(kinds, "abcde", strict=True)]
    assert consume(counting(colour, ledger), layers, 2) == ["abcde1", "abcde2"]
    assert sorted(closings(ledger)) == ["a", "b", "c", "d", "e", "source"]


@whoever_consumes
@of_any_colour
def test_the_params_can_be_changed(consume: Consume, colour: str, ledger: Ledger) -> None:
    def fewer(request: Invocation, call_next: Any) -> Any:
        return call_next(request.replace(request.value - 1))

    async def afewer(request: Invocation, call_next: Any) -> Any:
        return await call_next(request.replace(request.value - 1))

    assert consume(counting(colour, ledger), [fewer, afewer], 4) == [1, 2]


@whoever_consumes
@of_any_colour
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_layer_may_drop_add_and_end_otherwise(consume: Consume, colour: str, is_async: bool, ledger: Ledger) -> None:
    def otherwise(request: Invocation, call_next: Any) -> Iterator[Any]:
        yield "first"
        for item in call_next(request):
            if item % 2:
                yield item
        yield "last"

    async def aotherwise(request: Invocation, call_next: Any) -> AsyncIterator[Any]:
        yield "first"
        async for item in call_next(request):
            if item % 2:
                yield item
        yield "last"

    chosen: Interceptor = aotherwise if is_async else otherwise
    assert consume(counting(colour, ledger), [chosen], 4) == ["first", 1, 3, "last"]


@whoever_consumes
@of_any_colour
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_layer_may_put_items_in_place_of_an_error(
    consume: Consume, colour: str, is_async: bool, ledger: Ledger
) -> None:
    def mended(request: Invocation, call_next: Any) -> Iterator[Any]:
        try:
            yield from call_next(request)
        except LookupError as error:
            yield str(error)

    async def amended(request: Invocation, call_next: Any) -> AsyncIterator[Any]:
        try:
            async for item in call_next(request):
                yield item
        except LookupError as error:
            yield str(error)

    chosen: Interceptor = amended if is_async else mended
    assert consume(counting(colour, ledger, fail_at=3), [chosen], 5) == [1, 2, "the source failed"]


@whoever_consumes
@pytest.mark.parametrize("kind", [list, tuple, iter])
def test_a_layer_may_answer_without_the_plugin(consume: Consume, kind: Any, ledger: Ledger) -> None:
    def instead(request: Invocation, call_next: Any) -> Any:
        return kind(["x", "y"])

    assert consume(counting("synchronous", ledger), [instead]) == ["x", "y"]
    assert ledger == []


@whoever_consumes
@of_any_colour
def test_what_a_function_returned_need_not_be_a_generator(consume: Consume, colour: str, ledger: Ledger) -> None:
    def first(request: Invocation, call_next: Any) -> Any:
        return itertools.islice(call_next(request), 2)

    assert consume(counting(colour, ledger), [first]) == [1, 2]
    assert closings(ledger) == ["source"]


@whoever_consumes
@of_any_colour
def test_a_function_may_return_an_asynchronous_generator(consume: Consume, colour: str, ledger: Ledger) -> None:
    def doubled(request: Invocation, call_next: Any) -> AsyncIterator[int]:
        async def double() -> AsyncIterator[int]:
            async for item in call_next(request):
                yield item * 2

        return double()

    assert consume(counting(colour, ledger), [doubled], 3) == [2, 4, 6]
    assert closings(ledger) == ["source"]


@whoever_consumes
@of_any_colour
def test_a_coroutine_function_may_return_a_synchronous_generator(consume: Consume, colour: str, ledger: Ledger) -> None:
    async def doubled(request: Invocation, call_next: Any) -> Iterator[int]:
        inside = await call_next(request)
        return (item * 2 for item in inside)

    assert consume(counting(colour, ledger), [doubled], 3) == [2, 4, 6]
    assert closings(ledger) == ["source"]


@of_any_colour
def test_single_steps_are_possible_too(colour: str, ledger: Ledger) -> None:
    def head(request: Invocation, call_next: Any) -> Iterator[Any]:
        inside = call_next(request)
        yield next(inside) + 10
        yield next(inside) + 20

    async def ahead(request: Invocation, call_next: Any) -> AsyncIterator[Any]:
        inside = call_next(request)
        yield await anext(inside) + 10
        yield await anext(inside) + 20

    assert by_for(counting(colour, ledger), [head]) == [11, 22]
    assert by_for(counting(colour, ledger), [ahead]) == [11, 22]
    assert closings(ledger) == ["source", "source"]


@whoever_consumes
def test_a_hundred_layers_do_not_exhaust_the_stack(consume: Consume, ledger: Ledger) -> None:
    for kind in ("generator", "async generator"):
        layers = [layer(kind, "", ledger) for _ in range(100)]
        assert consume(counting("synchronous", ledger), layers, 2) == ["1", "2"]


# Closing early


@whoever_consumes
@of_any_colour
@of_any_kind
def test_who_lets_go_closes_the_layer_and_then_the_plugin(
    consume: Consume, colour: str, kind: str, ledger: Ledger
) -> None:
    assert consume(counting(colour, ledger), [layer(kind, "a", ledger)], take=2) == ["a1", "a2"]
    assert closings(ledger) == ["a", "source"]


@whoever_consumes
@of_any_colour
@of_any_kind
def test_a_layer_that_returns_early_leaves_nothing_open(
    consume: Consume, colour: str, kind: str, ledger: Ledger
) -> None:
    assert consume(counting(colour, ledger), [layer(kind, "a", ledger, most=2)]) == ["a1", "a2"]
    assert closings(ledger) == ["a", "source"]


@whoever_consumes
@of_any_colour
@of_any_kind
def test_a_source_that_fails_ends_its_layers_from_the_inside_out(
    consume: Consume, colour: str, kind: str, ledger: Ledger
) -> None:
    layers = [layer(kind, "a", ledger), layer(kind, "b", ledger)]
    with pytest.raises(LookupError, match="the source failed"):
        consume(counting(colour, ledger, fail_at=3), layers)
    assert closings(ledger) == ["source", "b", "a"]


@whoever_consumes
@of_any_colour
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_layer_that_fails_leaves_nothing_open(consume: Consume, colour: str, is_async: bool, ledger: Ledger) -> None:
    def failing(request: Invocation, call_next: Any) -> Iterator[Any]:
        for item in call_next(request):
            yield item
            raise LookupError("the layer failed")

    async def afailing(request: Invocation, call_next: Any) -> AsyncIterator[Any]:
        async for item in call_next(request):
            yield item
            raise LookupError("the layer failed")

    layers = [layer("generator", "a", ledger), afailing if is_async else failing, layer("async generator", "b", ledger)]
    with pytest.raises(LookupError, match="the layer failed"):
        consume(counting(colour, ledger), layers)
    assert closings(ledger) == ["b", "source", "a"]


@whoever_consumes
@of_any_colour
@pytest.mark.parametrize("kinds", [[*KINDS, "generator"], [*KINDS[::-1], "async generator"]], ids=["down", "up"])
def test_five_layers_close_outermost_first(consume: Consume, colour: str, kinds: list[str], ledger: Ledger) -> None:
    layers = [layer(kind, name, ledger) for kind, name in zip(kinds, "abcde", strict=True)]
    assert consume(counting(colour, ledger), layers, take=2) == ["abcde1", "abcde2"]
    assert closings(ledger) == ["a", "b", "c", "d", "e", "source"]


@of_any_colour
@of_any_kind
async def test_a_stream_that_was_never_pulled_closes(colour: str, kind: str, ledger: Ledger) -> None:
    async with pulling(counting(colour, ledger), [layer(kind, "a", ledger)]):
        pass
    assert ledger == []


@whoever_consumes
@pytest.mark.parametrize("kind", KINDS[:2])
def test_items_that_were_opened_and_never_pulled_are_closed(consume: Consume, kind: str, ledger: Ledger) -> None:
    def hasty(request: Invocation, call_next: Any) -> Any:
        call_next(request)
        return ["own"]

    def refusing(request: Invocation, call_next: Any) -> Any:
        call_next(request)
        raise Refuse("Not today.")

    async def arefusing(request: Invocation, call_next: Any) -> Any:
        await call_next(request)
        raise Refuse("Not today.")

    assert consume(lambda _: Cursor(ledger), [hasty]) == ["own"]
    for each in (refusing, arefusing):
        with pytest.raises(Refuse):
            consume(lambda _: Cursor(ledger), [layer(kind, "a", ledger), each])
    assert closings(ledger).count("cursor") == 3


async def test_an_opening_that_is_cancelled_in_a_thread_leaves_nothing_open(ledger: Ledger) -> None:
    opened, going = threading.Event(), threading.Event()

    def slow(request: Invocation, call_next: Any) -> Any:
        inside = call_next(request)
        opened.set()
        going.wait(10)
        return inside

    async with pulling(lambda _: Cursor(ledger), [layer("async generator", "a", ledger), slow]) as pulled:
        pull = asyncio.create_task(pulled.pull(1))
        assert await asyncio.to_thread(opened.wait, 10)
        pull.cancel()
        asyncio.get_running_loop().call_later(0.05, going.set)
        with pytest.raises(asyncio.CancelledError):
            await pull
    assert closings(ledger) == ["cursor", "a"]


async def test_an_opening_that_a_layer_left_in_a_task_of_its_own_leaves_nothing_open(ledger: Ledger) -> None:
    opened, going = threading.Event(), threading.Event()
    pulls: list[asyncio.Task[Any]] = []

    def slow(request: Invocation, call_next: Any) -> Any:
        inside = call_next(request)
        opened.set()
        going.wait(10)
        return inside

    async def with_ticks(request: Invocation, call_next: Any) -> AsyncIterator[Any]:
        pulls.append(asyncio.ensure_future(anext(call_next(request))))
        yield "tick"

    async with pulling(lambda _: Cursor(ledger), [with_ticks, slow]) as pulled:
        assert await pulled.pull(1) == ["tick"]
        assert await asyncio.to_thread(opened.wait, 10)
        asyncio.get_running_loop().call_later(0.05, going.set)
    assert closings(ledger) == ["cursor"]


@whoever_consumes
@of_any_colour
def test_a_failure_while_closing_keeps_nothing_open(consume: Consume, colour: str, ledger: Ledger) -> None:
    def unclean(request: Invocation, call_next: Any) -> Iterator[Any]:
        try:
            yield from (item for item in call_next(request))
        finally:
            raise LookupError("could not close")

    with pytest.raises(LookupError, match="could not close"):
        consume(counting(colour, ledger), [layer("async generator", "a", ledger), unclean], take=1)
    assert closings(ledger) == ["a", "source"]


async def waiting(ledger: Ledger) -> None:
    async with asyncio.timeout(10):
        while 1 not in ledger:  # noqa: ASYNC110 - it may be in a thread
            await asyncio.sleep(0.01)


@of_any_kind
async def test_a_pull_that_waits_on_the_loop_is_cut_short(kind: str, ledger: Ledger) -> None:
    async def silent(count: int) -> AsyncIterator[int]:
        try:
            ledger.append(1)
            await asyncio.sleep(3600)
            yield 1
        finally:
            ledger.append("source")

    async with asyncio.timeout(10):
        async with pulling(silent, [layer(kind, "a", ledger), layer("function", "b", ledger)]) as pulled:
            pull = asyncio.create_task(pulled.pull(10))
            await waiting(ledger)
            pull.cancel()
            with pytest.raises(asyncio.CancelledError):
                await pull
    assert sorted(closings(ledger)) == ["a", "b", "source"]


@of_any_kind
async def test_a_pull_that_waits_in_a_thread_is_closed_when_it_comes_back(kind: str, ledger: Ledger) -> None:
    going = threading.Event()

    def slow(count: int) -> Iterator[int]:
        try:
            ledger.append(1)
            going.wait(10)
            yield 1
        finally:
            ledger.append("source")

    async with pulling(slow, [layer(kind, "a", ledger), layer("async generator", "b", ledger)]) as pulled:
        pull = asyncio.create_task(pulled.pull(10))
        await waiting(ledger)
        pull.cancel()
        asyncio.get_running_loop().call_later(0.1, going.set)
        with pytest.raises(asyncio.CancelledError):
            await pull
    assert sorted(closings(ledger)) == ["a", "b", "source"]


@of_any_colour
async def test_a_step_that_a_layer_left_in_a_task_of_its_own_is_cancelled(colour: str, ledger: Ledger) -> None:
    pulls: list[asyncio.Task[Any]] = []

    async def with_ticks(request: Invocation, call_next: Any) -> AsyncIterator[Any]:
        inside = call_next(request)
        pulls.append(asyncio.ensure_future(anext(inside)))
        while not pulls[0].done():
            await asyncio.wait(pulls, timeout=0.01)
            yield "tick"

    async def silent(count: int) -> AsyncIterator[int]:
        try:
            await asyncio.sleep(3600)
            yield 1
        finally:
            ledger.append("source")

    def slow(count: int) -> Iterator[int]:
        try:
            time.sleep(0.2)
            yield 1
        finally:
            ledger.append("source")

    async with pulling(silent if colour == "asynchronous" else slow, [with_ticks]) as pulled:
        assert await pulled.pull(1) == ["tick"]
    assert closings(ledger) == ["source"]


# The rules


@whoever_consumes
@pytest.mark.parametrize("swallows", [False, True], ids=["raising", "swallowing"])
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_calling_on_twice_is_an_error_that_names_the_interceptor(
    consume: Consume, swallows: bool, is_async: bool, ledger: Ledger
) -> None:
    def greedy(request: Invocation, call_next: Any) -> Iterator[Any]:
        yield from call_next(request)
        try:
            yield from call_next(request)
        except InterceptorError:
            if not swallows:
                raise

    async def agreedy(request: Invocation, call_next: Any) -> AsyncIterator[Any]:
        async for item in call_next(request):
            yield item
        try:
            async for item in call_next(request):
                yield item
        except InterceptorError:
            if not swallows:
                raise

    chosen: Interceptor = agreedy if is_async else greedy
    with pytest.raises(InterceptorError, match="greedy called call_next twice") as caught:
        consume(counting("synchronous", ledger), [chosen], 2)
    assert place_of(caught.value).registration == "layer-0"
    assert closings(ledger) == ["source"]


@whoever_consumes
def test_a_function_that_calls_on_twice_fails_too(consume: Consume, ledger: Ledger) -> None:
    def greedy(request: Invocation, call_next: Any) -> Any:
        inside = call_next(request)
        try:
            return call_next(request)
        except InterceptorError:
            return inside

    with pytest.raises(InterceptorError, match="greedy called call_next twice"):
        consume(counting("synchronous", ledger), [greedy])


@whoever_consumes
@of_any_colour
def test_a_layer_that_asks_for_it_may_open_the_stream_again(consume: Consume, colour: str, ledger: Ledger) -> None:
    def twice_over(request: Invocation, call_next: Any) -> Iterator[Any]:
        again = call_next.repeatable()
        for n in (2, 3):
            try:
                yield from again(request.replace(n))
            except LookupError:
                yield "again"

    assert consume(counting(colour, ledger, fail_at=3), [twice_over]) == [1, 2, 1, 2, "again"]
    assert closings(ledger) == ["source", "source"]


@whoever_consumes
def test_a_layer_cannot_call_on_after_its_end(consume: Consume, ledger: Ledger) -> None:
    kept = []

    def leaving(request: Invocation, call_next: Any) -> Iterator[Any]:
        kept.append((request, call_next))
        yield "only"

    assert consume(counting("synchronous", ledger), [leaving]) == ["only"]
    (request, call_next), *_ = kept
    with pytest.raises(InterceptorError, match="leaving called call_next after it had left"):
        call_next(request)


@whoever_consumes
@of_any_kind
def test_what_is_passed_on_is_an_invocation(consume: Consume, kind: str, ledger: Ledger) -> None:
    def bare(request: Invocation, call_next: Any) -> Iterator[Any]:
        return call_next(request.value)  # type: ignore[no-any-return]

    with pytest.raises(InterceptorError, match=r"bare passed on int instead of the invocation"):
        consume(counting("synchronous", ledger), [layer(kind, "a", ledger), bare])


@whoever_consumes
@pytest.mark.parametrize("given", [None, "text", {"a": 1}, 7], ids=["None", "str", "dict", "int"])
def test_what_is_no_stream_is_refused(consume: Consume, given: Any, ledger: Ledger) -> None:
    def wrong(request: Invocation, call_next: Any) -> Any:
        return given

    async def awrong(request: Invocation, call_next: Any) -> Any:
        return given

    for each in (wrong, awrong):
        with pytest.raises(InterceptorError, match=r"wrong returned .*, which is no stream"):
            consume(counting("synchronous", ledger), [each])


# Errors


@whoever_consumes
@of_any_colour
@of_any_kind
def test_an_error_names_the_plugin_it_came_from_and_counts_for_it_once(
    consume: Consume, colour: str, kind: str, ledger: Ledger
) -> None:
    layers = [layer(each, "a", ledger) for each in (kind, "generator", kind)]
    before = [errors(name) for name in ("source", "layer-0", "layer-1", "layer-2")]
    with pytest.raises(LookupError) as caught:
        consume(counting(colour, ledger, fail_at=2), layers)
    assert (place_of(caught.value).registration, place_of(caught.value).plugin) == ("source", "source-plugin")
    after = [errors(name) for name in ("source", "layer-0", "layer-1", "layer-2")]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 0, 0, 0]


@whoever_consumes
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_an_error_of_a_layers_own_is_its_own(consume: Consume, is_async: bool, ledger: Ledger) -> None:
    def replacing(request: Invocation, call_next: Any) -> Iterator[Any]:
        try:
            yield from call_next(request)
        except LookupError as error:
            raise ZeroDivisionError from error

    async def areplacing(request: Invocation, call_next: Any) -> AsyncIterator[Any]:
        try:
            async for item in call_next(request):
                yield item
        except LookupError as error:
            raise ZeroDivisionError from error

    before = errors("layer-1")
    layers = [layer("generator", "a", ledger), areplacing if is_async else replacing]
    with pytest.raises(ZeroDivisionError) as caught:
        consume(counting("synchronous", ledger, fail_at=2), layers)
    assert (place_of(caught.value).registration, place_of(caught.value).plugin) == ("layer-1", "layer-1-plugin")
    assert errors("layer-1") - before == 1


@whoever_consumes
def test_a_refusal_is_marked_and_not_counted(consume: Consume, ledger: Ledger) -> None:
    def refusing(request: Invocation, call_next: Any) -> Any:
        raise Refuse("Not today.")

    before = errors("layer-0")
    with pytest.raises(Refuse, match="Not today") as caught:
        consume(counting("synchronous", ledger), [refusing])
    assert place_of(caught.value).registration == "layer-0"
    assert errors("layer-0") == before


@whoever_consumes
@pytest.mark.parametrize("where", ["opening", "coroutine", "stepping", "async stepping", "closing"])
def test_a_layer_cannot_end_the_process(consume: Consume, where: str, ledger: Ledger) -> None:
    def opening(request: Invocation, call_next: Any) -> Any:
        raise SystemExit(3)

    async def coroutine(request: Invocation, call_next: Any) -> Any:
        raise SystemExit(3)

    def stepping(request: Invocation, call_next: Any) -> Iterator[Any]:
        yield from call_next(request)
        raise SystemExit(3)

    async def astepping(request: Invocation, call_next: Any) -> AsyncIterator[Any]:
        async for item in call_next(request):
            yield item
        raise SystemExit(3)

    def closing(request: Invocation, call_next: Any) -> Iterator[Any]:
        try:
            yield from (item for item in call_next(request))
        finally:
            raise SystemExit(3)

    chosen: dict[str, Any] = {
        "opening": opening,
        "coroutine": coroutine,
        "stepping": stepping,
        "async stepping": astepping,
        "closing": closing,
    }
    for outer in ("generator", "async generator"):
        with pytest.raises(Fatal, match="tried to end the process"):
            consume(counting("synchronous", ledger), [layer(outer, "a", ledger), chosen[where]], 2)


@whoever_consumes
@of_any_kind
def test_a_stop_iteration_of_a_plugins_is_an_error_and_no_end(consume: Consume, kind: str, ledger: Ledger) -> None:
    def empty(request: Invocation, call_next: Any) -> Any:
        raise StopIteration

    with pytest.raises(RuntimeError, match="StopIteration"):
        consume(counting("synchronous", ledger), [layer(kind, "a", ledger), empty])


# Demand


@pytest.mark.parametrize(
    "kinds", [["generator"], ["async generator"], KINDS, KINDS[::-1]], ids=lambda each: str(len(each)) + each[0]
)
@of_any_colour
async def test_no_more_is_pulled_than_was_asked_for(kinds: list[str], colour: str, ledger: Ledger) -> None:
    layers = [layer(kind, "", ledger) for kind in kinds]
    async with pulling(counting(colour, ledger), layers) as pulled:
        assert ledger == []
        found: list[Any] = []
        while len(found) < 10:
            found += await pulled.pull(10 - len(found))
        await asyncio.sleep(0.05)
        assert [each for each in ledger if isinstance(each, int)] == list(range(1, 11))
        found += await pulled.pull(1)
        assert max(each for each in ledger if isinstance(each, int)) == 11
    assert found == [str(n) for n in range(1, 12)]


@of_any_kind
@of_any_colour
def test_a_for_loop_pulls_one_by_one(kind: str, colour: str, ledger: Ledger) -> None:
    with looping(counting(colour, ledger), [layer(kind, "", ledger), layer("async generator", "", ledger)]) as items:
        for n in (1, 2, 3):
            assert next(items) == str(n)
            assert ledger == list(range(1, n + 1))


@of_any_kind
async def test_a_page_crosses_to_a_thread_at_once(kind: str, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    hops: list[Any] = []
    hop = crossing.in_stream_thread

    def counted(*args: Any) -> Any:
        hops.append(args)
        return hop(*args)

    monkeypatch.setattr(generators, "PAGE_SECONDS", 60.0)
    monkeypatch.setattr(crossing, "in_stream_thread", counted)
    async with pulling(counting("synchronous", ledger), [layer(kind, "", ledger)]) as pulled:
        found: list[Any] = []
        while len(found) < generators.PAGE_ITEMS:
            found += await pulled.pull(generators.PAGE_ITEMS - len(found))
        assert len(hops) == 1


async def test_what_is_there_does_not_wait_for_what_is_not(ledger: Ledger) -> None:
    going = threading.Event()

    def bursts(count: int) -> Iterator[int]:
        yield from (1, 2)
        going.wait(10)
        yield 3

    async with pulling(bursts, [layer("async generator", "a", ledger)]) as pulled:
        assert await pulled.pull(10) + await pulled.pull(10) == ["a1", "a2"]
        going.set()
        assert await pulled.pull(10) == ["a3"]


# Threads, loops and contexts


@of_any_kind
def test_a_synchronous_generator_in_a_for_loop_stays_in_its_thread(kind: str, ledger: Ledger) -> None:
    threads = set()

    def source(count: int) -> Iterator[int]:
        try:
            for n in range(3):
                threads.add(threading.get_ident())
                yield n
        finally:
            threads.add(threading.get_ident())

    kinds = [kind, "async generator", "generator", "coroutine function"]
    by_for(source, [layer(each, "", ledger) for each in kinds], take=2)
    assert threads == {threading.get_ident()}


SEEN: ContextVar[int] = ContextVar("seen", default=0)


def remembering(count: int) -> Iterator[int]:
    token = SEEN.set(0)
    try:
        for _ in range(count):
            SEEN.set(SEEN.get() + 1)
            yield SEEN.get()
    finally:
        SEEN.reset(token)  # raises in any context but the one it was set in


async def aremembering(count: int) -> AsyncIterator[int]:
    token = SEEN.set(0)
    try:
        for _ in range(count):
            await asyncio.sleep(0)
            SEEN.set(SEEN.get() + 1)
            yield SEEN.get()
    finally:
        SEEN.reset(token)


@whoever_consumes
@pytest.mark.parametrize("source", [remembering, aremembering])
@of_any_kind
def test_a_generator_keeps_its_context_variables_inside_of_any_layer(
    consume: Consume, source: Any, kind: str, ledger: Ledger
) -> None:
    layers = [layer(kind, "", ledger), layer("generator", "", ledger)]
    assert consume(source, layers, take=3) == ["1", "2", "3"]
    assert SEEN.get() == 0


@whoever_consumes
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_context_variables_flow_both_ways_within_one_colour(consume: Consume, is_async: bool, ledger: Ledger) -> None:
    def outer(request: Invocation, call_next: Any) -> Iterator[Any]:
        SEEN.set(10)
        for item in call_next(request):
            yield item, SEEN.get()

    async def aouter(request: Invocation, call_next: Any) -> AsyncIterator[Any]:
        SEEN.set(10)
        async for item in call_next(request):
            yield item, SEEN.get()

    def source(count: int) -> Iterator[int]:
        SEEN.set(SEEN.get() + 1)
        yield SEEN.get()

    async def asource(count: int) -> AsyncIterator[int]:
        SEEN.set(SEEN.get() + 1)
        yield SEEN.get()

    def consuming() -> list[Any]:
        return consume(asource if is_async else source, [aouter if is_async else outer])

    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(consuming()))  # it leaves the variable set
    thread.start()
    thread.join()
    assert found == [[(11, 11)]]


async def test_many_streams_that_cross_twice_do_not_wait_for_each_others_threads(ledger: Ledger) -> None:
    """Each holds a thread of the streams' pool, and needs what stands inside of asynchronous code to run in one."""
    layers = [layer(kind, "", ledger) for kind in ("generator", "async generator", "generator", "async generator")]

    async def consume() -> list[Any]:
        async with pulling(counting("synchronous", ledger), layers, 20) as pulled:
            return await pulled.pull(20)

    async with asyncio.timeout(60):
        found = await asyncio.gather(*(consume() for _ in range(100)))
    assert all(page and page[0] == "1" for page in found)
