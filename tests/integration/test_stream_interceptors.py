"""Interceptors of streams in the hub: found, in their tenant, around whoever consumes, and closed with the stream."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from django.contrib.auth.models import Permission, User
from django.db import transaction
from pydantic import BaseModel
from pytest_django import Settings

from pluginhub import Context, Item, Plugin, Refuse, execution, publishing, streaming, tenancy
from pluginhub.configuration import Configuration, InterceptorSpec, RegistrationSpec
from pluginhub.exceptions import InvalidInput, NotReady, place_of
from pluginhub.layers import Invocation
from pluginhub.metrics import SUM, timings
from pluginhub.presence import presence
from pluginhub.registry import registry
from pluginhub.storage import TenantStorage
from pluginhub.types import HOST, Tenant
from tests import streamers
from tests.integration.sockets import Site, serving

COLOURS = ["synchronous", "asynchronous"]
LAYERS = ["stamped", "astamped"]


def note(what: str) -> None:
    streamers.ledger.append((tenancy.current().schema, what))


class Stamped(Plugin):
    """Stamp each item with the tenant's one user."""

    def intercept(self, request: Invocation, call_next: Any) -> Iterator[Item]:
        try:
            for item in map(Item.of, call_next(request)):
                by = [*item.data.get("by", []), User.objects.get().username]
                yield replace(item, data=item.data | {"by": by})
        finally:
            note(f"stamped closed for {User.objects.get().username}")


class AsyncStamped(Plugin):
    """Do the same on the loop."""

    async def intercept(self, request: Invocation, call_next: Any) -> AsyncIterator[Item]:
        storage = TenantStorage(tenancy.current(), "asynchronous")
        try:
            async for each in call_next(request):
                item = Item.of(each)
                by = [*item.data.get("by", []), await storage.aget("who")]
                yield replace(item, data=item.data | {"by": by})
        finally:
            note(f"astamped closed for {await storage.aget('who')}")


class Added(Plugin):
    """Add an interceptor of streams while active."""

    def activate(self, context: Context) -> None:
        context.middleware.use(self.around, scope="stream")

    def around(self, request: Invocation, call_next: Any) -> Iterator[Any]:
        for item in map(Item.of, call_next(request)):
            yield replace(item, data=item.data | {"added": [request.target, request.caller.name, request.run_id != ""]})


class Counting(Plugin):
    """Count items, in memory."""

    class Config(BaseModel):
        label: str = ""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.count = 0

    def intercept(self, request: Invocation, call_next: Any) -> Iterator[Any]:
        for _ in call_next(request):
            self.count += 1
            yield self.count

    def get_state(self) -> int:
        return self.count

    def restore_state(self, state: int) -> None:
        self.count = state


class Failing(Plugin):
    """Fail after two items."""

    def intercept(self, request: Invocation, call_next: Any) -> Iterator[Any]:
        for n, item in enumerate(call_next(request)):
            if n == 2:
                raise LookupError("a secret of the interceptor's")
            yield item


class Limited(Plugin):
    """Refuse long streams, when they are opened."""

    def intercept(self, request: Invocation, call_next: Any) -> Any:
        if request.value["count"] > 100:
            raise Refuse("So many are not for you.", errors={"count": "At most 100."})
        return call_next(request.replace({**request.value, "size": 1}))


class Slow(Plugin):
    """Take time to open a stream."""

    opening: ClassVar[threading.Event] = threading.Event()
    go: ClassVar[threading.Event] = threading.Event()

    def intercept(self, request: Invocation, call_next: Any) -> Any:
        self.opening.set()
        self.go.wait(10)
        return call_next(request)


class Broken(Plugin):
    """Never come up."""

    def activate(self, context: Context) -> None:
        raise NotReady("It is broken.")

    def intercept(self, request: Invocation, call_next: Any) -> Any:
        return call_next(request)


PLUGINS = streamers.PLUGINS | {
    "stamped": f"{__name__}:Stamped",
    "astamped": f"{__name__}:AsyncStamped",
    "slow": f"{__name__}:Slow",
    "broken": f"{__name__}:Broken",
    "added": f"{__name__}:Added",
    "counting": f"{__name__}:Counting",
    "failing": f"{__name__}:Failing",
    "limited": f"{__name__}:Limited",
}


@pytest.fixture(autouse=True)
def _streams(acme: Tenant, settings: Settings) -> None:
    settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": PLUGINS}
    streamers.ledger.clear()
    tenancy.gate(acme, _people)


def _people() -> None:
    user = User.objects.create(username="who-acme")
    user.user_permissions.add(Permission.objects.get(codename="run_target"))
    TenantStorage(tenancy.current(), "asynchronous").set("who", user.username)


def wrap(*layers: str | InterceptorSpec, config: dict[str, Any] | None = None) -> None:
    """Publish every plugin of `streamers`, and interceptors around all its streams, outermost first."""
    specs = [each if isinstance(each, InterceptorSpec) else _all(each) for each in layers]
    names = [*streamers.PLUGINS, *(spec.registration for spec in specs if spec.registration != "added")]
    names += ["added"] if "added" in layers else []
    configuration = Configuration(
        registrations={
            name: RegistrationSpec(name=name, plugin=name, config=(config or {}) if name == "counting" else {})
            for name in names
        },
        interceptors=tuple(spec for spec in specs if spec.registration != "added"),
    )
    publishing.apply_configuration(configuration, author="test")
    registry.refresh(tenancy.current())


