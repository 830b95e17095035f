"""Jobs on a real PostgreSQL, a real Valkey and, where it says so, real worker processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import django_rq
import psycopg
import pytest
from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone
from pytest_django import Settings
from rq.exceptions import DeserializationError, NoSuchJobError
from rq.serializers import JSONSerializer

from pluginhub import jobs, publishing, tenancy
from pluginhub.exceptions import (
    Conflict,
    Forbidden,
    HookError,
    InvalidInput,
    MalformedInput,
    NotFound,
    TooLarge,
    Unauthenticated,
    UnknownTarget,
)
from pluginhub.fleet.models import Due
from pluginhub.jobs import bells, claiming, horses, keeping, sweeping
from pluginhub.jobs.keeping import Held
from pluginhub.jobs.tenant import TenantJobs
from pluginhub.models import Job, Registration
from pluginhub.types import ANONYMOUS, Caller, Tenant
from pluginhub.valkey import client

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = {"tasks": "tests.integration.job_plugins:Tasks"}
HURRIED = {
    "PLUGINS": PLUGINS,
    "JOB_LEASE_SECONDS": 1.5,
    "SWEEP_SECONDS": 0.3,
    "JOB_SLICE_SECONDS": 1.0,
    "POLL_SECONDS": 0.1,
}
"""Settings under which what takes half a minute takes a second."""

ANN = Caller("ann", "http", user_id="7", permissions=frozenset({"pluginhub.run_target"}))
BOB = Caller("bob", "http", user_id="8", permissions=frozenset({"pluginhub.run_target"}))


@pytest.fixture(autouse=True)
def _hurried(settings: Settings) -> None:
    settings.PLUGINHUB = HURRIED


@pytest.fixture
def tasks(acme: Tenant, globex: Tenant, _hurried: None) -> None:
    """A registration `tasks`, published in both tenants."""
    for tenant in (acme, globex):
        with tenancy.visit(tenant):
            publishing.write(
                lambda: Registration.objects.create(name="tasks", kind="registration", plugin="tasks"),
                author="test",
                publish=True,
            )


@pytest.fixture
def in_acme(tasks: None, acme: Tenant) -> Iterator[Tenant]:
    with tenancy.visit(acme):
        yield acme


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """`worker()` starts a worker process; all that were started end with the test."""
    started: list[Worker] = []

    def start(command: str = "pluginhub_worker", *args: str, **changes: Any) -> Worker:
        started.append(Worker(tmp_path, command, *args, number=len(started), **changes))
        return started[-1]

    yield start
    for each in started:
        each.end()


class Worker:
    """A worker process of the tests, with its log. Lives until `end`."""

    def __init__(self, folder: Path, command: str, *args: str, number: int, **changes: Any) -> None:
        module = f"job_settings_{number}"
        rq = changes.pop("RQ", {})
        lines = [
            "from tests.settings import *",
            f"PLUGINHUB = {HURRIED | changes!r}",
            f"RQ = {rq!r}",
        ]
        (folder / f"{module}.py").write_text("\n".join(lines))
        self.log = folder / f"{module}.log"
        path = os.pathsep.join([str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")])
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", command, *args],
                cwd=ROOT,
                env=os.environ | {"DJANGO_SETTINGS_MODULE": module, "PYTHONPATH": path, "LOG_LEVEL": "INFO"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        """Kill the worker and its horse the hard way, all at once."""
        for pid in [*_children(self.process.pid), self.process.pid]:
            os.kill(pid, signal.SIGKILL)
        self.process.wait(10)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()


def _children(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(child) for child in found.stdout.split()]


def _wait(until: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait for a condition, and return what made it true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := until():
            return found
        time.sleep(0.02)
    raise AssertionError(f"It did not happen within {seconds:g} s.")


def _ended(job: str) -> Callable[[], Any]:
    return lambda: (state := jobs.status(job))["ended"] and state


def _work(tenant: Tenant, seconds: float = 5.0) -> int:
    return jobs.work(tenant, seconds=seconds)


def _run(name: str, data: Any = None, **options: Any) -> dict[str, Any]:
    """Enqueue a job, do what is due in this process, and return how it stands."""
    job = jobs.enqueue(f"tasks.{name}", data, **options)
    _work(tenancy.current())
    return jobs.status(job)


def _bells() -> list[str]:
    """Return the schemas whose bells wait in the queue, in order."""
    return [job.args[0] for job in django_rq.get_queue(serializer=JSONSerializer, job_class=jobs.Bell).jobs]


def _lines() -> int:
    return Due.objects.count()


def _expire(job: str) -> None:
    """Let the lease of a running job lie in the past, as if its worker had been dead for long."""
    Job.objects.filter(id=job).update(lease_until=Now() - timedelta(seconds=1))


# Asking for a job


def test_a_rollback_leaves_neither_row_nor_line_nor_bell(in_acme: Tenant) -> None:
    with transaction.atomic():
        jobs.enqueue("tasks")
        assert Job.objects.count() == 1
        transaction.set_rollback(True)
    assert (Job.objects.count(), _lines(), _bells()) == (0, 0, [])


def test_the_commit_rings_and_not_before(in_acme: Tenant) -> None:
    with transaction.atomic():
        jobs.enqueue("tasks")
        assert _bells() == []
    assert _bells() == ["acme"]
    assert _lines() == 1


def test_many_jobs_wait_behind_one_bell(in_acme: Tenant) -> None:
    for _ in range(5):
        jobs.enqueue("tasks")
    assert _bells() == ["acme"]
    assert Job.objects.count() == 5


def test_redis_holds_the_tenants_name_and_nothing_else_of_a_job(in_acme: Tenant) -> None:
    jobs.enqueue("tasks", {"card": "4111 1111"})
    held = django_rq.get_queue().get_job_ids()
    data = zlib.decompress(client().hget(f"rq:job:{held[0]}", "data"))  # type: ignore[arg-type]
    assert json.loads(data) == ["pluginhub.jobs.bell", None, ["acme"], {}]
    assert 0 < client().ttl(f"rq:job:{held[0]}") <= bells.BELL_SECONDS


def test_a_later_job_does_not_ring_now(in_acme: Tenant) -> None:
    later = jobs.enqueue("tasks", delay=60)
    at = jobs.enqueue("tasks", at=timezone.now() + timedelta(hours=1))
    assert _bells() == []
    assert _work(in_acme) == 0
    assert {jobs.status(later)["status"], jobs.status(at)["status"]} == {"queued"}


def test_higher_priority_goes_first_then_age(in_acme: Tenant, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    for text, priority in (("third", 0), ("fourth", 0), ("first", 9), ("second", 1)):
        jobs.enqueue("tasks.note", {"ledger": str(ledger), "text": text}, priority=priority)
    _work(in_acme)
    assert ledger.read_text().split() == ["acme", "first", "acme", "second", "acme", "third", "acme", "fourth"]


@pytest.mark.parametrize(
    ("name", "hint"), [("task", "'tasks'"), ("tasks.hwo", "'tasks.who'"), ("tasks.who.x", "'tasks.who'")]
)
def test_an_unknown_name_is_refused_with_near_misses(in_acme: Tenant, name: str, hint: str) -> None:
    with pytest.raises(UnknownTarget, match=hint):
        jobs.enqueue(name)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (object(), MalformedInput),
        (float("nan"), MalformedInput),
        ("\0", MalformedInput),
        ("x" * 300_000, TooLarge),
    ],
)
def test_data_that_is_no_json_we_take_is_refused(in_acme: Tenant, data: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        jobs.enqueue("tasks", data)
    assert Job.objects.count() == 0


@pytest.mark.parametrize(
    "options",
    [
        {"attempts": 0},
        {"timeout": 0},
        {"delay": -1},
        {"delay": 1, "at": timezone.now()},
        {"at": datetime(2030, 1, 1)},
        {"priority": 2**31},
        {"idempotency_key": ""},
        {"idempotency_key": "x" * 256},
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(in_acme: Tenant, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refused:
        jobs.enqueue("tasks", **options)
    assert set(refused.value.errors) & set(options)


def test_only_who_may_run_targets_may_enqueue(in_acme: Tenant) -> None:
    with pytest.raises(Unauthenticated):
        jobs.enqueue("tasks", caller=ANONYMOUS)
    with pytest.raises(Forbidden):
        jobs.enqueue("tasks", caller=Caller("eve", "http", user_id="9"))
    assert jobs.enqueue("tasks", caller=ANN)


async def test_enqueueing_from_asynchronous_code_writes_in_the_tenant_entered(tasks: None, acme: Tenant) -> None:
    with tenancy.enter(acme):
        job = await jobs.aenqueue("tasks", {"a": 1})
    assert (await tenancy.agate(acme, jobs.status, job))["status"] == "queued"


# Idempotency


def test_the_same_key_gives_the_same_job(in_acme: Tenant) -> None:
    first = jobs.enqueue("tasks", 1, idempotency_key="order 1")
    assert jobs.enqueue("tasks", 2, idempotency_key="order 1") == first
    assert jobs.enqueue("tasks", 1, idempotency_key="order 2") != first
    assert (Job.objects.count(), _lines()) == (2, 2)


def test_tenants_do_not_share_keys(tasks: None, acme: Tenant, globex: Tenant) -> None:
    ids = {tenancy.gate(tenant, jobs.enqueue, "tasks", idempotency_key="order 1") for tenant in (acme, globex)}
    assert len(ids) == 2


def test_a_race_for_a_key_returns_the_first(in_acme: Tenant) -> None:
    barrier, ids = threading.Barrier(8), []

    def ask() -> None:
        barrier.wait()
        ids.append(tenancy.gate(in_acme, jobs.enqueue, "tasks", idempotency_key="order 1"))
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 8
    assert len(set(ids)) == 1
    assert (Job.objects.count(), _lines()) == (1, 1)


def test_a_key_taken_by_an_open_transaction_waits_for_it_and_leaves_the_callers_transaction_usable(
    in_acme: Tenant,
) -> None:
    jobs.enqueue("tasks", idempotency_key="order 1")
    with transaction.atomic():
        jobs.enqueue("tasks", idempotency_key="order 1")
        other = jobs.enqueue("tasks")
    assert jobs.status(other)["status"] == "queued"


# Redis away


@pytest.fixture
def no_redis(settings: Settings) -> None:
    """A Redis at an address where nothing listens."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    settings.RQ_QUEUES = {"default": {"URL": f"redis://127.0.0.1:{port}/0"}}


