"""Services in the whole hub: in runs, jobs and streams of both colours, and from one plugin to another."""

from __future__ import annotations

import asyncio
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.core.management import call_command

from pluginhub import execution, jobs, loading, providers, publishing, tenancy
from pluginhub.configuration import ChainSpec, CompositionSpec, Configuration, MemberSpec, RegistrationSpec, StepSpec
from pluginhub.exceptions import DependencyError, NotReady, PublishRefused
from pluginhub.jobs import running
from pluginhub.loading import discovery
from pluginhub.registry import plugins_for, registry
from pluginhub.runtimes import Runtime
from pluginhub.testing import provided
from pluginhub.types import Caller, Tenant
from tests.integration.injected_plugins import LEDGER, PLUGINS, Pool, Rates, Services, Stuck, Unit, Zone

RITA = Caller("rita", "http", permissions=frozenset({"pluginhub.run_target"}))
COLOURS = ["needs", "async-needs"]
OPENED = ["pool +", "zone acme +"]


@pytest.fixture(autouse=True)
def _services(settings: Any) -> Iterator[None]:
    settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": PLUGINS, "PROVIDERS": [Services]}
    LEDGER.clear()
    yield
    registry.clear()
    registry.stop()
    providers.close()
    opened, closed = (sorted(line.split()[0] for line in LEDGER if sign in line.split()) for sign in "+-")
    assert opened == closed, LEDGER


@pytest.fixture
def publish(in_acme: Tenant) -> Callable[..., None]:
    return put


def put(*specs: Any) -> None:
    """Publish these targets for the current tenant: specs, and plugins under their own names."""
    known: list[Any] = [RegistrationSpec(name=each, plugin=each) if isinstance(each, str) else each for each in specs]
    parts: dict[str, dict[str, Any]] = {"registrations": {}, "chains": {}, "compositions": {}}
    kinds: dict[type, str] = {RegistrationSpec: "registrations", ChainSpec: "chains", CompositionSpec: "compositions"}
    for spec in known:
        parts[kinds[type(spec)]][spec.name] = spec
    publishing.apply_configuration(Configuration.model_validate(parts), author="test")


def use(plugin: str, name: str = "", **config: Any) -> RegistrationSpec:
    return RegistrationSpec(name=name or plugin, plugin=plugin, config=config)


def refused(*specs: Any) -> list[tuple[str, str, str, str]]:
    with pytest.raises(PublishRefused) as caught:
        put(*specs)
    return caught.value.problems


def down() -> None:
    """Let go of all runtimes, and wait until that is done."""
    registry.clear()
    registry.stop()


class TestRuns:
    @pytest.mark.parametrize("name", COLOURS)
    def test_a_run_gets_services_of_each_lifetime_and_ends_its_own(self, publish: Any, name: str) -> None:
        publish(name)
        expected = ["rita", "acme"]
        assert execution.run(name, 1, caller=RITA) == expected
        assert async_to_sync(execution.arun)(name, 1, caller=RITA) == expected
        assert [*OPENED, *["unit +", "unit - well in acme"] * 2] == LEDGER

    @pytest.mark.parametrize("name", COLOURS)
    def test_a_run_that_fails_ends_them_with_its_error(self, publish: Any, name: str) -> None:
        publish(name)
        with pytest.raises(ValueError, match="as told"):
            execution.run(name, "fail")
        with pytest.raises(ValueError, match="as told"):
            async_to_sync(execution.arun)(name, "fail")
        assert [*OPENED, *["unit +", "unit - ValueError in acme"] * 2] == LEDGER

    def test_steps_of_one_run_share_its_services(self, publish: Any) -> None:
        steps = tuple(StepSpec(target=name) for name in (*COLOURS, "needs"))
        publish(*COLOURS, ChainSpec(name="all", steps=steps))
        execution.run("all", 1)
        async_to_sync(execution.arun)("all", 1)
        assert [*OPENED, *["unit +", "unit - well in acme"] * 2] == LEDGER

    def test_members_side_by_side_share_them_too(self, publish: Any) -> None:
        members = tuple(MemberSpec(target=name) for name in COLOURS)
        publish(*COLOURS, CompositionSpec(name="both", strategy="parallel", members=members))
        execution.run("both", 1)
        async_to_sync(execution.arun)("both", 1)
        assert [*OPENED, *["unit +", "unit - well in acme"] * 2] == LEDGER

    @pytest.mark.parametrize("first", ["all", "aloof"])
    def test_what_wraps_a_member_may_need_what_its_parent_provides(self, publish: Any, first: str) -> None:
        members = (MemberSpec(target="aloof"),)
        publish(
            "aloof", "surcharge", CompositionSpec(name="all", strategy="parent", plugin="all-rates", members=members)
        )
        run = asyncio.wait_for(execution.arun(first, 1.0), 10)
        assert asyncio.run(run) == [2.0, [1.0] if first == "all" else 1.0]

    def test_a_run_that_needs_none_makes_none(self, publish: Any) -> None:
        publish("aloof")
        assert execution.run("aloof", 1) == 1
        assert LEDGER == []

    def test_each_tenant_has_its_own_and_all_share_the_processs(self, publish: Any, globex: Tenant) -> None:
        publish("needs")
        execution.run("needs", 1)
        with tenancy.visit(globex):
            put("needs")
            assert execution.run("needs", 1) == ["host", "globex"]
        assert [line for line in LEDGER if "unit" not in line] == [*OPENED, "zone globex +"]

    def test_publishing_makes_no_service_anew(self, publish: Any) -> None:
        publish("counting", "aloof")
        first = execution.run("counting", 1)
        publish(use("counting", label="new"))
        assert execution.run("counting", 1) == ["new", first[1]]
        assert LEDGER == OPENED

    def test_services_of_a_tenant_end_when_it_is_no_longer_in_use_here(self, publish: Any) -> None:
        publish("needs")
        execution.run("needs", 1)
        down()
        assert LEDGER[-1] == "zone acme -"
        execution.run("needs", 1)
        assert LEDGER.count("zone acme +") == 2
        assert LEDGER.count("pool +") == 1

    def test_a_factory_of_the_process_may_not_read_the_tenant_that_asks_first(self, publish: Any) -> None:
        User.objects.create(username="only-acmes")
        publish("users")
        with pytest.raises(
            DependencyError, match="'staff' of type Staff, and making it failed: A query on 'acme' was refused"
        ):
            execution.run("users", 1)