def _all(registration: str) -> InterceptorSpec:
    return InterceptorSpec(registration=registration, scope="stream")


@pytest.fixture
def held(acme: Tenant) -> Iterator[Tenant]:
    """Be in acme as asynchronous code is: no connection is moved."""
    with tenancy.enter(acme):
        yield acme


def closings() -> list[str]:
    assert {schema for schema, _ in streamers.ledger} <= {"acme"}
    return [what for _, what in streamers.ledger if isinstance(what, str)]


CLOSED = {
    "stamped": "stamped closed for who-acme",
    "astamped": "astamped closed for who-acme",
}

of_any_layer = pytest.mark.parametrize("layer", LAYERS)
of_any_colour = pytest.mark.parametrize("name", COLOURS)


# Found


@of_any_colour
def test_interceptors_wrap_each_item_in_their_tenant(in_acme: Tenant, name: str) -> None:
    wrap(*LAYERS, "added")
    found = list(execution.stream(name, {"count": 2}))
    assert [(data["n"], data["by"]) for data in found] == [(n, ["who-acme"] * 2) for n in (1, 2)]
    assert found[0]["added"] == [name, "host", True]
    assert sorted(closings()) == sorted(["closed", *CLOSED.values()])


def test_only_the_streams_that_a_binding_names_are_wrapped(in_acme: Tenant) -> None:
    wrap(InterceptorSpec(registration="stamped", scope="stream", targets=("asynchronous",)))
    assert next(execution.stream("asynchronous"))["by"] == ["who-acme"]
    assert "by" not in next(execution.stream("synchronous"))


# Whoever consumes


@of_any_layer
@of_any_colour
def test_a_for_loop_keeps_cursors_that_a_layer_keeps(in_acme: Tenant, name: str, layer: str) -> None:
    wrap(layer)
    with execution.stream(name) as stream:
        assert [next(stream)["n"], next(stream)["n"], stream.cursor] == [1, 2, 2]
    assert next(execution.stream(name, cursor=2))["n"] == 3


def test_what_a_layer_yields_without_a_cursor_has_none(in_acme: Tenant) -> None:
    wrap("counting")
    with execution.stream("synchronous") as stream:
        assert (next(stream), stream.cursor) == (1, None)


@of_any_layer
def test_a_for_loop_sees_the_callers_transaction_through_any_layer(in_acme: Tenant, layer: str) -> None:
    wrap(layer)
    with transaction.atomic():
        User.objects.update(username="not committed")
        with execution.stream("synchronous") as stream:
            assert next(stream)["who"] == "not committed"
        transaction.set_rollback(True)


@of_any_layer
@of_any_colour
def test_a_for_loop_stays_in_its_tenant_while_the_caller_moves(
    acme: Tenant, globex: Tenant, name: str, layer: str
) -> None:
    with tenancy.visit(acme):
        wrap(layer)
        stream = execution.stream(name, {"count": 3})
    for data in stream:
        assert (data["who"], data["by"]) == ("who-acme", ["who-acme"])
        with tenancy.visit(globex):
            assert User.objects.count() == 0
    assert closings() == ["closed", CLOSED[layer]]


@of_any_layer
@of_any_colour
async def test_an_async_for_loop_goes_through_layers(held: Tenant, name: str, layer: str) -> None:
    await tenancy.agate(held, wrap, layer)
    async with execution.stream(name, {"count": 1000}) as stream:
        async for data in stream:
            assert data["by"] == ["who-acme"]
            if stream.cursor == 3:
                break
    assert closings() == [CLOSED[layer], "closed"]
    assert [what for _, what in streamers.ledger if isinstance(what, int)] == [1, 2, 3]


@of_any_layer
@of_any_colour
async def test_each_pull_is_in_the_streams_tenant_whatever_is_current(
    acme: Tenant, globex: Tenant, name: str, layer: str
) -> None:
    await tenancy.agate(acme, wrap, layer)
    with tenancy.enter(acme):
        source = await streaming.open(name, caller=HOST)
    with tenancy.enter(globex):
        (item,) = await source.pull()
    assert (item.data["who"], item.data["by"], item.cursor) == ("who-acme", ["who-acme"], 1)
    await source.close()
    assert closings() == [CLOSED[layer], "closed"]
    assert tenancy.current_or_none() is None


@of_any_layer
async def test_events_carry_what_layers_yield(held: Tenant, layer: str) -> None:
    await tenancy.agate(held, wrap, layer)
    source = await streaming.open("synchronous", {"count": 1}, caller=HOST)
    sent = b"".join([chunk async for chunk in streaming.sse(source)]).decode()
    assert sent == (
        'id: 1\ndata: {"n":1,"who":"who-acme","padding":"","by":["who-acme"]}\n\nevent: complete\ndata: {}\n\n'
    )


