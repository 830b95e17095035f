"""Services of each lifetime, which say in `LEDGER` when they come and go."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable
from typing import Any, Generic, TypeVar

from dishka import Provider, provide

from pluginhub import tenancy
from pluginhub.context import Context, Run, Services
from pluginhub.providers import TenantServices
from pluginhub.scopes import PROCESS, RUN, TENANT
from pluginhub.types import Caller, Tenant

ACME, GLOBEX = Tenant("acme"), Tenant("globex")
RITA = Caller("rita", "http")

T = TypeVar("T")

LEDGER: list[str] = []
"""What was opened and closed, in order."""


class Pool:
    pass


class Zone:
    def __init__(self, tenant: Tenant, pool: Pool) -> None:
        self.tenant, self.pool = tenant, pool


class Unit:
    def __init__(self, caller: Caller, zone: Zone) -> None:
        self.caller, self.zone = caller, zone


class Fresh:
    pass


class Unruly:
    pass


class Slow:
    pass


class Seen:
    def __init__(self, tenant: Tenant | None) -> None:
        self.tenant = tenant


class Box(Generic[T]):
    pass


class Boxes(Provider):
    @provide(scope=PROCESS)
    def box(self) -> Box[int]:
        return Box()


class Ledgered(Provider):
    """Services of each lifetime that say when they come and go."""

    @provide(scope=PROCESS)
    def pool(self) -> Iterable[Pool]:
        LEDGER.append("pool +")
        yield Pool()
        LEDGER.append("pool -")

    @provide(scope=TENANT)
    def zone(self, tenant: Tenant, pool: Pool) -> Iterable[Zone]:
        LEDGER.append(f"zone {tenant} +")
        yield Zone(tenant, pool)
        LEDGER.append(f"zone {tenant} -")

    @provide(scope=RUN)
    def unit(self, caller: Caller, zone: Zone) -> Generator[Unit, BaseException | None, None]:
        LEDGER.append(f"unit of {caller.name} +")
        error = yield Unit(caller, zone)
        LEDGER.append(f"unit of {caller.name} - {type(error).__name__ if error else 'well'}")

    fresh = provide(Fresh, scope=PROCESS, cache=False)


class Wanting(Provider):
    """Lacks what its pool needs."""

    scope = PROCESS

    @provide
    def slow(self, pool: Pool) -> Slow:
        return Slow()

    @provide
    def pool(self, fresh: Fresh) -> Pool:
        return Pool()


class Rough(Provider):
    scope = RUN

    @provide
    def unruly(self, unit: Unit) -> Iterable[Unruly]:
        yield Unruly()
        raise RuntimeError("no clean end")

    @provide
    def fresh(self, unruly: Unruly) -> Iterable[Fresh]:
        yield Fresh()
        raise SystemExit(3)


class Watchful(Provider):
    @provide(scope=PROCESS)
    def seen(self) -> Seen:
        return Seen(tenancy.current_or_none())


class Sleepy(Provider):
    begun = threading.Event()
    leave = threading.Event()

    @provide(scope=PROCESS)
    def slow(self) -> Slow:
        self.begun.set()
        self.leave.wait(20)
        return Slow()


def begun(services: TenantServices, caller: Caller = RITA) -> Run:
    return Run(id="r1", tenant=services.tenant, caller=caller, provide=services.in_run)


def get(run: Run, wanted: Any) -> Any:
    return Context((run, Services())).get(wanted)