class TestCancelling:
    @pytest.fixture(autouse=True)
    def _stuck(self, publish: Any) -> None:
        Stuck.entered.clear()
        Stuck.leave.clear()
        publish("stuck")

    @pytest.mark.parametrize(
        ("value", "then"),
        [
            ("at once", ["unit +", "DependencyError", "unit - CancelledError in acme"]),
            ("late", ["DependencyError"]),
        ],
        ids=["with", "without"],
    )
    def test_services_end_after_the_thread_that_a_cancelled_run_left_behind(
        self, acme: Tenant, value: str, then: list[str]
    ) -> None:
        async def cut() -> None:
            with tenancy.enter(acme):
                task = asyncio.ensure_future(execution.arun("stuck", value))
                await asyncio.to_thread(Stuck.entered.wait, 30)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

        asyncio.run(cut())
        assert not any("unit -" in line for line in LEDGER)
        Stuck.leave.set()
        until = time.monotonic() + 20
        while LEDGER[-len(then) :] != then and time.monotonic() < until:
            time.sleep(0.02)
        assert [line for line in LEDGER if line not in OPENED] == then


class TestJobsAndStreams:
    @pytest.mark.parametrize(
        ("data", "status", "end"), [(1, "succeeded", "well"), ("fail", "failed", "ValueError")], ids=["well", "badly"]
    )
    def test_a_job_ends_its_services(self, publish: Any, acme: Tenant, data: Any, status: str, end: str) -> None:
        publish("needs")
        enqueued = jobs.enqueue("needs.work", data, attempts=1)
        assert running.work(acme, seconds=20) == 1
        assert jobs.status(enqueued)["status"] in (status, "dead")
        assert [*OPENED, "unit +", f"unit - {end} in acme"] == LEDGER

    @pytest.mark.parametrize("name", COLOURS)
    def test_a_stream_ends_its_services_when_it_is_over(self, publish: Any, name: str) -> None:
        publish(name)
        assert list(execution.stream(name)) == ["host", True]
        assert [*OPENED, "unit +", "unit - well in acme"] == LEDGER

    @pytest.mark.parametrize("name", COLOURS)
    def test_so_does_one_in_asynchronous_code_and_in_a_thread(self, publish: Any, acme: Tenant, name: str) -> None:
        publish(name)

        async def all_of_it() -> list[Any]:
            with tenancy.enter(acme):
                return [item async for item in execution.stream(name)]

        assert asyncio.run(all_of_it()) == ["host", True]
        assert [*OPENED, "unit +", "unit - well in acme"] == LEDGER

    @pytest.mark.parametrize("name", COLOURS)
    def test_one_that_is_let_go_of_or_fails_ends_them_too(self, publish: Any, acme: Tenant, name: str) -> None:
        publish(name)
        with execution.stream(name) as stream:
            assert next(stream) == "host"
        with pytest.raises(ValueError, match="as told"):
            list(execution.stream(name, {"fail": True}))

        async def in_part() -> None:
            with tenancy.enter(acme):
                async with execution.stream(name) as stream:
                    await anext(stream)
                with pytest.raises(ValueError, match="as told"):
                    [item async for item in execution.stream(name, {"fail": True})]

        asyncio.run(in_part())
        ends = ["unit - well in acme", "unit - ValueError in acme"]
        assert [line for line in LEDGER if line.startswith("unit -")] == ends * 2