def test_without_redis_enqueueing_neither_fails_nor_stalls(in_acme: Tenant, no_redis: None) -> None:
    made, slowest = [], 0.0
    for _ in range(50):
        begun = time.monotonic()
        made.append(jobs.enqueue("tasks"))
        slowest = max(slowest, time.monotonic() - begun)
    assert slowest < 2.0  # redis-py's own retries take 4.2 s
    assert Job.objects.filter(id__in=made).count() == _lines() == 50


def test_other_callbacks_of_the_commit_still_run_without_redis(in_acme: Tenant, no_redis: None) -> None:
    called = []
    with transaction.atomic():
        jobs.enqueue("tasks")
        transaction.on_commit(lambda: called.append(True))
    assert called == [True]


def test_a_redis_that_accepts_and_never_answers_does_not_stall(in_acme: Tenant, settings: Settings) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        settings.RQ_QUEUES = {"default": {"URL": f"redis://127.0.0.1:{mute.getsockname()[1]}/0"}}
        begun = time.monotonic()
        for _ in range(10):
            jobs.enqueue("tasks")
        assert time.monotonic() - begun < 3.0


def test_the_sweeper_rings_for_what_was_enqueued_without_redis(
    in_acme: Tenant, settings: Settings, no_redis: None
) -> None:
    jobs.enqueue("tasks")
    settings.RQ_QUEUES = _queues()
    assert _bells() == []
    assert jobs.sweep() == ["acme"]
    assert _bells() == ["acme"]


