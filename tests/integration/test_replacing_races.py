"""What must hold when replacing, loading and failing happen at the same moment."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from django.db import connections
from django.test.utils import override_settings
from pydantic import BaseModel

from pluginhub import CompositePlugin, Context, Plugin, execution, loading, publishing, reloading, tenancy
from pluginhub.conf import settings
from pluginhub.configuration import CompositionSpec, Configuration, InterceptorSpec, MemberSpec, RegistrationSpec
from pluginhub.exceptions import PluginHubError, UnknownTarget
from pluginhub.fleet.models import Generation
from pluginhub.loading.discovery import FILES
from pluginhub.presence import presence
from pluginhub.providers import sources
from pluginhub.registry import registry
from pluginhub.runtimes import Runtime
from pluginhub.types import PUBLIC, Scope, Tenant

HERE = "tests.integration.test_replacing_races"


class Plain(Plugin):
    def process(self, value: Any, context: Context) -> Any:
        return value


class Hanging(Plugin):
    """Does not come up within its time."""

    tries: ClassVar[list[float]] = []
    go: ClassVar[threading.Event] = threading.Event()

    def activate(self, context: Context) -> None:
        self.tries.append(time.monotonic())
        self.go.wait(5)

    def process(self, value: Any, context: Context) -> Any:
        return value

    def intercept(self, request: Any, call_next: Any) -> Any:
        return call_next(request)


class Member(Plugin):
    """Works only while it is up."""

    def __init__(self) -> None:
        super().__init__()
        self.up = False

    def activate(self, context: Context) -> None:
        self.up = True

    def deactivate(self, context: Context) -> None:
        self.up = False

    def process(self, value: Any, context: Context) -> str:
        return "up" if self.up else "down"


class Flaky(Plugin):
    """Comes up the second time it is tried."""

    tries: ClassVar[list[int]] = []

    def activate(self, context: Context) -> None:
        self.tries.append(1)
        if len(self.tries) == 1:
            raise ValueError("not yet")

    def process(self, value: Any, context: Context) -> str:
        return "fine"


class Whole(CompositePlugin):
    def process(self, value: Any, context: Context) -> Any:
        return [context.call(child, value) for child in self.children]


class Counter(Plugin):
    """Has state in memory."""

    class Config(BaseModel):
        label: str = ""
        slow: bool = False

    coming: ClassVar[threading.Event] = threading.Event()
    go: ClassVar[threading.Event] = threading.Event()

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.count = 0

    def activate(self, context: Context) -> None:
        if self.config.slow and not self.coming.is_set():
            self.coming.set()
            self.go.wait(5)

    def process(self, value: Any, context: Context) -> int:
        self.count += 1
        return self.count

    def stream(self, params: Any, context: Context) -> Iterator[Any]:
        while True:
            self.count += 1
            yield self.count

    def get_state(self) -> int:
        return self.count

    def restore_state(self, state: int) -> None:
        self.count = state


class Tax:
    """What a package provides."""

    def __init__(self, rate: int) -> None:
        self.rate = rate


class Taxed(Plugin):
    def __init__(self, tax: Tax) -> None:
        super().__init__()
        self.tax = tax

    def process(self, value: Any, context: Context) -> int:
        return self.tax.rate


class Late(Plugin):
    """Calls a target by name long after it began."""

    inside: ClassVar[threading.Event] = threading.Event()
    go: ClassVar[threading.Event] = threading.Event()

    def process(self, value: Any, context: Context) -> Any:
        self.inside.set()
        self.go.wait(5)
        return context.call("counter", value)


CLASSES = (Plain, Hanging, Member, Flaky, Whole, Counter, Late, Taxed)
PLUGINS = {cls.__name__.lower(): f"{HERE}:{cls.__name__}" for cls in CLASSES}


@pytest.fixture(autouse=True)
def plugins(in_acme: Tenant) -> Iterator[None]:
    events = (Hanging.go, Counter.coming, Counter.go, Late.inside, Late.go)
    for event in events:
        event.clear()
    Hanging.tries.clear()
    Flaky.tries.clear()
    with override_settings(PLUGINHUB={"PLUGINS": PLUGINS, "HOOK_SECONDS": 0.5, "HANDOFF_SECONDS": 0.5}):
        yield
    for event in events:
        event.set()


def use(plugin: str, name: str = "", **config: Any) -> RegistrationSpec:
    return RegistrationSpec(name=name or plugin, plugin=plugin, config=config)


def put(*specs: RegistrationSpec, **about: Any) -> None:
    registrations = {spec.name: spec for spec in specs}
    publishing.apply_configuration(Configuration(registrations=registrations, **about), author="tested")


def aside(f: Callable[[], Any]) -> threading.Thread:
    tenant = tenancy.current()

    def work() -> None:
        try:
            tenancy.gate(tenant, f)
        except PluginHubError:
            pass
        finally:
            connections.close_all()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_those_who_wait_for_a_plugin_that_hangs_do_not_try_it_one_after_the_other() -> None:
    put(use("hanging"))
    threads = [aside(lambda: execution.run("hanging")) for _ in range(4)]
    for thread in threads:
        thread.join(10)
    assert len(Hanging.tries) == 1


def test_a_plugin_that_hangs_for_many_holds_up_no_other_tenant(globex: Tenant) -> None:
    with tenancy.visit(globex):
        put(use("plain"))
    with override_settings(PLUGINHUB={"PLUGINS": PLUGINS, "HOOK_SECONDS": 3.0}):
        put(use("hanging"))
        registry.clear()
        threads = [aside(lambda: execution.run("hanging")) for _ in range(40)]
        while not Hanging.tries:
            time.sleep(0.01)
        time.sleep(0.2)
        with tenancy.visit(globex):
            began = time.monotonic()
            assert execution.run("plain", 1) == 1
            took = time.monotonic() - began
        Hanging.go.set()
        for thread in threads:
            thread.join(10)
    assert took < 1.5


def test_a_member_that_went_down_with_its_parent_comes_up_with_it_again() -> None:
    members = (MemberSpec(target="member", private=True), MemberSpec(target="flaky", private=True))
    whole = CompositionSpec(name="whole", strategy="parent", plugin="whole", members=members)
    put(use("member"), use("flaky"), compositions={"whole": whole})
    with pytest.raises(PluginHubError):
        execution.run("whole")
    time.sleep(1.1)  # RETRY_SECONDS
    assert execution.run("whole") == ["up", "fine"]


@pytest.mark.parametrize("scope", ["job", "request"])
def test_following_waits_for_no_plugin_that_intercepts(monkeypatch: pytest.MonkeyPatch, scope: Scope) -> None:
    put(use("plain"))
    assert execution.run("plain", 1) == 1
    runtime = registry.runtimes()[0]
    assert runtime.wrappers.request_layers() == ()
    registry.stop()
    monkeypatch.setattr(registry, "refresh", lambda tenant: None)
    put(use("plain"), use("hanging"), interceptors=(InterceptorSpec(registration="hanging", scope=scope),))
    began = time.monotonic()
    registry.look()
    assert time.monotonic() - began < 0.4
    registry._background.join(5)


def test_names_that_nobody_knows_are_not_kept() -> None:
    put(use("plain"))
    for number in range(50):
        with pytest.raises(UnknownTarget):
            execution.run(f"unknown{number}")
    links = registry.runtimes()[0].links
    assert len(links._locks) + len(links._inside_locks) < 10


def test_a_call_by_name_after_the_hand_off_is_lost_and_counted() -> None:
    put(use("counter", label="one"), use("late"))
    assert execution.run("counter") == 1
    lost = presence.lost
    thread = aside(lambda: execution.run("late"))
    assert Late.inside.wait(5)
    put(use("counter", label="two"), use("late"))
    assert execution.run("counter") == 2
    Late.go.set()
    thread.join(5)
    assert execution.run("counter") == 4 or presence.lost == lost + 1


def test_a_stream_that_outlives_the_hand_off_is_counted() -> None:
    put(use("counter", label="one"))
    lost = presence.lost
    with execution.stream("counter") as items:
        assert next(iter(items)) == 1
        put(use("counter", label="two"))
        assert execution.run("counter") == 2
        assert next(iter(items)) == 2
        assert execution.run("counter") == 4 or presence.lost == lost + 1


async def test_no_event_loop_waits_for_who_replaces(in_acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    await tenancy.agate(in_acme, put, use("plain"))
    assert await execution.arun("plain", 1) == 1
    acquire, locked, go = Runtime.acquire, threading.Event(), threading.Event()

    def replaced_meanwhile(runtime: Runtime) -> bool:
        """Have the runtime that was just found replaced, and the next one begun to be, before it is taken."""
        monkeypatch.setattr(Runtime, "acquire", acquire)
        registry.clear()
        threading.Thread(target=replace, daemon=True).start()
        assert locked.wait(5)
        return acquire(runtime)

    def replace() -> None:
        with registry._lock(in_acme):
            locked.set()
            go.wait(1)

    monkeypatch.setattr(Runtime, "acquire", replaced_meanwhile)
    began = time.monotonic()
    asyncio.get_running_loop().call_later(0.05, go.set)  # a loop that is free lets the other go on
    assert await execution.arun("plain", 1) == 1
    assert time.monotonic() - began < 0.8


def test_an_instance_that_comes_up_during_a_swap_is_the_only_one() -> None:
    put(use("counter", slow=True), use("plain"))
    assert execution.run("plain", 1) == 1
    results: list[int] = []
    thread = aside(lambda: results.append(execution.run("counter")))
    assert Counter.coming.wait(5)
    put(use("counter", slow=True), use("plain"), use("late"))
    assert execution.run("counter") == 1
    Counter.go.set()
    thread.join(5)
    results.append(execution.run("counter"))
    assert results[-1] == 3


def test_what_is_cleared_while_it_is_replaced_is_not_served(in_acme: Tenant) -> None:
    put(use("member"))
    assert execution.run("member") == "up"
    older = registry.runtimes()[0]
    carry = type(older.instances).carry_over

    def cleared(self: Any, other: Any) -> None:
        """Take over after another thread has cleared, and ended, what is taken over."""
        if registry._runtimes.get("acme") is older:
            thread = threading.Thread(target=registry.clear)
            thread.start()
            thread.join(1)
            time.sleep(0.2)
        carry(self, other)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(older.instances), "carry_over", cleared)
        put(use("member"), use("plain"))
    assert execution.run("member") == "up"
    time.sleep(0.2)
    assert older not in registry._draining


def test_a_thread_that_cannot_be_started_may_be_started_later(monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            registry._background.run("reload", done.set)
    registry._background.run("reload", done.set)
    try:
        assert done.wait(2)
    finally:
        registry._background._going.pop("reload", None)


SOURCE = """
import threading, time
from pluginhub import Plugin

