"""The publishing storm: eight writers change one tenant at once, each its own rows, in every way there is.

Each writer keeps a ledger of what its row must say. What the revisions say is asked of the database without Django: the
last one must hold every change, none may say less than the one before it, and the numbers have no gap. The same storm
with the lock taken after the rows were read must lose changes, or it proves nothing.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from time import perf_counter
from typing import Any
from unittest import mock

import psycopg
from django.conf import settings
from django.db import connections
from django.test.utils import override_settings
from psycopg import sql
from pydantic import BaseModel

from pluginhub import Plugin, publishing, tenancy
from pluginhub.configuration import Configuration, RegistrationSpec, read, rewrite
from pluginhub.exceptions import Conflict
from pluginhub.fleet.models import Head
from pluginhub.models import Registration
from pluginhub.types import Tenant
from tests.figures import Figure
from tests.storms.grounds import grounds

__all__ = ["PLUGINS", "Ledger", "Logging", "figures", "lock_taken_late", "storm"]

RUN = "make figures"
WRITERS = 8
CHANGES = 1_000
PLUGINS = {"logging": f"{__name__}:Logging"}


class Logging(Plugin):
    """Says which changes were made to it."""

    class Config(BaseModel):
        life: int = 0
        log: list[int] = []

    def process(self, value: Any, context: Any) -> Any:
        return value


State = tuple[int, list[int]]
"""How often a row was put back, and the changes made to it since the state that was put back."""


@dataclass(slots=True)
class Writer:
    """One author, and the ledger of his row."""

    name: str
    random: random.Random
    life: int = 0
    log: list[int] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    """What the row said in a revision, to be put back."""
    conflicts: int = 0

    def config(self) -> dict[str, Any]:
        return {"life": self.life, "log": list(self.log)}


@dataclass(slots=True)
class Ledger:
    """What was meant, and what the database says in the end, asked without Django."""

    tenant: Tenant
    url: str
    writers: list[Writer]
    changes: int = 0
    seconds: float = 0.0

    @property
    def revisions(self) -> list[tuple[int, dict[str, State]]]:
        """Every revision's number, and what it says of each writer's row, in order."""
        found = sql.SQL("SELECT number, data FROM {} ORDER BY number").format(
            sql.Identifier(self.tenant.schema, "pluginhub_revision")
        )
        with psycopg.connect(self.url) as own:
            return [(number, _states(data)) for number, data in own.execute(found)]

    @property
    def lost(self) -> int:
        """How many changes a later revision says nothing of, and how many the last one lacks."""
        states = [state for _, state in self.revisions]
        undone = sum(_missing(earlier[name], later[name]) for earlier, later in pairwise(states) for name in earlier)
        return undone + sum(_missing((one.life, one.log), states[-1][one.name]) for one in self.writers)

    @property
    def gaps(self) -> int:
        numbers = [number for number, _ in self.revisions]
        return len(set(range(1, numbers[-1] + 1)) ^ set(numbers))


def _states(data: dict[str, Any]) -> dict[str, State]:
    configs = {name: spec["config"] for name, spec in data["registrations"].items()}
    return {name: (config["life"], config["log"]) for name, config in configs.items()}


def _missing(known: State, said: State) -> int:
    """Count what a state lacks of one that was known before it."""
    if known[0] > said[0]:
        return max(1, len(known[1]))
    return len(set(known[1]) - set(said[1])) if known[0] == said[0] else 0


def storm(tenant: Tenant, url: str, *, changes: int, late: bool = False) -> Ledger:
    """Have eight writers make so many changes, and return the ledger. With `late`, rows are read before locking."""
    writers = [Writer(f"w{number}", random.Random(number)) for number in range(WRITERS)]
    tenancy.gate(tenant, _begin, writers)
    ledger = Ledger(tenant, url, writers)
    together, started = threading.Barrier(WRITERS), perf_counter()
    work = partial(_write_all, ledger, -(-changes // WRITERS), together, late)
    with lock_taken_late() if late else nullcontext(), ThreadPoolExecutor(WRITERS) as pool:
        ledger.changes = sum(pool.map(work, writers))
    ledger.seconds = perf_counter() - started
    return ledger


def _begin(writers: list[Writer]) -> None:
    specs = {one.name: RegistrationSpec(name=one.name, plugin="logging", config=one.config()) for one in writers}
    publishing.apply_configuration(Configuration(registrations=specs), author="storm")


def _write_all(ledger: Ledger, share: int, together: threading.Barrier, late: bool, writer: Writer) -> int:
    try:
        with tenancy.visit(ledger.tenant):
            together.wait()
            for number in range(1, share):
                [change] = writer.random.choices(WAYS, LATE_WEIGHTS if late else WEIGHTS)
                change(writer, number)
            _publish(writer, share)  # nobody's last word stays a draft
        return share
    finally:
        connections.close_all()


def _save(writer: Writer, number: int, *, publish: bool = False) -> None:
    """As a form does: one row, read and written."""
    writer.log.append(number)
    publishing.write(_append(writer, number), author=writer.name, publish=publish)


def _append(writer: Writer, number: int) -> Callable[[], None]:
    def apply() -> None:
        row = Registration.objects.get(name=writer.name)
        row.config["log"].append(number)
        row.save()

    return apply


def _publish(writer: Writer, number: int) -> None:
    _save(writer, number, publish=True)
    writer.kept = list(writer.log)


def _apply(writer: Writer, number: int) -> None:
    """As a file does: the whole, first as it was seen; where somebody was faster, as it is."""
    writer.log.append(number)
    mark, wanted = publishing.mark(), _with(writer, read())
    try:
        publishing.apply_configuration(wanted, author=writer.name, expected=mark)
    except Conflict:
        writer.conflicts += 1
        publishing.write(lambda: rewrite(_with(writer, read())), author=writer.name, publish=True)


def _put_back(writer: Writer, number: int) -> None:
    """Go back with one's own row to what an older revision said of it."""
    writer.life, writer.log = writer.life + 1, [*writer.kept]
    publishing.write(lambda: rewrite(_with(writer, read())), author=writer.name, publish=True)


