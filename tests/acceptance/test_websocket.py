"""The running site's websocket, as a browser's page and a service use it."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import httpx
import pytest
from django.conf import settings

from pluginhub.consumers import Code
from tests.conftest import LiveSite
from tests.integration.sockets import Client, Site


@pytest.fixture
def sockets(live_site: LiveSite) -> Site:
    return Site(live_site.port)


def token(live_site: LiveSite, schema: str) -> str:
    return live_site.clients[schema].token


def at(live_site: LiveSite, schema: str) -> httpx.Client:
    """Return a client of a tenant's site that keeps cookies, as a browser does."""
    host = {"Host": f"{schema}.localhost:{live_site.port}"}
    return httpx.Client(base_url=f"http://127.0.0.1:{live_site.port}", headers=host, trust_env=False, timeout=30)


def logged_in(live_site: LiveSite, schema: str) -> str:
    """Log the tenant's admin in by its login page and return the session's cookie."""
    with at(live_site, schema) as browser:
        page = browser.get("/admin/login/").text
        (csrf,) = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
        cookies = {"Cookie": f"{settings.CSRF_COOKIE_NAME}={browser.cookies[settings.CSRF_COOKIE_NAME]}"}
        form = {"csrfmiddlewaretoken": csrf, "username": "admin", "password": "admin"}
        answer = browser.post("/admin/login/", data=form, headers=cookies)
        return f"{settings.SESSION_COOKIE_NAME}={answer.cookies[settings.SESSION_COOKIE_NAME]}"


async def codes(client: Client, n: int) -> list[str]:
    return [frame["cursor"] for frame in await client.items(n)]


async def test_airports_come_page_by_page_and_resume_where_they_were_left(live_site: LiveSite, sockets: Site) -> None:
    subscribe: dict[str, Any] = {"id": "a", "stream": "airports", "params": {"country": "CH"}}
    async with sockets.open("acme", bearer=token(live_site, "acme")) as client:
        await client.send("subscribe", **subscribe, demand=3)
        seen = await codes(client, 3)
        assert await client.silent()
        await client.send("request", id="a", n=2)
        seen += await codes(client, 2)
    async with sockets.open("acme", bearer=token(live_site, "acme")) as client:
        await client.send("subscribe", **subscribe, demand=1000, cursor=seen[-1])
        while (frame := await client.receive())["type"] == "next":
            seen.append(frame["cursor"])
        assert frame == {"type": "complete", "id": "a"}
    assert seen == sorted(set(seen))
    assert "LSZH" in seen


async def test_a_job_shows_its_progress_and_its_end(live_site: LiveSite, sockets: Site) -> None:
    job = live_site.clients["globex"].call("POST", "/hub/jobs/atlas.import/", {"country": "CH"})
    async with sockets.open("globex", bearer=token(live_site, "globex")) as client:
        await client.send("subscribe", id=1, stream=f"job:{job['id']}", demand=1000)
        states = []
        while (frame := await client.receive(60))["type"] == "next":
            states.append(frame["data"])
        assert frame == {"type": "complete", "id": 1}
    assert states[-1]["status"] == "succeeded"
    assert states[-1]["progress"]["done"] == states[-1]["progress"]["total"] > 0


async def test_a_page_of_the_tenant_connects_by_the_session_of_its_user(live_site: LiveSite, sockets: Site) -> None:
    cookie = await asyncio.to_thread(logged_in, live_site, "acme")
    origin = f"http://acme.localhost:{live_site.port}"
    async with sockets.open("acme", headers={"Cookie": cookie}, origin=origin) as client:
        await client.send("subscribe", id="a", stream="airports")
        assert len(await client.items(1)) == 1
    # The same cookie says nothing to another tenant, nor from another tenant's page.
    elsewhere = f"http://globex.localhost:{live_site.port}"
    async with sockets.open("globex", headers={"Cookie": cookie}, origin=elsewhere) as client:
        assert (await client.closed())[0] == Code.ANONYMOUS
    async with sockets.open("acme", headers={"Cookie": cookie}, origin=elsewhere) as client:
        assert (await client.closed())[0] == Code.FOREIGN


async def test_a_ticket_opens_one_socket(live_site: LiveSite, sockets: Site) -> None:
    ticket = (await asyncio.to_thread(live_site.clients["acme"].call, "POST", "/hub/tickets/"))["ticket"]
    options = {"query": f"?ticket={ticket}", "origin": f"http://acme.localhost:{live_site.port}"}
    async with sockets.open("acme", **options) as client:
        await client.send("ping")
        assert await client.receive() == {"type": "pong"}
    async with sockets.open("acme", **options) as client:
        assert (await client.closed())[0] == Code.ANONYMOUS


async def test_every_tenants_page_is_kept_from_every_other_socket(live_site: LiveSite, sockets: Site) -> None:
    schemas = ["acme", "globex"]
    for mine in schemas:
        for page in ["acme.localhost", "globex.localhost", "localhost", "evil.example"]:
            origin = f"http://{page}:{live_site.port}"
            async with sockets.open(mine, bearer=token(live_site, mine), origin=origin) as client:
                if page == f"{mine}.localhost":
                    await client.send("ping")
                    assert await client.receive() == {"type": "pong"}
                else:
                    assert (await client.closed())[0] == Code.FOREIGN, (mine, page)


async def test_strangers_and_those_who_speak_otherwise_are_closed_with_a_code(
    live_site: LiveSite, sockets: Site
) -> None:
    async with sockets.open("acme") as client:
        assert (await client.closed())[0] == Code.ANONYMOUS
    async with sockets.open("acme", bearer=token(live_site, "globex")) as client:
        assert (await client.closed())[0] == Code.ANONYMOUS
    async with sockets.open("acme", bearer=token(live_site, "acme")) as client:
        await client.connection.send("hello")
        assert (await client.closed())[0] == Code.PROTOCOL


async def test_an_error_ends_its_subscription_only(live_site: LiveSite, sockets: Site) -> None:
    async with sockets.open("acme", bearer=token(live_site, "acme")) as client:
        await client.send("subscribe", id="a", stream="airprots")
        error = await client.receive()
        assert (error["type"], error["problem"]["near_misses"]) == ("error", ["airports"])
        await client.send("subscribe", id="b", stream="airports", params={"country": "Switzerland"})
        error = await client.receive()
        assert (error["problem"]["status"], list(error["problem"]["errors"])) == (422, ["country"])
        await client.send("subscribe", id="c", stream="airports")
        assert len(await client.items(1)) == 1