def _queues() -> dict[str, Any]:
    return {"default": {"URL": os.environ["REDIS_URL"]}}


# Running, in this process


def test_a_target_and_a_handler_run_and_their_results_are_kept(in_acme: Tenant) -> None:
    target, handler = jobs.enqueue("tasks", 1), jobs.enqueue("tasks.added", 2)
    assert _work(in_acme) == 2
    assert jobs.status(target) | {"status": "succeeded", "result": {"value": 1}, "attempt": 1} == jobs.status(target)
    assert jobs.status(handler)["result"] == {"added": 2}
    assert jobs.status(target)["revision"] == 1
    assert _lines() == 0


def test_the_caller_travels_with_the_job_and_arrives_by_the_edge_job(in_acme: Tenant) -> None:
    assert _run("who", caller=ANN)["result"] == {
        "name": "ann",
        "edge": "job",
        "user_id": "7",
        "permissions": ["pluginhub.run_target"],
        "trusted": False,
    }


def test_a_plugin_enqueues_by_a_bare_name(in_acme: Tenant) -> None:
    inner = _run("spawning")["result"]
    _work(in_acme)
    assert jobs.status(inner)["name"] == "tasks.who"
    assert jobs.status(inner)["result"]["name"] == "tasks"


def test_handlers_are_added_in_activate_only(in_acme: Tenant) -> None:
    with pytest.raises(HookError, match="activate"):
        TenantJobs(in_acme, "tasks").process("late", print)


