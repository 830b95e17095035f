"""Services live as long as the process, a tenant or a run, and end then, whatever happens."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from dishka import Container, Provider, provide

from pluginhub import providers, runs, tenancy
from pluginhub.exceptions import DependencyError
from pluginhub.injection import Missing, RunOnly
from pluginhub.providers import TenantServices
from pluginhub.scopes import PROCESS, TENANT
from pluginhub.types import Caller, Tenant
from tests.unit.providers.services import (
    ACME,
    GLOBEX,
    LEDGER,
    RITA,
    Box,
    Boxes,
    Fresh,
    Ledgered,
    Pool,
    Rough,
    Seen,
    Sleepy,
    Slow,
    Unit,
    Watchful,
    Zone,
    begun,
    get,
)


class TestLifetimes:
    def test_nothing_is_made_before_it_is_asked_for(self, acme: TenantServices) -> None:
        assert acme.find(Zone)[1].scope is TENANT
        assert LEDGER == []

    def test_a_process_service_is_one_for_all_tenants_and_outlives_them(self, acme: TenantServices) -> None:
        globex = TenantServices(GLOBEX).hold()
        assert acme.get(Pool) is globex.get(Pool)
        globex.release()
        acme.release()
        acme.hold()
        assert LEDGER == ["pool +"]
        providers.close()
        assert LEDGER == ["pool +", "pool -"]

    def test_a_tenant_service_is_one_for_each_tenant_and_knows_it(self, acme: TenantServices) -> None:
        globex = TenantServices(GLOBEX).hold()
        mine, theirs = acme.get(Zone), globex.get(Zone)
        assert (mine.tenant, theirs.tenant) == (ACME, GLOBEX)
        assert mine.pool is theirs.pool
        assert acme.get(Zone) is mine
        globex.release()
        assert LEDGER == ["pool +", "zone acme +", "zone globex +", "zone globex -"]

    def test_tenant_services_end_with_the_last_who_holds_them_and_may_begin_anew(self, acme: TenantServices) -> None:
        acme.hold()
        first = acme.get(Zone)
        acme.release()
        assert acme.get(Zone) is first
        acme.release()
        assert LEDGER == ["pool +", "zone acme +", "zone acme -"]
        acme.hold()
        assert acme.get(Zone) is not first

    def test_a_run_service_is_one_for_each_run(self, acme: TenantServices) -> None:
        one, two = begun(acme), begun(acme, Caller("omar", "job"))
        unit = get(one, Unit)
        assert get(one, Unit) is unit
        assert get(two, Unit) is not unit
        assert (unit.caller, unit.zone) == (RITA, acme.get(Zone))
        runs.end(two, ValueError())
        runs.end(one)
        assert LEDGER[2:] == ["unit of rita +", "unit of omar +", "unit of omar - ValueError", "unit of rita - well"]

    def test_a_run_that_asks_for_nothing_opens_nothing(self, acme: TenantServices) -> None:
        run = begun(acme)
        get(run, Zone)
        assert run.opened is None
        runs.end(run)
        assert LEDGER == ["pool +", "zone acme +"]

    def test_ending_a_run_again_is_harmless(self, acme: TenantServices) -> None:
        run = begun(acme)
        get(run, Unit)
        runs.end(run)
        runs.end(run)
        assert LEDGER.count("unit of rita - well") == 1

    def test_what_a_run_left_behind_opens_nothing_after_its_end(self, acme: TenantServices) -> None:
        early, late = begun(acme), begun(acme)
        get(early, Unit)
        for run in (early, late):
            runs.end(run)
            with pytest.raises(DependencyError, match="This run has ended"):
                get(run, Unit)
        assert get(late, Pool) is acme.get(Pool)

    def test_what_is_not_kept_is_made_for_each_who_asks(self, acme: TenantServices) -> None:
        assert acme.get(Fresh) is not acme.get(Fresh)

    def test_ends_are_in_reverse_and_go_on_past_failures(
        self, hosts: Callable[..., None], caplog: pytest.LogCaptureFixture
    ) -> None:
        hosts(Ledgered, Rough)
        services = TenantServices(ACME).hold()
        run = begun(services)
        get(run, Fresh)
        runs.end(run)
        services.release()
        providers.close()
        assert LEDGER[-3:] == ["unit of rita - well", "zone acme -", "pool -"]
        said = [record.getMessage() for record in caplog.records]
        assert said == ["A service of run r1 tried to end the process", "A service of run r1 did not end cleanly"]

    def test_a_block_ends_its_run_with_what_it_raised(self, acme: TenantServices) -> None:
        def fail() -> None:
            with runs.ending(begun(acme)) as run:
                get(run, Unit)
                raise KeyError

        with pytest.raises(KeyError):
            fail()
        assert LEDGER[-1] == "unit of rita - KeyError"

    def test_a_run_that_goes_on_past_a_new_setting_ends_what_it_opened(
        self, acme: TenantServices, hosts: Callable[..., None]
    ) -> None:
        run = begun(acme)
        get(run, Unit)
        hosts()
        runs.end(run)
        assert sorted(LEDGER[3:]) == ["pool -", "unit of rita - well", "zone acme -"]


class TestAsking:
    def test_a_run_service_outside_of_a_run_is_refused(self, acme: TenantServices) -> None:
        for ask in (acme.get, acme.check):
            with pytest.raises(RunOnly):
                ask(Unit)
        assert LEDGER == []

    @pytest.mark.parametrize("wanted", [Slow, Container, list[int], "Pool"], ids=str)
    def test_what_no_provider_makes_is_missing(self, acme: TenantServices, wanted: Any) -> None:
        with pytest.raises(Missing):
            acme.get(wanted)
        with pytest.raises(DependencyError, match=r"Nobody provides .* to this run"):
            get(begun(acme), wanted)

    def test_a_factory_that_fails_fails_as_itself_and_is_tried_again(self, hosts: Callable[..., None]) -> None:
        tries = []

        class Failing(Provider):
            @provide(scope=PROCESS)
            def pool(self) -> Pool:
                tries.append(1)
                if len(tries) == 1:
                    raise LookupError("no pool")  # as a Missing is one, too
                return Pool()

        hosts(Failing)
        services = TenantServices(ACME)
        with pytest.raises(LookupError, match="no pool"):
            get(begun(services), Pool)
        assert isinstance(services.get(Pool), Pool)

    def test_a_factory_may_ask_the_container(self, hosts: Callable[..., None]) -> None:
        class Asking(Provider):
            scope = PROCESS
            pool = provide(Pool)

            @provide
            def slow(self, container: Container) -> Slow:
                container.get(Pool)
                return Slow()

        hosts(Asking)
        assert isinstance(TenantServices(ACME).get(Slow), Slow)

    def test_generic_services_are_found(self, hosts: Callable[..., None]) -> None:
        hosts(Boxes)
        services = TenantServices(ACME)
        assert isinstance(services.get(Box[int]), Box)
        with pytest.raises(Missing):
            services.get(Box[str])

    def test_a_process_service_is_made_without_a_tenant(self, hosts: Callable[..., None]) -> None:
        hosts(Watchful)
        with tenancy.enter(ACME):
            assert TenantServices(ACME).get(Seen).tenant is None

    def test_what_is_made_is_found_while_another_factory_takes_its_time(self, hosts: Callable[..., None]) -> None:
        hosts(Ledgered, Sleepy)
        Sleepy.begun.clear()
        Sleepy.leave.clear()
        services = TenantServices(ACME)
        pool = services.get(Pool)
        thread = threading.Thread(target=services.get, args=(Slow,))
        thread.start()
        try:
            assert Sleepy.begun.wait(20)
            assert services.get(Pool) is pool
        finally:
            Sleepy.leave.set()
            thread.join()

    def test_many_threads_get_one(self, acme: TenantServices) -> None:
        run, start = begun(acme), threading.Barrier(16)

        def ask(_: int) -> tuple[Any, ...]:
            start.wait()
            return get(run, Unit), acme.get(Zone), acme.get(Pool)

        with ThreadPoolExecutor(16) as pool:
            assert len(set(pool.map(ask, range(16)))) == 1
        runs.end(run)
        assert LEDGER == ["pool +", "zone acme +", "unit of rita +", "unit of rita - well"]

    def test_threads_that_hold_and_let_go_leave_nothing_open(self, hosts: Callable[..., None]) -> None:
        hosts(Ledgered)
        services = TenantServices(ACME)

        def use(_: int) -> bool:
            services.hold()
            run = begun(services)
            zone = get(run, Unit).zone
            same = zone is services.get(Zone)
            runs.end(run)
            services.release()
            return same

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(use, range(400)))
        assert LEDGER.count("zone acme +") == LEDGER.count("zone acme -") >= 1
        assert LEDGER.count("unit of rita +") == LEDGER.count("unit of rita - well") == 400
        opened = [line for line in LEDGER if line.startswith("zone")]
        assert opened == ["zone acme +", "zone acme -"] * (len(opened) // 2), "never two at once"

    def test_all_who_ask_for_a_tenant_get_the_same_and_nobody_keeps_it(self, hosts: Callable[..., None]) -> None:
        hosts()
        first = providers.of(ACME)
        assert providers.of(Tenant("acme")) is first
        assert providers.of(GLOBEX) is not first
        gone = weakref.ref(first)
        del first
        gc.collect()
        assert gone() is None

    def test_what_nobody_held_is_kept_until_all_is_closed(self, hosts: Callable[..., None]) -> None:
        hosts(Ledgered)
        zone = providers.of(ACME).get(Zone)
        gc.collect()
        assert providers.of(ACME).get(Zone) is zone
        providers.close()
        assert LEDGER == ["pool +", "zone acme +", "zone acme -", "pool -"]
