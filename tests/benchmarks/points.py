"""What a point costs where nothing hangs, against calling its default: no database is asked, and none is there."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from pluginhub import loading, tenancy
from pluginhub.configuration import Configuration
from pluginhub.points import Point
from pluginhub.registry import registry
from pluginhub.runtimes import Runtime
from pluginhub.types import Tenant
from tests.benchmarks.timing import side_by_side
from tests.figures import Figure

__all__ = ["figures"]

COMMAND = "make bench"
LOADED = Tenant("points_benchmark")


def figures() -> Iterator[Figure]:
    """Measure in a tenant that is loaded, and without one."""
    point = Point("benchmark.nothing", input=int, output=int)
    try:
        with _loaded():
            yield from _figures(point, "A point with no targets", "≤ 1 µs")
        yield from _figures(point, "A point outside of any tenant", "≤ 1 µs")
    finally:
        del point._registry[point.name]


def _figures(point: Point, name: str, aim: str) -> Iterator[Figure]:
    times = side_by_side(
        {
            "default": lambda: _default(1),
            "run": lambda: point.run(1, default=_default),
            "adefault": lambda: _finished(_adefault(1)),
            "arun": lambda: _finished(point.arun(1, default=_adefault)),
        }
    )
    for colour, call, bare in (("synchronous", "run", "default"), ("asynchronous", "arun", "adefault")):
        cost = times[call] - times[bare]
        seen = f"{cost:.2f} µs more than its default alone ({times[call]:.2f} µs against {times[bare]:.2f} µs)"
        yield Figure(f"{name}, {colour}", aim, seen, COMMAND)


@contextmanager
def _loaded() -> Iterator[None]:
    """Be in a tenant that hung nothing anywhere."""
    registry._runtimes[LOADED.schema] = Runtime(LOADED, 1, Configuration(), loading.current())
    try:
        with tenancy.enter(LOADED):
            yield
    finally:
        del registry._runtimes[LOADED.schema]


def _default(value: int) -> int:
    return value


async def _adefault(value: int) -> int:
    return value


def _finished(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that waits for nothing: a loop would cost more than what is measured."""
    send: Callable[[None], Any] = work.send
    try:
        send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError("It waited.")
