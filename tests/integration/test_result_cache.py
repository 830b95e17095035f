"""Results kept in Valkey: for whom, until when, and computed once by the whole fleet."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings as django_settings
from django.core.cache import caches
from django.db import connections
from django.test.utils import override_settings

from pluginhub import execution, resets, tenancy, valkey
from pluginhub.caching import asking
from pluginhub.caching.marks import Mark
from pluginhub.configuration import RegistrationSpec
from pluginhub.exceptions import CachedFailure, Refuse, problem_of
from pluginhub.registry import plugins_for
from pluginhub.types import Tenant
from tests.forking import in_child
from tests.integration import cached_plugins
from tests.integration.cached_plugins import SECONDS, computed
from tests.integration.hub import publish

READY = "tests:ready"

both_plugins = pytest.mark.parametrize("plugin", ["costly", "asynccostly"])


@pytest.fixture(autouse=True)
def hub(settings: Any, in_acme: Tenant) -> Iterator[None]:
    settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": cached_plugins.PLUGINS}
    cached_plugins.forget()
    asking._Outage.until = 0.0
    for key in valkey.client().scan_iter("*pluginhub.results:*"):
        valkey.client().delete(key)
    yield
    asking._Outage.until = 0.0


def costly(plugin: str = "costly", **about: Any) -> RegistrationSpec:
    """The registration `price`, whose results are kept for a minute."""
    return RegistrationSpec(name="price", plugin=plugin, **{"cache_seconds": 60, **about})


def both(value: Any) -> Any:
    """Run in both colours, and expect the same."""
    result = execution.run("price", value)
    assert async_to_sync(execution.arun)("price", value) == result
    return result


@both_plugins
def test_a_result_is_computed_once_in_either_colour(plugin: str) -> None:
    publish(costly(plugin))
    assert both(2) == ["acme", 2, 1]
    assert both(3) == ["acme", 3, 2]


@both_plugins
def test_without_seconds_each_call_computes(plugin: str) -> None:
    publish(costly(plugin, cache_seconds=None))
    execution.run("price", 2)
    execution.run("price", 2)
    assert computed() == 2


def test_it_is_computed_anew_when_its_seconds_are_over() -> None:
    publish(costly(cache_seconds=0.5))  # rounded up to a second
    assert execution.run("price", 2) == execution.run("price", 2)
    time.sleep(1.1)
    assert execution.run("price", 2)[2] == 2


@both_plugins
def test_tenants_never_meet(plugin: str, globex: Tenant) -> None:
    publish(costly(plugin))
    with tenancy.visit(globex):
        publish(costly(plugin))
        assert both(2) == ["globex", 2, 1]
    assert both(2) == ["acme", 2, 2]


def test_a_changed_configuration_has_results_of_its_own_and_an_older_one_finds_its_again() -> None:
    publish(costly())
    assert both(2) == ["acme", 2, 1]
    publish(costly(config={"factor": 2}))
    assert both(2) == ["acme", 4, 2]
    publish(costly())
    assert both(2) == ["acme", 2, 1]


def test_what_does_not_shape_a_result_leaves_it() -> None:
    publish(costly())
    both(2)
    publish(costly(title="Another title"))
    assert both(2) == ["acme", 2, 1]


def test_a_reset_empties_the_cache_of_one_registration() -> None:
    publish(costly(), RegistrationSpec(name="other", plugin="costly", cache_seconds=60))
    both(2)
    execution.run("other", 2)
    resets.reset("price", "cache", author="vera")
    _until(lambda: execution.run("price", 2)[2] == 3)
    assert both(2) == ["acme", 2, 3]
    assert execution.run("other", 2) == ["acme", 2, 2]


def test_another_process_finds_what_this_one_kept() -> None:
    publish(costly())
    execution.run("price", 2)
    assert in_child(both, 2) == ["acme", 2, 1]
    assert computed() == 1


def test_asynchronous_hits_use_connections_again() -> None:
    """Django's own `cache` opens one in each hop to a thread."""
    publish(costly("asynccostly"))

    async def ask(times: int) -> None:
        for _ in range(times):
            await execution.arun("price", 2)

    async_to_sync(ask)(5)
    before = _connections()
    async_to_sync(ask)(100)
    assert _connections() - before < 50


