"""Asking for a job: its row, its line, its bell, its key; and all that with Redis away."""

from __future__ import annotations

import json
import socket
import threading
import time
import zlib
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import django_rq
import pytest
from django.db import connection, transaction
from django.utils import timezone
from pytest_django import Settings

from pluginhub import jobs, tenancy
from pluginhub.exceptions import (
    Forbidden,
    InvalidInput,
    MalformedInput,
    TooLarge,
    Unauthenticated,
    UnknownTarget,
)
from pluginhub.jobs import bells
from pluginhub.models import Job
from pluginhub.types import ANONYMOUS, Caller, Tenant
from pluginhub.valkey import client
from tests.integration.jobs.steps import (
    ANN,
    bells_waiting,
    do_due,
    due_lines,
    queues,
)


def test_a_rollback_leaves_neither_row_nor_line_nor_bell(in_acme: Tenant) -> None:
    with transaction.atomic():
        jobs.enqueue("tasks")
        assert Job.objects.count() == 1
        transaction.set_rollback(True)
    assert (Job.objects.count(), due_lines(), bells_waiting()) == (0, 0, [])


def test_the_commit_rings_and_not_before(in_acme: Tenant) -> None:
    with transaction.atomic():
        jobs.enqueue("tasks")
        assert bells_waiting() == []
    assert bells_waiting() == ["acme"]
    assert due_lines() == 1


def test_many_jobs_wait_behind_one_bell(in_acme: Tenant) -> None:
    for _ in range(5):
        jobs.enqueue("tasks")
    assert bells_waiting() == ["acme"]
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
    assert bells_waiting() == []
    assert do_due(in_acme) == 0
    assert {jobs.status(later)["status"], jobs.status(at)["status"]} == {"queued"}


def test_higher_priority_goes_first_then_age(in_acme: Tenant, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    for text, priority in (("third", 0), ("fourth", 0), ("first", 9), ("second", 1)):
        jobs.enqueue("tasks.note", {"ledger": str(ledger), "text": text}, priority=priority)
    do_due(in_acme)
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


def test_the_same_key_gives_the_same_job(in_acme: Tenant) -> None:
    first = jobs.enqueue("tasks", 1, idempotency_key="order 1")
    assert jobs.enqueue("tasks", 2, idempotency_key="order 1") == first
    assert jobs.enqueue("tasks", 1, idempotency_key="order 2") != first
    assert (Job.objects.count(), due_lines()) == (2, 2)


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
    assert (Job.objects.count(), due_lines()) == (1, 1)


def test_a_key_taken_by_an_open_transaction_waits_for_it_and_leaves_the_callers_transaction_usable(
    in_acme: Tenant,
) -> None:
    jobs.enqueue("tasks", idempotency_key="order 1")
    with transaction.atomic():
        jobs.enqueue("tasks", idempotency_key="order 1")
        other = jobs.enqueue("tasks")
    assert jobs.status(other)["status"] == "queued"


def test_without_redis_enqueueing_neither_fails_nor_stalls(in_acme: Tenant, no_redis: None) -> None:
    made, slowest = [], 0.0
    for _ in range(50):
        begun = time.monotonic()
        made.append(jobs.enqueue("tasks"))
        slowest = max(slowest, time.monotonic() - begun)
    assert slowest < 2.0  # redis-py's own retries take 4.2 s
    assert Job.objects.filter(id__in=made).count() == due_lines() == 50


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
    settings.RQ_QUEUES = queues()
    assert bells_waiting() == []
    assert jobs.sweep() == ["acme"]
    assert bells_waiting() == ["acme"]
