"""What the onion costs: a layer, five of them against Starlette's own middleware class, and a site that has none."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from typing import Any

from django.conf import settings
from django.core.handlers.base import BaseHandler
from django.test import AsyncRequestFactory, RequestFactory
from django.test.utils import override_settings
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import Response

from pluginhub import drivers
from pluginhub.context import Run
from pluginhub.interceptors import layered
from pluginhub.pipelines import Call
from tests.benchmarks.timing import side_by_side
from tests.figures import Figure

__all__ = ["figures"]

COMMAND = "make bench"
LAYERS = 5
ASKED = 10


def figures() -> Iterator[Figure]:
    """Measure layers without a site, then the middleware around a site's views."""
    yield from _layer()
    yield _starlette()
    yield from _middleware()


async def _through(request: Any, call_next: Any) -> Any:
    return await call_next(request)


def _layer() -> Iterator[Figure]:
    def through(request: Any, call_next: Any) -> Any:
        return call_next(request)

    run = Run()
    core = Call(lambda value, _: value)
    layers = layered([through] * LAYERS, core)
    times = side_by_side({"layers": lambda: layers.call(1, run), "bare": lambda: core.call(1, run)})
    each = (times["layers"] - times["bare"]) / LAYERS
    yield Figure("An interceptor layer, guarded", "≤ 1 µs", f"{each:.2f} µs", COMMAND)

    async def acore(value: Any, _: Run) -> Any:
        return value

    abare = Call(acore)
    alayers, driver = layered([_through] * LAYERS, abare), drivers.AsyncDriver()
    times = side_by_side(
        {
            "layers": lambda: drivers.drive(alayers.run(1, run, driver)),
            "bare": lambda: drivers.drive(abare.run(1, run, driver)),
        }
    )
    each = (times["layers"] - times["bare"]) / LAYERS
    yield Figure("An asynchronous interceptor layer, guarded", "≤ 1 µs", f"{each:.2f} µs", COMMAND)


def _starlette() -> Figure:
    """Compare what five layers add to a trivial application, in turns on one loop."""
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
    response = Response(b"hello")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await response(scope, receive, send)

    async def answer(request: Any, _: Run) -> Any:
        return response

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        return None

    theirs: Any = app
    for _ in range(LAYERS):
        theirs = BaseHTTPMiddleware(theirs, dispatch=_through)
    run, driver = Run(), drivers.AsyncDriver()
    layers, bare = layered([_through] * LAYERS, Call(answer)), Call(answer)
    times = asyncio.run(
        _taking_turns(
            {
                "theirs": lambda: theirs(dict(scope), receive, send),
                "their app": lambda: app(dict(scope), receive, send),
                "ours": lambda: layers.run(1, run, driver),
                "our core": lambda: bare.run(1, run, driver),
            },
            calls=300,
        )
    )
    ours, added = times["ours"] - times["our core"], times["theirs"] - times["their app"]
    seen = f"{added / ours:.0f}× cheaper ({ours:.2f} µs against {added:.0f} µs)"
    return Figure("Five layers against five of Starlette's BaseHTTPMiddleware", "≥ 50× cheaper", seen, COMMAND)


def _middleware() -> Iterator[Figure]:
    """Compare the reference site's whole way to a view and back, with the middleware and without it, in turns."""
    from pluginhub.registry import registry
    from tests.storms.grounds import grounds

    with grounds(1) as ((tenant,), _), override_settings(ROOT_URLCONF="tests.integration.host_urls"):
        host = f"{tenant.schema}.localhost"
        plain, ours = _site(host, without=True), _site(host)
        yield _share("synchronous", _processor_times({"plain": plain, "ours": ours}, time.thread_time))
        aplain, aours = _asite(host, without=True), _asite(host)
        with asyncio.Runner() as runner:  # its own thread serves the synchronous middlewares, as in a server
            cases = {"plain": lambda: runner.run(aplain()), "ours": lambda: runner.run(aours())}
            times = _processor_times(cases, time.process_time)
        yield _share("asynchronous", times)
        registry.clear()
        registry.stop()


def _site(host: str, *, without: bool = False) -> Callable[[], object]:
    handler, factory = _handler(is_async=False, without=without), RequestFactory()

    def ask() -> None:
        for _ in range(ASKED):
            response: Any = handler.get_response(factory.get("/page/", headers={"Host": host}))
        assert response.content == (b"None" if without else b"storm0")

    return ask


def _asite(host: str, *, without: bool = False) -> Callable[[], Coroutine[Any, Any, None]]:
    handler, factory = _handler(is_async=True, without=without), AsyncRequestFactory()

    async def ask() -> None:
        for _ in range(ASKED):
            request = factory.get("/apage/")
            request.META["HTTP_HOST"] = host  # the factory has sent one already
            response: Any = await handler.get_response_async(request)
        assert response.content == (b"None" if without else b"storm0")

    return ask


def _processor_times(
    cases: Mapping[str, Callable[[], object]], clock: Callable[[], float], rounds: int = 201
) -> dict[str, float]:
    """Return the microseconds of processor that a request takes in the best tenth of rounds, where least disturbs."""
    order = random.Random(1)
    rates: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name in order.sample(sorted(cases), len(cases)):
            started = clock()
            cases[name]()
            rates[name].append((clock() - started) / ASKED * 1e6)
    return {name: statistics.quantiles(times, n=10)[0] for name, times in rates.items()}


def _handler(*, is_async: bool, without: bool) -> BaseHandler:
    left_out = {"pluginhub.middleware.PluginMiddleware"} if without else set()
    chosen = [each for each in settings.MIDDLEWARE if each not in left_out]
    handler = BaseHandler()
    with override_settings(MIDDLEWARE=chosen):
        handler.load_middleware(is_async=is_async)
    return handler


def _share(colour: str, times: Mapping[str, float]) -> Figure:
    name = f"PluginMiddleware with no interceptors, {colour}, against the site without it"
    share, added = times["plain"] / times["ours"], times["ours"] - times["plain"]
    return Figure(
        name, "≥ 0.98", f"{share:.3f} of its throughput ({added:+.1f} µs to {times['plain']:.0f} µs)", COMMAND
    )


async def _taking_turns(
    cases: Mapping[str, Callable[[], Awaitable[object]]], *, calls: int, rounds: int = 15
) -> dict[str, float]:
    """Return the median microseconds a call of each case, as `side_by_side` does."""
    rates: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, call in cases.items():
            started = time.perf_counter()
            for _ in range(calls):
                await call()
            rates[name].append((time.perf_counter() - started) / calls * 1e6)
    return {name: statistics.median(times) for name, times in rates.items()}
