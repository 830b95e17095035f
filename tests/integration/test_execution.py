"""Published targets, run through the whole service layer on real rows."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django_tenants.utils import get_tenant_model

from pluginhub import execution, jobs, publishing, tenancy
from pluginhub.configuration import (
    ChainSpec,
    CompositionSpec,
    Configuration,
    InterceptorSpec,
    MemberSpec,
    PointSpec,
    RegistrationSpec,
    StepSpec,
)
from pluginhub.exceptions import (
    Forbidden,
    InvalidInput,
    NotReady,
    PublishRefused,
    Refuse,
    Unauthenticated,
    UnknownTarget,
    problem_of,
)
from pluginhub.models import StoredValue
from pluginhub.points import Point, declared
from pluginhub.registry import plugins_for, registry
from pluginhub.runtimes import Runtime
from pluginhub.storage import TenantStorage
from pluginhub.types import Caller, Tenant
from tests.integration.samples import MISSING, PLUGINS, Counting, Lingering, Waking

Publish = Callable[..., None]
VIEWER = Caller("vera", "http", user_id="7")
RUNNER = Caller("rita", "http", user_id="8", permissions=frozenset({"pluginhub.run_target"}))


@pytest.fixture(autouse=True)
def samples(settings: Any) -> None:
    settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": PLUGINS}


@pytest.fixture
def publish(in_acme: Tenant) -> Publish:
    return put


def put(
    *specs: Any, points: dict[str, list[str]] | None = None, interceptors: tuple[InterceptorSpec, ...] = ()
) -> None:
    """Publish these targets, and nothing else, for the current tenant."""
    kinds: dict[type, str] = {RegistrationSpec: "registrations", ChainSpec: "chains", CompositionSpec: "compositions"}
    parts: dict[str, Any] = {"registrations": {}, "chains": {}, "compositions": {}}
    for spec in specs:
        parts[kinds[type(spec)]][spec.name] = spec
    hung = {name: PointSpec(point=name, targets=tuple(targets)) for name, targets in (points or {}).items()}
    configuration = Configuration(**parts, points=hung, interceptors=interceptors)
    publishing.apply_configuration(configuration, author="test")


def use(plugin: str, name: str = "", **config: Any) -> RegistrationSpec:
    return RegistrationSpec(name=name or plugin, plugin=plugin, config=config)


def chain(name: str, *targets: str) -> ChainSpec:
    return ChainSpec(name=name, steps=tuple(StepSpec(target=target) for target in targets))


def both(target: str, value: Any, **options: Any) -> Any:
    """Run in both colours, and expect the same."""
    sync = execution.run(target, value, **options)
    assert async_to_sync(execution.arun)(target, value, **options) == sync
    return sync


def test_a_registration_runs_with_its_configuration(publish: Publish) -> None:
    publish(use("add", by=5))
    assert both("add", 1) == 6


def test_a_chain_of_both_colours_and_a_composition_run(publish: Publish) -> None:
    members = (MemberSpec(target="add"), MemberSpec(target="double"))
    publish(
        use("add", by=5),
        use("double"),
        chain("twice", "add", "double", "add"),
        CompositionSpec(name="offers", strategy="merge", members=members),
        CompositionSpec(name="best", strategy="parent", plugin="cheapest", members=members),
        chain("all", "twice", "best"),
    )
    assert both("twice", 1) == 17
    assert both("offers", 1) == {"add": 6, "double": 2}
    assert both("best", 1) == 2
    assert both("all", 1) == 22


def test_a_tenant_has_its_own_targets_by_the_same_names(publish: Publish, globex: Tenant) -> None:
    publish(use("add", "price", by=1))
    with tenancy.visit(globex):
        put(use("double", "price"))
        assert both("price", 10) == 20
    assert both("price", 10) == 11


def test_a_plugin_knows_tenant_caller_and_registration(publish: Publish) -> None:
    publish(use("teller", "who"))
    told = execution.run("who", None, caller=RUNNER)
    assert (told["tenant"], told["caller"], told["edge"], told["name"]) == ("acme", "rita", "http", "who")
    assert told["thread"] == threading.current_thread().name


def test_unknown_and_disabled_targets_name_near_misses(publish: Publish) -> None:
    publish(use("add"), RegistrationSpec(name="adds", plugin="add", enabled=False))
    for name in ("adda", "adds"):
        with pytest.raises(UnknownTarget) as caught:
            execution.run(name, 1)
        assert caught.value.problem()["near_misses"] == ["add"]


def test_a_caller_needs_the_permission(publish: Publish) -> None:
    publish(use("add"))
    assert execution.run("add", 1, caller=RUNNER) == 2
    with pytest.raises(Forbidden, match="vera lacks"):
        execution.run("add", 1, caller=VIEWER)
    with pytest.raises(Unauthenticated):
        execution.run("add", 1, caller=Caller("nobody", "http"))


def test_a_failing_plugin_is_named_and_its_words_stay_inside(publish: Publish) -> None:
    publish(use("add"), use("failing", "bad"), chain("sum", "add", "bad"))
    with pytest.raises(RuntimeError) as caught:
        execution.run("sum", 1)
    problem = problem_of(caught.value)
    assert (problem["chain"], problem["step"], problem["plugin"]) == ("sum", "bad", "failing")
    assert "hunter2" not in str(problem)


def test_a_refusal_goes_by_field(publish: Publish) -> None:
    publish(use("refusing"))
    with pytest.raises(Refuse) as caught:
        execution.run("refusing", 1)
    assert caught.value.errors == {"origin": "is unknown"}


def test_a_registration_that_cannot_come_up_fails_alone_with_the_reason(publish: Publish) -> None:
    publish(use("fragile", broken=True), use("add"), chain("sum", "add", "fragile"))
    for name in ("fragile", "sum"):
        with pytest.raises(NotReady, match=r"fragile.*could not be activated"):
            execution.run(name, 1)
    assert execution.run("add", 1) == 2


def test_a_missing_package_leaves_the_others_serving(publish: Publish, settings: Any) -> None:
    publish(use("add"), use("double"))
    settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": {"add": PLUGINS["add"]}}
    registry.clear()
    assert execution.run("add", 1) == 2
    with pytest.raises(NotReady, match="double"):
        execution.run("double", 1)


def test_an_import_that_fails_answers_not_ready(publish: Publish, settings: Any) -> None:
    publish(use("add"))
    settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": {"add": MISSING["missing"]}}
    registry.clear()
    with pytest.raises(NotReady):
        execution.run("add", 1)


def test_synchronous_plugins_share_the_callers_transaction(publish: Publish) -> None:
    publish(use("keeper"), use("double"), chain("mixed", "keeper", "double", "keeper"))
    with transaction.atomic():
        assert execution.run("keeper", None) == 1
        assert execution.run("mixed", None) == 3
        transaction.set_rollback(True)
    assert not StoredValue.objects.exists()


def test_a_warm_run_adds_no_query(publish: Publish) -> None:
    publish(use("add"), use("double"), chain("sum", "add", "double"))
    execution.run("sum", 1)
    with CaptureQueriesContext(connection) as queries:
        execution.run("sum", 1)
    assert len(queries) == 0


def test_a_process_serves_the_newest_revision_and_keeps_what_did_not_change(publish: Publish) -> None:
    Counting.lives.clear()
    publish(use("counting", label="one"), use("add", by=1))
    assert (execution.run("counting", 0), execution.run("add", 1)) == ("one", 2)
    publish(use("counting", label="one"), use("add", by=2))
    assert (execution.run("counting", 0), execution.run("add", 1)) == ("one", 3)
    assert Counting.lives == ["up acme one"]
    publish(use("counting", label="two"), use("add", by=2))
    assert execution.run("counting", 0) == "two"
    assert "up acme two" in Counting.lives


def test_what_was_published_elsewhere_is_followed(publish: Publish) -> None:
    publish(use("add", by=1))
    assert execution.run("add", 1) == 2
    older = registry.acquire(tenancy.current())
    older.release()
    publish(use("add", by=2))
    # As in a process that did not hear of it.
    behind = registry._runtimes["acme"] = Runtime(older.tenant, older.revision, older.configuration)
    until = time.monotonic() + 5
    while registry._runtimes["acme"] is behind and time.monotonic() < until:
        registry.look()  # the following thread may be at it, too
        time.sleep(0.01)
    assert execution.run("add", 1) == 3


def test_interceptors_wrap_calls_from_outside_or_of_what_they_name(publish: Publish) -> None:
    everywhere = InterceptorSpec(registration="wrap", scope="call")
    named = InterceptorSpec(registration="shout", scope="call", targets=("add",))
    targets = (use("add", by=1), use("double"), use("wrap"), use("shout"), chain("sum", "double", "add"))
    publish(*targets, interceptors=(everywhere, named))
    assert both("double", 1) == ["wrapped", 2]
    assert both("add", 1) == ["wrapped", 11]
    assert both("sum", 1) == ["wrapped", 21]


def test_a_plugin_adds_interceptors_and_handlers_when_it_comes_up(publish: Publish) -> None:
    publish(use("adder"), use("add"))
    assert both("add", 1) == ["added", 2]
    assert job("adder.tidy", 5)["result"] == "tidied 5"


def test_handlers_and_targets_are_done_as_jobs_and_report_progress(publish: Publish) -> None:
    publish(use("numbers"), use("add"), use("failing"))
    done = job("numbers.import", [1, 2])
    assert (done["result"], done["progress"]) == (2, {"done": 3, "total": 3, "note": "loading"})
    assert job("add", 1)["result"] == 2
    assert job("failing", 1)["problem"]["plugin"] == "failing"
    with pytest.raises(UnknownTarget, match="handler"):
        jobs.enqueue("numbers.export", caller=RUNNER)


def job(name: str, data: Any) -> dict[str, Any]:
    """Enqueue a job and do it here, as a worker would."""
    number = jobs.enqueue(name, data, caller=RUNNER, attempts=1)
    jobs.work(tenancy.current(), seconds=10)
    return jobs.status(number)


def test_the_listing_tells_what_is_enabled(publish: Publish) -> None:
    publish(use("add"), use("numbers"), chain("sum", "add"))
    listing = execution.listing()
    assert [(each["name"], each["kind"]) for each in listing["targets"]] == [("add", "registration"), ("sum", "chain")]
    assert [each["name"] for each in listing["streams"]] == ["numbers"]
    assert [each["name"] for each in listing["handlers"]] == ["numbers.import"]
    assert listing["revision"] == 1


def test_a_tenants_plugins_are_found_by_name(publish: Publish, acme: Tenant) -> None:
    publish(use("add", by=4), RegistrationSpec(name="off", plugin="add", enabled=False))
    plugins = plugins_for(acme)
    assert list(plugins) == ["add"]
    assert plugins["add"].config.by == 4
    assert plugins_for("acme").keys() == plugins.keys()


@pytest.mark.parametrize(
    "specs",
    [
        (chain("a", "b"), chain("b", "a")),
        (chain("a", "a"),),
        (CompositionSpec(name="a", members=(MemberSpec(target="b"),)), chain("b", "a")),
    ],
)
def test_a_cycle_is_refused_with_its_path(publish: Publish, specs: tuple[Any, ...]) -> None:
    with pytest.raises(PublishRefused, match="a → "):
        publish(*specs)


def test_a_configuration_that_does_not_fit_is_refused_at_its_field(publish: Publish) -> None:
    with pytest.raises(PublishRefused) as caught:
        publish(use("add", by="many"))
    assert any(field.endswith("by") for _, name, field, _ in caught.value.problems if name == "add")


def test_without_publishing_nothing_is_served(in_acme: Tenant) -> None:
    with pytest.raises(UnknownTarget):
        execution.run("add", 1)


@pytest.fixture
def total() -> Iterator[Point]:
    point = Point("test.total", input=int, output=int)
    yield point
    del point._registry[point.name]


def test_a_point_answers_by_what_hangs_there_else_by_the_default(publish: Publish, total: Point) -> None:
    assert total.run(1, default=lambda value: value + 100) == 101
    publish(use("add", by=5), use("double"), points={"test.total": ["add", "double"]})
    assert total.run(1, default=lambda value: value + 100) == 12
    assert async_to_sync(total.arun)(1, default=lambda value: value + 100) == 12
    with pytest.raises(InvalidInput):
        total.run("one", default=lambda value: value)


def test_a_point_without_a_tenant_is_the_default(total: Point) -> None:
    assert total.run(1, default=str) == "1"
    assert async_to_sync(total.arun)(1, default=str) == "1"
    assert "test.total" in declared()


def test_a_point_without_targets_costs_no_query(publish: Publish, total: Point) -> None:
    publish(use("add"))
    execution.run("add", 1)
    with CaptureQueriesContext(connection) as queries:
        total.run(1, default=str)
    assert len(queries) == 0


def test_a_plugin_comes_up_in_its_own_tenant_whoever_looks(publish: Publish, acme: Tenant, globex: Tenant) -> None:
    with tenancy.visit(globex):
        put(use("waking"))
        TenantStorage(globex).shared.set("mine", "of globex")
    TenantStorage(acme).shared.set("mine", "of acme")
    assert vars(plugins_for(globex)["waking"])["kept"] == "of globex"


def test_many_first_calls_at_once_bring_a_plugin_up_once(publish: Publish, acme: Tenant) -> None:
    publish(use("waking"))
    Waking.ups = 0

    async def call_all() -> list[Any]:
        with tenancy.enter(acme):
            return await asyncio.gather(*(execution.arun("waking", None, timeout=20) for _ in range(50)))

    assert asyncio.run(call_all()) == ["nothing"] * 50
    assert Waking.ups == 1


def test_what_could_not_come_up_is_left_alone_for_a_while(publish: Publish) -> None:
    publish(use("waking", broken=True))
    Waking.ups = 0
    for _ in range(5):
        with pytest.raises(NotReady, match="could not be activated"):
            execution.run("waking", None)
    assert Waking.ups == 1


def test_a_cancelled_run_keeps_its_plugin_up_until_its_thread_is_done(publish: Publish, acme: Tenant) -> None:
    publish(use("lingering"))
    Lingering.entered.clear()
    Lingering.leave.clear()
    Lingering.seen.clear()

    async def cut() -> None:
        with tenancy.enter(acme):
            task = asyncio.ensure_future(execution.arun("lingering", None))
            await asyncio.to_thread(Lingering.entered.wait, 30)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(cut())
    publish(use("lingering", label="two"))
    registry.look()
    Lingering.leave.set()
    registry.stop()
    for _ in range(100):
        if Lingering.seen:
            break
        time.sleep(0.02)
    assert Lingering.seen == [True]


def test_a_target_alone_may_stop_with_a_result(publish: Publish) -> None:
    publish(use("stopping"))
    assert both("stopping", 5) == 5


def test_in_safe_mode_a_point_is_the_default(publish: Publish, total: Point, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(use("add", by=5), points={"test.total": ["add"]})
    monkeypatch.setenv("PLUGINHUB_SAFE_MODE", "1")
    assert total.run(1, default=lambda value: value + 100) == 101
    with pytest.raises(NotReady, match="safe mode"):
        execution.run("add", 1)


def test_what_has_no_process_cannot_be_run(publish: Publish) -> None:
    publish(use("numbers"), use("wrap"))
    for name in ("numbers", "wrap"):
        with pytest.raises(UnknownTarget):
            execution.run(name, 1)


def test_a_run_gets_the_hosts_services_by_type(publish: Publish, settings: Any) -> None:
    settings.PLUGINHUB = {**settings.PLUGINHUB, "PROVIDERS": ["tests.integration.samples.Clocks"]}
    publish(use("asking"))
    assert both("asking", None) == "twelve"


def test_tenancy_and_storage_take_the_hosts_tenant(acme: Tenant) -> None:
    row = get_tenant_model().objects.get(schema_name="acme")
    TenantStorage(row).set("x", 1)
    assert TenantStorage("acme").get("x") == TenantStorage(acme).get("x") == 1
    with tenancy.visit(row) as entered:
        assert (tenancy.current(), entered.schema) == (acme, "acme")


def test_interceptors_of_streams_wrap_their_opening(publish: Publish) -> None:
    raised = InterceptorSpec(registration="more", scope="stream")
    publish(use("counted"), use("more"), interceptors=(raised,))
    assert list(execution.stream("counted", {"until": 2})) == [0, 1, 2]
    with pytest.raises(Refuse):
        list(execution.stream("counted", {"until": 100}))
