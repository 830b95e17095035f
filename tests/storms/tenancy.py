"""The tenancy storm: many tenants, interleaved reads and writes in both colours, and a ledger that counts crossings.

Each row names its tenant. A ledger outside of Django says afterwards what ended where. The same storm with the gate
and the fence off must find crossings, or it proves nothing; with the fence alone, it must refuse them.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import psycopg
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group
from django.db import connections
from psycopg import sql

from pluginhub import tenancy
from pluginhub.tenancy import TenantCrossing
from pluginhub.types import Tenant
from tests.figures import Figure
from tests.storms.grounds import grounds

__all__ = ["Colour", "Guard", "Ledger", "figures", "storm"]

Guard = Literal["gate", "fence", "none"]
Colour = Literal["sync", "async"]
Work = Callable[[], None]

WORKERS = 24
SHARED_THREADS = 4
OPERATIONS = 10_000
COLOURS: tuple[Colour, ...] = ("sync", "async")


@dataclass(slots=True)
class Ledger:
    """What was meant, what was seen, and what the database says in the end, asked without Django."""

    tenants: Sequence[Tenant]
    url: str
    meant: Counter[str] = field(default_factory=Counter)
    misread: int = 0
    refused: int = 0
    operations: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wrote(self, name: str) -> None:
        with self._lock:
            self.meant[name] += 1

    def read(self, tenant: Tenant, names: Sequence[str]) -> None:
        with self._lock:
            self.misread += names != [f"{tenant.schema}:owner"]

    def count(self, *, refused: bool) -> None:
        with self._lock:
            self.operations += 1
            self.refused += refused

    @property
    def crossings(self) -> int:
        """Reads that returned another tenant's row, and rows in a schema other than the one they name."""
        return self.misread + sum(1 for schema, name in self._found() if name.partition(":")[0] != schema)

    @property
    def unaccounted(self) -> int:
        """Rows that were written and are nowhere, or are there and were never written."""
        found = Counter(name for _, name in self._found() if not name.endswith(":owner"))
        return (self.meant - found).total() + (found - self.meant).total()

    def _found(self) -> list[tuple[str, str]]:
        with psycopg.connect(self.url) as own:
            return [(tenant.schema, name) for tenant in self.tenants for (name,) in own.execute(_names(tenant))]


def storm(tenants: Sequence[Tenant], url: str, *, operations: int, colour: Colour, guard: Guard) -> Ledger:
    """Run at least `operations` interleaved reads and writes over all tenants; return the ledger."""
    ledger = Ledger(tenants, url)
    for tenant in tenants:
        tenancy.gate(tenant, _begin, tenant)
    share = -(-operations // WORKERS)
    if colour == "sync":
        _in_threads(ledger, share, guard)
    else:
        asyncio.run(_in_tasks(ledger, share, guard))
    return ledger


def _begin(tenant: Tenant) -> None:
    Group.objects.all().delete()
    Group.objects.create(name=f"{tenant.schema}:owner")


def _works(ledger: Ledger, worker: int, share: int) -> Iterator[tuple[Tenant, Work]]:
    """Yield what one worker does: reads and writes by turns, hopping from tenant to tenant."""
    for number in range(share):
        tenant = ledger.tenants[(worker + number) % len(ledger.tenants)]
        if number % 2:
            yield tenant, partial(_write, ledger, f"{tenant.schema}:{worker}:{number}")
        else:
            yield tenant, partial(_read, ledger, tenant)


def _write(ledger: Ledger, name: str) -> None:
    Group.objects.create(name=name)
    ledger.wrote(name)


def _read(ledger: Ledger, tenant: Tenant) -> None:
    ledger.read(tenant, list(Group.objects.filter(name__endswith=":owner").values_list("name", flat=True)))


def _names(tenant: Tenant) -> sql.Composed:
    return sql.SQL("SELECT name FROM {}").format(sql.Identifier(tenant.schema, "auth_group"))


def _fenced(tenant: Tenant, work: Work) -> None:
    with tenancy.enter(tenant), tenancy.fenced():
        work()


# Threads. Without the gate, setting and querying are two hops to a pool that all share.


def _in_threads(ledger: Ledger, share: int, guard: Guard) -> None:
    with ThreadPoolExecutor(SHARED_THREADS) as shared, ThreadPoolExecutor(WORKERS) as own:
        futures = [own.submit(_thread, ledger, worker, share, guard, shared) for worker in range(WORKERS)]
        for future in futures:
            future.result()
        _close_connections(shared)


def _thread(ledger: Ledger, worker: int, share: int, guard: Guard, shared: ThreadPoolExecutor) -> None:
    try:
        for tenant, work in _works(ledger, worker, share):
            refused = _operate(tenant, work, guard, shared)
            ledger.count(refused=refused)
    finally:
        connections.close_all()


def _operate(tenant: Tenant, work: Work, guard: Guard, shared: ThreadPoolExecutor) -> bool:
    """Do one operation, and say whether it was refused."""
    if guard == "gate":
        tenancy.gate(tenant, work)
        return False
    shared.submit(_set_schema, tenant.schema).result()
    try:
        shared.submit(partial(_fenced, tenant, work) if guard == "fence" else work).result()
    except TenantCrossing:
        return True
    return False


def _set_schema(schema: str) -> None:
    here: Any = connections["default"]
    here.set_schema(schema)


def _close_connections(pool: ThreadPoolExecutor) -> None:
    """Close every thread's connection: each waits until all are at it."""
    together = threading.Barrier(SHARED_THREADS)

    def close() -> None:
        together.wait()
        connections.close_all()

    for future in [pool.submit(close) for _ in range(SHARED_THREADS)]:
        future.result()


# Tasks. Without the gate, the two hops are to the one thread that sync_to_async shares, as channels.db does.


async def _in_tasks(ledger: Ledger, share: int, guard: Guard) -> None:
    async with asyncio.TaskGroup() as tasks:
        for worker in range(WORKERS):
            tasks.create_task(_task(ledger, worker, share, guard))
    await sync_to_async(_leave_thread)()


async def _task(ledger: Ledger, worker: int, share: int, guard: Guard) -> None:
    for tenant, work in _works(ledger, worker, share):
        refused = await _aoperate(tenant, work, guard)
        ledger.count(refused=refused)


async def _aoperate(tenant: Tenant, work: Work, guard: Guard) -> bool:
    """Do one operation, and say whether it was refused."""
    if guard == "gate":
        await tenancy.agate(tenant, work)
        return False
    await sync_to_async(_set_schema)(tenant.schema)
    try:
        await sync_to_async(partial(_fenced, tenant, work) if guard == "fence" else work)()
    except TenantCrossing:
        return True
    return False


def _leave_thread() -> None:
    _set_schema("public")
    connections.close_all()


# The figure


def figures() -> Iterator[Figure]:
    """Run the long storm."""
    with grounds(8) as (tenants, url):
        for colour in COLOURS:
            guarded = storm(tenants, url, operations=OPERATIONS, colour=colour, guard="gate")
            seen = (
                f"{guarded.crossings} crossings, {guarded.unaccounted} rows unaccounted for in {guarded.operations:,}"
            )
            yield Figure(f"Tenant-tagged operations, {colour}", "0 crossings", seen, "make figures")
            bare = storm(tenants, url, operations=OPERATIONS // 20, colour=colour, guard="none")
            seen = f"{bare.crossings:,} crossings in {bare.operations:,}"
            yield Figure(f"The same without gate and fence, {colour}", "more than 0", seen, "make figures")
