"""Streaming responses: iterated and closed in the tenant, after the middleware itself is long done.

Nothing is read ahead, and what a layer put in place of `streaming_content` is what is iterated. Where interceptors
wrapped the request, their runtime is held until the response is closed: the body may be theirs.
"""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from django.http import StreamingHttpResponse

from pluginhub import crossing, tenancy
from pluginhub.types import Tenant

__all__ = ["keep"]

Release = Callable[[], None]


def keep(response: StreamingHttpResponse, tenant: Tenant, release: Release | None = None) -> None:
    """Let a response's body be iterated and closed in a tenant; `release` is called once, when it is closed or gone."""
    released = weakref.finalize(response, release) if release is not None else _nothing
    if getattr(response, "file_to_stream", None) is None:  # else the server may send the file by itself
        # What was put in, as it is: `streaming_content` would give it in a wrapping that keeps the response alive.
        source = response._iterator  # type: ignore[attr-defined]
        response.streaming_content = (_asteps if response.is_async else _steps)(source, tenant)
    # Django closes what was put in, in that order; these would run in no tenant.
    closers = response._resource_closers  # type: ignore[attr-defined]
    closers[:] = [partial(_close, list(closers), tenant, released)]


def _steps(source: Iterator[Any], tenant: Tenant) -> Iterator[Any]:
    while True:
        with _inside(tenant):
            try:
                part = next(source)
            except StopIteration:
                return
        yield part


async def _asteps(source: Any, tenant: Tenant) -> AsyncIterator[Any]:
    try:
        while True:
            with tenancy.enter(tenant):
                try:
                    part = await anext(source)
                except StopAsyncIteration:
                    return
            yield part
    finally:
        if hasattr(source, "aclose"):
            with tenancy.enter(tenant):
                await source.aclose()


def _close(closers: list[Callable[[], object]], tenant: Tenant, released: Callable[[], object]) -> None:
    try:
        with _inside(tenant):
            for closer in closers:
                try:
                    closer()
                except Exception:  # as Django does: the others still close
                    pass
    finally:
        released()


def _inside(tenant: Tenant) -> AbstractContextManager[Tenant]:
    """Be in the tenant, with this thread's connection unless it is an event loop's, which serves no query."""
    return tenancy.visit(tenant) if crossing.running_loop() is None else tenancy.enter(tenant)


def _nothing() -> None:
    return None
