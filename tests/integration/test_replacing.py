"""A runtime is replaced by another aside, warmed, with its state handed over, or not at all."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from django.test.utils import override_settings
from pydantic import BaseModel

from pluginhub import Context, Plugin, execution, publishing, tenancy
from pluginhub.configuration import ChainSpec, Configuration, RegistrationSpec, StepSpec
from pluginhub.exceptions import DeadlineExceeded, NotReady
from pluginhub.presence import presence
from pluginhub.registry import registry
from pluginhub.types import Tenant

HERE = "tests.integration.test_replacing"


class Counter(Plugin):
    """Counts its runs in memory."""

    lives: list[str] = []
    """What came up and went down in one test; a hook that comes late writes to that of its own."""
    inside: ClassVar[threading.Event] = threading.Event()
    leave: ClassVar[threading.Event] = threading.Event()

    class Config(BaseModel):
        label: str = ""
        trouble: str = ""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        if config.trouble == "constructor":
            raise ValueError("no such thing")
        self.count = 0
        self.lives = type(self).lives

    def activate(self, context: Context) -> None:
        if self.config.trouble == "activate":
            raise ValueError("nobody answers")
        if self.config.trouble == "slow":
            time.sleep(5)
        self.lives.append(f"up {self.config.label}")

    def deactivate(self, context: Context) -> None:
        self.lives.append(f"down {self.config.label}")

    def process(self, value: Any, context: Context) -> int:
        if value == "wait":
            self.inside.set()
            assert self.leave.wait(10)
        self.count += 1
        return self.count

    def get_state(self) -> Any:
        if self.config.trouble == "no json":
            return object()
        return {"count": self.count}

    def restore_state(self, state: dict[str, int]) -> None:
        if self.config.trouble == "restore_state":
            raise ValueError("not mine")
        self.count = state["count"]

    def health(self) -> bool:
        return bool(self.config.trouble != "health")


class Newer(Counter):
    state_version = 2

    @classmethod
    def migrate_state(cls, state: Any, from_version: int) -> Any:
        return {"count": state["count"] + 1000 * from_version}


class AsyncCounter(Plugin):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    async def process(self, value: Any, context: Context) -> int:
        await asyncio.sleep(0)
        self.count += 1
        return self.count

    async def get_state(self) -> int:
        return self.count

    async def restore_state(self, state: int) -> None:
        self.count = state


class Plain(Plugin):
    def process(self, value: Any, context: Context) -> Any:
        return value


class Caller(Plugin):
    """Calls a target by name from inside a run."""

    def process(self, value: Any, context: Context) -> Any:
        return context.call("counter", value)


REASONS = {
    "constructor": "'counter' could not be activated: ValueError. (ValueError: no such thing)",
    "activate": "(ValueError: nobody answers)",
    "slow": "0.5 s",
    "restore_state": "'counter' did not take its state of version 1: ValueError: not mine",
    "health": "'counter' is not healthy: health() returned False.",
}
PLUGINS = {name.lower(): f"{HERE}:{name}" for name in ("Counter", "AsyncCounter", "Plain", "Caller")}


@pytest.fixture(autouse=True)
def plugins(in_acme: Tenant) -> Iterator[None]:
    Counter.lives = []
    Counter.inside.clear()
    Counter.leave.clear()
    with override_settings(PLUGINHUB={"PLUGINS": PLUGINS, "HOOK_SECONDS": 0.5, "HANDOFF_SECONDS": 20.0}):
        yield
    Counter.leave.set()


def use(plugin: str, name: str = "", **config: Any) -> RegistrationSpec:
    return RegistrationSpec(name=name or plugin, plugin=plugin, config=config)


def put(*specs: RegistrationSpec, chain: tuple[str, ...] = ()) -> None:
    chains = {"chain": ChainSpec(name="chain", steps=tuple(StepSpec(target=each) for each in chain))} if chain else {}
    publishing.apply_configuration(
        Configuration(registrations={spec.name: spec for spec in specs}, chains=chains), author="tested"
    )


def serving() -> int:
    return registry.running()["acme"]


def eventually(true: Callable[[], Any]) -> bool:
    until = time.monotonic() + 5
    while not true() and time.monotonic() < until:
        time.sleep(0.01)
    return bool(true())


def closed() -> bool:
    """Whether new runs of the counter wait for its state."""
    turnstile = registry.runtimes()[0].instances.actives()["counter"].turnstile
    return turnstile is not None and turnstile._closed


def test_state_moves_to_the_successor() -> None:
    put(use("counter", label="one"))
    assert [execution.run("counter") for _ in range(3)] == [1, 2, 3]
    put(use("counter", label="two"))
    assert execution.run("counter") == 4
    assert eventually(lambda: Counter.lives == ["up one", "up two", "down one"])


async def test_state_of_asynchronous_plugins_moves(acme: Tenant) -> None:
    from pluginhub import crossing

    await crossing.in_thread(put, use("asynccounter"), use("plain"))
    assert [await execution.arun("asynccounter") for _ in range(3)] == [1, 2, 3]
    await crossing.in_thread(put, RegistrationSpec(name="asynccounter", plugin="asynccounter", config_version=2))
    assert await execution.arun("asynccounter") == 4


def test_an_unchanged_registration_keeps_its_instance() -> None:
    put(use("counter", label="one"), use("plain"))
    assert execution.run("counter") == 1
    put(use("counter", label="one"))
    assert execution.run("counter") == 2
    assert Counter.lives == ["up one"]


def test_state_of_another_version_is_migrated(monkeypatch: pytest.MonkeyPatch) -> None:
    put(use("counter", label="one"))
    execution.run("counter")
    with override_settings(PLUGINHUB={"PLUGINS": {**PLUGINS, "counter": f"{HERE}:Newer"}}):
        put(use("counter", label="two"))
        assert execution.run("counter") == 1002


@pytest.mark.parametrize("trouble", ["constructor", "activate", "slow", "restore_state", "health"])
def test_what_fails_before_the_swap_leaves_the_older_one_serving(trouble: str) -> None:
    put(use("counter", label="one"))
    execution.run("counter")
    before = serving()
    put(use("counter", label="two", trouble=trouble))
    assert serving() == before
    assert execution.run("counter") == 2
    assert presence.problems["acme"].revision == before + 1
    assert REASONS[trouble] in presence.problems["acme"].why
    if trouble in ("restore_state", "health"):
        assert eventually(lambda: Counter.lives == ["up one", "up two", "down two"])
    put(use("counter", label="three"))
    assert (serving(), execution.run("counter")) == (before + 2, 3)
    assert presence.problems == {}


def test_a_state_that_is_no_json_keeps_the_older_one() -> None:
    put(use("counter", label="one", trouble="no json"))
    execution.run("counter")
    put(use("counter", label="two"))
    assert execution.run("counter") == 2
    assert "plain JSON" in presence.problems["acme"].why


def test_a_broken_target_that_nobody_uses_fails_alone() -> None:
    put(use("plain"))
    execution.run("plain", 1)
    put(use("plain"), use("counter", trouble="activate"))
    assert execution.run("plain", 2) == 2
    assert presence.problems == {}
    with pytest.raises(NotReady, match="could not be activated"):
        execution.run("counter")


def test_a_chain_in_use_is_warmed_with_its_new_steps() -> None:
    put(use("plain"), chain=("plain",))
    assert execution.run("chain", 1) == 1
    put(use("plain"), use("counter", label="one"), chain=("plain", "counter"))
    assert Counter.lives == ["up one"]
    before = serving()
    put(use("plain"), use("counter", label="two", trouble="activate"), chain=("plain", "counter"))
    assert (serving(), execution.run("chain", 1)) == (before, 1)


def test_runs_finish_where_they_began_and_new_ones_wait_for_the_state() -> None:
    """The run inside leaves within the hand-off's limit: nothing is lost."""
    put(use("counter", label="one"), use("plain"), chain=("plain", "counter"))
    results: list[int] = []
    first = _thread(lambda: results.append(execution.run("chain", "wait")))
    assert Counter.inside.wait(5)
    publisher = _thread(lambda: put(use("counter", label="two"), use("plain"), chain=("plain", "counter")))
    assert eventually(closed)
    waiting = _thread(lambda: results.append(execution.run("counter")))
    time.sleep(0.1)
    assert results == []
    assert execution.run("plain", 5) == 5
    Counter.leave.set()
    for thread in (first, publisher, waiting):
        thread.join(5)
    assert results == [1, 2]
    assert execution.run("counter") == 3


