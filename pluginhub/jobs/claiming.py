"""Claims: who may run a job, and who may record its end.

A claim is a lease with a fencing token. The row changes hands only by a claim, and only the holder of the newest
token renews or ends it, so an end is recorded once however many workers believed they had the job. All times are
the database's. All functions act on the current tenant, inside `tenancy.visit`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db import connections, transaction
from django.db.models import F, Q
from django.db.models.functions import Now
from django_tenants.utils import get_tenant_database_alias

from pluginhub import tenancy
from pluginhub.conf import settings
from pluginhub.fleet.models import Due
from pluginhub.models import Job
from pluginhub.types import Caller

__all__ = ["Claim", "Progress", "alias", "bury", "caller_from", "claim", "end", "put_back", "renew", "tidy", "waiting"]

_CLAIM = """
UPDATE {job}
   SET status = 'running', attempt = attempt + 1, token = %(token)s, started = statement_timestamp(),
       lease_until = statement_timestamp() + make_interval(secs => %(lease)s)
 WHERE id = (SELECT id FROM {job}
              WHERE (status = 'queued' AND run_at <= statement_timestamp())
                 OR (status = 'running' AND lease_until < statement_timestamp()
                     AND attempt < max_attempts AND NOT cancel_requested)
              ORDER BY priority DESC, run_at
              LIMIT 1
                FOR UPDATE SKIP LOCKED)
RETURNING *
"""
_RENEW = """
UPDATE {job}
   SET lease_until = statement_timestamp() + make_interval(secs => %(lease)s),
       done = %(done)s, total = %(total)s, note = %(note)s
 WHERE id = %(id)s AND token = %(token)s AND status = 'running'
RETURNING cancel_requested
"""
_TIDY = """
DELETE FROM {due}
 WHERE schema = %(schema)s AND run_at <= statement_timestamp()
   AND NOT EXISTS (SELECT 1 FROM {job} WHERE id = {due}.job AND status IN ('queued', 'running'))
"""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job has come, as its row keeps it."""

    done: int = 0
    total: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run a job and to record its end. Lives until the lease passes without having been renewed."""

    id: UUID
    schema: str
    name: str
    data: Any
    caller: Caller
    attempt: int
    max_attempts: int
    seconds: float
    token: UUID
    progress: Progress = field(default_factory=Progress)

    @property
    def is_last(self) -> bool:
        return self.attempt >= self.max_attempts


def claim() -> Claim | None:
    """Take the due job that comes first: by priority, then by its time. `None` when nothing is due.

    Jobs whose worker died count as due once their lease has passed.
    """
    params = {"token": uuid4(), "lease": settings.JOB_LEASE_SECONDS}
    for job in Job.objects.using(alias()).raw(_CLAIM.format(job=_table(Job)), params):
        return _claim_of(job)
    return None


def _claim_of(job: Job) -> Claim:
    assert job.token is not None
    return Claim(
        id=job.id,
        schema=job.schema,
        name=job.name,
        data=job.data,
        caller=caller_from(job.caller),
        attempt=job.attempt,
        max_attempts=job.max_attempts,
        seconds=job.time_limit or settings.JOB_SECONDS,
        token=job.token,
        progress=Progress(job.done, job.total, job.note),
    )


def caller_from(stored: dict[str, Any]) -> Caller:
    """Return who asked for a job, arriving by the edge `job`."""
    return Caller(
        name=stored.get("name", "unknown"),
        edge="job",
        user_id=stored.get("user_id"),
        permissions=frozenset(stored.get("permissions", ())),
        trusted=stored.get("trusted", False),
    )


def waiting() -> bool:
    """Return whether a job is due that nobody has claimed yet."""
    return Job.objects.using(alias()).filter(status=Job.Status.QUEUED, run_at__lte=Now()).exists()


def renew(claim: Claim, progress: Progress) -> bool | None:
    """Extend the lease and record progress. Return whether a cancel was asked for, or `None` when the claim is lost."""
    params: dict[str, Any] = {
        "id": claim.id,
        "token": claim.token,
        "lease": settings.JOB_LEASE_SECONDS,
        "done": progress.done,
        "total": progress.total,
        "note": progress.note,
    }
    with connections[alias()].cursor() as cursor:
        cursor.execute(_RENEW.format(job=_table(Job)), params)
        row = cursor.fetchone()
    return None if row is None else row[0]


def end(
    claim: Claim,
    status: str,
    *,
    result: Any = None,
    problem: dict[str, Any] | None = None,
    revision: int | None = None,
    progress: Progress | None = None,
) -> bool:
    """Record the end of a job, once. Return false when the claim was lost: then another worker records it."""
    progress = progress or claim.progress
    with transaction.atomic(using=alias()):
        ended = _held(claim).update(
            status=status,
            result=result,
            problem=problem,
            revision=revision,
            ended=Now(),
            token=None,
            lease_until=None,
            done=progress.done,
            total=progress.total,
            note=progress.note,
        )
        if ended:
            Due.objects.using(alias()).filter(job=claim.id).delete()
    return bool(ended)


def put_back(claim: Claim, *, delay: float, problem: dict[str, Any] | None = None, counts: bool = True) -> bool:
    """Queue a claimed job again, to run in `delay` seconds. Return false when the claim was lost.

    An attempt that does not count, because its worker stopped, is given back.
    """
    at = Now() + timedelta(seconds=delay)
    with transaction.atomic(using=alias()):
        changed = _held(claim).update(
            status=Job.Status.QUEUED,
            problem=problem,
            run_at=at,
            token=None,
            lease_until=None,
            attempt=F("attempt") if counts else F("attempt") - 1,
        )
        if changed:
            lines = Due.objects.using(alias())
            lines.filter(job=claim.id).delete()
            lines.create(schema=claim.schema, job=claim.id, run_at=at)
    return bool(changed)


def bury() -> int:
    """End the jobs whose worker died and that nobody may start again; return how many."""
    with transaction.atomic(using=alias()):
        lost = list(
            Job.objects.using(alias())
            .select_for_update(skip_locked=True)
            .filter(Q(cancel_requested=True) | Q(attempt__gte=F("max_attempts")))
            .filter(status=Job.Status.RUNNING, lease_until__lt=Now())
            .only("id", "cancel_requested", "attempt")
        )
        for job in lost:
            Job.objects.using(alias()).filter(id=job.id).update(
                status=Job.Status.CANCELLED if job.cancel_requested else Job.Status.DEAD,
                problem=None if job.cancel_requested else _died(job.attempt),
                ended=Now(),
                token=None,
                lease_until=None,
            )
        if lost:
            Due.objects.using(alias()).filter(job__in=[job.id for job in lost]).delete()
    return len(lost)


def _died(attempt: int) -> dict[str, Any]:
    return {
        "type": "about:blank",
        "title": "Worker died",
        "status": 500,
        "detail": f"Attempt {attempt} was the last, and its worker died before the end.",
    }


def tidy() -> int:
    """Remove the due lines of jobs that have ended or are gone; return how many."""
    params = {"schema": tenancy.current().schema}
    with connections[alias()].cursor() as cursor:
        cursor.execute(_TIDY.format(job=_table(Job), due=_table(Due)), params)
        return int(cursor.rowcount)


def _held(claim: Claim) -> Any:
    return Job.objects.using(alias()).filter(id=claim.id, token=claim.token, status=Job.Status.RUNNING)


def _table(model: type[Job] | type[Due]) -> str:
    return f'"{model._meta.db_table}"'


def alias() -> str:
    """Return the database alias of the tenants' schemas."""
    return str(get_tenant_database_alias())
