"""The beginning of every run, and its end: may this caller, what does a plugin get to know, and what must be closed?"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from pluginhub import compositions, crossing, drivers, providers, tenancy
from pluginhub.conf import settings
from pluginhub.context import Run
from pluginhub.drivers import Colour, Driver, Node
from pluginhub.exceptions import Forbidden, HookError, NotReady, Unauthenticated
from pluginhub.handoffs import Turnstile
from pluginhub.pipelines import Spanned
from pluginhub.plugins import Plugin
from pluginhub.presence import presence
from pluginhub.runtimes import Runtime
from pluginhub.tracing import Trace
from pluginhub.types import HOST, Caller, Tenant
from pluginhub.ways import Linked

__all__ = ["RUN", "TRACE", "Report", "aend", "allowed", "begin", "end", "ending", "require"]

RUN = "pluginhub.run_target"
"""The permission to run, enqueue and subscribe."""

TRACE = "pluginhub.view_traces"
"""The permission to see what each step of one's run took and gave."""

Report = Callable[[int, int | None, str], None]


def require(caller: Caller, permission: str) -> None:
    """Raise unless the caller has a permission: `Unauthenticated` for strangers, else `Forbidden`."""
    if caller.may(permission):
        return
    if caller.user_id is None and caller.edge != "host":
        raise Unauthenticated(
            "This needs a user.", hint="Log in, or send 'Authorization: Bearer …' with an access token."
        )
    raise Forbidden(f"{caller.name} lacks the permission {permission!r}.", hint="An administrator can grant it.")


def allowed(caller: Caller) -> Tenant:
    """Return the current tenant where the caller may run its targets. Raises `NotReady` in safe mode."""
    if settings.SAFE_MODE:
        raise NotReady("PluginHub runs in safe mode: no plugin is run.", hint="Unset PLUGINHUB_SAFE_MODE and restart.")
    if not caller.trusted:
        require(caller, RUN)
    return tenancy.current()


def begin(
    runtime: Runtime,
    *,
    caller: Caller = HOST,
    seconds: float | None = None,
    run_id: str = "",
    cursor: Any = None,
    report: Report | None = None,
    trace: Trace | None = None,
) -> Run:
    """Return a new run on a runtime that is held, with a deadline in `seconds`, or without one.

    End it, on every path, before the runtime is released: by `end`, `aend` or `ending`.
    """
    return Run(
        id=run_id or uuid.uuid4().hex,
        tenant=runtime.tenant,
        report=report,
        trace=trace,
        caller=caller,
        deadline=None if seconds is None else time.monotonic() + seconds,
        revision=runtime.revision,
        cursor=cursor,
        provide=runtime.instances.services.in_run,
        invoke=lambda target, value, run: drivers.run(_linked(runtime, target), value, run),
        ainvoke=lambda target, value, run: _ainvoke(runtime, target, value, run),
    )


def end(run: Run, error: BaseException | None = None) -> None:
    """End a run's services, if any was asked for; `error` is what ended the run. Again is harmless."""
    services = providers.ended(run)
    if services is not None:
        services.close(error)


async def aend(run: Run, error: BaseException | None = None) -> None:
    """The asynchronous twin of `end`: what ends does so in a pool thread, after those that the run still is in."""
    services = providers.ended(run)
    if services is not None and not crossing.after_hops(partial(services.close, error)):
        await crossing.in_thread(services.close, error)


@contextmanager
def ending(run: Run) -> Iterator[Run]:
    """End a run with the block."""
    try:
        yield run
    except BaseException as error:
        end(run, error)
        raise
    end(run)


def _linked(runtime: Runtime, target: Any) -> Node:
    """Return what a plugin may call: another target by name, or its own child."""
    if isinstance(target, str):
        return Spanned("call", target, _Counted.around(runtime.links.target(target)))
    if isinstance(target, Plugin):
        return compositions.link(target)
    raise HookError(f"{target!r} cannot be called.", hint="Pass a target's name or a child plugin.")


class _Counted(Node):
    """A target that a plugin calls by name: its run is counted where state may move, and never waits for that."""

    __slots__ = ("_inner", "_turnstiles")

    def __init__(self, inner: Node, turnstiles: Sequence[Turnstile]) -> None:
        super().__init__(Colour.MIXED)
        self._inner = inner
        self._turnstiles = turnstiles

    @classmethod
    def around(cls, linked: Linked) -> Node:
        turnstiles = linked.entry.turnstiles
        return cls(linked.node, turnstiles) if turnstiles else linked.node

    async def run(self, value: Any, run: Run, driver: Driver) -> Any:
        for turnstile in self._turnstiles:
            presence.lost += not turnstile.go_on()
        try:
            return await driver.run(self._inner, value, run)
        finally:
            for turnstile in self._turnstiles:
                turnstile.leave()


async def _ainvoke(runtime: Runtime, target: Any, value: Any, run: Run) -> Any:
    if isinstance(target, str):
        await runtime.links.atarget(target)
    return await drivers.arun(_linked(runtime, target), value, run)
