"""Breakers of published registrations: where they stand, how long they live, and what closes them everywhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from prometheus_client import REGISTRY

from pluginhub import execution, jobs, loading, replacing, resets, tenancy
from pluginhub.breakers import Breaker
from pluginhub.configuration import ChainSpec, InterceptorSpec, RegistrationSpec, StepSpec
from pluginhub.context import Run
from pluginhub.exceptions import BreakerOpen, UnknownTarget
from pluginhub.fleet.models import Head, Process, Reset
from pluginhub.models import Job
from pluginhub.registry import registry
from pluginhub.types import PUBLIC, Tenant
from tests.integration import breaker_plugins
from tests.integration.breaker_plugins import Neighbour, neighbour
from tests.integration.hub import PLUGINS, Colour, Hub, bearer, make_user, publish
from tests.integration.jobs.steps import wait_for

SETTINGS = {"PLUGINS": {**PLUGINS, **breaker_plugins.PLUGINS}}


@pytest.fixture(autouse=True)
def plugins(settings: Any) -> dict[str, Any]:
    settings.PLUGINHUB = {**settings.PLUGINHUB, **SETTINGS}
    return {"PLUGINHUB": settings.PLUGINHUB}


def flaky(name: str = "flaky", plugin: str = "flaky", **fields: Any) -> RegistrationSpec:
    about = {"breaker_rate": 0.5, "breaker_calls": 2, "breaker_seconds": 60, **fields}
    return RegistrationSpec(name=name, plugin=plugin, **about)


def failing(times: int = 2, target: str = "flaky") -> None:
    for _ in range(times):
        with pytest.raises(OSError, match="down"):
            execution.run(target, "fail")


def is_open(target: str = "flaky") -> bool:
    try:
        execution.run(target, "ok")
    except BreakerOpen:
        return True
    return False


def breaker_of(name: str = "flaky") -> Breaker:
    return registry._runtimes["acme"].instances.breakers()[name]


@pytest.fixture
def published(in_acme: Tenant) -> Tenant:
    publish(flaky(), flaky("other"), RegistrationSpec(name="plain", plugin="flaky"))
    return in_acme


class TestCalls:
    @pytest.mark.parametrize("colour", ["wsgi", "asgi"])
    @pytest.mark.parametrize("plugin", ["flaky", "aflaky"])
    def test_an_open_one_is_a_problem_that_says_when_to_come_again(
        self, in_acme: Tenant, colour: Colour, plugin: str
    ) -> None:
        publish(flaky(plugin=plugin, breaker_seconds=30))
        hub = Hub(colour, token=bearer(make_user()))
        assert [hub.post("/hub/run/flaky/", "fail").status for _ in range(2)] == [500, 500]
        answer = hub.post("/hub/run/flaky/", "ok")
        assert answer.status == 503
        assert answer.headers["retry-after"] in ("29", "30")
        assert (answer.problem["registration"], answer.problem["plugin"]) == ("flaky", plugin)
        assert "its circuit breaker is open" in answer.problem["detail"]

    def test_one_registration_has_none_of_anothers(self, published: Tenant) -> None:
        failing()
        assert is_open()
        assert not is_open("other")

    def test_without_settings_there_is_none(self, published: Tenant) -> None:
        failing(30, "plain")
        assert not is_open("plain")

    def test_a_tenant_has_none_of_anothers(self, published: Tenant, globex: Tenant) -> None:
        failing()
        with tenancy.visit(globex):
            publish(flaky())
            assert not is_open()

    def test_a_trial_that_succeeds_closes_it(self, in_acme: Tenant) -> None:
        publish(flaky(breaker_seconds=0.05))
        failing()
        time.sleep(0.06)
        assert execution.run("flaky", 1) == 1
        assert breaker_of().state == "closed"

    def test_it_stands_inside_the_interceptors(self, in_acme: Tenant) -> None:
        """What an interceptor raises is no failure of the plugin."""
        clumsy = RegistrationSpec(name="clumsy", plugin="clumsy")
        binding = InterceptorSpec(registration="clumsy", scope="call", targets=("flaky",))
        publish(flaky(), clumsy, interceptors=(binding,))
        for _ in range(5):
            with pytest.raises(RuntimeError):
                execution.run("flaky", "ok")
        assert breaker_of().state == "closed"

    def test_each_opening_is_counted(self, published: Tenant) -> None:
        def opened() -> float:
            labels = {"plugin": "flaky", "tenant": "acme"}
            return REGISTRY.get_sample_value("plugin_breaker_opened_total", labels) or 0.0

        before = opened()
        failing()
        is_open()
        assert opened() == before + 1


class TestSteps:
    def test_an_open_one_takes_the_steps_fallback(self, in_acme: Tenant) -> None:
        step = StepSpec(target="flaky", on_failure="fallback", fallback="echo")
        publish(flaky(), ChainSpec(name="chain", steps=(step,)), echo="echo")
        failing()
        assert execution.run("chain", "instead") == "instead"

    def test_it_is_not_attempted_again(self, in_acme: Tenant) -> None:
        step = StepSpec(target="flaky", attempts=5, backoff=0.5)
        publish(flaky(), ChainSpec(name="chain", steps=(step,)))
        failing()
        started = time.monotonic()
        with pytest.raises(BreakerOpen):
            execution.run("chain", "ok")
        assert time.monotonic() - started < 0.5

    def test_a_time_limit_that_passes_is_a_failure(self, in_acme: Tenant) -> None:
        step = StepSpec(target="slow", time_limit=0.02, on_failure="skip")
        publish(flaky("slow", "slow", breaker_calls=1), ChainSpec(name="chain", steps=(step,)))
        assert execution.run("chain", 1) == 1
        assert breaker_of("slow").state == "open"


class TestJobs:
    def test_its_handlers_pass_it_too(self, published: Tenant) -> None:
        for data in ("fail", "later"):
            jobs.enqueue("flaky.load", data)
        jobs.work(published, seconds=20)
        assert breaker_of().state == "open"
        assert is_open(), "and so do other calls"

    def test_one_that_finds_it_open_waits_and_is_tried_again(self, published: Tenant) -> None:
        failing()
        job = jobs.enqueue("flaky.load", "ok")
        jobs.work(published, seconds=20)
        state = jobs.status(job)
        assert (state["status"], state["problem"]["status"]) == ("queued", 503)
        waits = Job.objects.get(id=job).run_at - timezone.now()
        assert 30 < waits.total_seconds() <= 60, "as long as the breaker says"


class TestStreams:
    @pytest.mark.parametrize("at", [0, 1])
    def test_failing_streams_open_it(self, published: Tenant, at: int) -> None:
        for _ in range(2):
            with pytest.raises(OSError, match="down"):
                list(execution.stream("flaky", {"at": at}))
        with pytest.raises(BreakerOpen):
            list(execution.stream("flaky", {"at": 2}))
        assert is_open()

    def test_one_that_goes_well_is_a_success(self, in_acme: Tenant) -> None:
        publish(flaky(breaker_seconds=0.05))
        failing()
        time.sleep(0.06)
        assert list(execution.stream("flaky", {"at": 2})) == [1, 2]
        assert breaker_of().state == "closed"


class TestLife:
    def test_it_lives_on_over_revisions_that_do_not_change_its_registration(self, published: Tenant) -> None:
        failing()
        publish(flaky(), echo="echo")
        assert execution.run("echo", 1) == 1
        assert is_open()

    @pytest.mark.parametrize(
        "fields",
        [{"config": {"label": "new"}}, {"breaker_calls": 3}, {"breaker_rate": 0.6}, {"breaker_seconds": 61}],
        ids=lambda fields: next(iter(fields)),
    )
    def test_another_configuration_or_other_settings_begin_anew(self, published: Tenant, fields: Any) -> None:
        failing()
        publish(flaky(**fields))
        assert not is_open()

    def test_other_settings_leave_the_instance_as_it_is(self, published: Tenant) -> None:
        execution.run("flaky", 1)
        before = registry._runtimes["acme"].instances.get("flaky").plugin
        publish(flaky(breaker_seconds=61))
        execution.run("flaky", 1)
        assert registry._runtimes["acme"].instances.get("flaky").plugin is before

    def test_one_that_loses_its_settings_has_none(self, published: Tenant) -> None:
        failing()
        publish(RegistrationSpec(name="flaky", plugin="flaky"))
        assert not is_open()


class TestReset:
    def test_it_closes_the_breaker_of_one_registration(self, published: Tenant) -> None:
        failing()
        failing(2, "other")
        resets.reset("flaky", "breaker", author="rita")
        wait_for(lambda: not is_open())
        assert is_open("other")

    def test_earlier_resets_of_others_are_none_of_now(self, published: Tenant) -> None:
        """A process that loads the tenant later knows them from the beginning."""
        resets.reset("other", "breaker", author="rita")
        registry.clear()
        failing(2, "other")
        resets.reset("flaky", "breaker", author="rita")
        runtime = registry._runtimes["acme"]
        wait_for(lambda: runtime.resets.number == 2)
        assert is_open("other")

    def test_emptying_a_cache_closes_nothing(self, published: Tenant) -> None:
        failing()
        resets.reset("flaky", "cache", author="rita")
        runtime = registry._runtimes["acme"]
        wait_for(lambda: runtime.resets.cache("flaky") == 1)
        assert runtime.resets.cache("other") == 0
        assert is_open()

    def test_a_runtime_that_is_replaced_hands_on_what_it_knows(self, published: Tenant) -> None:
        execution.run("flaky", 1)
        resets.reset("flaky", "cache", author="rita")
        wait_for(lambda: registry._runtimes["acme"].resets.number == 1)
        publish(flaky(), echo="echo")
        assert registry._runtimes["acme"].resets.cache("flaky") == 1
        resets.reset("flaky", "cache", author="rita")
        wait_for(lambda: registry._runtimes["acme"].resets.cache("flaky") == 2)

    def test_it_reaches_the_runtime_that_came_while_it_was_read(self, published: Tenant) -> None:
        failing()
        older = registry._runtimes["acme"]
        publish(flaky(), echo="echo")
        wait_for(lambda: not older.instances.actives())  # it has ended, and has nothing any more
        assert is_open()
        Reset.objects.create(schema="acme", registration="flaky", breaker=1)
        registry._follow_resets(older, 1)
        assert not is_open()

    def test_it_closes_the_one_of_earlier_settings_too(self, published: Tenant) -> None:
        failing()
        publish(flaky(breaker_seconds=61))
        resets.reset("flaky", "breaker", author="rita")
        runtime = registry._runtimes["acme"]
        wait_for(lambda: runtime.resets.number == 1)
        publish(flaky())
        assert not is_open()

    def test_it_is_undone_with_its_transaction(self, published: Tenant) -> None:
        with transaction.atomic():
            resets.reset("flaky", "breaker", author="rita")
            transaction.set_rollback(True)
        assert (Head.objects.get().resets, Reset.objects.count()) == (0, 0)

    def test_the_rows_count_and_name_the_author(self, published: Tenant) -> None:
        resets.reset("flaky", "breaker", author="rita")
        resets.reset("flaky", "cache", author="vera")
        resets.reset("flaky", "breaker", author="vera")
        row = Reset.objects.get()
        assert (row.schema, row.registration, row.breaker, row.cache, row.author) == ("acme", "flaky", 2, 1, "vera")
        assert Head.objects.get().resets == 3

    def test_a_head_that_was_lost_is_made_anew_with_its_revision(self, published: Tenant) -> None:
        Head.objects.all().delete()
        resets.reset("flaky", "breaker", author="rita")
        assert (Head.objects.get().revision, Head.objects.get().resets) == (1, 1)

    def test_a_name_that_nobody_has_is_refused_with_near_misses(self, published: Tenant) -> None:
        with pytest.raises(UnknownTarget, match="Did you mean 'flaky'") as caught:
            resets.reset("flacky", "breaker", author="rita")
        assert "No registration named 'flacky'" in str(caught.value)
        assert Reset.objects.count() == 0

    def test_another_tenants_is_not_touched(self, published: Tenant, globex: Tenant) -> None:
        failing()
        with tenancy.visit(globex):
            publish(flaky())
            resets.reset("flaky", "breaker", author="rita")
        time.sleep(0.3)  # six looks
        assert is_open()


class TestQueries:
    @pytest.fixture
    def unhurried(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing but the test queries."""
        monkeypatch.setattr(registry, "_follows", False)

    def test_a_cold_start_is_one_also_after_resets(self, unhurried: None, published: Tenant) -> None:
        resets.reset("flaky", "cache", author="rita")
        resets.reset("flaky", "breaker", author="rita")
        with CaptureQueriesContext(connection) as queries:
            runtime = replacing.build(published, loading.current())
            assert runtime.links.target("flaky").node.call(1, Run()) == 1
        assert len([each for each in queries if "search_path" not in each["sql"]]) == 1
        assert (runtime.resets.number, runtime.resets.cache("flaky"), runtime.resets.cache("other")) == (2, 1, 0)
        assert runtime.resets.follow(published, 2) == set()

    def test_a_look_is_one_and_one_more_for_a_tenant_with_news(self, unhurried: None, published: Tenant) -> None:
        execution.run("flaky", 1)

        def look() -> int:
            with CaptureQueriesContext(connection) as queries:
                registry.look()
            return len([each for each in queries if "search_path" not in each["sql"]])

        assert look() == 1
        resets.reset("flaky", "cache", author="rita")
        assert look() == 2
        assert look() == 1

    def test_an_open_one_costs_none(self, unhurried: None, published: Tenant) -> None:
        failing()
        with CaptureQueriesContext(connection) as queries:
            assert is_open()
        assert len(queries) == 0


