"""`TenantCache`: values that may vanish, and a cache that may be down."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.core.cache import cache, caches
from django.test.utils import override_settings

from pluginhub.caching import TenantCache, asking
from pluginhub.context import Cache
from pluginhub.types import Tenant


@pytest.fixture
def kept(acme: Tenant) -> TenantCache:
    return TenantCache(acme, "notes")


@pytest.fixture
def outage(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Redis that nobody answers at."""
    monkeypatch.setattr(asking._Outage, "until", 0.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"redis://127.0.0.1:{free.getsockname()[1]}/0"
    with override_settings(CACHES={"default": {**settings.CACHES["default"], "LOCATION": address}}):
        yield
    caches.close_all()


def test_it_is_the_cache_that_plugins_are_promised(kept: TenantCache) -> None:
    promised: Cache = kept
    assert promised.get("x") is None


@pytest.mark.parametrize("value", [None, 0, "", [], {"a": (1, 2)}, b"bytes"])
def test_a_cached_value_is_a_hit_whatever_it_is(kept: TenantCache, value: Any) -> None:
    kept.set("x", value)
    assert kept.get("x", "default") == value
    assert kept.get_or_set("x", lambda: "made anew") == value


def test_each_caller_gets_a_copy(kept: TenantCache) -> None:
    kept.set("x", {"n": 1})
    kept.get("x")["n"] = 2
    assert kept.get("x") == {"n": 1}


def test_tenants_and_registrations_do_not_meet(kept: TenantCache, acme: Tenant, globex: Tenant) -> None:
    kept.set("x", 1)
    assert TenantCache(globex, "notes").get("x") is None
    assert TenantCache(acme, "other").get("x") is None


def test_tenants_do_not_meet_whatever_their_schemas_are_called() -> None:
    TenantCache(Tenant("odd"), "notes").set("mine:x", 1)
    assert TenantCache(Tenant("odd:notes"), "mine").get("x") is None


@pytest.mark.parametrize("key", ["with spaces", "x" * 1_000, "ümläut", "line\nbreak", "\ud800"])
def test_any_text_is_a_key(kept: TenantCache, key: str) -> None:
    kept.set(key, 1)
    assert kept.get(key) == 1


def test_a_value_vanishes_after_its_seconds(kept: TenantCache) -> None:
    kept.set("x", 1, ttl=0.2)  # rounded up to a second
    assert kept.get("x") == 1
    time.sleep(1.1)
    assert kept.get("x") is None


def test_no_seconds_at_all_keep_nothing(kept: TenantCache) -> None:
    kept.set("x", 1, ttl=0)
    assert kept.get("x") is None


def test_it_is_made_once_and_kept(kept: TenantCache) -> None:
    made: list[int] = []
    for _ in range(3):
        kept.get_or_set("x", lambda: made.append(1))
    assert made == [1]


def test_the_asynchronous_twins_do_the_same(kept: TenantCache) -> None:
    async def make() -> str:
        return "made"

    async def work() -> list[Any]:
        await kept.aset("x", None)
        return [
            await kept.aget("x", "default"),
            await kept.aget("y", "default"),
            await kept.aget_or_set("y", make),
            await kept.aget_or_set("z", lambda: "plain"),
        ]

    assert asyncio.run(work()) == [None, "default", "made", "plain"]
    assert kept.get("y") == "made"


@pytest.mark.usefixtures("outage")
def test_a_cache_that_is_down_is_a_miss_and_no_error(kept: TenantCache) -> None:
    kept.set("x", 1)
    assert kept.get("x", "default") == "default"
    assert kept.get_or_set("x", lambda: "made") == "made"


@pytest.mark.usefixtures("outage")
def test_a_cache_that_is_down_costs_time_once(kept: TenantCache) -> None:
    started = time.monotonic()
    kept.get("x")
    first = time.monotonic() - started
    started = time.monotonic()
    for _ in range(100):
        kept.get("x")
    assert time.monotonic() - started < 20 * first


def test_errors_of_making_are_the_caller_s(kept: TenantCache) -> None:
    with pytest.raises(ZeroDivisionError):
        kept.get_or_set("x", lambda: 1 // 0)
    assert cache.get("x") is None