@pytest.mark.parametrize("name", ["refused", "fatal"])
def test_what_trying_again_cannot_mend_fails_at_once(in_acme: Tenant, name: str) -> None:
    state = _run(name)
    assert (state["status"], state["attempt"]) == ("failed", 1)
    assert state["problem"]["registration"] == "tasks"
    assert _lines() == 0


def test_a_refusal_keeps_its_fields(in_acme: Tenant) -> None:
    assert _run("refused")["problem"]["errors"] == {"code": "No such code."}


def test_an_error_is_tried_again_after_a_pause_until_the_attempts_are_used_up(in_acme: Tenant) -> None:
    state = _run("broken", attempts=2)
    assert (state["status"], state["attempt"], _lines()) == ("queued", 1, 1)
    assert Due.objects.filter(run_at__gt=Now()).exists()
    Job.objects.update(run_at=Now())
    _work(in_acme)
    state = jobs.status(state["id"])
    assert (state["status"], state["attempt"], _lines()) == ("dead", 2, 0)
    assert state["problem"]["status"] == 500
    assert "secret" not in json.dumps(state)


def test_a_plugin_chooses_when_to_try_again(in_acme: Tenant) -> None:
    assert _run("flaky", {"attempt": 3, "delay": 0})["result"] == 3
    state = _run("flaky", {"attempt": 3, "delay": 500})
    pause = datetime.fromisoformat(state["run_at"]) - datetime.fromisoformat(state["started"])
    assert timedelta(seconds=499) < pause < timedelta(seconds=501)


def test_pauses_double_up_to_five_minutes() -> None:
    from pluginhub.jobs.ending import back_off

    assert [back_off(attempt) for attempt in (1, 2, 3, 9, 10, 5000)] == [1, 2, 4, 256, 300, 300]


def test_a_result_that_is_no_json_fails_the_job(in_acme: Tenant) -> None:
    state = _run("not-json")
    assert state["status"] == "failed"
    assert "JSON" in state["problem"]["detail"]


def test_a_target_disabled_meanwhile_fails_the_job(in_acme: Tenant) -> None:
    job = jobs.enqueue("tasks")
    publishing.write(lambda: Registration.objects.update(enabled=False), author="test", publish=True)
    _work(in_acme)
    assert jobs.status(job)["problem"]["status"] == 404


# Progress and cancelling


def test_the_last_progress_is_kept_however_fast_it_came(in_acme: Tenant) -> None:
    state = _run("million")
    assert state["progress"] == {"done": 1_000_000, "total": 1_000_000, "note": ""}
    assert state["result"] < 2.0


@pytest.mark.parametrize("name", ["slow", "aslow"])
def test_progress_is_seen_while_the_job_runs_and_a_few_times_a_second(
    in_acme: Tenant, tmp_path: Path, name: str
) -> None:
    job = jobs.enqueue(f"tasks.{name}", {"seconds": 1.2, "ledger": str(tmp_path / "ledger")})
    with client().pubsub() as ear, _working(in_acme):  # type: ignore[no-untyped-call]
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
    assert (_work(in_acme), _lines()) == (0, 0)


@pytest.mark.parametrize("name", ["slow", "aslow"])
def test_a_running_job_is_cancelled_when_it_next_reports(in_acme: Tenant, tmp_path: Path, name: str) -> None:
    job = jobs.enqueue(f"tasks.{name}", {"seconds": 15, "ledger": str(tmp_path / "ledger")})
    with _working(in_acme):
        _wait(lambda: jobs.status(job)["progress"]["done"])
        assert jobs.cancel(job)["status"] == "running"
        state = _wait(_ended(job), 3)
    assert (state["status"], state["problem"]) == ("cancelled", None)
    assert state["progress"]["done"] > 0


