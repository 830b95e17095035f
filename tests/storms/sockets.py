"""The tenancy storm over websockets: many tenants' sockets, interleaved subscriptions and runs, and a ledger.

Each item names its tenant by a row read while it was made; the client, which knows only whose socket it opened, keeps
the ledger. Without the gate and the fence, as a Channels consumer would do it, the same storm must find crossings.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from unittest.mock import patch

from asgiref.sync import sync_to_async
from django.db import connections

from pluginhub import crossing, execution, tenancy
from pluginhub.registry import registry
from pluginhub.tenancy import fence
from pluginhub.types import Tenant
from tests.figures import Figure
from tests.integration.sockets import Client, Site, publish, serving, token
from tests.storms.grounds import grounds

__all__ = ["Ledger", "figures", "storm"]

T = TypeVar("T")

SOCKETS = 3
STREAMS = ("synchronous", "asking")
ITEMS = 20_000


@dataclass(slots=True)
class Ledger:
    """What each tenant's clients were told: whose item it was."""

    told: Counter[tuple[str, str]] = field(default_factory=Counter)
    failed: int = 0

    @property
    def items(self) -> int:
        return self.told.total()

    @property
    def crossings(self) -> int:
        return sum(n for (schema, who), n in self.told.items() if who != f"who-{schema}")


def storm(tenants: Sequence[Tenant], *, items: int, guarded: bool = True) -> Ledger:
    """Pull about `items` items over the sockets and runs of all tenants, side by side; return the ledger.

    The plugins must have been published in each tenant: `tests.integration.sockets.publish`.
    """
    ledger = Ledger()
    share = items // (len(tenants) * (SOCKETS + 1))
    with serving() as site:
        if guarded:
            asyncio.run(_rage(site, tenants, share, ledger))
        else:
            with _unguarded():
                asyncio.run(_rage(site, tenants, share, ledger))
    return ledger


async def _rage(site: Site, tenants: Sequence[Tenant], share: int, ledger: Ledger) -> None:
    bearers = {tenant: await tenancy.agate(tenant, token) for tenant in tenants}
    async with asyncio.TaskGroup() as tasks:
        for tenant in tenants:
            tasks.create_task(_run(tenant, share, ledger))
            for _ in range(SOCKETS):
                tasks.create_task(_subscribe(site, tenant, bearers[tenant], share, ledger))


async def _subscribe(site: Site, tenant: Tenant, bearer: str, share: int, ledger: Ledger) -> None:
    """Keep both streams open on one socket, asking for a few items here and a few there."""
    async with site.open(tenant, bearer=bearer) as client:
        for name in STREAMS:
            await client.send("subscribe", id=name, stream=name, params={"count": 10**9}, demand=0)
        while share > 0:
            asked = random.randint(1, 9)
            await client.send("request", id=random.choice(STREAMS), n=asked)
            share -= asked
            if not await _note(client, tenant, asked, ledger):
                return


async def _note(client: Client, tenant: Tenant, n: int, ledger: Ledger) -> bool:
    while n:
        frame = await client.receive(60)
        if frame["type"] == "next":
            ledger.told[tenant.schema, str(frame["data"]["who"])] += 1
            n -= 1
        elif frame["type"] != "ping":
            ledger.failed += 1
            return False
    return True


async def _run(tenant: Tenant, share: int, ledger: Ledger) -> None:
    with tenancy.enter(tenant):
        for n in range(share):
            try:
                told = await execution.arun("who-am-i", n)
            except Exception:
                ledger.failed += 1
            else:
                ledger.told[tenant.schema, told["user"]] += 1


@contextmanager
def _unguarded() -> Iterator[None]:
    """Move work into threads as is done with Channels: the tenant is set in one hop, the query made in the next."""

    async def in_thread(f: Callable[..., T], *args: Any) -> T:
        tenant = tenancy.current_or_none()
        if tenant is not None:
            await sync_to_async(_set_schema)(tenant.schema)
        return await sync_to_async(f)(*args)

    with patch.object(crossing, "in_thread", in_thread), patch.object(fence, "_judge", lambda *_: None):
        yield


def _set_schema(schema: str) -> None:
    here: Any = connections["default"]
    here.set_schema(schema)


def figures() -> Iterator[Figure]:
    """Run the long storm."""
    from django.conf import settings

    from tests.streamers import PLUGINS

    settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": PLUGINS}
    with grounds(8) as (tenants, _):
        for tenant in tenants:
            tenancy.gate(tenant, publish)
        seen = storm(tenants, items=ITEMS)
        told = f"{seen.crossings} crossings and {seen.failed} failures in {seen.items:,}"
        yield Figure("Stream items and runs over websockets", "0 crossings", told, "make figures")
        bare = storm(tenants, items=ITEMS // 20, guarded=False)
        told = f"{bare.crossings:,} crossings in {bare.items:,}"
        yield Figure("The same without gate and fence", "more than 0", told, "make figures")
        registry.stop()
