"""Plugins that need services, and providers whose services say in `LEDGER` when they come and go."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Generator, Iterable, Iterator
from typing import Any, ClassVar

from dishka import Provider, provide
from django.contrib.auth.models import User
from pydantic import BaseModel

from pluginhub import CompositePlugin, Context, Plugin, job, tenancy
from pluginhub.scopes import PROCESS, RUN, TENANT
from pluginhub.types import Caller, Tenant

LEDGER: list[str] = []

PLUGINS = {
    name: f"tests.integration.injected_plugins:{kind}"
    for name, kind in {
        "needs": "Needs",
        "async-needs": "AsyncNeeds",
        "stuck": "Stuck",
        "aloof": "Aloof",
        "leaking": "Leaking",
        "lacking": "Lacking",
        "counting": "Counting",
        "own-rates": "OwnRates",
        "flat-rates": "FlatRates",
        "convert": "Convert",
        "optional": "Optional",
        "fees": "Fees",
        "charge": "Charge",
        "empty-handed": "EmptyHanded",
        "users": "Users",
        "all-rates": "AllRates",
        "surcharge": "Surcharge",
    }.items()
}


class Pool:
    pass


class Zone:
    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant


class Unit:
    """What one run works with."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller


class Absent:
    """Nobody provides it."""


class Staff:
    def __init__(self, names: list[str]) -> None:
        self.names = names


class Services(Provider):
    @provide(scope=PROCESS)
    def pool(self) -> Iterable[Pool]:
        LEDGER.append("pool +")
        yield Pool()
        LEDGER.append("pool -")

    @provide(scope=TENANT)
    def zone(self, tenant: Tenant, pool: Pool) -> Iterable[Zone]:
        LEDGER.append(f"zone {tenant.schema} +")
        yield Zone(tenant)
        LEDGER.append(f"zone {tenant.schema} -")

    @provide(scope=RUN)
    def unit(self, caller: Caller, zone: Zone) -> Generator[Unit, BaseException | None, None]:
        LEDGER.append("unit +")
        error = yield Unit(caller)
        where = "loop" if _on_loop() else tenancy.current().schema
        User.objects.exists()  # it may query its tenant until the end
        LEDGER.append(f"unit - {type(error).__name__ if error else 'well'} in {where}")

    @provide(scope=PROCESS)
    def staff(self) -> Staff:
        return Staff([user.username for user in User.objects.all()])


def _on_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class Needs(Plugin):
    """Use services of each lifetime, in every kind of run."""

    def __init__(self, pool: Pool, zone: Zone) -> None:
        super().__init__()
        self.pool, self.zone = pool, zone

    def process(self, value: Any, context: Context) -> list[Any]:
        unit = context.get(Unit)
        assert unit is context.get(Unit)
        assert (context.get(Pool), context.get(Zone)) == (self.pool, self.zone)
        if value == "fail":
            raise ValueError("as told")
        return [unit.caller.name, self.zone.tenant.schema]

    @job("work")
    def work(self, data: Any, context: Context) -> Any:
        return self.process(data, context)

    def stream(self, params: Any, context: Context) -> Iterator[Any]:
        yield context.get(Unit).caller.name
        if params == {"fail": True}:
            raise ValueError("as told")
        yield context.get(Unit) is context.get(Unit)


class AsyncNeeds(Needs):
    async def process(self, value: Any, context: Context) -> list[Any]:  # type: ignore[override]
        await asyncio.sleep(0)
        return super().process(value, context)

    async def stream(self, params: Any, context: Context) -> AsyncIterator[Any]:  # type: ignore[override]
        for item in super().stream(params, context):
            await asyncio.sleep(0)
            yield item


class Stuck(Plugin):
    """Stay in a thread with a service until told to go on; try for another one then."""

    entered: ClassVar[threading.Event] = threading.Event()
    leave: ClassVar[threading.Event] = threading.Event()

    def process(self, value: Any, context: Context) -> Any:
        if value != "late":
            context.get(Unit)
        self.entered.set()
        self.leave.wait(30)
        try:
            context.get(Unit)
        except Exception as error:
            LEDGER.append(type(error).__name__)
            raise
        LEDGER.append("still here")


