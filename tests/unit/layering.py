"""Streams without a hub: sources and interceptors of every kind that keep a ledger, and who consumes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from pluginhub.context import Run, Services
from pluginhub.layers import Interceptor, Invocation
from pluginhub.metrics import SUM, timings
from pluginhub.streaming.courses import Course
from pluginhub.streaming.generators import Looped, Pulled, Threaded, shut
from pluginhub.streaming.turning import synchronous
from pluginhub.streaming.wrapping import wrapped
from pluginhub.types import HOST

KINDS = ["generator", "async generator", "function", "coroutine function"]
COLOURS = ["synchronous", "asynchronous"]

Ledger = list[Any]
Hook = Callable[[Any], Any]
Consume = Callable[..., list[Any]]


def counting(colour: str, ledger: Ledger, *, fail_at: int = 0) -> Hook:
    """Return a `stream` hook that counts from 1 to its params, and notes what it yields and its end."""

    def source(count: int) -> Iterator[int]:
        try:
            for n in range(1, count + 1):
                if n == fail_at:
                    raise LookupError("the source failed")
                ledger.append(n)
                yield n
        finally:
            ledger.append("source")

    async def asource(count: int) -> AsyncIterator[int]:
        try:
            for n in range(1, count + 1):
                await asyncio.sleep(0)
                if n == fail_at:
                    raise LookupError("the source failed")
                ledger.append(n)
                yield n
        finally:
            await asyncio.sleep(0)
            ledger.append("source")

    return source if colour == "synchronous" else asource


def layer(kind: str, name: str, ledger: Ledger, *, most: int = 1000) -> Interceptor:
    """Return an interceptor that names itself on each item, passes on at most so many, and notes its end."""

    def passing(items: Any) -> Iterator[str]:
        try:
            for n, item in enumerate(items, 1):
                yield f"{name}{item}"
                if n == most:
                    return
        finally:
            ledger.append(name)

    async def apassing(items: Any) -> AsyncIterator[str]:
        try:
            n = 0
            async for item in items:
                n += 1
                yield f"{name}{item}"
                if n == most:
                    return
        finally:
            await asyncio.sleep(0)
            ledger.append(name)

    def generator(request: Invocation, call_next: Any) -> Iterator[str]:
        yield from passing(_forwarded(call_next(request)))

    async def agenerator(request: Invocation, call_next: Any) -> AsyncIterator[str]:
        inner = apassing(call_next(request))
        try:
            async for item in inner:
                yield item
        finally:
            await inner.aclose()  # type: ignore[attr-defined]

    def function(request: Invocation, call_next: Any) -> Iterator[str]:
        return passing(call_next(request))

    async def coroutine(request: Invocation, call_next: Any) -> AsyncIterator[str]:
        return apassing(await call_next(request))

    return dict(zip(KINDS, [generator, agenerator, function, coroutine], strict=True))[kind]


def _forwarded(items: Any) -> Iterator[Any]:
    # `yield from` closes what it delegates to; a plain loop, as most authors write it, does not.
    for item in items:  # noqa: UP028
        yield item


def services(name: str) -> Services:
    return Services(name=name, plugin=f"{name}-plugin")


def errors(name: str) -> float:
    """Return how often the plugin of a registration has failed, as its metrics say."""
    return timings(f"{name}-plugin").totals()[SUM + 1]


def opened(hook: Hook, layers: Sequence[Interceptor], params: Any, course: Course) -> Any:
    """Open a stream, as the hub does: in a thread."""
    named = [(each, services(f"layer-{n}")) for n, each in enumerate(layers)]
    request = Invocation("numbers", params, HOST, course.run.id)
    return wrapped(named, hook, services("source"), course).open(request)


def new_course() -> Course:
    return Course(Run(id="a-run"))


@contextmanager
def looping(hook: Hook, layers: Sequence[Interceptor], params: Any = 1000) -> Iterator[Iterator[Any]]:
    """Give the items to a `for` loop in this thread."""
    items = synchronous(opened(hook, layers, params, new_course()))
    try:
        yield items
    finally:
        shut(items)


@asynccontextmanager
async def pulling(hook: Hook, layers: Sequence[Interceptor], params: Any = 1000) -> AsyncIterator[Pulled]:
    """Give the items to who pulls them on a loop."""
    course = new_course()
    items = await asyncio.to_thread(opened, hook, layers, params, course)
    pulled: Pulled = Looped(items, course) if isinstance(items, AsyncIterator) else Threaded(items)
    try:
        yield pulled
    finally:
        await pulled.close()


def by_for(hook: Hook, layers: Sequence[Interceptor], params: Any = 1000, *, take: int = 1000) -> list[Any]:
    """Take so many items in a `for` loop, and leave."""
    found = []
    with looping(hook, layers, params) as items:
        for item in items:
            found.append(item)
            if len(found) == take:
                break
    return found


def by_pulls(hook: Hook, layers: Sequence[Interceptor], params: Any = 1000, *, take: int = 1000) -> list[Any]:
    """Pull so many items, and close."""

    async def consume() -> list[Any]:
        found: list[Any] = []
        async with pulling(hook, layers, params) as pulled:
            while len(found) < take and (page := await pulled.pull(take - len(found))):
                found += page
        return found

    return asyncio.run(consume())


whoever_consumes = pytest.mark.parametrize("consume", [by_for, by_pulls], ids=["for", "pulls"])
of_any_colour = pytest.mark.parametrize("colour", COLOURS)
of_any_kind = pytest.mark.parametrize("kind", KINDS)
