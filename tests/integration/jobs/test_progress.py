"""Following a job, cancelling it, retrying it, and who may."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pluginhub import jobs, tenancy
from pluginhub.exceptions import (
    Conflict,
    NotFound,
)
from pluginhub.jobs import bells
from pluginhub.types import Caller, Tenant
from pluginhub.valkey import client
from tests.integration.jobs.steps import (
    ANN,
    BOB,
    do_due,
    due_lines,
    ending_of,
    run_one,
    wait_for,
    working_aside,
)


def test_the_last_progress_is_kept_however_fast_it_came(in_acme: Tenant) -> None:
    state = run_one("million")
    assert state["progress"] == {"done": 1_000_000, "total": 1_000_000, "note": ""}
    assert state["result"] < 200  # a write each time would be thousands


@pytest.mark.parametrize("name", ["slow", "aslow"])
def test_progress_is_seen_while_the_job_runs_and_a_few_times_a_second(
    in_acme: Tenant, tmp_path: Path, name: str
) -> None:
    job = jobs.enqueue(f"tasks.{name}", {"seconds": 1.2, "ledger": str(tmp_path / "ledger")})
    with client().pubsub() as ear, working_aside(in_acme):  # type: ignore[no-untyped-call]
        ear.subscribe(bells.channel_of("acme", job))
        seen = set()
        while not (state := jobs.status(job))["ended"]:
            seen.add(state["progress"]["done"])
            time.sleep(0.02)
        heard = sum(message["type"] == "message" for message in iter(lambda: ear.get_message(timeout=0.1), None))
    assert 3 <= len(seen) <= 7
    assert 3 <= heard <= 8


def test_a_queued_job_is_cancelled_at_once(in_acme: Tenant) -> None:
    job = jobs.enqueue("tasks")
    assert jobs.cancel(job)["status"] == "cancelled"
    assert (do_due(in_acme), due_lines()) == (0, 0)


@pytest.mark.parametrize("name", ["slow", "aslow"])
def test_a_running_job_is_cancelled_when_it_next_reports(in_acme: Tenant, tmp_path: Path, name: str) -> None:
    job = jobs.enqueue(f"tasks.{name}", {"seconds": 15, "ledger": str(tmp_path / "ledger")})
    with working_aside(in_acme):
        wait_for(lambda: jobs.status(job)["progress"]["done"])
        assert jobs.cancel(job)["status"] == "running"
        state = wait_for(ending_of(job), 3)
    assert (state["status"], state["problem"]) == ("cancelled", None)
    assert state["progress"]["done"] > 0


def test_cancelling_what_has_ended_changes_nothing(in_acme: Tenant) -> None:
    state = run_one("who")
    assert jobs.cancel(state["id"]) == state


def test_a_failed_job_can_be_retried(in_acme: Tenant) -> None:
    job = run_one("fatal")["id"]
    assert jobs.retry(job)["status"] == "queued"
    assert due_lines() == 1
    with pytest.raises(Conflict):
        jobs.retry(job)


def test_whoever_asked_may_see_and_cancel_a_job_and_others_need_a_permission(in_acme: Tenant) -> None:
    job = jobs.enqueue("tasks", caller=ANN)
    assert jobs.status(job, caller=ANN)["id"] == job
    for call in (jobs.status, jobs.cancel, jobs.retry):
        with pytest.raises(NotFound):
            call(job, caller=BOB)
    viewer = Caller("eve", "http", user_id="9", permissions=frozenset({"pluginhub.view_job"}))
    assert jobs.status(job, caller=viewer)["id"] == job
    with pytest.raises(NotFound):
        jobs.cancel(job, caller=viewer)


@pytest.mark.parametrize("id", ["", "no uuid", "44572446-bad6-47c5-9d6a-125a05c043b3"])
def test_an_unknown_id_is_not_found(in_acme: Tenant, id: str) -> None:  # noqa: A002
    with pytest.raises(NotFound):
        jobs.status(id)


def test_a_job_is_unknown_to_other_tenants(in_acme: Tenant, globex: Tenant) -> None:
    job = jobs.enqueue("tasks")
    with tenancy.visit(globex), pytest.raises(NotFound):
        jobs.status(job)