class Aloof(Plugin):
    """Need nothing."""

    def process(self, value: Any, context: Context) -> Any:
        return value


class Leaking(Aloof):
    """Ask for a run's service too early."""

    def __init__(self, unit: Unit | None = None) -> None:
        super().__init__()


class Lacking(Aloof):
    """Need what nobody provides."""

    def __init__(self, absent: Absent) -> None:
        super().__init__()


class Users(Aloof):
    """Need what a factory reads from the tenant that happens to ask first."""

    def __init__(self, staff: Staff) -> None:
        super().__init__()


class Counting(Plugin):
    """Say what is in a tenant's zone."""

    class Config(BaseModel):
        label: str = ""

    def __init__(self, zone: Zone) -> None:  # does not hand its config on
        super().__init__()
        self.zone = zone

    def process(self, value: Any, context: Context) -> Any:
        return [self.config.label, id(self.zone)]


class Rates:
    def __init__(self, usd: float) -> None:
        self.usd = usd


class Tariff:
    def __init__(self, rates: Rates) -> None:
        self.rates = rates


class Lived(Plugin):
    """Say when it comes and goes."""

    def activate(self, context: Context) -> None:
        LEDGER.append(f"{context.name} up")

    def deactivate(self, context: Context) -> None:
        LEDGER.append(f"{context.name} down")


class OwnRates(Lived):
    """Provide the tenant's own rates."""

    provides = (Rates,)

    class Config(BaseModel):
        usd: float = 1.5
        broken: bool = False

    def activate(self, context: Context) -> None:
        super().activate(context)
        if self.config.broken:
            raise RuntimeError("no rates")
        context.provide(Rates, Rates(self.config.usd))


class FlatRates(Lived, Rates):
    """Be rates, of one to one."""

    provides = (Rates,)

    def __init__(self) -> None:
        Lived.__init__(self)
        Rates.__init__(self, 1.0)


class AllRates(CompositePlugin):
    """Provide rates, and ask every member."""

    provides = (Rates,)

    def activate(self, context: Context) -> None:
        context.provide(Rates, Rates(2.0))

    def process(self, value: float, context: Context) -> list[float]:
        return [context.call(child, value) for child in self.children]


class Surcharge(Plugin):
    """Wrap every call, with rates."""

    def __init__(self, rates: Rates) -> None:
        self.rates = rates

    def activate(self, context: Context) -> None:
        context.middleware.use(self.around, scope="call")

    def around(self, request: Any, call_next: Any) -> Any:
        return [self.rates.usd, call_next(request)]

    def process(self, value: float, context: Context) -> float:
        return value


class Convert(Lived):
    """Convert by the tenant's rates."""

    class Config(BaseModel):
        label: str = ""

    def __init__(self, rates: Rates) -> None:
        super().__init__()
        self.rates = rates

    def process(self, value: float, context: Context) -> float:
        return value * self.rates.usd


class Optional(Lived):
    """Convert, if there are rates."""

    def set_dependencies(self, rates: Rates | None = None) -> None:
        self.rates = rates

    async def process(self, value: float, context: Context) -> float:
        return value * (self.rates.usd if self.rates else 0.0)


class Fees(Lived):
    """Provide a tariff, for rates."""

    provides = (Tariff,)

    def __init__(self, rates: Rates) -> None:
        super().__init__()
        self.rates = rates

    def activate(self, context: Context) -> None:
        super().activate(context)
        context.provide(Tariff, Tariff(self.rates))


class Charge(Lived):
    """Provide rates, for a tariff: with `Fees`, a circle."""

    provides = (Rates,)

    def __init__(self, tariff: Tariff) -> None:
        super().__init__()


class EmptyHanded(Aloof):
    """List what it does not provide."""

    provides = (Tariff,)
