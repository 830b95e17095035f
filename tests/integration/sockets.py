"""A real uvicorn in this process, so that tests see its plugins, and a client of the subprotocol."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn
from channels.routing import URLRouter
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.backends.db import SessionStore
from django.db import connections
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Origin, Subprotocol

from pluginhub import access, crossing, publishing, tenancy
from pluginhub.models import Registration
from pluginhub.routing import websocket_urlpatterns
from pluginhub.storage import TenantStorage
from pluginhub.types import Tenant
from tests import streamers

__all__ = ["Client", "Site", "publish", "serving"]

BUFFER_BYTES = 16_384


def publish() -> None:
    """Register every plugin of `streamers` in the current tenant, and make its one user, who is named after it."""
    schema = tenancy.current().schema
    user = User.objects.create_user(f"who-{schema}", password="a password")
    user.user_permissions.add(Permission.objects.get(codename="run_target"))
    for name in streamers.PLUGINS:
        Registration.objects.create(name=name, plugin=name)
        TenantStorage(tenancy.current(), name).set("who", user.username)
    publishing.publish(author="test")


def token() -> str:
    """Make an access token for the current tenant's user."""
    return access.issue_token(User.objects.get(username=f"who-{tenancy.current().schema}"), "test")


def session() -> str:
    """Log the current tenant's user in and return the session's key."""
    user = User.objects.get(username=f"who-{tenancy.current().schema}")
    store = SessionStore()
    store[SESSION_KEY] = str(user.pk)
    store[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    store[HASH_SESSION_KEY] = user.get_session_auth_hash()
    store.save()
    assert store.session_key
    return store.session_key


def _shrink(buffered: socket.socket) -> None:
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        buffered.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)


class Client:
    """One socket. `next` frames are what the tests mostly wait for."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, type_: str, **members: Any) -> None:
        await self.connection.send(json.dumps({"type": type_, **members}))

    async def receive(self, seconds: float = 10.0) -> dict[str, Any]:
        async with asyncio.timeout(seconds):
            frame: dict[str, Any] = json.loads(await self.connection.recv())
            return frame

    async def items(self, n: int) -> list[dict[str, Any]]:
        """Return the next `n` frames, which must all be items."""
        frames = [await self.receive() for _ in range(n)]
        assert {frame["type"] for frame in frames} <= {"next"}, frames
        return frames

    async def silent(self, seconds: float = 0.2) -> bool:
        """Tell whether nothing comes for a while."""
        try:
            await self.receive(seconds)
        except TimeoutError:
            return True
        return False

    async def closed(self, seconds: float = 10.0) -> tuple[int, str]:
        """Read to the end, and return with what code and reason the server closed."""
        async with asyncio.timeout(seconds):
            while True:
                try:
                    await self.connection.recv()
                except ConnectionClosed as error:
                    return (error.rcvd.code, error.rcvd.reason) if error.rcvd else (1006, "no close frame")


class Site:
    """Where a uvicorn of this process listens."""

    def __init__(self, port: int) -> None:
        self.port = port

    def small(self) -> dict[str, Any]:
        """Options for a client whose buffers are soon full, so that its not reading is soon noticed."""
        connected = socket.socket()
        _shrink(connected)
        connected.connect(("127.0.0.1", self.port))
        # Compressed, what the tests send would fit into any buffer.
        return {"sock": connected, "compression": None, "max_queue": 1}

    @contextlib.asynccontextmanager
    async def open(self, tenant: Tenant | str, *, bearer: str | None = None, **options: Any) -> AsyncIterator[Client]:
        """Open a socket at a tenant's host, by default as its user."""
        schema = tenant if isinstance(tenant, str) else tenant.schema
        host = options.pop("host", f"{schema.replace('_', '-')}.localhost:{self.port}")
        headers = options.pop("headers", {})
        if bearer is not None:
            headers["Authorization"] = f"Bearer {bearer}"
        elif isinstance(tenant, Tenant) and not headers and "anonymous" not in options and "query" not in options:
            headers["Authorization"] = f"Bearer {await tenancy.agate(tenant, token)}"
        options.pop("anonymous", None)
        origin = options.pop("origin", None)
        if "sock" not in options:
            options |= {"host": "127.0.0.1", "port": self.port}
        async with connect(
            f"ws://{host}/ws/hub/{options.pop('query', '')}",
            subprotocols=[Subprotocol(each) for each in options.pop("subprotocols", ["pluginhub.v1"])],
            origin=Origin(origin) if origin else None,
            additional_headers=headers,
            proxy=None,
            **options,
        ) as connection:
            yield Client(connection)


@contextlib.contextmanager
def serving() -> Iterator[Site]:
    """Serve the hub's socket from a thread; on leaving, stop and wait for its connections to end."""
    with socket.socket() as listening:
        _shrink(listening)  # its connections inherit that
        listening.bind(("127.0.0.1", 0))
        listening.listen(1024)
        options = uvicorn.Config(
            URLRouter(websocket_urlpatterns), lifespan="off", log_level="warning", timeout_graceful_shutdown=5
        )
        server = uvicorn.Server(options)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        # Its loop is to be the process's, as under a real server.
        before, crossing._process._loop = crossing._process._loop, None
        thread.start()
        try:
            yield Site(listening.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join()
            crossing._process._loop = before
            connections.close_all()