async def test_an_error_of_a_layer_is_an_event_that_names_it(held: Tenant) -> None:
    await tenancy.agate(held, wrap, "astamped", "failing")
    source = await streaming.open("synchronous", caller=HOST)
    sent = b"".join([chunk async for chunk in streaming.sse(source)]).decode()
    error = json.loads(sent.rpartition("data: ")[2])
    assert (error["status"], error["registration"], error["plugin"]) == (500, "failing", "failing")
    assert "secret" not in sent
    assert closings() == ["closed", CLOSED["astamped"]]


@pytest.fixture
def site(db: None) -> Iterator[Site]:
    with serving() as running:
        yield running


@of_any_layer
@of_any_colour
async def test_a_socket_is_sent_what_layers_yield_and_leaving_closes_them(
    site: Site, acme: Tenant, name: str, layer: str
) -> None:
    await tenancy.agate(acme, wrap, layer)
    async with site.open(acme) as client:
        await client.send("subscribe", id="a", stream=name, params={"count": 10**6}, demand=2)
        frames = await client.items(2)
        assert [(frame["cursor"], frame["data"]["by"]) for frame in frames] == [(1, ["who-acme"]), (2, ["who-acme"])]
        assert await client.silent()
        assert [what for _, what in streamers.ledger if isinstance(what, int)] == [1, 2]
    await eventually(2)
    assert closings() == [CLOSED[layer], "closed"]


async def test_cancelling_a_subscription_interrupts_what_waits_inside_of_a_thread(site: Site, acme: Tenant) -> None:
    await tenancy.agate(acme, wrap, "stamped")
    async with site.open(acme) as client:
        began = time.monotonic()
        await client.send("subscribe", id="a", stream="asynchronous", params={"pause": 60}, demand=9)
        await eventually(1, what=1)
        await client.send("cancel", id="a")
        await eventually(2)
        assert time.monotonic() - began < 30
    assert sorted(closings()) == ["closed", CLOSED["stamped"]]


async def eventually(times: int, what: type | int = str) -> None:
    """Wait until so many closings, or such a number, are in the ledger."""
    for _ in range(2000):
        found = [each for _, each in streamers.ledger if (isinstance(each, str) if what is str else each == what)]
        if len(found) >= times:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"Not there: {streamers.ledger[-5:]}")


# Refusing and failing


def test_a_function_may_refuse_and_change_params_as_the_stream_is_opened(in_acme: Tenant) -> None:
    wrap("limited")
    assert next(execution.stream("synchronous", {"count": 5}))["padding"] == "x"
    with pytest.raises(Refuse) as caught:
        next(execution.stream("synchronous", {"count": 500}))
    assert place_of(caught.value).registration == "limited"
    assert not registry._runtimes["acme"].busy


@of_any_layer
def test_params_that_do_not_fit_are_the_streams_own(in_acme: Tenant, layer: str) -> None:
    wrap(layer)
    with pytest.raises(InvalidInput) as caught:
        next(execution.stream("synchronous", {"count": "many"}))
    assert list(caught.value.errors) == ["count"]
    assert place_of(caught.value).registration == "synchronous"
    assert not registry._runtimes["acme"].busy


@of_any_layer
@of_any_colour
def test_an_error_counts_for_whom_it_came_from(in_acme: Tenant, name: str, layer: str) -> None:
    def failures() -> list[float]:
        return [timings(plugin, "acme").totals()[SUM + 1] for plugin in (name, layer, "failing")]

    before = failures()
    wrap(layer)
    with pytest.raises(LookupError) as caught:
        list(execution.stream(name, {"fail_at": 2}))
    assert place_of(caught.value).plugin == name
    wrap(layer, "failing")
    with pytest.raises(LookupError) as caught:
        list(execution.stream(name))
    assert place_of(caught.value).plugin == "failing"
    assert [after - past for past, after in zip(before, failures(), strict=True)] == [1, 0, 1]


def test_a_stream_whose_interceptor_cannot_be_brought_up_is_not_served(in_acme: Tenant) -> None:
    wrap("broken")
    with pytest.raises(NotReady, match="It is broken"):
        next(execution.stream("synchronous"))
    assert not registry._runtimes["acme"].busy


# State and leases


def test_an_interceptor_with_state_is_attended_while_a_stream_is_open(in_acme: Tenant) -> None:
    wrap("counting", config={"label": "one"})
    lost = presence.lost
    with execution.stream("synchronous") as stream:
        assert next(stream) == 1
        wrap("counting", config={"label": "two"})
        assert presence.lost == lost + 1
    wrap("counting", config={"label": "three"})
    assert presence.lost == lost + 1


async def test_an_opening_that_is_cancelled_holds_no_runtime(held: Tenant) -> None:
    await tenancy.agate(held, wrap, "slow")
    Slow.opening.clear()
    Slow.go.clear()
    opening = asyncio.create_task(streaming.open("synchronous", caller=HOST))
    assert await asyncio.to_thread(Slow.opening.wait, 10)
    opening.cancel()
    asyncio.get_running_loop().call_later(0.05, Slow.go.set)
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert not registry._runtimes["acme"].busy
