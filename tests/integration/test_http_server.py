"""The hub behind a real uvicorn: what Django's test clients cannot show."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import uvicorn
from django.core.asgi import get_asgi_application
from django.db import connections

from pluginhub import tenancy
from pluginhub.configuration import InterceptorSpec
from pluginhub.types import Tenant
from tests.integration.hub import PLUGINS, Endless, bearer, make_user, publish


@pytest.fixture
def address(settings: Any, acme: Tenant, globex: Tenant) -> Iterator[str]:
    settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": PLUGINS}
    settings.ROOT_URLCONF = "tests.integration.host_urls"
    server = uvicorn.Server(uvicorn.Config(get_asgi_application(), port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        pass
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()
    connections.close_all()


def set_up(schema: str, kinds: tuple[str, ...]) -> str:
    """Publish what is asked for, inside these interceptors, and return an access token."""
    layers = {kind: kind for kind in kinds}
    interceptors = tuple(InterceptorSpec(registration=kind, scope="request") for kind in kinds)
    publish(interceptors=interceptors, say="echo", who="whoami", sleep="sleepy", endless="endless", **layers)
    return bearer(make_user(f"user-of-{schema}"))


async def client(address: str, tenant: Tenant, *kinds: str) -> httpx.AsyncClient:
    """Set a tenant up, and return a client of its user."""
    token = await tenancy.agate(tenant, set_up, tenant.schema, kinds)
    headers = {"Host": f"{tenant.schema}.localhost", "Authorization": f"Bearer {token}"}
    return httpx.AsyncClient(base_url=address, headers=headers, timeout=20, trust_env=False)


async def test_a_body_of_no_announced_length_is_cut_off(address: str, acme: Tenant) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 65_536

    async with await client(address, acme) as hub:
        answer = await hub.post("/hub/run/say/", content=endless())
        assert (answer.status_code, answer.json()["max_bytes"]) == (413, 262_144)
        assert (await hub.post("/hub/run/say/", content=b"1")).json()["result"] == 1


@pytest.mark.parametrize("kinds", [("stamp",), ("asyncstamp",), ("stamp", "asyncstamp")])
async def test_a_hundred_requests_at_once_pass_synchronous_interceptors_and_plugins(
    address: str, acme: Tenant, globex: Tenant, kinds: tuple[str, ...]
) -> None:
    """None waits for a thread that another holds, and none sees another tenant."""
    hubs = [await client(address, each, *kinds) for each in (acme, globex)]
    paths = ["/hub/run/who/", "/hub/run/sleep/"]
    asked = [(hub, paths[n // 2 % 2]) for n, hub in enumerate(hubs * 50)]
    answers = await asyncio.gather(*(hub.post(path, json=1) for hub, path in asked))
    for (hub, path), answer in zip(asked, answers, strict=True):
        schema = hub.headers["host"].removesuffix(".localhost")
        assert answer.status_code == 200
        assert len(answer.headers["x-stamp"].split()) == len(kinds)
        assert answer.json()["result"] == (1 if "sleep" in path else [schema, f"user-of-{schema}", "http", False])
    for hub in hubs:
        await hub.aclose()


async def test_a_client_that_leaves_closes_the_generator(address: str, acme: Tenant) -> None:
    Endless.closed.clear()
    async with await client(address, acme) as hub, hub.stream("GET", "/hub/stream/endless/") as answer:
        async for line in answer.aiter_lines():
            if line == "id: 3":
                break
    assert await asyncio.to_thread(Endless.closed.wait, 10)
