"""Plugins whose streams tell on themselves: what they were pulled for, where, and whether they were closed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

from django.contrib.auth.models import User
from pydantic import BaseModel, Field

from pluginhub import Context, Item, Plugin, Refuse
from pluginhub.tenancy import current_or_none

__all__ = ["PLUGINS", "Asynchronous", "Synchronous", "ledger", "sample"]

ledger: list[Any] = []
"""Each item as it is made, then `closed`. Kept in this process; the stored value `closed` counts in any."""


class Counted(BaseModel):
    count: int = Field(5, ge=0)
    fail_at: int | None = None
    how: Literal["raise", "refuse", "exit", "unspeakable"] = "raise"
    pause: float = 0.0
    size: int = Field(0, ge=0, description="characters of padding in each item")


class Synchronous(Plugin):
    """Count, in threads."""

    Params = Counted

    def stream(self, params: Counted, context: Context) -> Iterator[Item]:
        try:
            for n in _numbers(params, context):
                if params.pause:
                    time.sleep(params.pause)
                yield _item(n, params, User.objects.get().username)
        finally:
            _note("closed")
            context.storage.increment("closed")


class Asynchronous(Plugin):
    """Count, on the loop."""

    Params = Counted

    async def stream(self, params: Counted, context: Context) -> AsyncIterator[Item]:
        try:
            who = await context.storage.aget("who")
            for n in _numbers(params, context):
                await asyncio.sleep(params.pause)
                yield _item(n, params, who)
        finally:
            _note("closed")
            await context.storage.aincrement("closed")


class Asking(Plugin):
    """Ask for each item anew whose it is, on the loop."""

    async def stream(self, params: Any, context: Context) -> AsyncIterator[Item]:
        n = 0
        while True:
            n += 1
            yield Item({"n": n, "who": await context.storage.aget("who")}, cursor=n)


class Endless(Plugin):
    """Never wait and never end: what a careless author writes."""

    async def stream(self, params: Any, context: Context) -> AsyncIterator[Item]:
        n = context.cursor or 0
        while True:
            n += 1
            yield Item(sample(n), cursor=n)


class EndlessThreaded(Plugin):
    """The same, pulled in threads."""

    def stream(self, params: Any, context: Context) -> Iterator[Item]:
        n = context.cursor or 0
        while True:
            n += 1
            yield Item(sample(n), cursor=n)


class Plain(Plugin):
    """Give a list in place of a generator."""

    def stream(self, params: Any, context: Context) -> list[Any]:
        return [params, context.cursor]


class Nothing(Plugin):
    """Forget to yield."""

    def stream(self, params: Any, context: Context) -> None:
        return None


class WhoAmI(Plugin):
    """Name the tenant by its one user."""

    def process(self, value: Any, context: Context) -> dict[str, Any]:
        return {"value": value, "tenant": context.tenant.schema, "user": User.objects.get().username}


PLUGINS = {
    "synchronous": "tests.streamers:Synchronous",
    "asynchronous": "tests.streamers:Asynchronous",
    "asking": "tests.streamers:Asking",
    "endless": "tests.streamers:Endless",
    "endless-threaded": "tests.streamers:EndlessThreaded",
    "plain": "tests.streamers:Plain",
    "nothing": "tests.streamers:Nothing",
    "who-am-i": "tests.streamers:WhoAmI",
}


def sample(n: int) -> dict[str, Any]:
    """Return an item of the size of an airport."""
    return {"n": n, "icao": "LSZH", "name": "Zurich Airport", "city": "Zurich", "country": "CH", "tz": "Europe/Zurich"}


def _numbers(params: Counted, context: Context) -> Iterator[int]:
    for n in range((context.cursor or 0) + 1, params.count + 1):
        _note(n)
        if n == params.fail_at:
            _fail(params.how)
        yield n


def _fail(how: str) -> None:
    if how == "refuse":
        raise Refuse("No more of these.", errors={"count": "It is too high."})
    if how == "exit":
        raise SystemExit(3)
    if how == "raise":
        raise LookupError("a secret of the plugin's")


def _item(n: int, params: Counted, who: str) -> Item:
    data: dict[str, Any] = {"n": n, "who": who, "padding": "x" * params.size}
    if n == params.fail_at and params.how == "unspeakable":
        data["object"] = object()
    return Item(data, cursor=n)


def _note(what: Any) -> None:
    tenant = current_or_none()
    ledger.append((tenant.schema if tenant else None, what))