class TestProcesses:
    @pytest.fixture
    def next_door(self, published: Tenant, plugins: dict[str, Any]) -> Iterator[Neighbour]:
        with neighbour(plugins) as found:
            yield found

    def test_each_has_its_own_and_a_reset_reaches_all(self, next_door: Neighbour) -> None:
        failing()
        assert [next_door.call("flaky", "ok") for _ in range(2)] == ["ok", "ok"], "it is closed there"
        assert [next_door.call("flaky", "fail") for _ in range(3)] == ["OSError", "BreakerOpen", "BreakerOpen"]
        resets.reset("flaky", "breaker", author="rita")
        wait_for(lambda: next_door.call("flaky", "ok") == "ok")
        wait_for(lambda: not is_open())

    def test_so_it_does_without_redis(self, published: Tenant, plugins: dict[str, Any], settings: Any) -> None:
        settings.RQ_QUEUES = {"default": {"URL": "redis://127.0.0.1:1/0"}}
        with neighbour({**plugins, "RQ_QUEUES": settings.RQ_QUEUES}) as next_door:
            assert [next_door.call("flaky", "fail") for _ in range(3)] == ["OSError", "OSError", "BreakerOpen"]
            resets.reset("flaky", "breaker", author="rita")
            wait_for(lambda: next_door.call("flaky", "ok") == "ok")

    def test_each_says_in_the_fleet_which_are_open(self, next_door: Neighbour) -> None:
        assert [next_door.call("flaky", "fail") for _ in range(2)] == ["OSError", "OSError"]
        found = wait_for(lambda: _breakers(next_door.pid))
        assert found.keys() == {"acme"}
        assert found["acme"].keys() == {"flaky"}
        assert {**found["acme"]["flaky"], "since": "", "retry_at": ""} == {
            "state": "open", "since": "", "failed": 2, "calls": 2, "retry_at": "",
        }  # fmt: skip
        resets.reset("flaky", "breaker", author="rita")
        wait_for(lambda: _breakers(next_door.pid) == {} or None)


def _breakers(pid: int) -> Any:
    row = tenancy.gate(PUBLIC, Process.objects.filter(pid=pid).first)
    return row.state["breakers"] if row is not None else None
