"""Requests per second of `POST /hub/run/…` against a view that does the same work by hand.

Both are served by one uvicorn in a process of its own, behind the same middleware, with the same access tokens and the
same chain of steps. A second is one of the server's processor: so a busy machine disturbs the comparison little.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
from collections.abc import Iterator
from typing import Any

import psutil

from tests.benchmarks.servers import served
from tests.figures import Figure

__all__ = ["application", "figures"]

REQUESTS = 150
ROUNDS = 15
STEPS = 5
PLUGINS = {"sync": "tests.benchmarks.serving_plugins:Add", "async": "tests.benchmarks.serving_plugins:AsyncAdd"}
VALUE = {"weight": 3, "from": "ZRH", "to": "JFK", "n": 0}


def figures() -> Iterator[Figure]:
    """Measure chains of both colours beside views that call the same functions in a row."""
    from pluginhub import tenancy
    from tests.integration.hub import bearer, make_user
    from tests.storms.grounds import grounds

    with grounds(1) as ((tenant,), _):
        configure()
        tenancy.gate(tenant, _publish)
        token = tenancy.gate(tenant, lambda: bearer(make_user()))
        with served("tests.benchmarks.serving:application") as (port, server):
            head = f"Host: {tenant.schema}.localhost:{port}\r\nAuthorization: Bearer {token}\r\n"
            paths = [f"/{prefix}/{colour}/" for colour in PLUGINS for prefix in ("by-hand", "hub/run")]
            rates: dict[str, list[float]] = {path: [] for path in paths}
            for _ in range(ROUNDS):
                for path, seen in rates.items():
                    seen.append(_rate(port, server, path, head))
    for colour, name in (("sync", "synchronous"), ("async", "asynchronous")):
        plain, ours = (rates[f"/{prefix}/{colour}/"] for prefix in ("by-hand", "hub/run"))
        ratio = statistics.median(mine / theirs for mine, theirs in zip(ours, plain, strict=True))
        by_hand, hub = statistics.median(plain), statistics.median(ours)
        seen_ = f"{ratio:.2f} of a view by hand: {hub:,.0f} requests/s against {by_hand:,.0f}"
        yield Figure(f"POST /hub/run/, a chain of five {name} steps", "≥ 0.95", seen_, "make bench")


def application() -> Any:
    """Return what uvicorn serves."""
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    configure()
    from django.core.asgi import get_asgi_application

    return get_asgi_application()


def configure() -> None:
    from django.conf import settings
    from django.test import override_settings

    hub = {**settings.PLUGINHUB, "PLUGINS": PLUGINS}
    override_settings(PLUGINHUB=hub, ROOT_URLCONF="tests.benchmarks.serving_urls").enable()


def _publish() -> None:
    from pluginhub.configuration import RegistrationSpec
    from tests.integration.hub import chain, publish

    for_both = [RegistrationSpec(name=f"add-{colour}", plugin=colour) for colour in PLUGINS]
    publish(*for_both, *(chain(colour, *[f"add-{colour}"] * STEPS) for colour in PLUGINS))


def _rate(port: int, server: psutil.Process, path: str, head: str) -> float:
    """Return the requests that are answered for each second of the server's processor."""
    body = json.dumps(VALUE).encode()
    request = f"POST {path} HTTP/1.1\r\n{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(60)
        for _ in range(20):  # what is done once is done now
            _ask(client, request.encode() + body)
        before = server.cpu_times()
        for _ in range(REQUESTS):
            _ask(client, request.encode() + body)
        after = server.cpu_times()
    return REQUESTS / (after.user + after.system - before.user - before.system)


def _ask(client: socket.socket, request: bytes) -> None:
    client.sendall(request)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += client.recv(65_536)
    head, _, content = answer.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    while len(content) < length:
        content += client.recv(65_536)
    if b" 200 " not in head.split(b"\r\n")[0] or json.loads(content)["result"]["n"] != STEPS:
        raise RuntimeError(answer.decode())
