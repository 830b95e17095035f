"""Bells, the sweeper, and what a forged bell can do: nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from uuid import uuid4

import django_rq
import psycopg
import pytest
from pytest_django import Settings
from rq.exceptions import DeserializationError, NoSuchJobError

from pluginhub import jobs, tenancy
from pluginhub.fleet.models import Due
from pluginhub.jobs import sweeping
from pluginhub.models import Job
from pluginhub.types import Tenant
from pluginhub.valkey import client
from tests.integration.jobs.steps import (
    HURRIED,
    bells_waiting,
    claim_one,
    due_lines,
    expire,
)


def test_a_bell_calls_a_second_worker_when_more_is_due(in_acme: Tenant) -> None:
    jobs.enqueue("tasks")
    jobs.enqueue("tasks")
    client().flushdb()
    jobs.bell("acme")
    assert bells_waiting() == ["acme"]
    assert Job.objects.filter(status="succeeded").count() == 2


def test_a_slice_that_is_over_rings_again_at_the_end_of_the_queue(
    in_acme: Tenant, globex: Tenant, settings: Settings, tmp_path: Path
) -> None:
    settings.PLUGINHUB = HURRIED | {"JOB_SLICE_SECONDS": 0.01}
    for _ in range(3):
        jobs.enqueue("tasks.aslow", {"seconds": 0.02})
    tenancy.gate(globex, jobs.enqueue, "tasks")
    assert bells_waiting() == ["acme", "globex"]
    bell = django_rq.get_queue().pop_job_id()
    assert bell
    jobs.bell("acme")
    assert Job.objects.filter(status="succeeded").count() == 1
    assert bells_waiting() == ["globex", "acme"]


def test_a_bell_for_no_tenant_does_nothing(db: None) -> None:
    jobs.bell("nobody")


def test_safe_mode_leaves_the_jobs_waiting(in_acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    job = jobs.enqueue("tasks")
    monkeypatch.setenv("PLUGINHUB_SAFE_MODE", "1")
    jobs.bell("acme")
    assert jobs.status(job)["status"] == "queued"


def test_the_sweeper_rings_when_redis_has_forgotten_everything(tasks: None, acme: Tenant, globex: Tenant) -> None:
    for tenant in (acme, globex):
        tenancy.gate(tenant, jobs.enqueue, "tasks")
    client().flushdb()
    assert jobs.sweep() == ["acme", "globex"]
    assert bells_waiting() == ["acme", "globex"]
    assert jobs.sweep() == []


def test_the_sweeper_rings_when_a_worker_took_the_bell_and_died(in_acme: Tenant) -> None:
    jobs.enqueue("tasks")
    django_rq.get_queue().pop_job_id()
    assert jobs.ring("acme") is False
    assert jobs.sweep() == ["acme"]


def test_the_sweeper_leaves_later_jobs_alone_and_rings_for_expired_leases(in_acme: Tenant) -> None:
    jobs.enqueue("tasks", delay=60)
    assert jobs.sweep() == []
    job = jobs.enqueue("tasks")
    claim_one()
    expire(job)
    client().flushdb()
    assert jobs.sweep() == ["acme"]


def test_one_sweeps_at_a_time(in_acme: Tenant) -> None:
    jobs.enqueue("tasks")
    client().flushdb()
    with psycopg.connect(os.environ["DATABASE_URL"]) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [sweeping.LOCK])
        assert jobs.sweep() == []
    assert jobs.sweep() == ["acme"]


def test_lines_of_deleted_jobs_and_dropped_tenants_go_away(in_acme: Tenant) -> None:
    jobs.enqueue("tasks")
    Job.objects.all().delete()
    Due.objects.create(schema="gone", job=uuid4())
    jobs.sweep()
    assert set(Due.objects.values_list("schema", flat=True)) == {"acme"}
    jobs.bell("acme")
    assert due_lines() == 0


def test_a_bell_that_is_no_bell_runs_nothing(db: None, tmp_path: Path) -> None:
    evil = tmp_path / "evil"
    forgeries: list[Any] = [
        ["os.system", None, [f"touch {evil}"], {}],
        ["pluginhub.jobs.bell", "os", ["acme"], {}],
        ["pluginhub.jobs.bell", None, ["acme", 1], {}],
        ["pluginhub.jobs.bell", None, [{}], {}],
        "nonsense",
    ]
    for forged in forgeries:
        client().hset("rq:job:forged", mapping={"data": json.dumps(forged), "origin": "default"})
        job = jobs.Bell.fetch("forged", connection=client())
        for _ in range(2):
            with pytest.raises(DeserializationError):
                job.perform()
    assert not evil.exists()


def test_callbacks_and_broken_fields_of_a_forged_bell_are_not_looked_at(db: None) -> None:
    data = json.dumps(["pluginhub.jobs.bell", None, ["acme"], {}])
    client().hset("rq:job:forged", mapping={"data": data, "success_callback_name": "os.abort", "webhooks": "[]"})
    assert jobs.Bell.fetch("forged", connection=client()).success_callback is None
    client().hset("rq:job:forged", mapping={"timeout": "soon"})
    with pytest.raises(NoSuchJobError):
        jobs.Bell.fetch("forged", connection=client())
