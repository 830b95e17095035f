"""A source as server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from pluginhub import payloads
from pluginhub.exceptions import MalformedInput, problem_of
from pluginhub.streaming.generators import PAGE_ITEMS
from pluginhub.streaming.sources import Source
from pluginhub.types import Item

__all__ = ["PING_SECONDS", "Events", "event", "resumed_from", "sse"]

PING_SECONDS = 15.0
"""The longest silence: proxies cut connections that say nothing."""


class Events:
    """The events of one source, as the body of a streaming response. Closes the source, also when never iterated."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._loop = asyncio.get_running_loop()
        self._closing: asyncio.Task[None] | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        seq = 0
        pull = None
        try:
            while not self._source.ended:
                pull = self._loop.create_task(self._source.pull(PAGE_ITEMS))
                while not (await asyncio.wait({pull}, timeout=PING_SECONDS))[0]:
                    yield b": ping\n\n"
                page = pull.result()
                if page:
                    yield b"".join(event(item, seq + n) for n, item in enumerate(page, 1))
                seq += len(page)
            yield b"event: complete\ndata: {}\n\n"
        except Exception as error:
            yield b"event: error\ndata: %b\n\n" % payloads.render(problem_of(error))
        finally:
            if pull is not None and not pull.done():
                pull.cancel()
                await asyncio.wait({pull})
            await self._source.close()

    def close(self) -> None:
        """Close the source of a response that ended unread. Django calls this, in any thread."""
        self._loop.call_soon_threadsafe(self._close)

    def _close(self) -> None:
        self._closing = self._loop.create_task(self._source.close())


def sse(source: Source) -> Events:
    """Render a source as server-sent events, pulled as fast as they are sent.

    An item's `id` is its cursor as JSON, or `#` and its number; its data is JSON. Then comes an event named `complete`,
    or `error` with a problem detail. A comment every `PING_SECONDS` keeps a silent stream open.
    """
    return Events(source)


def resumed_from(last_event_id: str | None) -> Any:
    """Return the cursor that a `Last-Event-ID` stands for; `None` starts anew. Raises `MalformedInput`."""
    if not last_event_id or last_event_id.startswith("#"):
        return None
    try:
        return payloads.parse(last_event_id.encode())
    except (MalformedInput, UnicodeEncodeError) as error:
        raise MalformedInput(
            "Last-Event-ID is none of ours.", hint="Send back the id of the last event, or none."
        ) from error


def event(item: Item, seq: int) -> bytes:
    """Render one item, the `seq`-th of its response."""
    id_ = b"#%d" % seq if item.cursor is None else payloads.render(item.cursor)
    return b"id: %b\ndata: %b\n\n" % (id_, payloads.render(item.data))
