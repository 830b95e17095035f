"""Providers of plugin packages: above the host's, and renewed with their code."""

from __future__ import annotations

import gc
import sys
import textwrap
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dishka import Provider, provide

from pluginhub import loading, providers, runs
from pluginhub.injection import Missing
from pluginhub.loading import discovery
from pluginhub.providers import TenantServices
from pluginhub.providers.sources import PackageProvider, packages_of
from pluginhub.scopes import PROCESS, RUN, TENANT
from tests.unit.providers.services import (
    ACME,
    GLOBEX,
    LEDGER,
    Ledgered,
    Pool,
    Seen,
    Slow,
    Unit,
    Wanting,
    Watchful,
    Zone,
    begun,
    get,
)


class Own:
    pass


class OfPool:
    def __init__(self, pool: Pool) -> None:
        self.pool = pool


class OfUnit:
    def __init__(self, unit: Unit, own: Own) -> None:
        self.unit, self.own = unit, own


class PackageServices(Provider):
    """A plugin package's: what it takes from the host, and a default of what the host provides too."""

    @provide(scope=PROCESS)
    def own(self) -> Iterable[Own]:
        LEDGER.append("own +")
        yield Own()
        LEDGER.append("own -")

    @provide(scope=TENANT)
    def of_pool(self, zone: Zone) -> Iterable[OfPool]:
        LEDGER.append("of pool +")
        yield OfPool(zone.pool)
        LEDGER.append("of pool -")

    of_unit = provide(OfUnit, scope=RUN)

    @provide(scope=PROCESS)
    def pool(self) -> Pool:
        raise AssertionError("the host's wins")


class OtherServices(Provider):
    """Another package's, which takes what the first makes."""

    @provide(scope=PROCESS)
    def slow(self, own: Own) -> Slow:
        return Slow()


class Rival(Provider):
    @provide(scope=PROCESS)
    def own(self) -> Own:
        return Own()


def source(name: str, provider: type[Provider]) -> PackageProvider:
    return PackageProvider(name, f"{provider.__module__}:{provider.__qualname__}", None)


class TestPackages:
    @pytest.fixture
    def acme(self, hosts: Callable[..., None]) -> Iterator[TenantServices]:
        hosts(Ledgered)
        services = TenantServices(ACME, (source("a", OtherServices), source("b", PackageServices))).hold()
        yield services
        services.release()

    def test_they_take_what_the_host_and_one_another_make(self, acme: TenantServices) -> None:
        run = begun(acme)
        assert isinstance(acme.get(Slow), Slow)
        assert acme.get(OfPool).pool is acme.get(Pool)
        assert get(run, OfUnit).unit is get(run, Unit)
        assert get(run, OfUnit).own is acme.get(Own)
        runs.end(run)

    def test_their_services_end_with_the_last_tenant_and_the_hosts_go_on(self, acme: TenantServices) -> None:
        globex = TenantServices(GLOBEX, acme._sources).hold()
        own = acme.get(Own)
        assert globex.get(Own) is own
        run = begun(acme)
        get(run, OfUnit)
        acme.get(OfPool)
        LEDGER.clear()
        runs.end(run)
        acme.release()
        assert LEDGER == ["unit of rita - well", "of pool -", "zone acme -"]
        globex.release()
        assert LEDGER[3:] == ["own -"]
        assert acme.hold().get(Own) is not own

    def test_they_are_imported_only_where_the_host_does_not_provide(self, hosts: Callable[..., None]) -> None:
        hosts(Ledgered)
        services = TenantServices(ACME, (PackageProvider("a", "no_such_module:Services", None),))
        assert isinstance(services.get(Pool), Pool)
        with pytest.raises(Missing) as caught:
            services.get(Own)
        assert caught.value.why == (
            "The provider 'a' cannot be loaded: ModuleNotFoundError: No module named 'no_such_module'."
        )

    def test_one_that_lacks_something_is_left_out_alone(self, hosts: Callable[..., None]) -> None:
        hosts()
        services = TenantServices(ACME, (source("a", PackageServices), source("b", Watchful), source("c", Wanting)))
        assert isinstance(services.get(Seen), Seen)
        with pytest.raises(Missing) as caught:
            services.get(OfPool)
        assert caught.value.why == (
            "The provider 'a' is left out: OfPool needs Zone, and no provider makes it: OfPool → Zone. "
            "The provider 'c' is left out: Pool needs Fresh, and no provider makes it: Slow → Pool → Fresh."
        )

    def test_of_two_that_make_the_same_the_second_is_left_out_and_both_are_named(
        self, hosts: Callable[..., None]
    ) -> None:
        hosts(Ledgered)
        services = TenantServices(ACME, (source("a", PackageServices), source("b", Rival)))
        assert isinstance(services.get(Own), Own)
        with pytest.raises(Missing) as caught:
            services.get(Slow)
        assert caught.value.why == (
            "The provider 'b' is left out: Own is made twice: by PackageServices.own and Rival.own."
        )

    def test_in_a_test_they_get_what_stands_in_for_the_hosts(self, acme: TenantServices) -> None:
        fake = Pool()
        with providers.overriding({Pool: fake}):
            assert acme.get(OfPool).pool is fake

    def test_a_new_setting_of_the_hosts_reaches_them(self, acme: TenantServices, hosts: Callable[..., None]) -> None:
        before = acme.get(OfPool)
        hosts(Ledgered())
        assert acme.get(OfPool) is not before
        assert acme.get(OfPool).pool is acme.get(Pool)