def test_cancelling_what_has_ended_changes_nothing(in_acme: Tenant) -> None:
    state = _run("who")
    assert jobs.cancel(state["id"]) == state


def test_a_failed_job_can_be_retried(in_acme: Tenant) -> None:
    job = _run("fatal")["id"]
    assert jobs.retry(job)["status"] == "queued"
    assert _lines() == 1
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


@pytest.mark.parametrize("id", ["", "no uuid", str(uuid4())])
def test_an_unknown_id_is_not_found(in_acme: Tenant, id: str) -> None:  # noqa: A002
    with pytest.raises(NotFound):
        jobs.status(id)


def test_a_job_is_unknown_to_other_tenants(in_acme: Tenant, globex: Tenant) -> None:
    job = jobs.enqueue("tasks")
    with tenancy.visit(globex), pytest.raises(NotFound):
        jobs.status(job)


# Claims


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
    stale = _claimed()
    assert jobs.claim() is None
    _expire(job)
    fresh = _claimed()
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
    stale = _claimed()
    _expire(job)
    fresh = _claimed()
    monkeypatch.setattr(claiming, "_held", lambda claim: Job.objects.filter(id=claim.id))
    assert claiming.end(fresh, "succeeded", result=1) is True
    assert claiming.end(stale, "failed", problem={"title": "stale"}) is True
    assert jobs.status(job)["status"] == "failed"


def test_a_job_stops_when_its_lease_was_lost(in_acme: Tenant) -> None:
    job = jobs.enqueue("tasks")
    held = Held(_claimed())
    _expire(job)
    _claimed()
    held.write()
    with pytest.raises(keeping.LeaseLost):
        held.report(1)


def test_a_renewed_lease_is_not_claimed(in_acme: Tenant, tmp_path: Path) -> None:
    job = jobs.enqueue("tasks.slow", {"seconds": 3, "ledger": str(tmp_path / "ledger")})
    with _working(in_acme):
        _wait(lambda: jobs.status(job)["status"] == "running")
        while not jobs.status(job)["ended"]:
            assert jobs.claim() is None
            time.sleep(0.1)
    assert jobs.status(job)["attempt"] == 1


def test_a_job_whose_worker_died_at_its_last_attempt_is_dead_with_the_reason(in_acme: Tenant) -> None:
    job = jobs.enqueue("tasks", attempts=1)
    _claimed()
    _expire(job)
    assert _work(in_acme) == 0
    state = jobs.status(job)
    assert (state["status"], state["problem"]["title"], _lines()) == ("dead", "Worker died", 0)


def test_a_cancelled_job_whose_worker_died_is_cancelled(in_acme: Tenant) -> None:
    job = jobs.enqueue("tasks")
    _claimed()
    jobs.cancel(job)
    _expire(job)
    assert _work(in_acme) == 0
    assert jobs.status(job)["status"] == "cancelled"


def test_an_attempt_handed_back_does_not_count(in_acme: Tenant) -> None:
    jobs.enqueue("tasks")
    assert claiming.put_back(_claimed(), delay=0, counts=False)
    assert _claimed().attempt == 1


def test_an_end_survives_connections_that_were_cut(in_acme: Tenant, tmp_path: Path) -> None:
    job = jobs.enqueue("tasks.slow", {"seconds": 1, "ledger": str(tmp_path / "ledger")})
    with _working(in_acme) as backends:
        _wait(lambda: jobs.status(job)["progress"]["done"])
        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as other:
            cut = other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid = ANY(%s) OR (query LIKE '%%RETURNING cancel_requested%%' AND pid <> pg_backend_pid())",
                [backends],
            )
            assert cut.rowcount == 2
        assert _wait(_ended(job), 5)["status"] == "succeeded"


def _backend() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def _claimed() -> claiming.Claim:
    claim = jobs.claim()
    assert claim is not None
    return claim


@contextmanager
def _working(tenant: Tenant) -> Iterator[list[int]]:
    """Do a tenant's jobs in a thread of this process meanwhile; give the process id of its session."""
    backends: list[int] = []

    def work() -> None:
        try:
            backends.append(_backend())
            _work(tenant, seconds=0.1)
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield backends
    finally:
        thread.join()


