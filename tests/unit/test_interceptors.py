"""The onion: order, values, errors, and what may be composed. In all colours: the same layers, turned.

What others pin down, and where it is pinned down here. `guards` is test_interceptor_guards.py, `flow` is
test_interceptor_flow.py, `http` is tests/integration/test_middleware_passages.py, `streams` the same with _streams.py.

| koa-compose, test/test.js                 | here                                                            |
|-------------------------------------------|-----------------------------------------------------------------|
| works                                     | test_layers_run_outside_in_then_inside_out                      |
| a composition can be called twice         | test_what_is_composed_may_be_called_again_and_at_the_same_time  |
| takes an array only, of functions only    | test_wrong_kinds_are_refused_when_composed                      |
| `next` gives a promise                    | guards: test_what_call_next_returns_is_a_coroutine              |
| zero middleware; with a `next`            | test_nothing_composed_calls_on                                  |
| `next` at the end of the stack            | test_layers_run_outside_in_then_inside_out                      |
| errors of middleware, also plain ones     | test_an_error_travels_outward_through_every_layer               |
| keeps the context                         | test_one_request_is_seen_by_all_that_pass_it_on                 |
| catches downstream errors                 | test_a_layer_may_replace_an_error_by_a_result                   |
| composes with compositions                | test_composed_interceptors_compose_again                        |
| `next` more than once                     | guards: test_calling_on_twice_is_an_error_that_names_the_layer  |
| a composition is a middleware             | test_composed_interceptors_compose_again                        |
| last return value                         | test_the_outermost_layer_has_the_last_word                      |
| the array is not affected, nor looked at  | test_the_list_is_fixed_when_composed                            |
| does not get stuck on the passed-in next  | test_the_core_is_called_with_the_request_only_and_once          |
| `next` must be a function (a fork's)      | test_what_is_no_function_is_refused_as_call_next                |

| pluggy, testing/test_multicall.py         | here                                                            |
|-------------------------------------------|-----------------------------------------------------------------|
| arguments, defaults, missing arguments    | test_wrong_kinds_are_refused_when_composed,                     |
|                                           | test_further_parameters_may_have_defaults                       |
| `None` is no result (ours: it is one)     | test_none_is_a_result_like_any_other                            |
| wrapper; old and new wrappers in order    | test_layers_run_outside_in_then_inside_out                      |
| wrapper that does not yield, or has none  | test_a_layer_may_answer_without_calling_on (ours: it may),      |
|                                           | test_wrong_kinds_are_refused_when_composed (generators)         |
| second yield, with clean-up               | guards: test_calling_on_twice_…, test_what_a_layer_cleans_up_…  |
| exceptions, also SystemExit, pass         | flow: test_base_exceptions_pass_and_every_layer_cleans_up       |
| a forced exception; chaining              | test_an_error_may_be_replaced_and_keeps_its_cause               |
| an inner wrapper fails while unwinding    | test_an_error_on_the_way_out_travels_outward                    |
| an outer wrapper suppresses that          | test_a_layer_may_replace_an_error_by_a_result                   |
| StopIteration passes wrappers             | flow: test_stop_iteration_…                                     |

| Starlette's BaseHTTPMiddleware, its limits and issues       | here                                          |
|-------------------------------------------------------------|-----------------------------------------------|
| context variables do not come back (#1081, #1525)           | flow: test_context_variables_flow_both_ways   |
| background work is cancelled or awaited (#919, #1438)       | http: test_what_a_view_starts_goes_on         |
| errors are lost, or come as a group (#1976, #2625)          | flow: test_an_error_is_itself_and_no_group    |
| streams are buffered, grow, or are read to their end (#1012)| streams: test_a_stream_is_not_read_by_…      |
| "No response returned" after a disconnect (#1634, #2516)    | http: test_a_client_that_leaves_…             |
| waits for a disconnect for ever (#1022)                     | http: test_a_response_may_be_thrown_away      |
| several layers read one body                                | http: test_layers_and_view_read_one_body      |
| a task and a queue for each layer                           | flow: test_no_layer_is_a_task                 |
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pluginhub import Plugin
from pluginhub.exceptions import InterceptorError
from pluginhub.interceptors import compose
from tests.unit.onion import Onion, asynchronous, in_all_colours, synchronous, tagging

ORDER = ["a in", "b in", "core", "b out", "a out"]


async def core(request: list[str]) -> list[str]:
    return [*request, "core"]


async def failing(request: Any) -> Any:
    raise KeyError("core")


class TestOrderAndValues:
    @in_all_colours
    def test_layers_run_outside_in_then_inside_out(self, onion: Onion) -> None:
        assert onion(tagging("a"), tagging("b"), core=core)([]) == ORDER

    @in_all_colours
    def test_nothing_composed_calls_on(self, onion: Onion) -> None:
        assert onion(core=core)([]) == ["core"]

    @in_all_colours
    def test_a_layer_may_change_what_goes_in(self, onion: Onion) -> None:
        async def double(request: int, call_next: Any) -> Any:
            return await call_next(request * 2)

        assert onion(double, double)(1) == 4

    @in_all_colours
    def test_one_request_is_seen_by_all_that_pass_it_on(self, onion: Onion) -> None:
        seen: list[object] = []

        async def look(request: object, call_next: Any) -> Any:
            seen.append(request)
            return await call_next(request)

        request = object()
        assert onion(look, look)(request) is request
        assert seen == [request, request]

    @in_all_colours
    def test_the_outermost_layer_has_the_last_word(self, onion: Onion) -> None:
        async def one(request: Any, call_next: Any) -> int:
            assert await call_next(request) == 2
            return 1

        async def two(request: Any, call_next: Any) -> int:
            assert await call_next(request) == 0
            return 2

        assert onion(one, two)(0) == 1

    @in_all_colours
    def test_a_layer_may_answer_without_calling_on(self, onion: Onion) -> None:
        async def mine(request: Any, call_next: Any) -> list[str]:
            return ["mine"]

        assert onion(tagging("a"), mine, core=failing)([]) == ["mine", "a out"]

    @in_all_colours
    @pytest.mark.parametrize("nothing", [None, 0, "", False])
    def test_none_is_a_result_like_any_other(self, onion: Onion, nothing: Any) -> None:
        async def through(request: Any, call_next: Any) -> Any:
            return await call_next(request)

        assert onion(through, through)(nothing) is nothing

    @in_all_colours
    def test_the_core_is_called_with_the_request_only_and_once(self, onion: Onion) -> None:
        calls: list[tuple[Any, ...]] = []

        async def counted(*arguments: Any) -> None:
            calls.append(arguments)

        async def through(request: Any, call_next: Any) -> Any:
            return await call_next(request)

        onion(through, core=counted)("it")
        assert calls == [("it",)]


class TestErrors:
    @in_all_colours
    def test_an_error_travels_outward_through_every_layer(self, onion: Onion) -> None:
        seen: list[str] = []
        with pytest.raises(KeyError, match="core"):
            onion(tagging("a", seen), tagging("b", seen), core=failing)([])
        assert seen == ["a in", "b in", "b out", "a out"]

    @in_all_colours
    def test_a_layer_may_replace_an_error_by_a_result(self, onion: Onion) -> None:
        async def mend(request: Any, call_next: Any) -> Any:
            try:
                return await call_next(request)
            except KeyError:
                return ["mended"]

        assert onion(tagging("a"), mend, tagging("b"), core=failing)([]) == ["mended", "a out"]

    @in_all_colours
    def test_a_layer_may_replace_a_result_by_an_error(self, onion: Onion) -> None:
        async def strict(request: Any, call_next: Any) -> Any:
            raise ValueError(await call_next(request))

        with pytest.raises(ValueError, match="1"):
            onion(strict)(1)

    @in_all_colours
    def test_an_error_may_be_replaced_and_keeps_its_cause(self, onion: Onion) -> None:
        async def other(request: Any, call_next: Any) -> Any:
            try:
                return await call_next(request)
            except KeyError as error:
                raise ValueError("other") from error

        with pytest.raises(ValueError, match="other") as caught:
            onion(tagging("a"), other, tagging("b"), core=failing)([])
        assert isinstance(caught.value.__cause__, KeyError)

    @in_all_colours
    def test_an_error_on_the_way_out_travels_outward(self, onion: Onion) -> None:
        seen: list[str] = []

        async def spoil(request: Any, call_next: Any) -> Any:
            await call_next(request)
            raise ValueError("spoilt")

        with pytest.raises(ValueError, match="spoilt"):
            onion(tagging("a", seen), spoil, tagging("b", seen))([])
        assert seen == ["a in", "b in", "b out", "a out"]

    @in_all_colours
    def test_an_error_before_calling_on_reaches_only_the_outer_layers(self, onion: Onion) -> None:
        seen: list[str] = []

        async def refuse(request: Any, call_next: Any) -> Any:
            raise ValueError("refused")

        with pytest.raises(ValueError, match="refused"):
            onion(tagging("a", seen), refuse, tagging("b", seen))([])
        assert seen == ["a in", "a out"]


class TestComposing:
    @pytest.mark.parametrize("first", [synchronous, asynchronous])
    @pytest.mark.parametrize("second", [synchronous, asynchronous])
    @pytest.mark.parametrize("inner", [synchronous, asynchronous])
    async def test_colours_mix_in_any_order(self, first: Any, second: Any, inner: Any) -> None:
        composed = compose(first(tagging("a")), second(tagging("b")), tagging("c"))
        assert await composed([], inner(core)) == [*ORDER[:2], "c in", "core", "c out", *ORDER[3:]]

    def test_composed_interceptors_compose_again(self) -> None:
        a, b = synchronous(tagging("a")), synchronous(tagging("b"))
        assert compose(compose(a, compose()), compose(compose(b)))([], synchronous(core)) == ORDER

    @pytest.mark.parametrize("first", [synchronous, asynchronous])
    async def test_composed_interceptors_of_any_colour_compose_again(self, first: Any) -> None:
        a, b = first(tagging("a")), tagging("b")
        assert await compose(compose(a, compose()), compose(compose(b)))([], core) == ORDER

    @pytest.mark.parametrize("colour", [synchronous, asynchronous])
    def test_a_composed_one_may_be_called_by_a_layer_with_its_own_call_next(self, colour: Any) -> None:
        inner = compose(colour(tagging("b")))

        async def outer(request: list[str], call_next: Any) -> Any:
            return [*(await inner([*request, "a in"], call_next)), "a out"]

        def sync_outer(request: list[str], call_next: Any) -> Any:
            return [*inner([*request, "a in"], call_next), "a out"]

        if colour is synchronous:
            assert compose(sync_outer)([], synchronous(core)) == ORDER
        else:
            assert asyncio.run(compose(outer)([], core)) == ORDER

    def test_what_wraps_a_composed_one_is_not_passed_over(self) -> None:
        inner = compose(synchronous(tagging("b")))

        @functools.wraps(inner)
        def outer(request: list[str], call_next: Any) -> Any:
            return [*inner([*request, "a in"], call_next), "a out"]

        assert compose(outer)([], synchronous(core)) == ORDER

    @in_all_colours
    def test_what_is_composed_may_be_called_again_and_at_the_same_time(self, onion: Onion) -> None:
        inside = threading.Barrier(2)

        async def meet(request: list[str]) -> list[str]:
            await core(request)
            inside.wait(10)
            return [*request, "core"]

        both = onion(tagging("a"), tagging("b"), core=meet)
        with ThreadPoolExecutor(2) as pool:
            for _ in range(2):
                assert list(pool.map(both, [[], []])) == [ORDER, ORDER]

    def test_plugins_with_an_intercept_hook_are_interceptors(self) -> None:
        class Shout(Plugin):
            def intercept(self, request: str, call_next: Callable[[str], str]) -> str:
                return f"{call_next(request)}!"

        assert compose(Shout())("hey", str.upper) == "HEY!"

    async def test_partial_functions_and_callable_objects_keep_their_colour(self) -> None:
        async def add(by: int, request: int, call_next: Any) -> Any:
            return await call_next(request + by)

        class Adding:
            async def __call__(self, request: int, call_next: Any) -> Any:
                return await call_next(request + 1)

        assert await compose(functools.partial(add, 2), Adding())(1, functools.partial(asyncio.sleep, 0)) == 4

    def test_further_parameters_may_have_defaults(self) -> None:
        def intercept(request: int, call_next: Any, by: int = 3) -> Any:
            return call_next(request + by)

        assert compose(intercept)(1, str) == "4"

    @pytest.mark.parametrize(
        "wrong",
        [
            *(
                pytest.param(each, id=f"{type(each).__name__}")
                for each in (1, "name", None, [], {}, object(), Plugin())
            ),
            pytest.param(type("Class", (), {}), id="class"),
            pytest.param(lambda: None, id="without parameters"),
            pytest.param(lambda request: request, id="one parameter"),
            pytest.param(lambda request, call_next, more: None, id="three parameters"),
        ],
    )
    def test_wrong_kinds_are_refused_when_composed(self, wrong: Any) -> None:
        with pytest.raises(InterceptorError):
            compose(synchronous(tagging("a")), wrong)

    def test_generators_are_refused_when_composed(self) -> None:
        def wrapper(request: Any, call_next: Any) -> Any:
            yield

        async def awrapper(request: Any, call_next: Any) -> Any:
            yield

        for each in (wrapper, awrapper):
            with pytest.raises(InterceptorError, match=f"{each.__name__} is a generator"):
                compose(each)

    @pytest.mark.parametrize("layer", [synchronous(tagging("a")), tagging("a")], ids=["sync", "async"])
    async def test_what_is_no_function_is_refused_as_call_next(self, layer: Any) -> None:
        with pytest.raises(InterceptorError, match="'it' is no call_next"):
            await maybe(compose(layer), "it")

    def test_synchronous_interceptors_refuse_an_asynchronous_call_next(self) -> None:
        with pytest.raises(InterceptorError, match=r"core .*is asynchronous"):
            compose(synchronous(tagging("a")))([], core)

    def test_the_list_is_fixed_when_composed(self) -> None:
        layers = [synchronous(tagging("a")), synchronous(tagging("b"))]
        given = list(layers)
        composed = compose(*layers)
        assert layers == given
        layers.clear()
        assert composed([], synchronous(core)) == ORDER

    def test_nothing_is_linked_when_called(self, monkeypatch: pytest.MonkeyPatch) -> None:
        composed = compose(synchronous(tagging("a")), tagging("b"))
        monkeypatch.setattr("pluginhub.interceptors.Layer", None)
        assert asyncio.run(composed([], core)) == ORDER
        assert asyncio.run(composed([], synchronous(core))) == ORDER


async def maybe(composed: Any, call_next: Any) -> Any:
    """Call a composed interceptor of either colour."""
    result = composed([], call_next)
    return await result if asyncio.iscoroutine(result) else result
