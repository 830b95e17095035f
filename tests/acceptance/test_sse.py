"""The running site's streams as server-sent events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.conftest import LiveSite

SWISS: dict[str, Any] = {"params": json.dumps({"country": "CH"})}


@contextmanager
def asked(
    live_site: LiveSite, path: str, headers: dict[str, str] | None = None, **query: Any
) -> Iterator[httpx.Response]:
    client = live_site.clients["acme"]
    known = {"Host": client.host, "Authorization": f"Bearer {client.token}"}
    with httpx.stream(
        "GET",
        f"http://127.0.0.1:{live_site.port}{path}",
        params=query,
        headers=known | (headers or {}),
        timeout=30,
        trust_env=False,
    ) as response:
        yield response


def events(response: httpx.Response) -> Iterator[dict[str, str]]:
    event: dict[str, str] = {}
    for line in response.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            event[name] = value
        else:
            yield event
            event = {}


def test_a_stream_ends_with_complete(live_site: LiveSite) -> None:
    with asked(live_site, "/hub/stream/airports/", **SWISS) as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        *items, end = events(response)
    assert end == {"event": "complete", "data": "{}"}
    assert all(json.loads(item["data"])["country"] == "CH" for item in items)
    assert [json.loads(item["id"]) for item in items] == sorted({json.loads(item["data"])["icao"] for item in items})


def test_a_stream_resumes_after_the_last_event(live_site: LiveSite) -> None:
    with asked(live_site, "/hub/stream/airports/", **SWISS) as response:
        first, second = (event for _, event in zip(range(2), events(response), strict=False))
    with asked(live_site, "/hub/stream/airports/", {"Last-Event-ID": first["id"]}, **SWISS) as response:
        assert next(events(response)) == second
    with asked(live_site, "/hub/stream/airports/", **SWISS, cursor=first["id"]) as response:
        assert next(events(response)) == second


def test_what_cannot_be_opened_is_answered_with_its_status(live_site: LiveSite) -> None:
    with asked(live_site, "/hub/stream/airprots/") as response:
        assert response.status_code == 404
        assert json.loads(response.read())["near_misses"] == ["airports"]
    with asked(live_site, "/hub/stream/airports/", params=json.dumps({"country": 1})) as response:
        assert response.status_code == 422
    with asked(live_site, "/hub/stream/airports/", {"Authorization": "Bearer nonsense"}) as response:
        assert response.status_code == 401
