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
from pluginhub.pipelines import Spanned
from pluginhub.registry import registry
from pluginhub.runs import RUN, TRACE, require
from pluginhub.runtimes import Runtime
from pluginhub.tracing import Trace, attach
from pluginhub.types import HOST, Caller

__all__ = [
    "RUN",
    "TRACE",
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
    trace: list[dict[str, Any]] | None = None
    """What each step took and gave, where that was asked for: spans as JSON, see `tracing`."""


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
    target: str,
    value: Any,
    *,
    caller: Caller = HOST,
    timeout: float | None = None,
    run_id: str = "",
    trace: bool = False,
) -> Outcome:
    """Run a target and tell which run and revision it was, how long it took, and with `trace` what each step did.

    A trace needs the permission `pluginhub.view_traces`; where the run fails, its error carries it.
    """
    seconds, traced = _seconds(timeout), _trace(caller, trace)
    held = registry.hold(runs.allowed(caller), lambda runtime: runtime.links.entry(target), seconds)
    try:
        node = _named(target, held.way.node, traced)
        return run_node(held.runtime, node, value, caller=caller, seconds=seconds, run_id=run_id, trace=traced)
    finally:
        held.release()


async def aperform(
    target: str,
    value: Any,
    *,
    caller: Caller = HOST,
    timeout: float | None = None,
    run_id: str = "",
    trace: bool = False,
) -> Outcome:
    """The asynchronous twin of `perform`."""
    seconds, traced = _seconds(timeout), _trace(caller, trace)
    held = await registry.ahold(runs.allowed(caller), lambda runtime: runtime.links.aentry(target), seconds)
    with crossing.holding(held.release):
        node = _named(target, held.way.node, traced)
        return await arun_node(held.runtime, node, value, caller=caller, seconds=seconds, run_id=run_id, trace=traced)


def run_node(runtime: Runtime, node: Node, value: Any, **about: Any) -> Outcome:
    """Run a pipeline of a runtime that is held: in the caller's thread, behind the fence, before the deadline."""
    one = runs.begin(runtime, **about)
    started = time.perf_counter()
    with tenancy.fenced():
        try:
            result = drivers.run(node, value, one)
        except BaseException as error:
            _carry(error, one, runtime)
            runs.end(one, error)
            raise
        runs.end(one)
    return _ended(result, one, runtime, started)


async def arun_node(runtime: Runtime, node: Node, value: Any, **about: Any) -> Outcome:
    """The asynchronous twin of `run_node`."""
    one = runs.begin(runtime, **about)
    started = time.perf_counter()
    with tenancy.fenced():
        try:
            result = await drivers.arun(node, value, one)
        except BaseException as error:
            _carry(error, one, runtime)
            await runs.aend(one, error)
            raise
        await runs.aend(one)
    return _ended(result, one, runtime, started)


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
            "streams": _titled(runtime.offers.streams()),
            "handlers": _titled(runtime.offers.handlers()),
            "revision": runtime.revision,
        }
    finally:
        runtime.release()


def _seconds(timeout: float | None) -> float:
    return settings.RUN_SECONDS if timeout is None else timeout


def _ended(result: Any, one: Run, runtime: Runtime, started: float) -> Outcome:
    milliseconds = round((time.perf_counter() - started) * 1000, 3)
    return Outcome(result, one.id, one.revision or 0, milliseconds, _shown(one, runtime))


def _trace(caller: Caller, is_asked: bool) -> Trace | None:
    if not is_asked:
        return None
    require(caller, TRACE)
    return Trace()


def _named(target: str, node: Node, trace: Trace | None) -> Node:
    """Return the node under its target's name, where somebody is going to read that."""
    return node if trace is None else Spanned("target", target, node)


def _carry(error: BaseException, one: Run, runtime: Runtime) -> None:
    shown = _shown(one, runtime)
    if shown is not None:
        attach(error, one, shown)


def _shown(one: Run, runtime: Runtime) -> list[dict[str, Any]] | None:
    """Return a run's trace as JSON, without the tenant's secrets."""
    return None if one.trace is None else one.trace.data(runtime.secrets())


def _titled(titles: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "title": title} for name, title in titles.items()]
