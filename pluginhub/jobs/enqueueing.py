"""Asking for a job: its row is written in the caller's transaction, and the commit rings."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.utils import timezone

from pluginhub import payloads, registry, runs, tenancy
from pluginhub.conf import settings
from pluginhub.exceptions import InvalidInput, UnknownTarget
from pluginhub.fleet.models import Due
from pluginhub.jobs import bells, claiming
from pluginhub.models import Job
from pluginhub.types import HOST, Caller, Json, Tenant

__all__ = ["aenqueue", "enqueue"]

KEY_LENGTH = 255


def enqueue(
    name: str,
    data: Json = None,
    *,
    delay: float | timedelta | None = None,
    at: datetime | None = None,
    priority: int = 0,
    attempts: int | None = None,
    timeout: float | None = None,
    idempotency_key: str | None = None,
    caller: Caller = HOST,
) -> str:
    """Write a job of the current tenant for the target or handler `name`, and return the job's id.

    It joins the transaction that is open on the tenants' connection: a rollback leaves nothing, the commit tells the
    workers. With Redis away they learn of it from the sweeper, `SWEEP_SECONDS` later at most.

    `delay` (seconds) or `at` (an aware datetime) is the earliest start. Higher `priority` goes first in the tenant.
    `attempts` counts starts (`JOB_ATTEMPTS`), and `timeout` limits each, in seconds (`JOB_SECONDS`).
    With an `idempotency_key` that a job of the tenant has already, return that job's id and write nothing.

    Raises `UnknownTarget`, `Forbidden`, `MalformedInput` or `TooLarge` for data that is no JSON we take, and
    `InvalidInput` for options that make no sense.
    """
    tenant = tenancy.current()
    runs.require(caller, runs.RUN)
    _require_known(tenant, name)
    fields = {
        "name": name,
        "data": payloads.check(
            data, max_bytes=settings.MAX_BODY_BYTES, max_depth=settings.MAX_DEPTH, max_nodes=settings.MAX_NODES
        ),
        "run_at": _start(delay, at),
        "priority": _checked("priority", priority, -(2**31) <= priority < 2**31, "Must fit in 32 bits."),
        "max_attempts": _attempts(attempts),
        "time_limit": _checked("timeout", timeout, timeout is None or timeout > 0, "Must be positive seconds."),
        "idempotency_key": _key(idempotency_key),
        "caller": _to_json(caller),
    }
    with tenancy.visit(tenant):
        return _write(tenant, fields)


async def aenqueue(name: str, data: Json = None, **options: Any) -> str:
    """Do the same from asynchronous code, in one hop to a thread; so in no transaction of the caller's."""
    return await tenancy.agate(tenancy.current(), enqueue, name, data, **options)


def _write(tenant: Tenant, fields: dict[str, Any]) -> str:
    key = fields["idempotency_key"]
    jobs = Job.objects.using(claiming.alias())
    if key is not None and (first := jobs.filter(idempotency_key=key).values_list("id", flat=True).first()):
        return str(first)
    try:
        with transaction.atomic(using=claiming.alias()):
            job = jobs.create(id=uuid4(), schema=tenant.schema, **fields)
            Due.objects.using(claiming.alias()).create(schema=tenant.schema, job=job.id, run_at=fields["run_at"])
    except IntegrityError:
        if key is None:
            raise
        # Another transaction was first with this key; ours waited for its commit, so now its row is there.
        return str(jobs.values_list("id", flat=True).get(idempotency_key=key))
    if not _is_later(fields["run_at"]):
        transaction.on_commit(partial(bells.ring, tenant.schema), using=claiming.alias(), robust=True)
    return str(job.id)


def _require_known(tenant: Tenant, name: str) -> None:
    with registry.lease(tenant) as runtime:
        known = {**runtime.offers.targets(), **runtime.offers.handlers()}
    if name not in known:
        raise UnknownTarget(name, known, kind="target or handler")


def _start(delay: float | timedelta | None, at: datetime | None) -> Any:
    """Return when the job may start: the database's present unless told otherwise, for clocks differ."""
    if delay is not None and at is not None:
        raise InvalidInput("A job has a delay or a time, not both.", errors={"at": "Leave out one of the two."})
    if at is not None:
        return _checked("at", at, timezone.is_aware(at), "Must be an aware datetime.")
    if delay is None:
        return Now()
    pause = delay if isinstance(delay, timedelta) else timedelta(seconds=delay)
    _checked("delay", pause, pause >= timedelta(0), "Must not be negative.")
    return Now() + pause


def _is_later(run_at: Any) -> bool:
    return not isinstance(run_at, Now) and (not isinstance(run_at, datetime) or run_at > timezone.now())


def _attempts(attempts: int | None) -> int:
    attempts = settings.JOB_ATTEMPTS if attempts is None else attempts
    return int(_checked("attempts", attempts, 1 <= attempts < 2**31, "Must be at least 1."))


def _key(key: str | None) -> str | None:
    fits = key is None or (0 < len(key) <= KEY_LENGTH and "\0" not in key)
    _checked("idempotency_key", key, fits, f"Must have 1 to {KEY_LENGTH} characters.")
    return key


def _checked(option: str, value: Any, fits: bool, message: str) -> Any:
    if not fits:
        raise InvalidInput(f"{value!r} cannot be a job's {option}.", errors={option: message})
    return value


def _to_json(caller: Caller) -> dict[str, Any]:
    return {**dataclasses.asdict(caller), "permissions": sorted(caller.permissions)}
