"""What became of a job, and what can still be done about it."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now

from pluginhub import tenancy
from pluginhub.exceptions import Conflict, NotFound
from pluginhub.fleet.models import Due
from pluginhub.jobs import bells, claiming
from pluginhub.models import Job
from pluginhub.types import HOST, Caller

__all__ = ["cancel", "retry", "status"]

SEE = "pluginhub.view_job"
CHANGE = "pluginhub.change_job"


def status(id: str | UUID, caller: Caller = HOST) -> dict[str, Any]:  # noqa: A002 - what callers have is its id
    """Return a job of the current tenant as plain JSON; times are in ISO 8601.

    Whoever asked for the job may see it, and whoever may view jobs. Raises `NotFound` for others, too.
    """
    with tenancy.visit(tenancy.current()):
        return _to_json(_find(id, caller, SEE))


def cancel(id: str | UUID, caller: Caller = HOST) -> dict[str, Any]:  # noqa: A002
    """Cancel a job and return its status: a queued one ends at once, a running one when it next reports progress.

    One that has ended stays as it is. Raises `NotFound` for those who neither asked for it nor may change jobs.
    """
    with tenancy.visit(tenancy.current()), transaction.atomic(using=claiming.alias()):
        job = _find(id, caller, CHANGE, lock=True)
        if job.status == Job.Status.QUEUED:
            job.status, job.ended = Job.Status.CANCELLED, Now()
            Due.objects.using(claiming.alias()).filter(job=job.id).delete()
        elif job.status == Job.Status.RUNNING:
            job.cancel_requested = True
        job.save(update_fields=["status", "ended", "cancel_requested"])
        _when_committed(partial(bells.hint, job.schema, job.id))
        return _to_json(_find(id, caller, CHANGE))


def retry(id: str | UUID, caller: Caller = HOST) -> dict[str, Any]:  # noqa: A002
    """Queue a job that failed, died or was cancelled once more, with all its attempts; return its status.

    Raises `Conflict` for one that has not ended or has succeeded, and `NotFound` as `cancel` does.
    """
    with tenancy.visit(tenancy.current()), transaction.atomic(using=claiming.alias()):
        job = _find(id, caller, CHANGE, lock=True)
        if job.status not in (Job.Status.FAILED, Job.Status.DEAD, Job.Status.CANCELLED):
            raise Conflict(f"Job {job.id} is {job.status}.", hint="Only what failed, died or was cancelled is retried.")
        Job.objects.using(claiming.alias()).filter(id=job.id).update(
            status=Job.Status.QUEUED, attempt=0, cancel_requested=False, problem=None, ended=None, run_at=Now()
        )
        Due.objects.using(claiming.alias()).create(schema=job.schema, job=job.id, run_at=Now())
        _when_committed(partial(bells.ring, job.schema))
        _when_committed(partial(bells.hint, job.schema, job.id))
        return _to_json(_find(id, caller, CHANGE))


def _find(id: str | UUID, caller: Caller, permission: str, *, lock: bool = False) -> Job:  # noqa: A002
    rows = Job.objects.using(claiming.alias())
    key = _uuid(id)
    job = None if key is None else (rows.select_for_update() if lock else rows).filter(id=key).first()
    if job is None or not (caller.may(permission) or _asked(caller, job)):
        raise NotFound(f"There is no job {str(id)[:100]!r} here.")
    return job


def _asked(caller: Caller, job: Job) -> bool:
    return caller.user_id is not None and caller.user_id == job.caller.get("user_id")


def _uuid(id: str | UUID) -> UUID | None:  # noqa: A002
    try:
        return id if isinstance(id, UUID) else UUID(id)
    except ValueError:
        return None


def _when_committed(do: partial[Any]) -> None:
    transaction.on_commit(do, using=claiming.alias(), robust=True)


def _to_json(job: Job) -> dict[str, Any]:
    return {
        "id": str(job.id),
        "name": job.name,
        "status": str(job.status),
        "progress": {"done": job.done, "total": job.total, "note": job.note},
        "result": job.result,
        "problem": job.problem,
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "cancel_requested": job.cancel_requested,
        "revision": job.revision,
        "created": _time(job.created),
        "run_at": _time(job.run_at),
        "started": _time(job.started),
        "ended": _time(job.ended),
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