class TestPublishing:
    def test_what_nobody_provides_is_refused_at_its_registration(self, publish: Any) -> None:
        assert refused("lacking", "aloof") == [
            (
                "registration",
                "lacking",
                "plugin",
                (
                    "Lacking needs 'absent' of type Absent, and nobody provides it. "
                    "Add a provider of Absent to PLUGINHUB['PROVIDERS']."
                ),
            )
        ]
        assert LEDGER == []

    def test_what_lives_as_long_as_a_run_is_refused_in_a_constructor(self, publish: Any) -> None:
        assert [problem[3] for problem in refused("leaking")] == [
            (
                "Leaking needs 'unit' of type Unit, which lives as long as one run. "
                "Take it by context.get(Unit) where it is used."
            )
        ]

    def test_two_that_provide_what_a_third_requires_are_named(self, publish: Any) -> None:
        publish("own-rates", "convert")
        assert refused("own-rates", "convert", "flat-rates") == [
            (
                "registration",
                "flat-rates",
                "plugin",
                "'convert' needs Rates, and 'flat-rates' and 'own-rates' both provide it. Disable all of them but one.",
            )
        ]
        publish("own-rates", "flat-rates")  # while nobody requires it, both may

    def test_plugins_that_need_one_another_are_refused_with_their_path(self, publish: Any) -> None:
        assert refused("fees", "charge") == [
            ("registration", "charge", "plugin", "This needs itself: charge → fees → charge."),
            ("registration", "fees", "plugin", "This needs itself: fees → charge → fees."),
        ]

    def test_a_provider_that_was_lost_keeps_nobody_from_publishing_something_else(
        self, publish: Any, settings: Any
    ) -> None:
        publish("needs")
        settings.PLUGINHUB = {**settings.PLUGINHUB, "PROVIDERS": []}
        publish("needs", "aloof")
        assert execution.run("aloof", 1) == 1
        with pytest.raises(DependencyError, match=r"Needs needs 'pool' of type Pool, and nobody provides it\."):
            execution.run("needs", 1)
        assert [problem[1] for problem in refused(use("needs", "more"), "needs")] == ["more", "more"]

    def test_a_fault_of_the_hosts_providers_is_told_where_it_matters(self, publish: Any, settings: Any) -> None:
        settings.PLUGINHUB = {**settings.PLUGINHUB, "PROVIDERS": ["no.such.Services"]}
        publish("aloof")
        assert execution.run("aloof", 1) == 1
        assert "names 'no.such.Services', which cannot be imported" in refused("counting", "aloof")[0][3]

    def test_pluginhub_check_knows_what_plugins_provide_to_one_another(
        self, publish: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        publish("own-rates", "convert", "needs")
        call_command("pluginhub_check", "--tenant", "acme")
        assert "No problems" in capsys.readouterr().out


class TestPluginsForOneAnother:
    def test_who_provides_comes_up_first_and_goes_down_last(self, publish: Any) -> None:
        publish(use("own-rates", usd=2.0), "convert")
        assert execution.run("convert", 10.0) == 20.0
        down()
        assert LEDGER == ["own-rates up", "convert up", "convert down", "own-rates down"]

    def test_a_plugin_may_be_what_it_provides(self, publish: Any) -> None:
        publish("flat-rates", "convert")
        assert execution.run("convert", 10.0) == 10.0

    def test_a_row_of_them_comes_up_in_order(self, publish: Any) -> None:
        publish("own-rates", "fees")
        _ = plugins_for("acme")["fees"]
        assert LEDGER == ["own-rates up", "fees up"]

    def test_what_is_optional_is_taken_where_it_is_offered(self, publish: Any) -> None:
        publish("optional")
        assert execution.run("optional", 10.0) == 0.0
        publish("optional", use("own-rates", usd=3.0, broken=True))
        assert execution.run("optional", 10.0) == 0.0, "carried over: what it was made of did not change"
        down()
        with pytest.raises(NotReady, match="'own-rates' could not be activated"):
            execution.run("optional", 10.0)

    def test_a_new_configuration_of_the_provider_reaches_those_who_require_it(self, publish: Any) -> None:
        publish(use("own-rates", usd=2.0), "convert")
        execution.run("convert", 10.0)
        publish(use("own-rates", usd=4.0), "convert")
        assert execution.run("convert", 10.0) == 40.0

    def test_what_does_not_concern_the_provider_leaves_it_alone(self, publish: Any) -> None:
        publish("own-rates", "convert")
        execution.run("convert", 10.0)
        LEDGER.clear()
        publish("own-rates", use("convert", label="new"))
        execution.run("convert", 10.0)
        assert "own-rates up" not in LEDGER

    def test_a_provider_that_fails_keeps_back_those_who_require_it_and_nobody_else(self, publish: Any) -> None:
        publish(use("own-rates", broken=True), "convert", "aloof")
        with pytest.raises(NotReady, match="'own-rates' could not be activated: RuntimeError"):
            execution.run("convert", 10.0)
        assert execution.run("aloof", 1) == 1
        assert "convert up" not in LEDGER

    def test_what_was_listed_must_be_provided(self, publish: Any) -> None:
        publish("empty-handed")
        with pytest.raises(NotReady, match="'empty-handed' lists Tariff in provides, and provided none"):
            execution.run("empty-handed", 1)

    def test_many_who_ask_at_once_bring_each_up_once(self, publish: Any) -> None:
        publish("own-rates", "convert", "fees", "optional")

        async def all_at_once() -> None:
            with tenancy.enter(tenancy.find("acme")):
                await asyncio.gather(*(execution.arun(name, 1.0) for name in ["convert", "optional"] * 10))

        asyncio.run(all_at_once())
        assert sorted(LEDGER) == ["convert up", "optional up", "own-rates up"]


TOP = "pluginhub_absences"


class TestReloads:
    """A package that provides what another's plugin, which does not import it, requires."""

    @pytest.fixture
    def generations(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[loading.Code]]:
        monkeypatch.setattr(discovery, "GROUP", "pluginhub.absences")
        monkeypatch.syspath_prepend(str(tmp_path))
        info = tmp_path / "absences-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: absences\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[pluginhub.providers]\nabsent = {TOP}:Services\n")
        (tmp_path / f"{TOP}.py").write_text(textwrap.dedent(PROVIDING))
        loading.forget()
        first = loading.current()
        yield [first, *(first.renewed([loading.snapshot_of(TOP)], number) for number in (1, 2))]
        loading.forget()
        for name in [name for name in sys.modules if name.startswith(TOP)]:
            del sys.modules[name]

    @pytest.mark.usefixtures("publish")
    def test_plugins_come_up_anew_with_the_providers_that_they_may_have_something_from(
        self, acme: Tenant, generations: list[loading.Code]
    ) -> None:
        configuration = Configuration(registrations={"lacking": RegistrationSpec(name="lacking", plugin="lacking")})
        older, same, newer = (
            Runtime(acme, 1, configuration, code)
            for code in (generations[0], generations[0].numbered(7), generations[1])
        )
        plugin = older.instances.get("lacking").plugin
        same.instances.carry_over(older.instances)
        newer.instances.carry_over(older.instances)
        older.instances.end()
        assert same.instances.get("lacking").plugin is plugin
        assert LEDGER == ["absent +"]
        assert newer.instances.get("lacking").plugin is not plugin
        same.instances.end()
        assert LEDGER == ["absent +", "absent +", "absent -"]
        newer.instances.end()
        assert LEDGER.count("absent -") == 2


PROVIDING = """
    from collections.abc import Iterable
    from dishka import Provider, provide
    from pluginhub.scopes import TENANT
    from tests.integration.injected_plugins import LEDGER, Absent

    class Services(Provider):
        @provide(scope=TENANT)
        def absent(self) -> Iterable[Absent]:
            LEDGER.append("absent +")
            yield Absent()
            LEDGER.append("absent -")
    """


class TestOverriding:
    def test_in_a_test_others_stand_in_for_the_real_ones(self, publish: Any) -> None:
        class Fake(Zone):
            """One that leaves no trace."""

        publish("counting", "own-rates", "convert", "needs")
        real, converted = execution.run("counting", 1)[1], execution.run("convert", 10.0)
        fake, unit = Fake(Tenant("faked")), Unit(Caller("faked", "host"))
        with provided({Zone: fake, Rates: Rates(9.0), Unit: unit, Pool: Pool()}):
            assert execution.run("counting", 1)[1] == id(fake)
            assert execution.run("convert", 10.0) == 90.0
            assert execution.run("needs", 1) == ["faked", "faked"]
        assert execution.run("counting", 1)[1] not in (real, id(fake))
        assert execution.run("convert", 10.0) == converted
        assert execution.run("needs", 1) == ["host", "acme"]