def _with(writer: Writer, now: Configuration) -> Configuration:
    """Return a configuration in which the writer's own row says what his ledger does."""
    mine = now.registrations[writer.name].model_copy(update={"config": writer.config()})
    return now.model_copy(update={"registrations": {**now.registrations, writer.name: mine}})


WAYS = (_save, _publish, _apply, _put_back)
WEIGHTS = (4, 3, 2, 1)
LATE_WEIGHTS = (4, 3, 0, 0)
"""Without those that rewrite others' rows: unlocked, they would only wait for each other for ever."""


@contextmanager
def lock_taken_late() -> Iterator[None]:
    """Have every write read the draft before it locks the head: what publishing must not do."""
    right_lock, right_check = publishing._lock, publishing._check_constraints
    here = threading.local()

    def no_lock(tenant: Tenant) -> Head:
        here.applied, here.head = False, Head.objects.get(schema=tenant.schema)
        head: Head = here.head
        return head

    def check() -> None:
        here.applied = True
        right_check()

    def read_and_lock() -> Configuration:
        draft = read()
        if here.applied:
            here.head.revision = right_lock(tenancy.current()).revision
        return draft

    with (
        mock.patch.object(publishing, "_lock", no_lock),
        mock.patch.object(publishing, "_check_constraints", check),
        mock.patch.object(publishing, "read", read_and_lock),
    ):
        yield


# The figure


def figures() -> Iterator[Figure]:
    """Run the long storm, and a shorter one in the wrong order."""
    with grounds(2) as (tenants, url), override_settings(PLUGINHUB={**settings.PLUGINHUB, "PLUGINS": PLUGINS}):
        right = storm(tenants[0], url, changes=CHANGES)
        seen = (
            f"{right.lost} lost and {right.gaps} gaps in {right.changes:,} changes and"
            f" {len(right.revisions):,} revisions, {right.changes / right.seconds:,.0f} a second;"
            f" {sum(one.conflicts for one in right.writers)} stale writes told so"
        )
        yield Figure(
            "8 writers at once to one tenant: saves, publishes, files, going back", "0 lost, 0 gaps", seen, RUN
        )
        wrong = storm(tenants[1], url, changes=CHANGES // 5, late=True)
        seen = f"{wrong.lost:,} times a change was undone, of {wrong.changes:,} changes"
        yield Figure("The same with the lock taken after reading", "more than 0", seen, RUN)
