"""The hub's websocket: the subprotocol `pluginhub.v1`, written down in `docs/streams.md`.

A socket is accepted, and then closed with a code when it is refused: one that is closed before it is accepted is an
HTTP 403 to the client, without a code.
"""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

from pluginhub import crossing, tenancy
from pluginhub.consumers.frames import SUBPROTOCOL, Code
from pluginhub.consumers.handshakes import Handshake, Refusal, admit
from pluginhub.consumers.sockets import Receive, Send, Socket, close

__all__ = ["SUBPROTOCOL", "Code", "HubConsumer"]


class HubConsumer:
    """The ASGI application behind `/ws/hub/`, one for all sockets.

    It needs neither Channels' session nor its authentication around it: a socket's tenant and caller are found here.
    Nothing that a stream yields passes a channel layer, and the loop's thread runs no query.
    """

    @classmethod
    def as_asgi(cls) -> HubConsumer:
        return cls()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        crossing.adopt(asyncio.get_running_loop())
        await receive()  # websocket.connect
        handshake = Handshake.of(scope)
        visitor = await crossing.in_thread(admit, handshake)
        offered = SUBPROTOCOL in handshake.subprotocols
        await send({"type": "websocket.accept", "subprotocol": SUBPROTOCOL if offered else None})
        if isinstance(visitor, Refusal):
            await close(send, visitor)
            return
        with tenancy.enter(visitor.tenant):
            await Socket(receive, send, visitor.caller).serve()
