"""The beginning of every run: may this caller, and what does a plugin get to know of it?"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

from pluginhub import compositions, drivers, providers, tenancy
from pluginhub.conf import settings
from pluginhub.context import Run
from pluginhub.drivers import Node
from pluginhub.exceptions import Forbidden, HookError, NotReady, Unauthenticated
from pluginhub.plugins import Plugin
from pluginhub.runtimes import Runtime
from pluginhub.types import HOST, Caller, Tenant

__all__ = ["RUN", "Report", "allowed", "begin", "require"]

RUN = "pluginhub.run_target"
"""The permission to run, enqueue and subscribe."""

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
) -> Run:
    """Return a new run on a runtime that is held, with a deadline in `seconds`, or without one."""
    return Run(
        id=run_id or uuid.uuid4().hex,
        tenant=runtime.tenant,
        report=report,
        caller=caller,
        deadline=None if seconds is None else time.monotonic() + seconds,
        revision=runtime.revision,
        cursor=cursor,
        provide=providers.provide,
        invoke=lambda target, value, run: drivers.run(_linked(runtime, target), value, run),
        ainvoke=lambda target, value, run: _ainvoke(runtime, target, value, run),
    )


def _linked(runtime: Runtime, target: Any) -> Node:
    """Return what a plugin may call: another target by name, or its own child."""
    if isinstance(target, str):
        return runtime.target(target).node
    if isinstance(target, Plugin):
        return compositions.link(target)
    raise HookError(f"{target!r} cannot be called.", hint="Pass a target's name or a child plugin.")


async def _ainvoke(runtime: Runtime, target: Any, value: Any, run: Run) -> Any:
    if isinstance(target, str):
        await runtime.atarget(target)
    return await drivers.arun(_linked(runtime, target), value, run)
