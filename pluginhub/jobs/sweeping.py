"""The sweeper: rings again for what nobody heard. It is why Redis may forget and workers may die.

Its thread is the one part of a worker that keeps a connection, so it also says in the fleet that the worker lives.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import DatabaseError, InterfaceError, connections, transaction
from django.db.models.functions import Now

from pluginhub import tenancy
from pluginhub.conf import settings
from pluginhub.exceptions import NoTenant
from pluginhub.fleet.models import Due
from pluginhub.jobs import bells, claiming
from pluginhub.presence import presence
from pluginhub.registry import registry
from pluginhub.types import PUBLIC

__all__ = ["Sweeper", "sweep"]

log = logging.getLogger("pluginhub.jobs")

LOCK = 0x706C75_67687562
"""The key of the advisory lock: "plughub"."""


def sweep() -> list[str]:
    """Ring for every tenant with a due line and no bell, and return their schemas; nothing while another sweeps.

    A line is due from its job's time until the job ends, so jobs count whose bell was lost and those whose worker died.
    One query, whatever the number of tenants.
    """
    alias = claiming.alias()
    with tenancy.visit(PUBLIC), transaction.atomic(using=alias):
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK])
            if not cursor.fetchone()[0]:
                return []
        due = Due.objects.using(alias).filter(run_at__lte=Now())
        schemas = list(due.order_by("schema").values_list("schema", flat=True).distinct())
        return [schema for schema in schemas if _exists(schema) and bells.ring_again(schema)]


def _exists(schema: str) -> bool:
    try:
        tenancy.find(schema)
    except NoTenant:
        Due.objects.using(claiming.alias()).filter(schema=schema).delete()
        return False
    return True


class Sweeper:
    """A thread that sweeps every `SWEEP_SECONDS`. Lives as long as its worker."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._busy = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="pluginhub sweeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=settings.SWEEP_SECONDS)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Hold no connection and no lock in the block: what a fork inherits stays open when this process dies."""
        with self._busy:
            yield

    def _run(self) -> None:
        presence.kind = "worker"
        while not self._stop.is_set():
            self._do(self._round)
            self._stop.wait(settings.SWEEP_SECONDS)
        self._do(self._leave)

    def _round(self) -> None:
        registry.look()
        registry.say()
        sweep()

    def _leave(self) -> None:
        tenancy.gate(PUBLIC, presence.leave)

    def _do(self, work: Callable[[], None]) -> None:
        with self._busy:
            try:
                work()
            except (DatabaseError, InterfaceError) as error:
                log.warning("The sweeper's database does not answer: %s", error)
            except Exception:
                log.exception("The sweeper failed, and goes on")
            finally:
                connections.close_all()
