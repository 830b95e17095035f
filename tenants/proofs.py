"""The demo's proof that the site works: one run, one job and one stream, as any client would ask for them."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from pluginhub.exceptions import PluginHubError

__all__ = ["Client", "ProofFailed", "follow_job", "pull"]

SECONDS = 60.0

# Whatever proxy the environment names, it is none for this machine.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ProofFailed(PluginHubError):
    """The site did not answer as it should."""

    title = "Proof failed"


@dataclass(frozen=True, slots=True)
class Client:
    """One tenant's client. Connects to this machine and names the tenant's host, as the printed commands do."""

    schema: str
    port: int
    token: str

    @property
    def host(self) -> str:
        return f"{self.schema}.localhost"

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Return the JSON answer. Raises `ProofFailed` for any status but 2xx."""
        headers = {"Host": self.host, "Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        address = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(address, data=data, headers=headers, method=method)
        try:
            # Whatever proxy the environment names is none for this machine.
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                request, timeout=SECONDS
            ) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise ProofFailed(f"{method} {path} of {self.schema} answered {error.code}: {error.read()!r}") from error
        except OSError as error:
            raise ProofFailed(f"{method} {path} of {self.schema} got no answer: {error}") from error

    def connect(self) -> ClientConnection:
        """Open the tenant's websocket."""
        return connect(
            f"ws://{self.host}:{self.port}/ws/hub/",
            sock=socket.create_connection(("127.0.0.1", self.port), SECONDS),
            subprotocols=["pluginhub.v1"],  # type: ignore[list-item]
            additional_headers={"Authorization": f"Bearer {self.token}"},
            open_timeout=SECONDS,
            proxy=None,
        )


def follow_job(client: Client, name: str, data: Any) -> Iterator[dict[str, Any]]:
    """Enqueue a job and yield what the site says of it, whenever that changed, until it has succeeded."""
    job = client.call("POST", f"/hub/jobs/{name}/", data)
    until = time.monotonic() + SECONDS
    said: dict[str, Any] = {}
    while said.get("status") != "succeeded":
        now = client.call("GET", f"/hub/jobs/{job['id']}/")
        if (now["status"], now["progress"]) != (said.get("status"), said.get("progress")):
            yield now
        said = now
        if said["status"] in ("failed", "cancelled", "dead") or time.monotonic() > until:
            raise ProofFailed(f"The job {name} of {client.schema} is {said['status']}: {said['problem']}")
        time.sleep(0.05)


def pull(client: Client, stream: str, params: Any, demands: list[int]) -> Iterator[list[dict[str, Any]]]:
    """Subscribe to a stream over a websocket and yield the items that came for each demand; then cancel."""
    first, *further = demands
    with _opened(client) as connection:
        subscribe = {
            "type": "subscribe",
            "id": "1",
            "stream": stream,
            "params": params,
            "cursor": None,
            "demand": first,
        }
        connection.send(json.dumps(subscribe))
        yield [_next(connection, client) for _ in range(first)]
        for n in further:
            connection.send(json.dumps({"type": "request", "id": "1", "n": n}))
            yield [_next(connection, client) for _ in range(n)]
        connection.send(json.dumps({"type": "cancel", "id": "1"}))


def _opened(client: Client) -> ClientConnection:
    try:
        return client.connect()
    except (OSError, WebSocketException) as error:
        raise ProofFailed(f"The websocket of {client.schema} does not open: {error}") from error


def _next(connection: ClientConnection, client: Client) -> dict[str, Any]:
    try:
        while (frame := json.loads(connection.recv(timeout=SECONDS)))["type"] in ("ping", "pong"):
            pass
    except (OSError, WebSocketException) as error:
        raise ProofFailed(f"The stream of {client.schema} gave no item: {error}") from error
    if frame["type"] != "next":
        raise ProofFailed(f"The stream of {client.schema} gave {frame} instead of an item.")
    return dict(frame)
