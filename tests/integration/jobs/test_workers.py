"""Real worker processes: killed, frozen, stopped, and in turns."""

from __future__ import annotations

import os
import signal
import time
from datetime import datetime, timedelta
from pathlib import Path

import django_rq
import pytest
from django.db.models import F
from pytest_django import Settings
from rq.serializers import JSONSerializer

from pluginhub import jobs, publishing, tenancy
from pluginhub.configuration import Configuration, RegistrationSpec
from pluginhub.fleet.models import Process
from pluginhub.jobs import horses
from pluginhub.models import Job
from pluginhub.types import Tenant
from pluginhub.valkey import client
from tests.integration.jobs.served import LEDGER
from tests.integration.jobs.steps import (
    Start,
    children,
    ending_of,
    wait_for,
)


def test_a_worker_runs_a_job(in_acme: Tenant, worker: Start) -> None:
    worker()
    assert wait_for(ending_of(jobs.enqueue("tasks", 1)))["result"] == {"value": 1}


def test_plain_rqworker_runs_jobs_beside_the_hosts_own(in_acme: Tenant, worker: Start) -> None:
    worker("rqworker", "default", RQ={"WORKER_CLASS": "pluginhub.jobs.Worker"})
    own = django_rq.get_queue().enqueue("os.path.join", "a", "b")
    assert wait_for(ending_of(jobs.enqueue("tasks", 1)))["result"] == {"value": 1}
    assert wait_for(own.return_value) == "a/b"


def test_plain_rqworker_with_the_job_class_alone_runs_jobs(in_acme: Tenant, worker: Start) -> None:
    worker("rqworker", "default", "--job-class", "pluginhub.jobs.Bell")
    assert wait_for(ending_of(jobs.enqueue("tasks", 1)))["result"] == {"value": 1}


def test_a_worker_runs_no_forged_entry_and_goes_on(in_acme: Tenant, worker: Start, tmp_path: Path) -> None:
    evil = tmp_path / "evil"
    django_rq.get_queue(serializer=JSONSerializer).enqueue("os.system", f"touch {evil}")
    django_rq.get_queue().enqueue("os.system", f"touch {evil}")
    client().hset("rq:job:forged", mapping={"data": "x", "timeout": "soon", "created_at": "never"})
    client().rpush("rq:queue:default", "forged", "missing")
    job = jobs.enqueue("tasks")
    worker()
    wait_for(ending_of(job))
    assert not evil.exists()


