"""Requests where the state of an interceptor moves from an instance to the next."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponse

from pluginhub import Context, Plugin, execution, handoffs, job, tenancy
from pluginhub.configuration import InterceptorSpec, RegistrationSpec
from pluginhub.middleware import visits
from pluginhub.presence import presence
from pluginhub.registry import lease, registry
from pluginhub.types import Tenant
from tests.integration.hub import publish
from tests.integration.passing import PLUGINS, aask, ask


class Filing(Plugin):
    """Is called, and handles jobs."""

    def process(self, value: Any, context: Context) -> Any:
        return value

    @job("file")
    def file(self, data: Any, context: Context) -> Any:
        return data


@pytest.fixture(autouse=True)
def site(settings: Any) -> None:
    known = {**PLUGINS, "filing": "tests.integration.test_middleware_state:Filing"}
    settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": known}
    settings.ROOT_URLCONF = "tests.integration.host_urls"
    visits._absent.clear()


class TestState:
    """No request is lost where state moves from an instance to the next; see `handoffs`."""

    @pytest.mark.parametrize("plugin", ["counter", "asynccounter", "adding"])
    def test_no_increment_is_lost_when_it_is_replaced_under_load(self, in_acme: Tenant, plugin: str) -> None:
        replace(plugin, 0)
        stop = threading.Event()
        stop.set()
        assert keep_asking(in_acme, stop, plugin, least=1) == 1  # it is up when it is first replaced
        stop.clear()
        with ThreadPoolExecutor(4) as pool:
            asking = [pool.submit(keep_asking, in_acme, stop, plugin) for _ in range(4)]
            for number in range(8):
                time.sleep(0.02)
                replace(plugin, number + 1)
            stop.set()
            asked = 1 + sum(each.result() for each in asking)
        assert execution.run("it") == asked
        assert asked > 20

    def test_what_comes_up_behind_its_successor_is_counted_as_lost(self, in_acme: Tenant) -> None:
        replace("counter", 0)
        with lease(in_acme) as older:
            replace("counter", 1)
            assert registry.runtimes() != [older]
            before = presence.lost
            older.instances.get("it")
            assert presence.lost == before + 1

    def test_what_the_view_runs_does_not_wait_for_the_request(self, in_acme: Tenant, settings: Any) -> None:
        settings.PLUGINHUB = {**settings.PLUGINHUB, "HANDOFF_SECONDS": 30}
        replace("counter", 0)
        inside = threading.Event()

        def view(request: HttpRequest) -> HttpResponse:
            inside.set()
            wait_until(is_closed)
            return HttpResponse(str(execution.run("it", timeout=10)).encode())

        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(tenancy.gate, in_acme, lambda: ask(view, in_acme).content)
            inside.wait(10)
            started = time.monotonic()
            replace("counter", 1)
            assert asked.result() == b"0"
        assert time.monotonic() - started < 25
        assert execution.run("it") == 1

    def test_requests_wait_while_state_moves(self, in_acme: Tenant) -> None:
        replace("counter", 0)
        ask(lambda _: HttpResponse(), in_acme)
        turnstile = registry.runtimes()[0].instances.actives()["it"].turnstile
        assert turnstile is not None
        turnstile.close()
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(tenancy.gate, in_acme, lambda: ask(lambda _: HttpResponse(b"then"), in_acme).content)
            wait_until(lambda: bool(turnstile._waiting))
            assert not asked.done()
            turnstile.open(moved=False)
            assert asked.result() == b"then"

    def test_one_that_waits_too_long_is_told(self, in_acme: Tenant, settings: Any) -> None:
        settings.PLUGINHUB = {**settings.PLUGINHUB, "RUN_SECONDS": 0.05}
        replace("counter", 0)
        ask(lambda _: HttpResponse(), in_acme)
        turnstile = registry.runtimes()[0].instances.actives()["it"].turnstile
        assert turnstile is not None
        turnstile.close()
        assert ask(lambda _: pytest.fail("called on"), in_acme).status_code == 504

        async def view(request: HttpRequest) -> HttpResponse:
            pytest.fail("called on")

        assert async_to_sync(aask)(view, in_acme).status_code == 504
        turnstile.open(moved=False)

    def test_a_task_that_outlives_the_request_waits_as_others_do(self) -> None:
        turnstile = handoffs.Turnstile()
        assert handoffs.enter([turnstile]) is None

        async def run() -> Any:
            go = asyncio.Event()

            async def later() -> Any:
                await go.wait()
                return handoffs.enter([turnstile])

            with handoffs.staying([turnstile]):
                task = asyncio.ensure_future(later())
                await asyncio.sleep(0)
                turnstile.close()
                assert handoffs.enter([turnstile]) is None
                turnstile.leave()
            go.set()
            return await task

        assert asyncio.run(run()) is turnstile


class TestJobs:
    @pytest.mark.parametrize("name", ["papers", "papers.file"])
    def test_who_wraps_a_job_counts_it_while_its_state_might_move(self, in_acme: Tenant, name: str) -> None:
        bound = InterceptorSpec(registration="it", scope="job", position=0)
        counter = RegistrationSpec(name="it", plugin="counter", config={"label": "1"})
        publish(counter, papers="filing", interceptors=(bound,))
        runtime = registry.acquire(in_acme)
        try:
            assert runtime.instances.get("it").turnstile in runtime.links.handler(name).turnstiles
        finally:
            runtime.release()


def replace(plugin: str, number: int) -> None:
    bound = () if plugin == "adding" else (InterceptorSpec(registration="it", scope="request", position=0),)
    publish(RegistrationSpec(name="it", plugin=plugin, config={"label": str(number)}), interceptors=bound)
    registry.refresh(tenancy.current())


def keep_asking(tenant: Tenant, stop: threading.Event, plugin: str, *, least: int = 0) -> int:
    asked = 0

    async def aview(request: HttpRequest) -> HttpResponse:
        await asyncio.sleep(0.002)
        return HttpResponse()

    def view(request: HttpRequest) -> HttpResponse:
        time.sleep(0.002)
        return HttpResponse()

    while asked < least or not stop.is_set():
        if plugin == "asynccounter":
            asyncio.run(aask(aview, tenant))
        else:
            ask(view, tenant)
        asked += 1
    return asked


def is_closed() -> bool:
    turnstile = registry.runtimes()[0].instances.actives()["it"].turnstile
    return turnstile is not None and turnstile._closed


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition() and time.monotonic() < until:
        time.sleep(0.005)
    assert condition()
