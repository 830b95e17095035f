"""Running targets: the one way down from every edge, and the result's one way up.

Each run checks what its caller may, leases the tenant's runtime, gets a deadline, and passes the linked pipeline.
All of this acts on the current tenant (`tenancy.current`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from pluginhub import crossing, drivers, runs, streaming, tenancy
from pluginhub.conf import settings
from pluginhub.context import Run
from pluginhub.drivers import Node
from pluginhub.registry import registry
from pluginhub.runs import RUN, require
from pluginhub.runtimes import Runtime
from pluginhub.types import HOST, Caller

__all__ = [
    "RUN",
    "Outcome",
    "aperform",
    "arun",
    "arun_node",
    "listing",
    "perform",
    "require",
    "run",
    "run_node",
    "stream",
]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run gave, and which revision gave it."""

    result: Any
    run: str
    revision: int
    duration_ms: float


def run(target: str, value: Any = None, *, caller: Caller = HOST, timeout: float | None = None) -> Any:
    """Run a target of the current tenant and return its result.

    Synchronous plugins use the caller's thread, connection and transaction. `timeout` is in seconds
    (`RUN_SECONDS` when absent). Raises `UnknownTarget`, `NotReady`, `Forbidden`, `DeadlineExceeded`, or what a plugin
    raised, marked with its place.
    """
    return perform(target, value, caller=caller, timeout=timeout).result


async def arun(target: str, value: Any = None, *, caller: Caller = HOST, timeout: float | None = None) -> Any:
    """The asynchronous twin of `run`; synchronous plugins run in a pool thread, together."""
    return (await aperform(target, value, caller=caller, timeout=timeout)).result


def perform(
    target: str, value: Any, *, caller: Caller = HOST, timeout: float | None = None, run_id: str = ""
) -> Outcome:
    """Run a target and tell which run and revision it was, and how long it took."""
    seconds = _seconds(timeout)
    held = registry.hold(runs.allowed(caller), lambda runtime: runtime.links.entry(target), seconds)
    try:
        return run_node(held.runtime, held.way.node, value, caller=caller, seconds=seconds, run_id=run_id)
    finally:
        held.release()


async def aperform(
    target: str, value: Any, *, caller: Caller = HOST, timeout: float | None = None, run_id: str = ""
) -> Outcome:
    """The asynchronous twin of `perform`."""
    seconds = _seconds(timeout)
    held = await registry.ahold(runs.allowed(caller), lambda runtime: runtime.links.aentry(target), seconds)
    with crossing.holding(held.release):
        return await arun_node(held.runtime, held.way.node, value, caller=caller, seconds=seconds, run_id=run_id)


def run_node(runtime: Runtime, node: Node, value: Any, **about: Any) -> Outcome:
    """Run a pipeline of a runtime that is held: in the caller's thread, behind the fence, before the deadline."""
    one = runs.begin(runtime, **about)
    started = time.perf_counter()
    with tenancy.fenced():
        try:
            result = drivers.run(node, value, one)
        except BaseException as error:
            runs.end(one, error)
            raise
        runs.end(one)
    return _ended(result, one, started)


async def arun_node(runtime: Runtime, node: Node, value: Any, **about: Any) -> Outcome:
    """The asynchronous twin of `run_node`."""
    one = runs.begin(runtime, **about)
    started = time.perf_counter()
    with tenancy.fenced():
        try:
            result = await drivers.arun(node, value, one)
        except BaseException as error:
            await runs.aend(one, error)
            raise
        await runs.aend(one)
    return _ended(result, one, started)


def stream(name: str, params: Any = None, *, cursor: Any = None, caller: Caller = HOST) -> streaming.Stream:
    """Return a target's stream, for `for` in synchronous and `async for` in asynchronous code.

    Nothing is pulled before you ask; close it (or leave a `with`) to close the plugin's generator.
    """
    return streaming.Stream(name, params, cursor=cursor, caller=caller)


def listing(*, caller: Caller = HOST) -> dict[str, Any]:
    """Return what the current tenant has enabled: targets, streams, handlers and the revision.

    May read the tenant's revision: not on an event loop's thread.
    """
    runtime = registry.acquire(runs.allowed(caller))
    try:
        return {
            "targets": [
                {"name": name, "kind": kind, "title": title} for name, (kind, title) in runtime.offers.targets().items()
            ],
            "streams": _named(runtime.offers.streams()),
            "handlers": _named(runtime.offers.handlers()),
            "revision": runtime.revision,
        }
    finally:
        runtime.release()


def _seconds(timeout: float | None) -> float:
    return settings.RUN_SECONDS if timeout is None else timeout


def _ended(result: Any, one: Run, started: float) -> Outcome:
    return Outcome(result, one.id, one.revision or 0, round((time.perf_counter() - started) * 1000, 3))


def _named(titles: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "title": title} for name, title in titles.items()]