def test_a_job_whose_worker_was_killed_is_finished_by_another_and_ends_once(
    in_acme: Tenant, worker: Start, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    first = worker()
    job = jobs.enqueue("tasks.slow", {"seconds": 2, "ledger": str(ledger)})
    wait_for(ledger.exists)
    first.kill()
    assert jobs.status(job)["status"] == "running"
    worker()
    state = wait_for(ending_of(job))
    assert (state["status"], state["attempt"]) == ("succeeded", 2)
    assert [line.split()[0] for line in ledger.read_text().splitlines()] == ["begun", "begun", "done"]


def test_a_worker_that_was_frozen_past_its_lease_does_not_record_a_second_end(
    in_acme: Tenant, worker: Start, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    first = worker()
    job = jobs.enqueue("tasks.slow", {"seconds": 1, "ledger": str(ledger)})
    wait_for(ledger.exists)
    frozen = children(first.process.pid)
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    worker()
    ended = wait_for(ending_of(job))
    for pid in frozen:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: not children(first.process.pid))
    assert ended["attempt"] == 2
    assert jobs.status(job) == ended


def test_a_retry_is_rung_by_the_sweeper(in_acme: Tenant, worker: Start) -> None:
    worker()
    job = jobs.enqueue("tasks.flaky", {"attempt": 2, "delay": 0.5})
    assert wait_for(ending_of(job))["attempt"] == 2


def test_sigterm_ends_a_worker_after_the_job_in_hand(in_acme: Tenant, worker: Start, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    one = worker(JOB_SLICE_SECONDS=30)
    first, second = (jobs.enqueue("tasks.slow", {"seconds": 1, "ledger": str(ledger)}) for _ in range(2))
    wait_for(ledger.exists)
    one.process.send_signal(signal.SIGTERM)
    assert one.process.wait(5) == 0
    assert jobs.status(first)["status"] == "succeeded"
    assert jobs.status(second)["status"] == "queued"


def test_an_idle_worker_ends_at_once_on_sigterm(db: None, worker: Start) -> None:
    one = worker()
    wait_for(lambda: b"Listening" in one.log.read_bytes())
    one.process.send_signal(signal.SIGTERM)
    assert one.process.wait(5) == 0


@pytest.mark.parametrize(("name", "limit"), [("stubborn", 4.0), ("deaf", 9.0)])
def test_a_time_limit_holds_against_code_that_swallows_everything(
    in_acme: Tenant, worker: Start, name: str, limit: float
) -> None:
    worker()
    job = jobs.enqueue(f"tasks.{name}", timeout=0.5, attempts=1)
    after = jobs.enqueue("tasks")
    state = wait_for(ending_of(job))
    taken = datetime.fromisoformat(state["ended"]) - datetime.fromisoformat(state["started"])
    assert (state["status"], state["problem"]["status"]) == ("dead", 504)
    assert taken < timedelta(seconds=limit)
    assert wait_for(ending_of(after))["status"] == "succeeded"


def test_a_plugin_that_exits_does_not_take_the_next_job_with_it(in_acme: Tenant, worker: Start) -> None:
    worker()
    job = jobs.enqueue("tasks.exiting", attempts=1)
    after = jobs.enqueue("tasks")
    assert wait_for(ending_of(job))["status"] == "failed"  # as for Fatal: another attempt cannot help
    assert wait_for(ending_of(after))["status"] == "succeeded"


def test_two_tenants_take_turns(tasks: None, acme: Tenant, globex: Tenant, worker: Start, tmp_path: Path) -> None:
    """The quiet tenant's job waits for a slice of the loud one's, not for its backlog."""
    ledger = tmp_path / "ledger"
    with tenancy.visit(acme):
        for number in range(60):
            jobs.enqueue("tasks.slow", {"seconds": 0.1, "ledger": str(ledger), "text": number})
    worker(JOB_SLICE_SECONDS=0.5)
    wait_for(ledger.exists)
    with tenancy.visit(globex):
        begun = time.monotonic()
        assert wait_for(ending_of(jobs.enqueue("tasks")))["status"] == "succeeded"
        waited = time.monotonic() - begun
    left = tenancy.gate(acme, Job.objects.filter(status="queued").count)
    assert waited < 3
    assert left > 10


def test_a_backlog_is_shared_by_all_workers(in_acme: Tenant, worker: Start, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    for _ in range(12):
        jobs.enqueue("tasks.slow", {"seconds": 0.3, "ledger": str(ledger)})
    for _ in range(2):
        worker(JOB_SLICE_SECONDS=30)
    wait_for(lambda: not Job.objects.exclude(status="succeeded").exists())
    pids = {line.split()[1] for line in ledger.read_text().splitlines()}
    assert len(pids) >= 2
    assert Job.objects.filter(attempt=F("max_attempts")).count() == 0


def test_a_worker_survives_a_redis_that_forgets_everything(in_acme: Tenant, worker: Start) -> None:
    one = worker()
    wait_for(ending_of(jobs.enqueue("tasks")))
    client().flushdb()
    later = jobs.enqueue("tasks")
    client().flushdb()
    assert wait_for(ending_of(later))["status"] == "succeeded"
    assert one.process.poll() is None


def test_horses_are_told_apart_from_other_processes() -> None:
    assert not horses.is_horse()


def test_a_worker_shows_in_the_fleet_while_it_lives_and_its_horses_do_not(in_acme: Tenant, worker: Start) -> None:
    one = worker()
    wait_for(ending_of(jobs.enqueue("tasks", 1)))
    workers = Process.objects.exclude(pid=os.getpid()).values_list("kind", "pid")
    assert wait_for(lambda: list(workers)) == [("worker", one.process.pid)]
    one.end()
    assert not workers.all()


def test_a_horse_takes_down_its_plugins_and_ends_their_services(
    in_acme: Tenant, worker: Start, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, path = tmp_path / "ledger", "tests.integration.jobs.served"
    changes = {"PLUGINS": {"served": f"{path}:Served"}, "PROVIDERS": [f"{path}.Services"]}
    monkeypatch.setenv(LEDGER, str(ledger))
    settings.PLUGINHUB = {**settings.PLUGINHUB, **changes}
    served = Configuration(registrations={"served": RegistrationSpec(name="served", plugin="served")})
    publishing.apply_configuration(served, author="test")
    worker(**changes)
    assert wait_for(ending_of(jobs.enqueue("served", 1)))["result"] == 1
    wait_for(lambda: "process -" in ledger.read_text())
    ends = ["run -", "down", "tenant -", "process -"]
    assert ledger.read_text().splitlines() == ["process +", "tenant +", "up", "run +", *ends]
