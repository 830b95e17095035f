"""A thousand tenants in one process: what each costs in memory, how one starts, how all are followed, who goes first.

Every tenant has a schema of its own, with the one table that a runtime is read from, cloned from a migrated tenant's,
and in it a published revision with ten registrations. What is measured is a process that serves all of them and does
nothing else.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, ClassVar, Literal

import psutil
import psycopg
from psycopg import sql
from pydantic import BaseModel

from pluginhub import Context, Plugin
from tests.figures import Figure

__all__ = ["figures"]

COMMAND = "make bench"
TENANTS = 1000
REGISTRATIONS = 10
KEPT = 500
"""How many runtimes the process keeps where the least recently used have to go."""


class Pricing(Plugin):
    """Price something as this tenant does."""

    ups: ClassVar[int] = 0
    downs: ClassVar[int] = 0

    class Config(BaseModel):
        factor: int = 1
        currency: Literal["EUR", "CHF", "USD"] = "EUR"
        zones: dict[str, float] = {}
        note: str = ""

    config: Config

    def activate(self, context: Context) -> None:
        Pricing.ups += 1

    def deactivate(self, context: Context) -> None:
        Pricing.downs += 1

    def process(self, value: int, context: Context) -> int:
        return value * self.config.factor


def figures() -> Iterator[Figure]:
    """Make the tenants, and let a fresh process serve them."""
    from tests.storms.grounds import grounds

    with grounds(1) as ((model,), url):
        with closing(psycopg.connect(url, autocommit=True)) as connection:
            _clone(connection, model.schema)
        serve = f"import {__name__} as this; this.main()"
        done = subprocess.run([sys.executable, "-c", serve], check=True, capture_output=True)
    seen: dict[str, Any] = json.loads(done.stdout)
    name = f"{TENANTS:,} tenants × {REGISTRATIONS} registrations in one process"
    for what, aim in (
        ("memory of a loaded tenant", "≤ 100 KB"),
        ("memory of one with a live plugin", "≤ 100 KB"),
        ("cold start of one, besides imports", "1 query, ≤ 10 ms"),
        ("comparison of all with the fleet", "1 query"),
        (f"{KEPT} runtimes kept, tenants called in turn, twice", "least recently used go first, 0 wrong results"),
    ):
        yield Figure(f"{name}: {what}", aim, seen[what], COMMAND)


def _schema(number: int) -> str:
    return f"one_of_many_{number:04}"


def _clone(connection: psycopg.Connection, model: str) -> None:
    """Give every tenant its row, its schema, its published revision, and its line among the fleet's heads."""
    table = sql.Identifier("pluginhub_revision")
    for number in range(TENANTS):
        schema = sql.Identifier(_schema(number))
        with connection.transaction():
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
            like = sql.SQL("CREATE TABLE {}.{} (LIKE {}.{} INCLUDING ALL)")
            connection.execute(like.format(schema, table, sql.Identifier(model), table))
            connection.execute(sql.SQL("SET LOCAL search_path TO {}, public").format(schema))
            connection.execute(
                "INSERT INTO pluginhub_revision (schema, number, format, data, digest, note, author, created)"
                " VALUES (%s, 1, 1, %s, '', '', 'benchmark', now())",
                [_schema(number), json.dumps(_configuration(number))],
            )
            connection.execute(
                "INSERT INTO tenants_tenant (schema_name, name, created) VALUES (%s, %s, now())",
                [_schema(number), f"Tenant {number}"],
            )
            connection.execute(
                "INSERT INTO pluginhub_fleet_head (schema, revision, publish_saves, resets, updated)"
                " VALUES (%s, 1, false, 0, now())",
                [_schema(number)],
            )


