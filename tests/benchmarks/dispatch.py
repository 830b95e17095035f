"""What a chain costs, against pluggy and a hand-written loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from typing import Any

import pluggy
from stevedore import ExtensionManager
from stevedore.extension import Extension

from pluginhub import Context, Plugin, chains
from pluginhub.chains import Chain
from pluginhub.context import Run
from pluginhub.metrics import timings
from tests.benchmarks.timing import side_by_side
from tests.figures import Figure

COMMAND = "make bench"


class Add(Plugin):
    def process(self, value: int, context: Context) -> int:
        return value + 1


class SlowAdd(Plugin):
    def process(self, value: int, context: Context) -> int:
        return value + 1


def figures() -> Iterator[Figure]:
    yield from _chain()
    yield _hops()


def _chain() -> Iterator[Figure]:
    node, run = Chain([Add() for _ in range(5)]).node, Run()
    call = _pluggy()
    steps, timing = [Add().process for _ in range(5)], timings("loop")

    def loop() -> int:
        value = 1
        for step in steps:
            started = time.perf_counter()
            value = step(value, None)  # type: ignore[arg-type]
            timing.observe(time.perf_counter() - started)
        return value

    stevedore = _stevedore()
    times = side_by_side({"chain": lambda: node.call(1, run), "pluggy": call, "stevedore": stevedore, "loop": loop})
    yield _ratio(
        "Five-step synchronous chain, metrics on, against pluggy calling five bare hooks", times, "pluggy", 1.0
    )
    yield _ratio("The same chain against stevedore mapping five bare extensions", times, "stevedore", 1.0)
    yield _ratio("The same chain against a hand-written loop with the same metrics", times, "loop", 1.3)


def _ratio(name: str, times: dict[str, float], peer: str, aim: float) -> Figure:
    value = f"{times['chain'] / times[peer]:.2f}× ({times['chain']:.2f} µs against {times[peer]:.2f} µs)"
    return Figure(name, f"≤ {aim:g}×", value, COMMAND)


def _pluggy() -> Any:
    spec, implementation = pluggy.HookspecMarker("bench"), pluggy.HookimplMarker("bench")

    class Spec:
        @spec
        def process(self, value: int, context: object) -> int: ...  # type: ignore[empty-body]

    class Hook:
        @implementation
        def process(self, value: int, context: object) -> int:
            return value + 1

    manager = pluggy.PluginManager("bench")
    manager.add_hookspecs(Spec)
    for number in range(5):
        manager.register(Hook(), name=str(number))
    return lambda: manager.hook.process(value=1, context=None)


def _stevedore() -> Any:
    """Return what calls five extensions; each gets the same value, for stevedore passes no results along."""

    class Hook:
        def process(self, value: int, context: object) -> int:
            return value + 1

    point = EntryPoint("hook", "nowhere:Hook", "bench")
    extensions = [Extension(str(number), point, Hook, Hook()) for number in range(5)]
    manager = ExtensionManager.make_test_instance(extensions)
    return lambda: manager.map_method("process", 1, None)


def _hops() -> Figure:
    steps = [SlowAdd() for _ in range(5)]

    async def measure() -> tuple[float, float]:
        together, apart = Chain(steps), [Chain([step]) for step in steps]
        once = each = 0.0
        for _ in range(300):
            started = time.perf_counter()
            await together.aexecute(1)
            once += time.perf_counter() - started
            started = time.perf_counter()
            for chain in apart:
                await chain.aexecute(1)
            each += time.perf_counter() - started
        return once, each

    asyncio.run(chains.aexecute(steps, 1))
    once, each = asyncio.run(measure())
    name = "Five synchronous plugins in asynchronous code: one thread hop against a hop a step"
    return Figure(name, "≥ 4× faster", f"{each / once:.1f}× faster", COMMAND)
