"""The onion, in both colours."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import pytest

from pluginhub import Plugin
from pluginhub.exceptions import InterceptorError
from pluginhub.interceptors import compose

Next = Callable[[Any], Any]
ANext = Callable[[Any], Awaitable[Any]]


def tagging(tag: str) -> Callable[[Any, Next], Any]:
    def intercept(request: list[str], call_next: Next) -> Any:
        return [*call_next([*request, f"{tag} in"]), f"{tag} out"]

    return intercept


def atagging(tag: str) -> Callable[[Any, ANext], Awaitable[Any]]:
    async def intercept(request: list[str], call_next: ANext) -> Any:
        return [*(await call_next([*request, f"{tag} in"])), f"{tag} out"]

    return intercept


ORDER = ["a in", "b in", "core", "b out", "a out"]


def core(request: list[str]) -> list[str]:
    return [*request, "core"]


async def acore(request: list[str]) -> list[str]:
    return [*request, "core"]


def test_layers_run_outside_in_then_inside_out() -> None:
    assert compose(tagging("a"), tagging("b"))([], core) == ORDER


@pytest.mark.parametrize("first", [tagging("a"), atagging("a")], ids=["sync", "async"])
@pytest.mark.parametrize("inner", [core, acore], ids=["sync core", "async core"])
async def test_colours_mix_in_any_order(first: Any, inner: Any) -> None:
    assert await compose(first, atagging("b"))([], inner) == ORDER
    assert await compose(atagging("a"), tagging("b"))([], inner) == ORDER


def test_nothing_composed_calls_on() -> None:
    assert compose()([], core) == ["core"]


def test_composed_interceptors_compose_again() -> None:
    assert compose(compose(tagging("a")), compose(tagging("b")))([], core) == ORDER


def test_plugins_with_an_intercept_hook_are_interceptors() -> None:
    class Shout(Plugin):
        def intercept(self, request: str, call_next: Next) -> str:
            return f"{call_next(request)}!"

    assert compose(Shout())("hey", str.upper) == "HEY!"


def test_a_layer_may_answer_without_calling_on() -> None:
    assert compose(lambda request, call_next: "mine")("x", lambda _: pytest.fail("called on")) == "mine"


def test_errors_travel_outward_and_may_be_replaced() -> None:
    def mend(request: Any, call_next: Next) -> Any:
        try:
            return call_next(request)
        except KeyError as error:
            raise ValueError("mended") from error

    def fail(request: Any) -> Any:
        raise KeyError(request)

    with pytest.raises(ValueError, match="mended"):
        compose(mend, tagging("b"))([], fail)


def test_calling_on_twice_is_an_error_that_names_the_interceptor() -> None:
    def greedy(request: Any, call_next: Next) -> Any:
        call_next(request)
        return call_next(request)

    with pytest.raises(InterceptorError, match=r"greedy called call_next twice"):
        compose(greedy)(1, lambda value: value)


async def test_calling_on_twice_is_an_error_in_asynchronous_code() -> None:
    async def greedy(request: Any, call_next: ANext) -> Any:
        await call_next(request)
        return await call_next(request)

    with pytest.raises(InterceptorError, match=r"greedy called call_next twice"):
        await compose(greedy)([], acore)


async def test_returning_before_call_next_settled_is_an_error() -> None:
    async def hasty(request: Any, call_next: ANext) -> Any:
        call_next(request)
        return "early"

    with pytest.raises(InterceptorError, match="returned before its call_next settled"):
        await compose(hasty)([], acore)


async def test_returning_while_a_task_still_calls_on_is_an_error() -> None:
    tasks = []

    async def slow(request: Any) -> Any:
        await asyncio.sleep(0.01)

    async def hasty(request: Any, call_next: ANext) -> Any:
        tasks.append(asyncio.ensure_future(call_next(request)))
        await asyncio.sleep(0)
        return "early"

    with pytest.raises(InterceptorError, match="returned before"):
        await compose(hasty)([], slow)
    await asyncio.gather(*tasks)


@pytest.mark.parametrize(
    "wrong", [1, "name", None, object(), Plugin(), type("Class", (), {}), lambda request: request, lambda: None]
)
def test_wrong_kinds_are_refused_when_composed(wrong: Any) -> None:
    with pytest.raises(InterceptorError):
        compose(tagging("a"), wrong)


def test_the_list_is_fixed_when_composed() -> None:
    layers = [tagging("a"), tagging("b")]
    composed = compose(*layers)
    layers.clear()
    assert composed([], core) == ORDER


def test_a_hundred_layers_do_not_exhaust_the_stack() -> None:
    assert len(compose(*[tagging(str(n)) for n in range(100)])([], core)) == 201


async def test_a_hundred_asynchronous_layers_do_not_exhaust_the_stack() -> None:
    assert len(await compose(*[atagging(str(n)) for n in range(100)])([], acore)) == 201


MARK: ContextVar[str] = ContextVar("MARK", default="unset")


def test_context_variables_flow_both_ways() -> None:
    def outer(request: Any, call_next: Next) -> Any:
        MARK.set("outer")
        return (call_next(request), MARK.get())

    def inner(request: Any) -> str:
        seen = MARK.get()
        MARK.set("inner")
        return seen

    assert compose(outer)(1, inner) == ("outer", "inner")


async def test_context_variables_flow_both_ways_in_asynchronous_code_and_no_layer_is_a_task() -> None:
    tasks = set()

    async def outer(request: Any, call_next: ANext) -> Any:
        tasks.add(asyncio.current_task())
        MARK.set("outer")
        return (await call_next(request), MARK.get())

    async def inner(request: Any) -> str:
        tasks.add(asyncio.current_task())
        seen = MARK.get()
        MARK.set("inner")
        return seen

    assert await compose(outer, outer)(1, inner) == (("outer", "inner"), "inner")
    assert tasks == {asyncio.current_task()}


async def test_cancellation_unwinds_innermost_first() -> None:
    order: list[str] = []

    def layer(name: str) -> Callable[[Any, ANext], Awaitable[Any]]:
        async def intercept(request: Any, call_next: ANext) -> Any:
            try:
                return await call_next(request)
            finally:
                order.append(name)

        return intercept

    async def forever(request: Any) -> None:
        await asyncio.sleep(60)

    task = asyncio.ensure_future(compose(layer("outer"), layer("inner"))(1, forever))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert order == ["inner", "outer"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_base_exceptions_pass_through(error: type[BaseException]) -> None:
    def stop(_: Any) -> Any:
        raise error

    with pytest.raises(error):
        compose(tagging("a"))([], stop)


async def test_a_synchronous_layer_around_asynchronous_code_serves_its_synchronous_parts_itself() -> None:
    threads: list[str] = []

    def sync_layer(request: Any, call_next: Next) -> Any:
        threads.append(threading.current_thread().name)
        return call_next(request)

    await compose(sync_layer, atagging("b"), sync_layer)([], core)
    assert len(set(threads)) == 1
    assert threads[0] != threading.current_thread().name