# Bells and the sweeper


def test_a_bell_calls_a_second_worker_when_more_is_due(in_acme: Tenant) -> None:
    jobs.enqueue("tasks")
    jobs.enqueue("tasks")
    client().flushdb()
    jobs.bell("acme")
    assert _bells() == ["acme"]
    assert Job.objects.filter(status="succeeded").count() == 2


def test_a_slice_that_is_over_rings_again_at_the_end_of_the_queue(
    in_acme: Tenant, globex: Tenant, settings: Settings, tmp_path: Path
) -> None:
    settings.PLUGINHUB = HURRIED | {"JOB_SLICE_SECONDS": 0.01}
    for _ in range(3):
        jobs.enqueue("tasks.aslow", {"seconds": 0.02})
    tenancy.gate(globex, jobs.enqueue, "tasks")
    assert _bells() == ["acme", "globex"]
    bell = django_rq.get_queue().pop_job_id()
    assert bell
    jobs.bell("acme")
    assert Job.objects.filter(status="succeeded").count() == 1
    assert _bells() == ["globex", "acme"]


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
    assert _bells() == ["acme", "globex"]
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
    _claimed()
    _expire(job)
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
    assert _lines() == 0


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


# Real workers


def test_a_worker_runs_a_job(in_acme: Tenant, worker: Callable[..., Worker]) -> None:
    worker()
    assert _wait(_ended(jobs.enqueue("tasks", 1)))["result"] == {"value": 1}


def test_plain_rqworker_runs_jobs_beside_the_hosts_own(in_acme: Tenant, worker: Callable[..., Worker]) -> None:
    worker("rqworker", "default", RQ={"WORKER_CLASS": "pluginhub.jobs.Worker"})
    own = django_rq.get_queue().enqueue("os.path.join", "a", "b")
    assert _wait(_ended(jobs.enqueue("tasks", 1)))["result"] == {"value": 1}
    assert _wait(own.return_value) == "a/b"


def test_plain_rqworker_with_the_job_class_alone_runs_jobs(in_acme: Tenant, worker: Callable[..., Worker]) -> None:
    worker("rqworker", "default", "--job-class", "pluginhub.jobs.Bell")
    assert _wait(_ended(jobs.enqueue("tasks", 1)))["result"] == {"value": 1}


def test_a_worker_runs_no_forged_entry_and_goes_on(
    in_acme: Tenant, worker: Callable[..., Worker], tmp_path: Path
) -> None:
    evil = tmp_path / "evil"
    django_rq.get_queue(serializer=JSONSerializer).enqueue("os.system", f"touch {evil}")
    django_rq.get_queue().enqueue("os.system", f"touch {evil}")
    client().hset("rq:job:forged", mapping={"data": "x", "timeout": "soon", "created_at": "never"})
    client().rpush("rq:queue:default", "forged", "missing")
    job = jobs.enqueue("tasks")
    worker()
    _wait(_ended(job))
    assert not evil.exists()


