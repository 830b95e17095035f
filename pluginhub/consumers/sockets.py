"""One websocket of a client: reads its frames, runs its subscriptions, and notices when it stops reading."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from pluginhub import payloads
from pluginhub.conf import settings
from pluginhub.consumers import frames
from pluginhub.consumers.frames import Code, Id
from pluginhub.consumers.handshakes import Refusal
from pluginhub.consumers.subscriptions import Gone, Subscription
from pluginhub.exceptions import MalformedInput, PluginHubError, RateLimited, problem_of
from pluginhub.types import Caller

__all__ = ["Socket"]

log = logging.getLogger("pluginhub.consumers")

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

LINGER_SECONDS = 30.0
"""How long what is sent, and the close frame behind it, waits for a client that has not been reading."""

NOTES = 64
"""Answers to pings and the like that may wait to be sent; then reading waits."""


class Socket:
    """Lives as long as the connection. The reader never waits for a subscription; none of them waits for another."""

    def __init__(self, receive: Receive, send: Send, caller: Caller) -> None:
        self._receive = receive
        self._asgi_send = send
        self._caller = caller
        self._live: dict[Id, Subscription] = {}
        self._subscriptions: set[Subscription] = set()
        self._notes: asyncio.Queue[dict[str, Any]] = asyncio.Queue(NOTES)
        self._sending: dict[object, float] = {}
        self._loop = asyncio.get_running_loop()

    async def serve(self) -> None:
        """Serve until either side ends it; return when every generator has been closed."""
        parts = [self._loop.create_task(part()) for part in (self._read, self._answer, self._ping, self._watch)]
        ending = None
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            ending = _ending(done)
        finally:
            for part in parts:
                part.cancel()
            for subscription in self._subscriptions:
                subscription.cancel()
            tasks = [*parts, *(subscription.task for subscription in self._subscriptions)]
            await asyncio.gather(self._close(ending), *tasks, return_exceptions=True)

    async def send(self, sender: object, text: str) -> None:
        """Send one frame. `sender` is who waits: no more than one frame at a time."""
        self._sending[sender] = self._loop.time()
        try:
            await self._asgi_send({"type": "websocket.send", "text": text})
        except (OSError, RuntimeError) as error:  # the client left; or the server has begun to close
            raise Gone from error
        finally:
            del self._sending[sender]

    def free(self, id: Id) -> None:  # noqa: A002
        self._live.pop(id, None)

    # Its parts: the first to return or to fail ends the socket

    async def _read(self) -> Refusal | None:
        while (message := await self._receive())["type"] != "websocket.disconnect":
            try:
                frame = frames.read(message.get("text"))
                await self._obey(frame)
            except PluginHubError as error:
                return Refusal(Code.PROTOCOL, error.detail)
        return None

    async def _answer(self) -> Refusal | None:
        while True:
            note = await self._notes.get()
            await self.send(self, payloads.render(note).decode())

    async def _ping(self) -> Refusal | None:
        while True:
            await asyncio.sleep(settings.SOCKET_PING_SECONDS)
            await self._notes.put({"type": "ping"})

    async def _watch(self) -> Refusal | None:
        limit: float = settings.SOCKET_SEND_SECONDS
        while True:
            await asyncio.sleep(limit / 4)
            since = min(self._sending.values(), default=None)
            if since is not None and self._loop.time() - since > limit:
                return Refusal(Code.UNREAD, f"Nothing was read for {limit:g} s.")

    # What the client asks

    async def _obey(self, frame: frames.Frame) -> None:
        match frame:
            case frames.Request(id=id, n=n):
                if (subscription := self._live.get(id)) is not None:  # else it has just ended: nobody's fault
                    subscription.request(n)
            case frames.Subscribe():
                await self._subscribe(frame)
            case frames.Cancel(id=id):
                if (subscription := self._live.pop(id, None)) is not None:
                    subscription.cancel()
            case frames.Ping():
                await self._notes.put({"type": "pong"})

    async def _subscribe(self, frame: frames.Subscribe) -> None:
        if frame.id in self._live:
            raise MalformedInput(f"The id {frame.id!r} is in use.")
        limit = settings.SOCKET_SUBSCRIPTIONS
        if len(self._subscriptions) >= limit:
            error = RateLimited(f"A socket has at most {limit} subscriptions.", retry_after=1)
            await self._notes.put({"type": "error", "id": frame.id, "problem": problem_of(error)})
            return
        subscription = Subscription(frame, self, self._caller)
        self._live[frame.id] = subscription
        self._subscriptions.add(subscription)
        subscription.task.add_done_callback(lambda _: self._subscriptions.discard(subscription))

    # The end

    async def _close(self, ending: Refusal | None) -> None:
        if ending is None:
            return
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                await close(self._asgi_send, ending)
        except TimeoutError:
            _abort(self._asgi_send)


async def close(send: Send, refusal: Refusal) -> None:
    """Close an accepted socket, unless the client has left."""
    reason = refusal.reason.encode()[:123].decode(errors="ignore")
    try:
        await send({"type": "websocket.close", "code": int(refusal.code), "reason": reason})
    except (OSError, RuntimeError):
        pass


def _ending(done: set[asyncio.Task[Refusal | None]]) -> Refusal | None:
    """Return why to close the socket; `None` where the client closed it."""
    error: BaseException | None = None
    for part in done:
        if part.exception() is None:
            return part.result()
        error = part.exception()
    if isinstance(error, Gone):
        return None
    log.error("A socket failed", exc_info=error)
    return Refusal(Code.FAILED, "The server failed.")


def _abort(send: Send) -> None:
    """Drop the connection. uvicorn keeps a closed one until its last byte is read, which here may be never."""
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    if transport is not None:
        transport.abort()
