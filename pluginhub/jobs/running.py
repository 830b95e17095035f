"""What a worker does when it hears a bell."""

from __future__ import annotations

import logging
import time
from typing import Any

from django.db import connections

from pluginhub import drivers, providers, registry, runs, tenancy
from pluginhub.conf import settings
from pluginhub.exceptions import NoTenant
from pluginhub.jobs import bells, claiming, ending, horses
from pluginhub.jobs.claiming import Claim
from pluginhub.jobs.keeping import Held, Keeper, LeaseLost, TimeUp
from pluginhub.types import PUBLIC, Tenant

__all__ = ["bell", "work"]

log = logging.getLogger("pluginhub.jobs")


def bell(schema: str) -> None:
    """Do a tenant's due jobs, one at a time, for a slice of time. The one function that RQ ever calls here.

    A bell with nothing to do costs little: bells may come twice, late or for nothing. If more is due at the end, the
    tenant rings again and waits for its next turn behind the others.
    """
    bells.answer(schema)
    if settings.SAFE_MODE:
        log.warning("Safe mode: the jobs of %s wait.", schema)
        return
    try:
        tenant = tenancy.find(schema)
    except NoTenant:
        log.warning("A bell rang for %r, which is no tenant.", schema)
        return
    try:
        work(tenant, seconds=settings.JOB_SLICE_SECONDS)
    finally:
        if horses.is_horse():
            _let_go()


def work(tenant: Tenant, *, seconds: float) -> int:
    """Claim and run due jobs of a tenant until none is due or `seconds` have passed; return how many it ran."""
    until, done, spent = time.monotonic() + seconds, 0, horses.stopping.is_set()
    with Keeper(tenant, when_overdue=_end_overdue) as keeper:
        while not spent:
            with tenancy.visit(tenant):
                claim = claiming.claim() if done else _first(tenant)
                if claim is None:
                    return done
                spent = not _run(claim, keeper)
            _drop_broken_connection()
            done += 1
            spent = spent or time.monotonic() >= until or horses.stopping.is_set()
    with tenancy.visit(tenant):
        if claiming.waiting():
            bells.ring(tenant.schema)
    return done


def _let_go() -> None:
    """Take down what this horse brought up, and end its services: it answers one bell, and then ends without a word."""
    registry.registry.clear()
    registry.registry.stop()
    providers.close()


def _first(tenant: Tenant) -> Claim | None:
    """Claim a bell's first job; call a second worker if there are more, so that a backlog is shared at once."""
    claiming.bury()
    claim = claiming.claim()
    if claim is None:
        claiming.tidy()
    elif claiming.waiting():
        bells.ring(tenant.schema)
    return claim


def _run(claim: Claim, keeper: Keeper) -> bool:
    """Run a job and record how it ended; return false when this process should not begin another."""
    with keeper.holding(claim) as held:
        try:
            with horses.interrupting(claim.seconds):
                result, revision = _handle(held)
        except BaseException as error:
            ending.fail(held, error)
            if isinstance(error, KeyboardInterrupt | SystemExit) and not horses.is_horse():
                raise  # it was meant for the process; in a horse only the plugin can have raised it
            return not isinstance(error, TimeUp | LeaseLost)  # interrupted code may go on in another thread
        ending.succeed(held, result, revision)
        return True


def _handle(held: Held) -> tuple[Any, int]:
    """Run the job's target or handler at the newest revision. Its caller was allowed to ask when it was enqueued."""
    claim, tenant = held.claim, tenancy.current()
    _follow(tenant)
    found = registry.registry.hold(tenant, lambda runtime: runtime.links.handler(claim.name), claim.seconds)
    runtime = found.runtime
    try:
        with tenancy.fenced():
            run = runs.begin(
                runtime, caller=claim.caller, seconds=claim.seconds, run_id=str(claim.id), report=held.report
            )
            with runs.ending(run):
                return drivers.run(found.way.node, claim.data, run), runtime.revision
    finally:
        found.release()


def _follow(tenant: Tenant) -> None:
    """Serve the newest revision and code; told on this thread's connection, since another would have to connect."""
    with tenancy.visit(PUBLIC):
        numbers = registry.numbers(tenant, using=claiming.alias())
    registry.registry.follow_numbers(numbers)


def _end_overdue(held: Held) -> None:
    """Record that time is up and end the work horse, when the job has not let itself be interrupted."""
    if held.overdue < horses.HARD_SECONDS or not horses.is_horse():
        return
    with tenancy.visit(Tenant(held.claim.schema)):
        ending.fail(held, TimeUp())
    bells.ring(held.claim.schema)
    horses.kill()


def _drop_broken_connection() -> None:
    """Let the next job begin on a new connection if this one left its own in an error or in a transaction."""
    connection = connections[claiming.alias()]
    if not connection.in_atomic_block and (connection.errors_occurred or not connection.autocommit):
        connection.close()