class Filed(Plugin):
    def activate(self, context):
        import tests.integration.test_replacing_races as races
        if {version} == 2 and context.tenant.schema == "globex":
            races.gate_reached.set()
            races.gate_open.wait(5)

    def process(self, value, context):
        return {version}
"""

gate_reached, gate_open = threading.Event(), threading.Event()


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Callable[[int], None]]:
    gate_reached.clear()
    gate_open.clear()

    def write(version: int, more: str = "") -> None:
        (tmp_path / "filed.py").write_text(SOURCE.format(version=version) + more)
        loading.rediscover()

    write(1)
    with override_settings(PLUGINHUB={"PLUGINS_DIR": str(tmp_path), "HOOK_SECONDS": 10.0}):
        yield write
        gate_open.set()
        registry.clear()
    loading.forget()


def test_a_tenant_does_not_go_back_to_older_code_while_others_follow(write: Any, globex: Tenant) -> None:
    put(use("filed"))
    assert execution.run("filed") == 1
    with tenancy.visit(globex):
        put(use("filed"))
        assert execution.run("filed") == 1
    write(2)
    thread = aside(lambda: reloading.reload_here([FILES]))
    assert gate_reached.wait(5)
    seen = [execution.run("filed")]
    until = time.monotonic() + 1
    while time.monotonic() < until and seen[-1] == 2:
        registry.look()
        seen.append(execution.run("filed"))
        time.sleep(0.02)
    gate_open.set()
    thread.join(5)
    assert set(seen) == {2}


def test_code_is_followed_after_the_fleet_was_restored_to_a_lower_number(write: Any) -> None:
    put(use("filed"))
    assert execution.run("filed") == 1
    loading.become(loading.current().numbered(7))  # of a fleet that was restored to one without generations
    write(2)
    made = reloading.reload("filed", author="tested", rehearse=False)
    try:
        assert made.number == 1
        until = time.monotonic() + 2
        while time.monotonic() < until and execution.run("filed") != 2:
            registry.look()
            time.sleep(0.05)
        assert execution.run("filed") == 2
    finally:
        tenancy.gate(PUBLIC, Generation.objects.all().delete)


def test_a_problem_ends_with_the_generation_that_had_it(write: Any) -> None:
    put(use("filed"))
    assert execution.run("filed") == 1
    try:
        write(2, "\n    def health(self):\n        return False\n")
        reloading.reload("filed", author="tested", rehearse=False)
        until = time.monotonic() + 5
        while presence.generation_problem is None and time.monotonic() < until:
            registry.look()
            time.sleep(0.05)
        assert "acme" in presence.problems
        write(1)
        number = reloading.reload("filed", author="tested", rehearse=False).number
        until = time.monotonic() + 5
        while loading.current().number < number and time.monotonic() < until:
            registry.look()
            time.sleep(0.05)
        assert loading.current().number == number
        assert presence.generation_problem is None
        registry.look()
        assert presence.problems == {}
    finally:
        tenancy.gate(PUBLIC, Generation.objects.all().delete)
        presence.problems.clear()


PROVIDING = """
from dishka import Provider, provide
from pluginhub.scopes import PROCESS
from tests.integration.test_replacing_races import Tax

class Taxes(Provider):
    @provide(scope=PROCESS)
    def tax(self) -> Tax:
        return Tax({version})
"""


def test_a_provider_that_is_reloaded_serves_those_who_get_its_services(
    write: Any, globex: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = (("taxes", f"{FILES}.filed:Taxes"),)
    monkeypatch.setattr(sources._installed, "points", lambda: points)
    folder = settings.PLUGINS_DIR
    with override_settings(PLUGINHUB={"PLUGINS_DIR": folder, "PLUGINS": PLUGINS, "HOOK_SECONDS": 10.0}):
        write(1, PROVIDING.format(version=1))
        gate_open.set()
        with tenancy.visit(globex):
            put(use("filed"))
            assert execution.run("filed") == 1
        put(use("taxed"))
        assert execution.run("taxed") == 1
        write(2, PROVIDING.format(version=2))
        reloading.reload_here([FILES])
        with tenancy.visit(globex):
            assert execution.run("filed") == 2
        assert execution.run("taxed") == 2
        registry.clear()
