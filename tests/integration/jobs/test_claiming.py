"""Leases and tokens: who may run a job, and who may record its end."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection

from pluginhub import jobs, tenancy
from pluginhub.jobs import claiming, keeping
from pluginhub.jobs.keeping import Held
from pluginhub.models import Job
from pluginhub.types import Tenant
from tests.integration.jobs.steps import (
    claim_one,
    do_due,
    due_lines,
    ending_of,
    expire,
    wait_for,
    working_aside,
)


def test_two_workers_never_get_the_same_job(in_acme: Tenant) -> None:
    for _ in range(40):
        jobs.enqueue("tasks")
    claimed: list[Any] = []

    def claim_all() -> None:
        while (claim := tenancy.gate(in_acme, jobs.claim)) is not None:
            claimed.append(claim.id)
        connection.close()

    threads = [threading.Thread(target=claim_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == len(set(claimed)) == 40


def test_a_lease_that_passed_is_claimed_anew_and_the_stale_token_cannot_end_the_job(in_acme: Tenant) -> None:
    job = jobs.enqueue("tasks")
    stale = claim_one()
    assert jobs.claim() is None
    expire(job)
    fresh = claim_one()
    assert (stale.id, fresh.attempt) == (fresh.id, 2)
    assert claiming.end(stale, "failed", problem={"title": "stale"}) is False
    assert claiming.put_back(stale, delay=0) is False
    assert claiming.renew(stale, claiming.Progress(9)) is None
    assert claiming.end(fresh, "succeeded", result=1) is True
    assert claiming.end(fresh, "failed") is False
    assert (jobs.status(job)["status"], jobs.status(job)["result"]) == ("succeeded", 1)


def test_without_the_token_a_stale_worker_would_overwrite_the_end(
    in_acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard matters: the same story with the token not compared records two ends."""
    job = jobs.enqueue("tasks")
    stale = claim_one()
    expire(job)
    fresh = claim_one()
    monkeypatch.setattr(claiming, "_held", lambda claim: Job.objects.filter(id=claim.id))
    assert claiming.end(fresh, "succeeded", result=1) is True
    assert claiming.end(stale, "failed", problem={"title": "stale"}) is True
    assert jobs.status(job)["status"] == "failed"


def test_a_job_stops_when_its_lease_was_lost(in_acme: Tenant) -> None:
    job = jobs.enqueue("tasks")
    held = Held(claim_one())
    expire(job)
    claim_one()
    held.write()
    with pytest.raises(keeping.LeaseLost):
        held.report(1)


def test_a_renewed_lease_is_not_claimed(in_acme: Tenant, tmp_path: Path) -> None:
    job = jobs.enqueue("tasks.slow", {"seconds": 3, "ledger": str(tmp_path / "ledger")})
    with working_aside(in_acme):
        wait_for(lambda: jobs.status(job)["status"] == "running")
        while not jobs.status(job)["ended"]:
            assert jobs.claim() is None
            time.sleep(0.1)
    assert jobs.status(job)["attempt"] == 1


def test_a_job_whose_worker_died_at_its_last_attempt_is_dead_with_the_reason(in_acme: Tenant) -> None:
    job = jobs.enqueue("tasks", attempts=1)
    claim_one()
    expire(job)
    assert do_due(in_acme) == 0
    state = jobs.status(job)
    assert (state["status"], state["problem"]["title"], due_lines()) == ("dead", "Worker died", 0)


def test_a_cancelled_job_whose_worker_died_is_cancelled(in_acme: Tenant) -> None:
    job = jobs.enqueue("tasks")
    claim_one()
    jobs.cancel(job)
    expire(job)
    assert do_due(in_acme) == 0
    assert jobs.status(job)["status"] == "cancelled"


def test_an_attempt_handed_back_does_not_count(in_acme: Tenant) -> None:
    jobs.enqueue("tasks")
    assert claiming.put_back(claim_one(), delay=0, counts=False)
    assert claim_one().attempt == 1


def test_an_end_survives_connections_that_were_cut(in_acme: Tenant, tmp_path: Path) -> None:
    job = jobs.enqueue("tasks.slow", {"seconds": 1, "ledger": str(tmp_path / "ledger")})
    with working_aside(in_acme) as backends:
        wait_for(lambda: jobs.status(job)["progress"]["done"])
        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as other:
            cut = other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid = ANY(%s) OR (query LIKE '%%RETURNING cancel_requested%%' AND pid <> pg_backend_pid())",
                [backends],
            )
            assert cut.rowcount == 2
        assert wait_for(ending_of(job), 5)["status"] == "succeeded"
