"""A job as a stream: its progress, as far as anyone looks, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from pluginhub import jobs, tenancy
from pluginhub.streaming.opened import Opened
from pluginhub.types import Caller, Item, Tenant

__all__ = ["PREFIX", "follow", "is_job"]

PREFIX = "job:"
"""Stands before a job's id where a stream's name is asked for."""

LOOK_SECONDS = 0.3

_SEEN = ("status", "attempt", "cancel_requested", "progress")


def is_job(name: str) -> bool:
    return name.startswith(PREFIX)


async def follow(tenant: Tenant, name: str, cursor: Any, caller: Caller) -> Opened:
    """Open a job's stream. Each item is what `jobs.status` says, whenever that has changed; the last is its end.

    The cursor is what was seen. States between two looks or two pulls are passed over. Raises `NotFound`, also for
    a job that the caller may not see.
    """
    job = name.removeprefix(PREFIX)
    await _look(tenant, job, caller)
    return Opened(name, tenant, _changes(tenant, job, cursor, caller))


async def _changes(tenant: Tenant, job: str, cursor: Any, caller: Caller) -> AsyncIterator[Item]:
    while True:
        state = await _look(tenant, job, caller)
        seen = [state[key] for key in _SEEN]
        if seen != cursor:
            cursor = seen
            yield Item(state, cursor=seen)
        if state["ended"]:
            return
        await asyncio.sleep(LOOK_SECONDS)


async def _look(tenant: Tenant, job: str, caller: Caller) -> dict[str, Any]:
    return await tenancy.agate(tenant, jobs.status, job, caller)
