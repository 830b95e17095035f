"""What a result from the cache costs, against asking Django's cache for the same value, and against no cache."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from statistics import median
from typing import Any

from django.core.cache import cache
from django.test.utils import override_settings

from pluginhub import Context, Plugin, compositions, crossing, drivers
from pluginhub.caching import Terms, kept
from pluginhub.context import Run, Services
from pluginhub.drivers import Node
from pluginhub.types import Tenant
from tests import services
from tests.benchmarks.timing import side_by_side
from tests.figures import Figure

COMMAND = "make bench"
VALUE = {"from": "FRA", "to": "JFK", "pieces": [{"weight": 12.5, "kind": "box"}] * 3}
RESULT = {"price": 120.5, "currency": "EUR", "lines": [{"code": "FUEL", "amount": 12.5}] * 3}
KEY = "pluginhub-benchmark"
MEMORY = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "benchmark"}}


class Quote(Plugin):
    def process(self, value: Any, context: Context) -> Any:
        return RESULT


class AsyncQuote(Plugin):
    async def process(self, value: Any, context: Context) -> Any:
        return RESULT


def figures() -> Iterator[Figure]:
    with services.running():
        yield _hit("Valkey", 500, "≤ 2×")
        yield _crossed()
    with override_settings(CACHES=MEMORY):
        yield _hit("in memory", 5_000, "≤ 4×")
        yield _against_nothing()


def _linked(plugin: Plugin, seconds: float | None = 600) -> Node:
    mine = Services(name="quote", plugin="quote", tenant=Tenant("benchmark"))
    terms = Terms(seconds=seconds, code="1", config={"a": 1})
    return kept(compositions.link(plugin, mine), plugin, mine, terms)


def _hit(where: str, calls: int, aim: str) -> Figure:
    node, run = _linked(Quote()), Run(id="run")
    cache.set(KEY, ("result", RESULT), 600)
    cases: dict[str, Callable[[], object]] = {"hit": lambda: node.call(VALUE, run), "plain": lambda: cache.get(KEY)}
    times = side_by_side(cases, calls=calls, rounds=9)
    seen = f"{times['hit'] / times['plain']:.2f}× ({times['hit']:.0f} µs against {times['plain']:.0f} µs)"
    return Figure(f"Cached hit, {where}, against a plain cache.get of the same", aim, seen, COMMAND)


def _crossed() -> Figure:
    node = _linked(AsyncQuote())

    async def measure() -> tuple[float, float]:
        hits, plains = [], []
        for _ in range(1_500):  # by turns: a noisy machine disturbs them alike
            hits.append(await _microseconds(drivers.arun(node, VALUE, Run(id="run"), anywhere=True)))
            plains.append(await _microseconds(crossing.in_thread(cache.get, KEY)))
        return median(hits), median(plains)

    hit, plain = asyncio.run(measure())
    seen = f"{hit / plain:.2f}× ({hit:.0f} µs against {plain:.0f} µs)"
    return Figure("The same from asynchronous code, against cache.get in a thread", "≤ 2×", seen, COMMAND)


async def _microseconds(call: Awaitable[Any]) -> float:
    started = time.perf_counter()
    await call
    return (time.perf_counter() - started) * 1e6


def _against_nothing() -> Figure:
    run, hit, bare, passing = Run(id="run"), _linked(Quote()), _linked(Quote(), None), {1: VALUE}
    cases: dict[str, Callable[[], object]] = {
        "hit": lambda: hit.call(VALUE, run),
        "passing": lambda: hit.call(passing, run),
        "bare": lambda: bare.call(VALUE, run),
    }
    times = side_by_side(cases, calls=5_000, rounds=9)
    seen = ", ".join(f"{name} {micro:.1f} µs" for name, micro in times.items())
    return Figure("A hit in memory, an input that passes by, and no cache at all, around a plugin that does nothing",
                  "no cache: nothing", seen, COMMAND)  # fmt: skip
