"""Providers that do not fit together are told in words; tests put others in their place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from dishka import Provider, Scope, provide

from pluginhub import providers, runs
from pluginhub.injection import RunOnly
from pluginhub.providers import ProvidersError, TenantServices, host_problems
from pluginhub.providers.graphs import Graph
from pluginhub.scopes import PROCESS, TENANT
from pluginhub.types import Tenant
from tests.unit.providers.services import (
    ACME,
    LEDGER,
    Fresh,
    Ledgered,
    Pool,
    Slow,
    Unit,
    Wanting,
    Zone,
    begun,
    get,
)


class Leaky(Provider):
    @provide(scope=PROCESS)
    def pool(self, zone: Zone) -> Pool:
        return Pool()

    @provide(scope=TENANT)
    def zone(self, tenant: Tenant) -> Zone:
        return Zone(tenant, Pool())


class Greedy(Provider):
    @provide(scope=PROCESS)
    def pool(self, tenant: Tenant) -> Pool:
        return Pool()


class Circular(Provider):
    scope = PROCESS

    @provide
    def slow(self, pool: Pool) -> Slow:
        return Slow()

    @provide
    def pool(self, fresh: Fresh) -> Pool:
        return Pool()

    @provide
    def fresh(self, slow: Slow) -> Fresh:
        return Fresh()


class Asynchronous(Provider):
    @provide(scope=PROCESS)
    async def pool(self) -> Pool:
        return Pool()


class Deep(Provider):
    pool = provide(Pool, scope=Scope.STEP)


class Scopeless(Provider):
    pool = provide(Pool)


class TestFaults:
    @pytest.mark.parametrize(
        ("given", "words"),
        [
            (
                Leaky,
                (
                    "Pool lives as long as the process, and needs Zone, which lives as long as its tenant is in use: "
                    "Pool → Zone. Give Pool the scope of Zone, or hand it over when it is called."
                ),
            ),
            (
                Greedy,
                (
                    "Pool lives as long as the process, and needs Tenant, which lives as long as its tenant is in use: "
                    "Pool → Tenant. Give Pool the scope of Tenant, or hand it over when it is called."
                ),
            ),
            (
                Wanting,
                (
                    "Pool needs Fresh, and no provider makes it: Slow → Pool → Fresh. "
                    "Add a provider of Fresh to PLUGINHUB['PROVIDERS']."
                ),
            ),
            (Circular, "Slow needs itself: Slow → Pool → Fresh → Slow. Let one of them take what it needs later."),
            (
                Asynchronous,
                (
                    "Pool is made asynchronously, which the hub's containers are not. "
                    "Make it by a plain function; what is asynchronous is opened in a plugin's activate."
                ),
            ),
            (
                Deep,
                (
                    "Pool has the scope Scope.STEP, which the hub never opens. "
                    "Use PROCESS, TENANT or RUN from pluginhub.scopes."
                ),
            ),
            (
                "shop.services.Nothing",
                (
                    "PLUGINHUB['PROVIDERS'] names 'shop.services.Nothing', which cannot be imported: "
                    "ModuleNotFoundError: No module named 'shop'. Write 'package.module.ProviderClass'."
                ),
            ),
            (
                "collections.OrderedDict",
                (
                    "PLUGINHUB['PROVIDERS'] holds 'collections.OrderedDict', which is no dishka Provider. "
                    "Subclass dishka.Provider."
                ),
            ),
        ],
        ids=["leak", "tenant", "missing", "circle", "asynchronous", "scope", "import", "kind"],
    )
    def test_each_is_told_in_words_before_anything_is_made(
        self, hosts: Callable[..., None], given: Any, words: str
    ) -> None:
        hosts(given)
        assert [str(error) for error in host_problems()] == [words]
        for _ in range(2):
            with pytest.raises(ProvidersError) as caught:
                TenantServices(ACME).get(Pool)
            assert str(caught.value) == words

    def test_a_provider_without_scopes_is_told(self, hosts: Callable[..., None]) -> None:
        hosts(f"{__name__}.Scopeless")
        (error,) = host_problems()
        assert str(error).startswith(f"PLUGINHUB['PROVIDERS'] holds '{__name__}.Scopeless', which cannot be made: NoS")

    def test_all_that_cannot_be_imported_is_told_at_once(self, hosts: Callable[..., None]) -> None:
        hosts("no.such", Ledgered, "neither.this")
        assert len(host_problems()) == 2

    def test_the_later_of_the_hosts_providers_counts(self, hosts: Callable[..., None]) -> None:
        class Instead(Provider):
            @provide(scope=PROCESS)
            def pool(self) -> Pool:
                return mine

        mine = Pool()
        hosts(f"{__name__}:Ledgered", Instead())
        assert TenantServices(ACME).get(Pool) is mine

    def test_looking_makes_nothing(self, hosts: Callable[..., None]) -> None:
        hosts(Ledgered)
        assert host_problems() == []
        assert LEDGER == []


def test_a_graph_names_what_it_makes_without_making_it() -> None:
    graph = Graph([Ledgered()])
    assert {factory.provides.type_hint for factory in graph.factories()} == {Pool, Zone, Unit, Fresh}
    assert LEDGER == []


class TestOverriding:
    def test_what_is_given_stands_in_also_for_those_who_take_it(self, acme: TenantServices) -> None:
        real, fake = acme.get(Pool), Pool()
        with providers.overriding({Pool: fake}):
            assert acme.get(Pool) is fake
            assert acme.get(Zone).pool is fake
        assert acme.get(Pool) not in (real, fake)
        assert LEDGER == ["pool +", "pool -", "zone acme +", "zone acme -", "pool +"]

    def test_a_run_service_stays_one(self, acme: TenantServices) -> None:
        fake: Any = object()
        with providers.overriding({Unit: fake}):
            with pytest.raises(RunOnly):
                acme.get(Unit)
            run = begun(acme)
            assert get(run, Unit) is fake
            runs.end(run)

    def test_what_nobody_provides_can_be_given(self, hosts: Callable[..., None]) -> None:
        hosts(Wanting)
        with providers.overriding({Fresh: Fresh()}):
            assert isinstance(TenantServices(ACME).get(Slow), Slow)

    def test_overrides_nest_and_end_on_errors(self, acme: TenantServices) -> None:
        one, two = Pool(), Pool()

        def fail() -> None:
            with providers.overriding({Pool: two}):
                assert acme.get(Pool) is two
                raise KeyError

        with providers.overriding({Pool: one}):
            with pytest.raises(KeyError):
                fail()
            assert acme.get(Pool) is one
        assert providers.overridden(Pool) == ()
