"""A stream in the host's own code: `for data in stream`, or `async for data in stream`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, Self

from pluginhub import crossing, tenancy
from pluginhub.streaming.generators import END, ashut, shut, step
from pluginhub.streaming.opened import Opened, item_of, open_generator
from pluginhub.streaming.progress import follow, is_job
from pluginhub.streaming.sources import open  # noqa: A004
from pluginhub.streaming.turning import synchronous
from pluginhub.types import HOST, Caller, Item, Tenant

__all__ = ["Stream"]


class Stream:
    """The data of a stream's items, in one colour or the other.

    It opens at the first step and closes when it has ended, failed, or been let go of: by `break`, `close`, `aclose`
    or the end of a `with` block. `cursor` is that of the last item: where another stream may resume.

    Synchronous steps run in the caller's thread, connection and transaction, in the tenant that was current when the
    stream was made, whatever the caller does between them.
    """

    def __init__(self, name: str, params: Any = None, *, cursor: Any = None, caller: Caller = HOST) -> None:
        self.cursor = cursor
        self._order = _Order(tenancy.current(), name, params, cursor, caller)
        self._steps: Iterator[Item] | None = None
        self._asteps: AsyncIterator[Item] | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        if self._steps is None:
            self._steps = _walk(self._order)
        item = next(self._steps)
        self.cursor = item.cursor
        return item.data

    def close(self) -> None:
        """Close the stream, so that its generator's `finally` blocks run."""
        if self._steps is not None:
            self._steps.close()  # type: ignore[attr-defined]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if self._asteps is None:
            self._asteps = _awalk(self._order)
        item = await anext(self._asteps)
        self.cursor = item.cursor
        return item.data

    async def aclose(self) -> None:
        """The asynchronous twin of `close`."""
        if self._asteps is not None:
            await ashut(self._asteps)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


@dataclass(frozen=True, slots=True)
class _Order:
    tenant: Tenant
    name: str
    params: Any
    cursor: Any
    caller: Caller


# Neither refers to its Stream: so a stream let go of by `break` is closed at once, not when cycles are collected.


def _walk(order: _Order) -> Iterator[Item]:
    with tenancy.visit(order.tenant):
        opened = _begin(order)
        items = synchronous(opened.generator)
    try:
        while True:
            with tenancy.visit(order.tenant):
                item = _next(opened, items)
            if item is END:
                return
            yield item_of(item)
    finally:
        try:
            with tenancy.visit(order.tenant):
                shut(items)
        finally:
            opened.release()


async def _awalk(order: _Order) -> AsyncIterator[Item]:
    with tenancy.enter(order.tenant):
        source = await open(order.name, order.params, cursor=order.cursor, caller=order.caller)
    try:
        while page := await source.pull():
            yield page[0]
    finally:
        await source.close()


def _begin(order: _Order) -> Opened:
    if is_job(order.name):
        return crossing.on_loop(lambda _: follow(order.tenant, order.name, order.cursor, order.caller))
    return open_generator(order.tenant, order.name, order.params, order.cursor, order.caller)


def _next(opened: Opened, items: Iterator[Any]) -> Any:
    try:
        return step(items)
    except Exception as error:
        opened.failed(error)
        raise
