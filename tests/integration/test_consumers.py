"""The subprotocol `pluginhub.v1`, spoken with a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from pytest_django import Settings
from websockets.exceptions import ConnectionClosed

from pluginhub import access, jobs, tenancy
from pluginhub.consumers import Code, sockets
from pluginhub.models import AccessToken
from pluginhub.types import Caller, Tenant
from tests import streamers
from tests.integration.sockets import Client, Site, publish, serving, session

COLOURS = ["synchronous", "asynchronous"]


@pytest.fixture(autouse=True)
def _streams(acme: Tenant, globex: Tenant, settings: Settings) -> None:
    settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": streamers.PLUGINS}
    streamers.ledger.clear()
    for tenant in (acme, globex):
        tenancy.gate(tenant, publish)


@pytest.fixture
def configured(settings: Settings) -> Any:
    """`configured(KEY=value)` sets keys of PLUGINHUB."""

    def configure(**keys: Any) -> None:
        settings.PLUGINHUB = {**settings.PLUGINHUB, **keys}

    return configure


@pytest.fixture
def site(db: None) -> Iterator[Site]:
    with serving() as running:
        yield running


def noted(schema: str = "acme") -> list[Any]:
    return [what for where, what in streamers.ledger if where == schema]


async def eventually_closed(times: int = 1) -> None:
    """Wait until so many generators have run their `finally`."""
    for _ in range(2000):
        if [what for _, what in streamers.ledger].count("closed") >= times:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"Not closed: {streamers.ledger[-5:]}")


# Items and demand


@pytest.mark.parametrize("name", COLOURS)
async def test_items_come_as_demanded_and_then_the_end(site: Site, acme: Tenant, name: str) -> None:
    async with site.open(acme) as client:
        await client.send("subscribe", id="a", stream=name, params={"count": 5}, demand=2)
        first = await client.items(2)
        assert first[0] == {
            "type": "next",
            "id": "a",
            "seq": 1,
            "cursor": 1,
            "data": {"n": 1, "who": "who-acme", "padding": ""},
        }
        assert await client.silent()
        assert noted() == [1, 2]
        await client.send("request", id="a", n=1)
        await client.send("request", id="a", n=100)
        rest = await client.items(3)
        assert [frame["seq"] for frame in first + rest] == [1, 2, 3, 4, 5]
        assert await client.receive() == {"type": "complete", "id": "a"}
        assert noted() == [1, 2, 3, 4, 5, "closed"]


async def test_demand_is_one_where_it_is_absent_and_may_be_none(site: Site, acme: Tenant) -> None:
    async with site.open(acme) as client:
        await client.send("subscribe", id=7, stream="synchronous")
        assert [frame["id"] for frame in await client.items(1)] == [7]
        assert await client.silent()
        await client.send("subscribe", id=8, stream="synchronous", demand=0)
        assert await client.silent()
        await client.send("request", id=8, n=1)
        assert [frame["id"] for frame in await client.items(1)] == [8]


async def test_a_stream_resumes_after_a_cursor(site: Site, acme: Tenant) -> None:
    async with site.open(acme) as client:
        await client.send("subscribe", id="a", stream="asynchronous", cursor=3, demand=10)
        frames = await client.items(2)
        assert [(frame["seq"], frame["data"]["n"]) for frame in frames] == [(1, 4), (2, 5)]


async def test_subscriptions_of_a_socket_do_not_wait_for_each_other(site: Site, acme: Tenant) -> None:
    async with site.open(acme) as client:
        await client.send("subscribe", id="slow", stream="synchronous", params={"count": 2, "pause": 0.5}, demand=9)
        await client.send("subscribe", id="quick", stream="asynchronous", params={"count": 50}, demand=99)
        frames = [await client.receive() for _ in range(51)]
        assert {frame["id"] for frame in frames} == {"quick"}
        assert [frame["id"] for frame in await client.items(2)] == ["slow", "slow"]


async def test_a_stream_that_never_waits_leaves_room_for_others(site: Site, acme: Tenant) -> None:
    async with site.open(acme) as client:
        await client.send("subscribe", id="flood", stream="endless", demand=20_000)
        await client.send("subscribe", id="other", stream="asynchronous", demand=1)
        seen = 0
        while (await client.receive())["id"] == "flood":
            seen += 1
        assert seen < 20_000
        client.connection.transport.abort()


async def test_the_same_name_is_another_stream_in_another_tenant(site: Site, acme: Tenant, globex: Tenant) -> None:
    async with site.open(acme) as one, site.open(globex) as other:
        for client in (one, other):
            await client.send("subscribe", id="a", stream="synchronous", demand=2)
        assert {frame["data"]["who"] for frame in await one.items(2)} == {"who-acme"}
        assert {frame["data"]["who"] for frame in await other.items(2)} == {"who-globex"}


async def test_a_job_is_a_stream_too(site: Site, acme: Tenant) -> None:
    with tenancy.enter(acme):
        job = await jobs.aenqueue("who-am-i", 1)
    async with site.open(acme) as client:
        # Whoever may see jobs of others is not this user; a superuser is.
        await client.send("subscribe", id="j", stream=f"job:{job}", demand=9)
        assert (await client.receive())["problem"]["status"] == 404
        await tenancy.agate(acme, lambda: User.objects.update(is_superuser=True))
    access.forget()
    async with site.open(acme) as client:
        await client.send("subscribe", id="j", stream=f"job:{job}", demand=9)
        assert (await client.receive())["data"]["status"] == "queued"
        await tenancy.agate(acme, lambda: jobs.work(acme, seconds=5))
        frames = [await client.receive()]
        while frames[-1]["type"] == "next":
            frames.append(await client.receive())
        assert frames[-2]["data"]["status"] == "succeeded"
        assert frames[-1] == {"type": "complete", "id": "j"}


# Cancelling and leaving


@pytest.mark.parametrize("name", COLOURS)
async def test_cancelling_closes_the_generator_and_frees_the_id(site: Site, acme: Tenant, name: str) -> None:
    async with site.open(acme) as client:
        params = {"count": 1000, "pause": 0.05}
        await client.send("subscribe", id="a", stream=name, params=params, demand=1000)
        await client.items(1)
        await client.send("cancel", id="a")
        await client.send("subscribe", id="a", stream="plain", demand=5)
        seen = 0
        while (frame := await client.receive())["data"] != {}:
            seen += 1
        assert frame["seq"] == 1
        assert seen < 900
        await eventually_closed()


async def test_cancelling_an_idle_subscription_closes_its_generator(site: Site, acme: Tenant) -> None:
    async with site.open(acme) as client:
        await client.send("subscribe", id="a", stream="synchronous", demand=1)
        await client.items(1)
        await client.send("cancel", id="a")
        await eventually_closed()
        assert await client.silent()


async def test_what_has_just_ended_may_still_be_asked_for_or_cancelled(site: Site, acme: Tenant) -> None:
    async with site.open(acme) as client:
        await client.send("request", id="gone", n=5)
        await client.send("cancel", id="gone")
        await client.send("ping")
        assert await client.receive() == {"type": "pong"}


@pytest.mark.parametrize("name", COLOURS)
async def test_leaving_closes_every_generator_in_its_tenant(site: Site, acme: Tenant, name: str) -> None:
    async with site.open(acme) as client:
        for id_ in range(3):
            await client.send("subscribe", id=id_, stream=name, params={"count": 10**6}, demand=2)
        await client.items(6)
    await eventually_closed(3)
    assert {schema for schema, _ in streamers.ledger} == {"acme"}


async def test_a_connection_that_is_cut_closes_its_generators(site: Site, acme: Tenant) -> None:
    async with site.open(acme) as client:
        await client.send(
            "subscribe", id="a", stream="asynchronous", params={"count": 10**6, "pause": 0.01}, demand=10**6
        )
        await client.items(2)
        client.connection.transport.abort()
        await eventually_closed()


# Pings


async def test_pings_are_answered(site: Site, acme: Tenant) -> None:
    async with site.open(acme) as client:
        for _ in range(200):
            await client.send("ping")
        assert [await client.receive() for _ in range(200)] == [{"type": "pong"}] * 200


async def test_the_server_pings_too(site: Site, acme: Tenant, configured: Any) -> None:
    configured(SOCKET_PING_SECONDS=0.1)
    async with site.open(acme) as client:
        for _ in range(2):
            assert await client.receive() == {"type": "ping"}
            await client.send("pong")


# Failures of one subscription


@pytest.mark.parametrize(
    ("frame", "status", "text"),
    [
        ({"stream": "synchronus"}, 404, "Did you mean 'synchronous'"),
        ({"stream": "who-am-i"}, 404, "No stream named"),
        ({"stream": "job:nothing"}, 404, "There is no job"),
        ({"stream": "synchronous", "params": {"count": "x"}}, 422, '"count"'),
        ({"stream": "nothing"}, 500, "no generator"),
        ({"stream": "asynchronous", "params": {"fail_at": 1}}, 500, "A plugin failed"),
        ({"stream": "synchronous", "params": {"fail_at": 1}}, 500, '"plugin": "synchronous"'),
        ({"stream": "synchronous", "params": {"fail_at": 1, "how": "refuse"}}, 422, "It is too high."),
        ({"stream": "asynchronous", "params": {"fail_at": 1, "how": "exit"}}, 500, "tried to end the process"),
        ({"stream": "synchronous", "params": {"fail_at": 1, "how": "unspeakable"}}, 500, "is not JSON"),
    ],
)
async def test_a_subscription_that_fails_says_why_and_disturbs_no_other(
    site: Site, acme: Tenant, frame: dict[str, Any], status: int, text: str
) -> None:
    async with site.open(acme) as client:
        await client.send("subscribe", id="sound", stream="asynchronous", params={"count": 2}, demand=1)
        await client.items(1)
        await client.send("subscribe", id="broken", demand=5, **frame)
        error = await client.receive()
        assert (error["type"], error["id"], error["problem"]["status"]) == ("error", "broken", status)
        assert text in json.dumps(error["problem"])
        assert "secret" not in json.dumps(error)
        await client.send("request", id="sound", n=5)
        assert (await client.items(1))[0]["seq"] == 2
        assert await client.receive() == {"type": "complete", "id": "sound"}


async def test_a_user_without_the_permission_is_told_so_for_each_stream(site: Site, acme: Tenant) -> None:
    await tenancy.agate(acme, lambda: User.objects.get().user_permissions.clear())
    async with site.open(acme) as client:
        await client.send("subscribe", id="a", stream="synchronous")
        assert (await client.receive())["problem"]["status"] == 403


async def test_subscriptions_beyond_the_limit_are_refused(site: Site, acme: Tenant, configured: Any) -> None:
    configured(SOCKET_SUBSCRIPTIONS=2)
    async with site.open(acme) as client:
        for id_ in (1, 2, 3):
            await client.send("subscribe", id=id_, stream="synchronous", demand=0)
        refused = await client.receive()
        assert (refused["id"], refused["problem"]["status"]) == (3, 429)
        await client.send("cancel", id=1)
        frame = refused
        while frame["type"] == "error":  # what is still being opened is closed when it is
            assert frame["problem"]["status"] == 429
            await asyncio.sleep(0.05)
            await client.send("subscribe", id=3, stream="synchronous")
            frame = await client.receive()
        assert (frame["type"], frame["id"]) == ("next", 3)


# Protocol errors


NO_FRAMES: list[tuple[str | bytes, str]] = [
    ("{", "Not JSON"),
    ("", "dict"),
    ("[]", "dict"),
    ('{"type": "nonsense"}', "nonsense"),
    ('{"type": "subscribe", "stream": "a"}', "subscribe.id: Field required"),
    ('{"type": "subscribe", "id": "a"}', "subscribe.stream: Field required"),
    ('{"type": "subscribe", "id": "", "stream": "a"}', "subscribe.id"),
    ('{"type": "subscribe", "id": true, "stream": "a"}', "subscribe.id"),
    ('{"type": "subscribe", "id": "a", "stream": "a", "demand": -1}', "subscribe.demand"),
    ('{"type": "subscribe", "id": "a", "stream": "a", "demand": "many"}', "subscribe.demand"),
    ('{"type": "request", "id": "a"}', "request.n: Field required"),
    ('{"type": "request", "id": "a", "n": 0}', "request.n"),
    ('{"type": "subscribe", "id": "a", "stream": "a", "params": NaN}', "NaN is not JSON"),
    ('{"type": "ping", "type": "ping"}', "stands twice"),
    ('{"type": "subscribe", "id": "a", "stream": "\\u0000"}', "NUL"),
    ('{"type": "subscribe", "params": ' + "[" * 100 + "]" * 100 + "}", "Nested deeper than 32 levels"),
    ('{"type": "ping", "more": "' + "x" * 70_000 + '"}', "A frame has at most 65,536 bytes"),
    ('{"type": "ping", "more": "' + "ü" * 40_000 + '"}', "A frame has at most 65,536 bytes"),
    (b'{"type": "ping"}', "text, not binary"),
]


async def test_what_is_no_frame_closes_the_socket(site: Site, acme: Tenant) -> None:
    for sent, reason in NO_FRAMES:
        async with site.open(acme) as client:
            await client.connection.send(sent)
            code, why = await client.closed()
            assert (code, reason in why) == (Code.PROTOCOL, True), (sent[:100], code, why)


async def test_a_protocol_error_closes_the_generators(site: Site, acme: Tenant) -> None:
    async with site.open(acme) as client:
        await client.send("subscribe", id="open", stream="asynchronous", params={"count": 9}, demand=1)
        await client.items(1)
        await client.send("nonsense")
        assert (await client.closed())[0] == Code.PROTOCOL
    await eventually_closed()


async def test_an_id_in_use_closes_the_socket(site: Site, acme: Tenant) -> None:
    async with site.open(acme) as client:
        for _ in range(2):
            await client.send("subscribe", id="a", stream="synchronous")
        assert await client.closed() == (Code.PROTOCOL, "The id 'a' is in use.")


async def test_without_the_subprotocol_a_socket_is_closed(site: Site, acme: Tenant) -> None:
    async with site.open(acme, subprotocols=["graphql-ws"]) as client:
        assert await client.closed() == (Code.PROTOCOL, "Offer the subprotocol pluginhub.v1.")


# Who may come in


async def came_in(client: Client) -> bool:
    try:
        await client.send("ping")
        return await client.receive() == {"type": "pong"}
    except ConnectionClosed:
        return False


async def test_a_session_comes_in_from_its_own_page(site: Site, acme: Tenant, settings: Settings) -> None:
    cookie = {"Cookie": f"{settings.SESSION_COOKIE_NAME}={await tenancy.agate(acme, session)}; other=1"}
    async with site.open(acme, headers=cookie, origin=f"http://acme.localhost:{site.port}") as client:
        await client.send("subscribe", id=1, stream="synchronous")
        assert (await client.items(1))[0]["data"]["who"] == "who-acme"


async def test_a_ticket_comes_in_once(site: Site, acme: Tenant) -> None:
    caller = Caller("who-acme", "http", "1", frozenset({"pluginhub.run_target"}))
    ticket = await tenancy.agate(acme, access.issue_ticket, caller)
    origin = f"http://acme.localhost:{site.port}"
    async with site.open(acme, query=f"?ticket={ticket}", origin=origin) as client:
        assert await came_in(client)
    async with site.open(acme, query=f"?ticket={ticket}", origin=origin) as client:
        assert (await client.closed())[0] == Code.ANONYMOUS


async def test_nobody_stays_out(site: Site, acme: Tenant, globex: Tenant, settings: Settings) -> None:
    origin = f"http://acme.localhost:{site.port}"
    async with site.open(acme, anonymous=True) as client:
        assert await client.closed() == (Code.ANONYMOUS, "Log in, or send an access token.")
    async with site.open(acme, anonymous=True, origin=origin) as client:
        assert (await client.closed())[0] == Code.ANONYMOUS
    async with site.open(acme, bearer="ph_nonsense") as client:
        assert (await client.closed())[0] == Code.ANONYMOUS
    async with site.open(acme, query="?ticket=nonsense", origin=origin) as client:
        assert (await client.closed())[0] == Code.ANONYMOUS
    cookie = {"Cookie": f"{settings.SESSION_COOKIE_NAME}=nonsense"}
    async with site.open(acme, headers=cookie, origin=origin) as client:
        assert (await client.closed())[0] == Code.ANONYMOUS


async def test_credentials_of_another_tenant_count_for_nothing(
    site: Site, acme: Tenant, globex: Tenant, settings: Settings
) -> None:
    from tests.integration.sockets import token

    async with site.open(acme, bearer=await tenancy.agate(globex, token)) as client:
        assert (await client.closed())[0] == Code.ANONYMOUS
    cookie = {"Cookie": f"{settings.SESSION_COOKIE_NAME}={await tenancy.agate(globex, session)}"}
    async with site.open(acme, headers=cookie, origin=f"http://acme.localhost:{site.port}") as client:
        assert (await client.closed())[0] == Code.ANONYMOUS
    ticket = await tenancy.agate(globex, access.issue_ticket, Caller("who-globex", "http", "1"))
    async with site.open(acme, query=f"?ticket={ticket}", origin=f"http://acme.localhost:{site.port}") as client:
        assert (await client.closed())[0] == Code.ANONYMOUS


async def test_a_token_that_was_deleted_is_nobodys(site: Site, acme: Tenant) -> None:
    async with site.open(acme) as client:
        assert await came_in(client)
    from tests.integration.sockets import token

    bearer = await tenancy.agate(acme, token)
    await tenancy.agate(acme, lambda: AccessToken.objects.all().delete())
    async with site.open(acme, bearer=bearer) as client:
        assert (await client.closed())[0] == Code.ANONYMOUS


FOREIGN_ORIGINS = [
    "http://globex.localhost:{port}",
    "http://localhost:{port}",
    "http://acme.localhost",
    "http://acme.localhost:1",
    "https://acme.localhost",
    "http://acme.localhost.evil.example:{port}",
    "https://evil.example",
    "null",
    "file://",
    "http://acme.localhost:nonsense",
    "acme.localhost:{port}",
]


async def test_a_foreign_page_stays_out_whatever_it_carries(site: Site, acme: Tenant) -> None:
    for origin in FOREIGN_ORIGINS:
        async with site.open(acme, origin=origin.format(port=site.port)) as client:
            assert await client.closed() == (Code.FOREIGN, "The Origin is not this host's."), origin


async def test_a_host_that_is_no_tenants_has_no_socket(site: Site, acme: Tenant) -> None:
    for host in ("localhost", "nobody.localhost", "127.0.0.1", "acme.localhost.evil.example"):
        async with site.open(acme, host=f"{host}:{site.port}", origin=f"http://{host}:{site.port}") as client:
            assert await client.closed() == (Code.FOREIGN, "No tenant has this host."), host


async def test_a_session_without_an_origin_stays_out(site: Site, acme: Tenant, settings: Settings) -> None:
    cookie = {"Cookie": f"{settings.SESSION_COOKIE_NAME}={await tenancy.agate(acme, session)}"}
    async with site.open(acme, headers=cookie) as client:
        assert await client.closed() == (Code.FOREIGN, "Without an Origin, send Authorization: Bearer.")


async def test_a_tenants_further_origins_come_in(site: Site, acme: Tenant, globex: Tenant, configured: Any) -> None:
    configured(ORIGINS={"acme": ["https://app.acme.example"]})
    async with site.open(acme, origin="https://app.acme.example") as client:
        assert await came_in(client)
    async with site.open(globex, origin="https://app.acme.example") as client:
        assert (await client.closed())[0] == Code.FOREIGN
    async with site.open(acme, origin="http://app.acme.example") as client:
        assert (await client.closed())[0] == Code.FOREIGN


async def test_a_front_ends_development_server_comes_in_while_debugging(
    site: Site, acme: Tenant, settings: Settings
) -> None:
    settings.DEBUG = True
    for origin in ("http://localhost:5173", "http://127.0.0.1:5173", "http://[::1]:5173"):
        async with site.open(acme, origin=origin) as client:
            assert await came_in(client)
    async with site.open(acme, origin=f"http://globex.localhost:{site.port}") as client:
        assert (await client.closed())[0] == Code.FOREIGN


async def test_default_ports_need_not_be_written(site: Site, acme: Tenant) -> None:
    for host, origin in [
        ("acme.localhost", "https://acme.localhost"),
        ("acme.localhost:443", "https://acme.localhost"),
        ("acme.localhost", "http://acme.localhost:80"),
        ("ACME.localhost", "http://acme.localhost"),
    ]:
        async with site.open(acme, host=host, origin=origin) as client:
            assert await came_in(client)


# Clients that do not read


async def test_a_client_that_does_not_read_is_closed_and_holds_up_nobody(
    site: Site, acme: Tenant, configured: Any
) -> None:
    configured(SOCKET_SEND_SECONDS=0.5)
    async with site.open(acme, **site.small()) as stuck, site.open(acme) as other:
        params = {"count": 10**6, "size": 1000}
        await stuck.send("subscribe", id="a", stream="asynchronous", params=params, demand=10**6)
        await other.send("subscribe", id="b", stream="synchronous", params={"count": 10**6}, demand=100)
        await other.items(100)
        await eventually_closed()
        made = len(noted())
        assert await stuck.closed() == (Code.UNREAD, "Nothing was read for 0.5 s.")
        assert len(noted()) == made
        await other.send("request", id="b", n=1)
        await other.items(1)


async def test_a_client_that_only_sends_is_closed_too(site: Site, acme: Tenant, configured: Any) -> None:
    configured(SOCKET_SEND_SECONDS=0.5)
    async with site.open(acme, **site.small()) as client:
        client.connection.transport.pause_reading()
        sent: list[None] = []
        sending = asyncio.create_task(send_for_ever(client, sent))
        before = -1
        while len(sent) > before:  # until the server reads no more, since it cannot answer
            before = len(sent)
            await asyncio.sleep(1)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        client.connection.transport.resume_reading()
        assert (await client.closed())[0] == Code.UNREAD


async def send_for_ever(client: Client, sent: list[None]) -> None:
    while True:
        await client.send("ping")
        sent.append(None)


async def test_a_client_that_never_reads_again_is_dropped(
    site: Site, acme: Tenant, configured: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured(SOCKET_SEND_SECONDS=0.3)
    monkeypatch.setattr(sockets, "LINGER_SECONDS", 0.3)
    async with site.open(acme, **site.small()) as client:
        params = {"count": 10**6, "size": 1000}
        await client.send("subscribe", id="a", stream="asynchronous", params=params, demand=10**6)
        await asyncio.sleep(2)
        assert await client.closed() == (1006, "no close frame")