def test_a_run_that_outlives_the_limit_is_counted() -> None:
    lost = presence.lost
    put(use("counter", label="one"))
    first = _thread(lambda: execution.run("counter", "wait"))
    assert Counter.inside.wait(5)
    with override_settings(PLUGINHUB={"PLUGINS": PLUGINS, "HANDOFF_SECONDS": 0.2}):
        put(use("counter", label="two"))
    assert presence.lost == lost + 1
    assert execution.run("counter") == 1
    Counter.leave.set()
    first.join(5)
    assert eventually(lambda: Counter.lives == ["up one", "up two", "down one"])


def test_a_call_from_inside_a_run_does_not_wait_for_a_drain_that_waits_for_it() -> None:
    put(use("counter", label="one"), use("caller"))
    execution.run("caller", 1)
    first = _thread(lambda: execution.run("caller", "wait"))
    assert Counter.inside.wait(5)
    publisher = _thread(lambda: put(use("counter", label="two"), use("caller")))
    assert eventually(closed)
    Counter.leave.set()
    publisher.join(5)
    first.join(5)
    assert execution.run("counter") == 3


def test_who_waits_for_a_hand_off_waits_no_longer_than_its_deadline() -> None:
    put(use("counter", label="one"))
    first = _thread(lambda: execution.run("counter", "wait"))
    assert Counter.inside.wait(5)
    publisher = _thread(lambda: put(use("counter", label="two")))
    assert eventually(closed)
    with pytest.raises(DeadlineExceeded, match="being replaced"):
        execution.run("counter", timeout=0.05)
    Counter.leave.set()
    publisher.join(5)
    first.join(5)


def test_what_is_gone_goes_down_at_the_deadline_though_a_run_goes_on() -> None:
    with override_settings(PLUGINHUB={"PLUGINS": PLUGINS, "DRAIN_SECONDS": 0, "HANDOFF_SECONDS": 0}):
        put(use("counter", label="one"))
        first = _thread(lambda: execution.run("counter", "wait"))
        assert Counter.inside.wait(5)
        put(use("plain"))
        time.sleep(0.01)
        registry.look()
        assert eventually(lambda: Counter.lives == ["up one", "down one"])
        Counter.leave.set()
        first.join(5)


def _thread(f: Callable[[], Any]) -> threading.Thread:
    tenant = tenancy.current()

    def work() -> None:
        from django.db import connections

        try:
            tenancy.gate(tenant, f)
        finally:
            connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_process_that_ends_takes_its_plugins_down() -> None:
    put(use("counter", label="one"))
    execution.run("counter")
    registry.leave()
    assert Counter.lives == ["up one", "down one"]
    assert registry.running() == {}
    assert execution.run("counter") == 1