def test_a_job_whose_worker_was_killed_is_finished_by_another_and_ends_once(
    in_acme: Tenant, worker: Callable[..., Worker], tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    first = worker()
    job = jobs.enqueue("tasks.slow", {"seconds": 2, "ledger": str(ledger)})
    _wait(ledger.exists)
    first.kill()
    assert jobs.status(job)["status"] == "running"
    worker()
    state = _wait(_ended(job))
    assert (state["status"], state["attempt"]) == ("succeeded", 2)
    assert [line.split()[0] for line in ledger.read_text().splitlines()] == ["begun", "begun", "done"]


def test_a_worker_that_was_frozen_past_its_lease_does_not_record_a_second_end(
    in_acme: Tenant, worker: Callable[..., Worker], tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    first = worker()
    job = jobs.enqueue("tasks.slow", {"seconds": 1, "ledger": str(ledger)})
    _wait(ledger.exists)
    frozen = _children(first.process.pid)
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    worker()
    ended = _wait(_ended(job))
    for pid in frozen:
        os.kill(pid, signal.SIGCONT)
    _wait(lambda: not _children(first.process.pid))
    assert ended["attempt"] == 2
    assert jobs.status(job) == ended


def test_a_retry_is_rung_by_the_sweeper(in_acme: Tenant, worker: Callable[..., Worker]) -> None:
    worker()
    job = jobs.enqueue("tasks.flaky", {"attempt": 2, "delay": 0.5})
    assert _wait(_ended(job))["attempt"] == 2


def test_sigterm_ends_a_worker_after_the_job_in_hand(
    in_acme: Tenant, worker: Callable[..., Worker], tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    one = worker(JOB_SLICE_SECONDS=30)
    first, second = (jobs.enqueue("tasks.slow", {"seconds": 1, "ledger": str(ledger)}) for _ in range(2))
    _wait(ledger.exists)
    one.process.send_signal(signal.SIGTERM)
    assert one.process.wait(5) == 0
    assert jobs.status(first)["status"] == "succeeded"
    assert jobs.status(second)["status"] == "queued"


def test_an_idle_worker_ends_at_once_on_sigterm(db: None, worker: Callable[..., Worker]) -> None:
    one = worker()
    _wait(lambda: b"Listening" in one.log.read_bytes())
    one.process.send_signal(signal.SIGTERM)
    assert one.process.wait(5) == 0


@pytest.mark.parametrize(("name", "limit"), [("stubborn", 4.0), ("deaf", 9.0)])
def test_a_time_limit_holds_against_code_that_swallows_everything(
    in_acme: Tenant, worker: Callable[..., Worker], name: str, limit: float
) -> None:
    worker()
    job = jobs.enqueue(f"tasks.{name}", timeout=0.5, attempts=1)
    after = jobs.enqueue("tasks")
    state = _wait(_ended(job))
    taken = datetime.fromisoformat(state["ended"]) - datetime.fromisoformat(state["started"])
    assert (state["status"], state["problem"]["status"]) == ("dead", 504)
    assert taken < timedelta(seconds=limit)
    assert _wait(_ended(after))["status"] == "succeeded"


def test_a_plugin_that_exits_does_not_take_the_next_job_with_it(in_acme: Tenant, worker: Callable[..., Worker]) -> None:
    worker()
    job = jobs.enqueue("tasks.exiting", attempts=1)
    after = jobs.enqueue("tasks")
    assert _wait(_ended(job))["status"] == "dead"
    assert _wait(_ended(after))["status"] == "succeeded"


def test_two_tenants_take_turns(
    tasks: None, acme: Tenant, globex: Tenant, worker: Callable[..., Worker], tmp_path: Path
) -> None:
    """The quiet tenant's job waits for a slice of the loud one's, not for its backlog."""
    ledger = tmp_path / "ledger"
    with tenancy.visit(acme):
        for number in range(60):
            jobs.enqueue("tasks.slow", {"seconds": 0.1, "ledger": str(ledger), "text": number})
    worker(JOB_SLICE_SECONDS=0.5)
    _wait(ledger.exists)
    with tenancy.visit(globex):
        begun = time.monotonic()
        assert _wait(_ended(jobs.enqueue("tasks")))["status"] == "succeeded"
        waited = time.monotonic() - begun
    left = tenancy.gate(acme, Job.objects.filter(status="queued").count)
    assert waited < 3
    assert left > 10


def test_a_backlog_is_shared_by_all_workers(in_acme: Tenant, worker: Callable[..., Worker], tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    for _ in range(12):
        jobs.enqueue("tasks.slow", {"seconds": 0.3, "ledger": str(ledger)})
    for _ in range(2):
        worker(JOB_SLICE_SECONDS=30)
    _wait(lambda: not Job.objects.exclude(status="succeeded").exists())
    pids = {line.split()[1] for line in ledger.read_text().splitlines()}
    assert len(pids) >= 2
    assert Job.objects.filter(attempt=F("max_attempts")).count() == 0


def test_a_worker_survives_a_redis_that_forgets_everything(in_acme: Tenant, worker: Callable[..., Worker]) -> None:
    one = worker()
    _wait(_ended(jobs.enqueue("tasks")))
    client().flushdb()
    later = jobs.enqueue("tasks")
    client().flushdb()
    assert _wait(_ended(later))["status"] == "succeeded"
    assert one.process.poll() is None


def test_horses_are_told_apart_from_other_processes() -> None:
    assert not horses.is_horse()
