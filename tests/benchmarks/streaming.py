"""Items per second of a stream against a plain Channels consumer that sends the same frames in a loop.

Both are served by one uvicorn in a process of its own, to a client that only looks at lengths. A second is one of the
server's processor: so a busy machine disturbs the comparison little.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import statistics
import struct
from collections.abc import Iterator
from typing import Any

import psutil

from tests.benchmarks.servers import served
from tests.figures import Figure

__all__ = ["application", "figures"]

ITEMS = 30_000
ROUNDS = 7


def figures() -> Iterator[Figure]:
    """Measure both colours of generator beside the plain consumer."""
    from pluginhub import tenancy
    from tests.integration.sockets import publish, token
    from tests.storms.grounds import grounds

    with grounds(1) as ((tenant,), _):
        _configure()
        tenancy.gate(tenant, publish)
        bearer = tenancy.gate(tenant, token)
        with served("tests.benchmarks.streaming:application") as (port, server):
            host = f"{tenant.schema}.localhost:{port}"
            rates: dict[str, list[float]] = {name: [] for name in ("plain", "endless", "endless-threaded")}
            for _ in range(ROUNDS):
                for name, seen in rates.items():
                    seen.append(_rate(port, server, host, bearer, name))
    plain, *ours = (statistics.median(seen) for seen in rates.values())
    for name, rate in zip(("asynchronous", "synchronous"), ours, strict=True):
        seen_ = f"{rate / plain:.2f} of a plain consumer: {rate:,.0f} items/s against {plain:,.0f}"
        yield Figure(f"Stream items per second, {name} generator", "≥ 0.9", seen_, "make bench")


def application() -> Any:
    """Return what uvicorn serves: the hub, and the plain consumer."""
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    _configure()
    from channels.generic.websocket import AsyncWebsocketConsumer
    from channels.routing import URLRouter
    from django.urls import path

    from pluginhub.routing import websocket_urlpatterns
    from tests.streamers import sample

    class Plain(AsyncWebsocketConsumer):
        async def connect(self) -> None:
            await self.accept("pluginhub.v1")

        async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            demand = json.loads(text_data or "{}")["demand"]
            for n in range(1, demand + 1):
                frame = {"type": "next", "id": 1, "seq": n, "cursor": n, "data": sample(n)}
                await self.send(text_data=json.dumps(frame, separators=(",", ":")))

    plain: Any = Plain.as_asgi()
    return URLRouter([path("plain/", plain), *websocket_urlpatterns])


def _configure() -> None:
    from django.conf import settings
    from django.test import override_settings

    from tests.streamers import PLUGINS

    override_settings(PLUGINHUB={**settings.PLUGINHUB, "PLUGINS": PLUGINS}).enable()


def _rate(port: int, server: psutil.Process, host: str, bearer: str, name: str) -> float:
    """Return the items that arrive for each second of the server's processor."""
    path = "/plain/" if name == "plain" else "/ws/hub/"
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(60)
        head = [f"GET {path} HTTP/1.1", f"Host: {host}", f"Authorization: Bearer {bearer}", "Upgrade: websocket"]
        head += ["Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: pluginhub.v1"]
        head += [f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}", "", ""]
        client.sendall("\r\n".join(head).encode())
        while b"\r\n\r\n" not in (answer := client.recv(65_536)):
            continue
        if b" 101 " not in answer:
            raise RuntimeError(answer.decode())
        client.sendall(_frame({"type": "subscribe", "id": 1, "stream": name, "demand": 1}))
        client.recv(65_536)  # what is done once is done now
        asked: dict[str, Any] = {"type": "request", "id": 1, "n": ITEMS, "demand": ITEMS}
        before = server.cpu_times()
        client.sendall(_frame(asked))
        _count(client, ITEMS)
        after = server.cpu_times()
        return ITEMS / (after.user + after.system - before.user - before.system)


def _count(client: socket.socket, frames: int) -> None:
    """Read so many short text frames of a server, looking at their lengths only."""
    buffer = bytearray()
    position = 0
    while frames:
        buffer += client.recv(1 << 20)
        while frames and len(buffer) - position >= 4:
            length, size = buffer[position + 1], 2
            if length == 126:
                (length,), size = struct.unpack_from("!H", buffer, position + 2), 4
            if len(buffer) - position < size + length:
                break
            position += size + length
            frames -= 1
        del buffer[:position]
        position = 0


def _frame(value: dict[str, Any]) -> bytes:
    """Return a client's text frame, masked by zeros."""
    payload = json.dumps(value).encode()
    return bytes([0x81, 0x80 | len(payload)]) + bytes(4) + payload