def _configuration(number: int) -> dict[str, Any]:
    from pluginhub.configuration import Configuration, RegistrationSpec

    config = {
        "factor": number,
        "currency": "CHF",
        "zones": {f"zone {n}": n * 1.5 for n in range(5)},
        "note": f"As agreed with tenant {number} at the beginning of the year",
    }
    specs = {
        name: RegistrationSpec(name=name, title=f"{name.title()} of tenant {number}", plugin="pricing", config=config)
        for name in (f"pricing-{n}" for n in range(REGISTRATIONS))
    }
    return Configuration(registrations=specs).model_dump(mode="json")


# In the process that serves


def main() -> None:
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    _configure(RUNTIMES=TENANTS + 1)
    from pluginhub import crossing

    seen = crossing.submit(_measure).result()  # a pool thread has the connection that loads
    seen |= crossing.submit(_go_round).result()
    print(json.dumps(seen), flush=True)
    os._exit(0)


def _configure(**changes: Any) -> None:
    from django.test.utils import override_settings

    plugins = {"pricing": "tests.benchmarks.tenants:Pricing"}
    override_settings(PLUGINHUB={"PLUGINS": plugins, "POLL_SECONDS": 2, **changes}).enable()


def _measure() -> dict[str, str]:
    from pluginhub.registry import registry
    from pluginhub.types import Tenant

    first, *others = (Tenant(_schema(number)) for number in range(TENANTS))
    _call(first)  # imports, connects
    bare = _kilobytes()
    starts = [_timed(registry.acquire, each) for each in others]
    for runtime in registry.runtimes():
        if runtime.busy:
            runtime.release()
    loaded = _kilobytes()
    compared = [_timed(registry.look) for _ in range(20)]
    for each in others:
        _call(each)
    live = _kilobytes()
    registry.clear()
    queries = _queries(lambda: registry.acquire(others[0]).release())
    for each in others:
        registry.acquire(each).release()
    p50, p99 = statistics.median(starts), statistics.quantiles(starts, n=100)[98]
    return {
        "memory of a loaded tenant": f"{(loaded - bare) / len(others):.0f} KB",
        "memory of one with a live plugin": f"{(live - bare) / len(others):.0f} KB",
        "cold start of one, besides imports": f"{_count(queries)}, {p50:.1f} ms (p99 {p99:.1f} ms)",
        "comparison of all with the fleet": f"{_count(_queries(registry.look))}, {statistics.median(compared):.1f} ms",
    }


def _go_round() -> dict[str, str]:
    """Call every tenant twice in turn, with room for fewer, and keep a ledger."""
    from pluginhub.registry import registry
    from pluginhub.types import Tenant

    registry.clear()
    _configure(RUNTIMES=KEPT)
    tenants = [Tenant(_schema(number)) for number in range(TENANTS)]
    wrong = most = 0
    for _ in range(2):
        for number, tenant in enumerate(tenants):
            wrong += _call(tenant) != number
            most = max(most, len(registry.running()))
    newest = {tenant.schema for tenant in tenants[-KEPT:]}
    in_order = "the last used" if registry.running().keys() == newest else "NOT the last used"
    registry.stop()  # waits for those that go down
    up = Pricing.ups - Pricing.downs
    said = f"{wrong} wrong in {2 * TENANTS:,}; never more than {most} kept, in the end {in_order}; {up} plugins live"
    return {f"{KEPT} runtimes kept, tenants called in turn, twice": said}


def _call(tenant: Any) -> Any:
    from pluginhub import execution, tenancy

    with tenancy.enter(tenant):
        return execution.run("pricing-0", 1)


def _timed(f: Callable[..., Any], *args: Any) -> float:
    begun = time.perf_counter()
    f(*args)
    return (time.perf_counter() - begun) * 1e3


def _kilobytes() -> float:
    gc.collect()
    return psutil.Process().memory_info().rss / 1000


def _queries(f: Callable[[], Any]) -> int:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as captured:
        f()
    return sum("SET search_path" not in each["sql"] for each in captured.captured_queries)  # that is the way there


def _count(queries: int) -> str:
    return "1 query" if queries == 1 else f"{queries} queries"
