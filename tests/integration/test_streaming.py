"""Streams are pulled as far as they are asked, in their tenant, and closed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from pluginhub import crossing, execution, jobs, publishing, streaming, tenancy
from pluginhub.exceptions import (
    Fatal,
    Forbidden,
    HookError,
    InvalidInput,
    MalformedInput,
    NotFound,
    Refuse,
    Unauthenticated,
    UnknownTarget,
    place_of,
)
from pluginhub.models import Job, Registration
from pluginhub.registry import registry
from pluginhub.storage import TenantStorage
from pluginhub.streaming import events, generators
from pluginhub.types import ANONYMOUS, HOST, Caller, Item, Tenant
from tests import streamers

COLOURS = ["synchronous", "asynchronous"]


@pytest.fixture(autouse=True)
def _streams(acme: Tenant, settings: Settings) -> None:
    """Every plugin of `streamers` is registered in acme, whose one user is named after it."""
    settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": streamers.PLUGINS}
    streamers.ledger.clear()
    tenancy.gate(acme, _publish)


def _publish() -> None:
    who = f"who-{tenancy.current().schema}"
    User.objects.create(username=who)
    for name in streamers.PLUGINS:
        Registration.objects.create(name=name, plugin=name)
        TenantStorage(tenancy.current(), name).set("who", who)
    publishing.publish(author="test")
    registry.refresh(tenancy.current())


@pytest.fixture
def held(acme: Tenant) -> Iterator[Tenant]:
    """Be in acme as asynchronous code is: no connection is moved."""
    with tenancy.enter(acme):
        yield acme


def noted() -> list[Any]:
    return [what for _, what in streamers.ledger]


async def numbers(source: streaming.Source, n: int) -> list[int]:
    """Pull exactly `n` items, in as many pages as it takes."""
    found: list[int] = []
    while len(found) < n and (page := await source.pull(n - len(found))):
        found += [item.data["n"] for item in page]
    return found


async def closed(tenant: Tenant, name: str) -> int:
    return int(await TenantStorage(tenant, name).aget("closed", 0))


# Pulling


@pytest.mark.parametrize("name", COLOURS)
async def test_a_generator_is_advanced_by_what_was_asked_for_and_no_further(held: Tenant, name: str) -> None:
    source = await streaming.open(name, {"count": 1000}, caller=HOST)
    assert noted() == []
    assert await numbers(source, 3) == [1, 2, 3]
    await asyncio.sleep(0.05)
    assert noted() == [1, 2, 3]
    assert await numbers(source, 100) == list(range(4, 104))
    assert noted() == list(range(1, 104))
    await source.close()


@pytest.mark.parametrize("name", COLOURS)
async def test_an_empty_page_is_the_end(held: Tenant, name: str) -> None:
    source = await streaming.open(name, {"count": 2}, caller=HOST)
    assert await numbers(source, 2) == [1, 2]
    assert [source.ended, await source.pull(5), source.ended, await source.pull(5)] == [False, [], True, []]
    await source.close()


@pytest.mark.parametrize("name", COLOURS)
async def test_closing_runs_the_finally_blocks_in_the_tenant(held: Tenant, name: str) -> None:
    source = await streaming.open(name, {"count": 1000}, caller=HOST)
    await numbers(source, 1)
    await source.close()
    await source.close()
    assert streamers.ledger == [("acme", 1), ("acme", "closed")]
    assert await closed(held, name) == 1
    assert await source.pull() == []


@pytest.mark.parametrize("name", COLOURS)
async def test_a_source_that_was_never_pulled_closes(held: Tenant, name: str) -> None:
    source = await streaming.open(name, {"count": 1000}, caller=HOST)
    await source.close()
    assert noted() == []


@pytest.mark.parametrize("name", COLOURS)
async def test_a_pull_can_be_cancelled_and_the_source_closed(held: Tenant, name: str) -> None:
    source = await streaming.open(name, {"count": 10, "pause": 0.2}, caller=HOST)
    pull = asyncio.create_task(source.pull(10))
    async with asyncio.timeout(10):
        while not noted():  # noqa: ASYNC110 - the generator, at its first item, may be in a thread
            await asyncio.sleep(0.01)
    pull.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pull
    await source.close()
    assert noted() == [1, "closed"]
    assert await closed(held, name) == 1


@pytest.mark.parametrize("name", COLOURS)
async def test_two_pulls_at_once_are_refused(held: Tenant, name: str) -> None:
    source = await streaming.open(name, {"count": 10, "pause": 0.1}, caller=HOST)
    first = asyncio.create_task(source.pull(1))
    await asyncio.sleep(0.02)
    with pytest.raises(HookError, match="being pulled already"):
        await source.pull(1)
    assert [item.data["n"] for item in await first] == [1]
    await source.close()


@pytest.mark.parametrize("name", COLOURS)
async def test_a_slow_generator_gives_each_item_as_it_comes(held: Tenant, name: str) -> None:
    source = await streaming.open(name, {"count": 10, "pause": 0.2}, caller=HOST)
    assert [item.data["n"] for item in await source.pull(10)] == [1]
    await source.close()


async def test_items_that_are_there_do_not_wait_for_those_that_are_not() -> None:
    def bursts() -> Iterator[int]:
        yield from (1, 2)
        time.sleep(0.5)
        yield 3

    pulled = generators.Threaded(bursts())
    assert await pulled.pull(10) == [1, 2]
    assert await pulled.pull(10) == [3]
    assert await pulled.pull(10) == []


async def test_a_synchronous_generator_crosses_to_a_thread_once_a_page(
    held: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = await streaming.open("synchronous", {"count": 1000}, caller=HOST)
    hops = 0
    in_thread = crossing.in_stream_thread

    def counted(*args: Any) -> Any:
        nonlocal hops
        hops += 1
        return in_thread(*args)

    monkeypatch.setattr(generators, "PAGE_SECONDS", 60.0)
    monkeypatch.setattr(crossing, "in_stream_thread", counted)
    await source.pull(generators.PAGE_ITEMS)
    assert hops == 1
    await source.close()


async def test_a_generator_that_never_waits_lets_others_run(held: Tenant) -> None:
    source = await streaming.open("endless", caller=HOST)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    other = asyncio.create_task(tick())
    for _ in range(1000):
        await source.pull(10)
    assert ticks >= 10
    other.cancel()
    await source.close()


async def test_a_list_serves_as_a_stream(held: Tenant) -> None:
    source = await streaming.open("plain", {"a": 1}, cursor=7, caller=HOST)
    assert await source.pull(5) == [Item({"a": 1}), Item(7)]
    await source.close()


# Resuming


@pytest.mark.parametrize("name", COLOURS)
async def test_a_stream_resumes_after_its_cursor(held: Tenant, name: str) -> None:
    first = await streaming.open(name, {"count": 10}, caller=HOST)
    assert await numbers(first, 4) == [1, 2, 3, 4]
    await first.close()
    second = await streaming.open(name, {"count": 10}, cursor=first.cursor, caller=HOST)
    assert await numbers(second, 10) == [5, 6, 7, 8, 9, 10]
    await second.close()


# Refusing


async def test_an_unknown_stream_names_near_misses(held: Tenant) -> None:
    with pytest.raises(UnknownTarget, match="Did you mean 'synchronous'"):
        await streaming.open("synchronus", caller=HOST)


async def test_a_target_without_a_stream_hook_is_no_stream(held: Tenant) -> None:
    with pytest.raises(UnknownTarget):
        await streaming.open("who-am-i", caller=HOST)


async def test_params_that_do_not_fit_are_named_by_field(held: Tenant) -> None:
    with pytest.raises(InvalidInput) as caught:
        await streaming.open("synchronous", {"count": "many"}, caller=HOST)
    assert list(caught.value.errors) == ["count"]
    assert place_of(caught.value).plugin == "synchronous"


async def test_strangers_and_users_without_the_permission_are_refused(held: Tenant) -> None:
    with pytest.raises(Unauthenticated):
        await streaming.open("synchronous", caller=ANONYMOUS)
    with pytest.raises(Forbidden, match=r"pluginhub\.run_target"):
        await streaming.open("synchronous", caller=Caller("ann", "http", "1"))


async def test_a_refused_stream_holds_no_runtime(held: Tenant) -> None:
    with pytest.raises(InvalidInput):
        await streaming.open("synchronous", {"count": -1}, caller=HOST)
    assert not registry._runtimes["acme"].busy


async def test_an_open_stream_holds_its_runtime_until_it_is_closed(held: Tenant) -> None:
    source = await streaming.open("synchronous", caller=HOST)
    runtime = registry._runtimes["acme"]
    busy = [runtime.busy]
    await source.close()
    assert [*busy, runtime.busy] == [True, False]


# Failing


@pytest.mark.parametrize("name", COLOURS)
async def test_an_error_comes_after_the_items_before_it_and_says_where(held: Tenant, name: str) -> None:
    source = await streaming.open(name, {"fail_at": 3}, caller=HOST)
    assert await numbers(source, 2) == [1, 2]
    with pytest.raises(LookupError) as caught:
        await source.pull(10)
    assert place_of(caught.value).plugin == name
    assert place_of(caught.value).registration == name
    assert await source.pull(10) == []
    await source.close()
    assert noted()[-1] == "closed"


@pytest.mark.parametrize("name", COLOURS)
async def test_a_refusal_travels_as_itself(held: Tenant, name: str) -> None:
    source = await streaming.open(name, {"fail_at": 1, "how": "refuse"}, caller=HOST)
    with pytest.raises(Refuse, match="No more of these"):
        await source.pull()
    await source.close()


@pytest.mark.parametrize("name", COLOURS)
async def test_a_plugin_cannot_end_the_process(held: Tenant, name: str) -> None:
    source = await streaming.open(name, {"fail_at": 1, "how": "exit"}, caller=HOST)
    with pytest.raises(Fatal, match="tried to end the process"):
        await source.pull()
    await source.close()


async def test_a_hook_that_forgot_to_yield_is_told_so(held: Tenant) -> None:
    with pytest.raises(HookError, match="returned NoneType, which is no generator"):
        await streaming.open("nothing", caller=HOST)


# The tenant


@pytest.mark.parametrize("name", COLOURS)
async def test_each_pull_is_in_the_streams_tenant_whatever_is_current(acme: Tenant, globex: Tenant, name: str) -> None:
    with tenancy.enter(acme):
        source = await streaming.open(name, caller=HOST)
    with tenancy.enter(globex):
        assert [item.data["who"] for item in await source.pull()] == ["who-acme"]
        assert tenancy.current() == globex
    await source.pull()
    assert tenancy.current_or_none() is None
    await source.close()
    assert {schema for schema, _ in streamers.ledger} == {"acme"}


SEEN: ContextVar[int] = ContextVar("seen", default=0)


def counting() -> Iterator[int]:
    token = SEEN.set(0)
    try:
        while True:
            SEEN.set(SEEN.get() + 1)
            yield SEEN.get()
    finally:
        SEEN.reset(token)


async def acounting() -> AsyncIterator[int]:
    token = SEEN.set(0)
    try:
        while True:
            await asyncio.sleep(0)
            SEEN.set(SEEN.get() + 1)
            yield SEEN.get()
    finally:
        SEEN.reset(token)


@pytest.mark.parametrize(
    "make", [lambda: generators.Threaded(counting()), lambda: generators.Looped(acounting())], ids=COLOURS
)
async def test_a_generator_keeps_its_context_variables_whoever_pulls(make: Callable[[], generators.Pulled]) -> None:
    pulled = make()
    for n in (1, 2, 3):
        assert await asyncio.create_task(pulled.pull(1)) == [n]
    await asyncio.create_task(pulled.close())
    assert SEEN.get() == 0


# The host's own loops


@pytest.mark.parametrize("name", COLOURS)
def test_a_for_loop_gives_the_data(in_acme: Tenant, name: str) -> None:
    stream = execution.stream(name, {"count": 3})
    assert [data["n"] for data in stream] == [1, 2, 3]
    assert stream.cursor == 3
    assert noted() == [1, 2, 3, "closed"]


@pytest.mark.parametrize("name", COLOURS)
def test_leaving_a_for_loop_closes_the_stream(in_acme: Tenant, name: str) -> None:
    for data in execution.stream(name, {"count": 1000}):
        if data["n"] == 2:
            break
    assert noted() == [1, 2, "closed"]
    assert not registry._runtimes["acme"].busy


@pytest.mark.parametrize("name", COLOURS)
def test_a_for_loop_stays_in_its_tenant_while_the_caller_moves(acme: Tenant, globex: Tenant, name: str) -> None:
    with tenancy.visit(acme):
        stream = execution.stream(name, {"count": 3})
    for data in stream:
        assert data["who"] == "who-acme"
        with tenancy.visit(globex):
            assert User.objects.count() == 0


def test_a_for_loop_sees_the_callers_open_transaction(in_acme: Tenant) -> None:
    from django.db import transaction

    with transaction.atomic():
        User.objects.update(username="not committed")
        assert next(execution.stream("synchronous"))["who"] == "not committed"
        transaction.set_rollback(True)


@pytest.mark.parametrize("name", COLOURS)
async def test_an_async_for_loop_pulls_one_by_one_and_closes(held: Tenant, name: str) -> None:
    async with execution.stream(name, {"count": 1000}) as stream:
        async for data in stream:
            if data["n"] == 3:
                break
    assert noted() == [1, 2, 3, "closed"]


def test_errors_reach_a_for_loop(in_acme: Tenant) -> None:
    with pytest.raises(UnknownTarget):
        next(execution.stream("nobody"))
    with pytest.raises(LookupError) as caught:
        list(execution.stream("asynchronous", {"fail_at": 1}))
    assert place_of(caught.value).plugin == "asynchronous"


# Jobs


async def test_a_job_streams_its_progress_and_its_end(held: Tenant) -> None:
    job = await jobs.aenqueue("who-am-i", 1)
    source = await streaming.open(f"job:{job}", caller=HOST)
    assert [item.data["status"] for item in await source.pull(5)] == ["queued"]

    await tenancy.agate(held, lambda: jobs.work(held, seconds=5))
    (end,) = await source.pull(5)
    assert (end.data["status"], end.data["result"]["user"]) == ("succeeded", "who-acme")
    assert await source.pull(5) == []
    await source.close()


async def test_a_resumed_job_passes_over_what_was_seen(held: Tenant) -> None:
    job = await jobs.aenqueue("who-am-i", 1)
    first = await streaming.open(f"job:{job}", caller=HOST)
    await first.pull()
    await first.close()
    await tenancy.agate(held, lambda: jobs.work(held, seconds=5))
    second = await streaming.open(f"job:{job}", cursor=first.cursor, caller=HOST)
    assert [item.data["status"] for item in await second.pull()] == ["succeeded"]
    await second.close()


async def test_a_job_of_somebody_else_cannot_be_followed(held: Tenant) -> None:
    job = await jobs.aenqueue("who-am-i", 1)
    with pytest.raises(NotFound):
        await streaming.open(f"job:{job}", caller=Caller("ann", "http", "1", frozenset({"pluginhub.run_target"})))
    with pytest.raises(NotFound):
        await streaming.open("job:nonsense", caller=HOST)


def test_a_for_loop_follows_a_job(in_acme: Tenant) -> None:
    job = jobs.enqueue("who-am-i", 1)
    Job.objects.filter(id=job).update(status="cancelled", ended="2026-01-01T00:00:00Z")
    assert [state["status"] for state in execution.stream(f"job:{job}")] == ["cancelled"]


# Server-sent events


async def body(source: streaming.Source) -> list[str]:
    return [event for page in [chunk.decode() async for chunk in streaming.sse(source)] for event in page.split("\n\n")]


async def test_events_carry_cursors_and_an_end(held: Tenant) -> None:
    source = await streaming.open("synchronous", {"count": 2}, caller=HOST)
    sent = [event for event in await body(source) if event]
    assert sent[0] == 'id: 1\ndata: {"n":1,"who":"who-acme","padding":""}'
    assert sent[-1] == "event: complete\ndata: {}"
    assert noted() == [1, 2, "closed"]


async def test_events_without_cursors_are_numbered(held: Tenant) -> None:
    source = await streaming.open("plain", caller=HOST)
    assert (await body(source))[:2] == ["id: #1\ndata: {}", "id: #2\ndata: null"]


async def test_an_error_is_an_event_with_a_problem(held: Tenant) -> None:
    source = await streaming.open("asynchronous", {"fail_at": 2}, caller=HOST)
    sent = [event for event in await body(source) if event]
    assert sent[-1].startswith('event: error\ndata: {"type":"about:blank","title":"A plugin failed","status":500')
    assert "secret" not in sent[-1]


async def test_a_silent_stream_sends_comments(held: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PING_SECONDS", 0.05)
    source = await streaming.open("asynchronous", {"count": 1, "pause": 0.2}, caller=HOST)
    assert (await body(source))[0] == ": ping"


async def test_events_nobody_reads_any_more_close_the_source(held: Tenant) -> None:
    source = await streaming.open("asynchronous", {"count": 1000, "pause": 0.01}, caller=HOST)
    body = aiter(streaming.sse(source))
    await anext(body)
    await body.aclose()  # type: ignore[attr-defined]
    assert noted()[-1] == "closed"


async def test_events_that_were_never_read_close_the_source(held: Tenant) -> None:
    source = await streaming.open("synchronous", {"count": 100}, caller=HOST)
    await source.pull()
    unread = streaming.sse(source)
    await asyncio.to_thread(unread.close)
    for _ in range(500):
        await asyncio.sleep(0.01)
        if noted()[-1] == "closed":
            return
    pytest.fail("It stayed open.")


@pytest.mark.parametrize(
    ("last", "cursor"), [(None, None), ("", None), ("#12", None), ("12", 12), ('"ZRH"', "ZRH"), ("[1,2]", [1, 2])]
)
def test_a_last_event_id_is_the_cursor_to_resume_from(last: str | None, cursor: Any) -> None:
    assert streaming.resumed_from(last) == cursor


def test_a_last_event_id_of_somebody_elses_is_refused() -> None:
    with pytest.raises(MalformedInput, match="none of ours"):
        streaming.resumed_from("{")