TOP = "pluginhub_providing"
SOURCES = {
    "types": """
        class Tariff:
            version = VERSION

        class Shared:
            version = VERSION
        """,
    "services": """
        from dishka import Provider, provide
        from pluginhub.scopes import PROCESS
        from .types import Tariff

        class Services(Provider):
            tariff = provide(Tariff, scope=PROCESS)
        """,
    "plugins": """
        from pluginhub import Plugin
        from .types import Shared, Tariff

        class Price(Plugin):
            def __init__(self, tariff: Tariff, shared: Shared):
                self.tariff, self.shared = tariff, shared
        """,
    "__init__": "",
}


class TestGenerations:
    """A package that brings plugins and providers, installed, and then reloaded."""

    @pytest.fixture
    def write(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
        monkeypatch.setattr(discovery, "GROUP", "pluginhub.providing")
        monkeypatch.setattr(discovery, "CHECK_SECONDS", 0.0)
        info = tmp_path / "providing-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: providing\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(
            f"[pluginhub.providing]\nprice = {TOP}.plugins:Price\n"
            f"[pluginhub.providers]\ntariffs = {TOP}.services:Services\n"
        )
        folder = tmp_path / TOP
        folder.mkdir()

        def write(version: int) -> None:
            for name, text in SOURCES.items():
                (folder / f"{name}.py").write_text(textwrap.dedent(text).replace("VERSION", str(version)))
            loading.rediscover()

        monkeypatch.syspath_prepend(str(tmp_path))
        loading.forget()
        yield write
        loading.forget()
        for name in [name for name in sys.modules if name.startswith(TOP)]:
            del sys.modules[name]

    def test_entry_points_are_found_without_importing(self, write: Callable[[int], None]) -> None:
        write(1)
        assert [each.dotted for each in packages_of(loading.current()) if each.name == "tariffs"] == [
            f"{TOP}.services:Services"
        ]
        assert f"{TOP}.services" not in sys.modules

    def test_a_reload_renews_a_packages_services_and_none_of_the_hosts(
        self, write: Callable[[int], None], hosts: Callable[..., None]
    ) -> None:
        write(1)
        first = loading.current()
        shared = first.load("price").__init__.__annotations__["shared"]
        hosts(Ledgered, _providing(shared))
        write(1)
        first = loading.current()
        older = providers.of(ACME, first).hold()
        pool, given = older.get(Pool), older.get(shared)
        write(2)
        second = first.renewed([loading.snapshot_of(TOP)], 1)
        newer = providers.of(ACME, second).hold()
        assert newer is not older
        kinds = second.load("price").__init__.__annotations__
        assert newer.get(kinds["tariff"]).version == 2
        assert newer.get(kinds["shared"]) is given, "the host's object, of the class that the host imported"
        assert (newer.get(Pool), LEDGER) == (pool, ["pool +"])
        older.release()
        newer.release()

    def test_a_generation_that_changes_nothing_here_is_the_same(self, write: Callable[[int], None]) -> None:
        write(1)
        first = loading.current()
        first.load("price")
        services = providers.of(ACME, first)
        assert providers.of(ACME, first.numbered(7)) is services

    def test_an_old_generation_dies_with_its_last_holder(
        self, write: Callable[[int], None], hosts: Callable[..., None]
    ) -> None:
        hosts(Ledgered)
        write(1)
        codes = [loading.current()]
        codes[0].load("price")
        write(2)
        codes.append(codes[0].renewed([loading.snapshot_of(TOP)], 1))
        services = providers.of(ACME, codes[1]).hold()
        tariff = codes[1].load("price").__init__.__annotations__["tariff"]
        assert services.get(tariff).version == 2
        died = weakref.ref(tariff)
        codes.pop()
        services.release()
        del services, tariff
        gc.collect()
        assert died() is None


def _providing(kind: Any) -> Provider:
    given = Provider(scope=PROCESS)
    given.provide(kind)
    return given
