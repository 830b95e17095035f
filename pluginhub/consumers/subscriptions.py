"""One client's use of a stream: pulls as much as the client asked for, and sends it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Protocol

from pluginhub import payloads, streaming
from pluginhub.consumers.frames import Id, Subscribe
from pluginhub.exceptions import HookError, problem_of
from pluginhub.types import Caller

__all__ = ["Gone", "Line", "Subscription"]

log = logging.getLogger("pluginhub.consumers")

PAGE_ITEMS = 64
DEMAND = 2**53
"""The most that may be asked for and not be answered yet: what every JSON reader counts exactly."""


class Gone(Exception):
    """The client has left: nothing can be sent any more."""


class Line(Protocol):
    """What a subscription sends through."""

    async def send(self, sender: object, text: str) -> None:
        """Send one frame; return when the server has taken it. Raises `Gone`."""

    def free(self, id: Id) -> None:  # noqa: A002
        """Let the client use this id anew."""


class Subscription:
    """Lives from its frame until it completed, failed, was cancelled, or its socket closed. Owns its source."""

    __slots__ = ("_asked", "_caller", "_cancelled", "_demand", "_frame", "_line", "_seq", "id", "task")

    def __init__(self, frame: Subscribe, line: Line, caller: Caller) -> None:
        self.id = frame.id
        self._frame = frame
        self._line = line
        self._caller = caller
        self._demand = min(frame.demand, DEMAND)
        self._asked = asyncio.Event()
        self._cancelled = False
        self._seq = 0
        self.task = asyncio.create_task(self._run())

    def request(self, n: int) -> None:
        """Ask for `n` more items."""
        self._demand = min(self._demand + n, DEMAND)
        self._asked.set()

    def cancel(self) -> None:
        """Send nothing more, and end. Again is harmless: a clean-up under way is not disturbed."""
        if not self._cancelled:
            self._cancelled = True
            self.task.cancel()

    async def _run(self) -> None:
        """Serve to the end. A subscription that fails says so to its client, and disturbs nobody else."""
        try:
            ending = await self._serve()
            if not self._cancelled:
                self._line.free(self.id)
                await self._line.send(self, ending)
        except Gone:
            pass
        except Exception:
            log.exception("A subscription to %s failed", self._frame.stream)

    async def _serve(self) -> str:
        """Pull and send; return the last frame, to be sent when all is closed."""
        source = None
        try:
            frame = self._frame
            source = await streaming.open(frame.stream, frame.params, cursor=frame.cursor, caller=self._caller)
            while not source.ended and not self._cancelled:
                await self._pass_on(source)
        except Gone:
            raise
        except Exception as error:
            return _failed(self.id, error)
        finally:
            if source is not None:
                await source.close()
        return _text({"type": "complete", "id": self.id})

    async def _pass_on(self, source: streaming.Source) -> None:
        while self._demand == 0:
            self._asked.clear()
            await self._asked.wait()
        for item in await source.pull(min(self._demand, PAGE_ITEMS)):
            if self._cancelled:  # the generator swallowed the cancelling
                return
            self._demand -= 1
            self._seq += 1
            frame = {"type": "next", "id": self.id, "seq": self._seq, "cursor": item.cursor, "data": item.data}
            try:
                text = _text(frame)
            except HookError as error:
                source.failed(error)
                raise
            await self._line.send(self, text)


def _text(frame: dict[str, Any]) -> str:
    return payloads.render(frame).decode()


def _failed(id: Id, error: Exception) -> str:  # noqa: A002
    try:
        return _text({"type": "error", "id": id, "problem": problem_of(error)})
    except HookError as unspeakable:  # a plugin's error carries what is no JSON
        return _text({"type": "error", "id": id, "problem": problem_of(unspeakable)})