def _connections() -> int:
    """Return how many connections Valkey was ever asked for."""
    info: Any = valkey.client().info("stats")
    return int(info["total_connections_received"])


def test_a_failure_that_was_kept_is_the_same_problem() -> None:
    publish(costly(cache_failures=60))
    problems = []
    for expected in (Refuse, CachedFailure, CachedFailure):
        with pytest.raises(expected) as raised:
            execution.run("price", "refused")
        problems.append(problem_of(raised.value))
    assert problems[0] == problems[1] == problems[2]
    assert problems[0]["errors"] == {"": "Not this."}
    assert computed() == 1


@both_plugins
def test_a_cache_that_is_down_is_asked_once_and_fails_nothing(plugin: str, caplog: pytest.LogCaptureFixture) -> None:
    publish(costly(plugin))
    with _outage():
        for _ in range(10):
            execution.run("price", 2)
            async_to_sync(execution.arun)("price", 2)
    assert computed() == 20
    assert [record.name for record in caplog.records].count("pluginhub.caching") == 1


def test_a_cache_that_is_back_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "PAUSE_SECONDS", 0.05)
    publish(costly())
    with _outage():
        execution.run("price", 2)
    time.sleep(0.1)
    assert execution.run("price", 2) == execution.run("price", 2)


class TestStorm:
    """50 threads and 50 tasks in each of two processes ask for one cold key at once."""

    @both_plugins
    def test_it_is_computed_once(self, plugin: str) -> None:
        publish(costly(plugin, config={"seconds": SECONDS}))
        assert _storm() == [["acme", 7, 1]] * 200
        assert computed() == 1

    @both_plugins
    def test_and_more_than_once_without_marks(self, plugin: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Mark, "_take", lambda self: (asking.get(self._key), False))
        publish(costly(plugin, config={"seconds": SECONDS}))
        _storm()
        assert computed() > 2

    def test_once_a_tenant(self, globex: Tenant) -> None:
        publish(costly(config={"seconds": SECONDS}))
        with tenancy.visit(globex):
            publish(costly(config={"seconds": SECONDS}))
        with ThreadPoolExecutor(40) as pool:
            asked = [pool.submit(_in_thread, tenant) for tenant in ("acme", "globex") * 20]
            results = [each.result() for each in asked]
        assert {schema for schema, _, _ in results[::2]} == {"acme"}
        assert {schema for schema, _, _ in results[1::2]} == {"globex"}
        assert computed() == 2


def _storm() -> list[Any]:
    valkey.client().delete(READY)
    with ThreadPoolExecutor(1) as pool:
        theirs = pool.submit(in_child, _ask_in_acme, 50)
        return [*_ask_in_acme(50), *theirs.result()]


def _ask_in_acme(size: int) -> list[Any]:
    """Ask in `size` threads and `size` tasks, when the other process is there, too."""
    with tenancy.visit("acme") as tenant:
        plugins_for(tenant)["price"]  # brings it up
    valkey.client().incr(READY)
    _until(lambda: valkey.client().get(READY) == b"2")
    with ThreadPoolExecutor(size + 1) as pool:
        tasks = pool.submit(_in_tasks, size)
        threads = [pool.submit(_in_thread, "acme") for _ in range(size)]
        return [*tasks.result(), *(each.result() for each in threads)]


def _in_thread(schema: str) -> Any:
    try:
        with tenancy.visit(schema):
            return execution.run("price", 7)
    finally:
        connections.close_all()


def _in_tasks(size: int) -> list[Any]:
    async def ask() -> list[Any]:
        return await asyncio.gather(*(execution.arun("price", 7) for _ in range(size)))

    with tenancy.enter(tenancy.find("acme")):
        try:
            return asyncio.run(ask())
        finally:
            connections.close_all()


@contextmanager
def _outage() -> Iterator[None]:
    """A Redis that nobody answers at, for the cache alone."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"redis://127.0.0.1:{free.getsockname()[1]}/0"
    backend = {**django_settings.CACHES["default"], "LOCATION": address}
    with override_settings(CACHES={"default": backend}):
        asking._Outage.until = 0.0
        yield
    caches.close_all()


def _until(condition: Any) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)
