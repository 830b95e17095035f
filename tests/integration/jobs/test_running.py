"""What a job does and how its attempt ends, in this process."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest
from django.db.models.functions import Now

from pluginhub import jobs, publishing
from pluginhub.exceptions import (
    HookError,
)
from pluginhub.fleet.models import Due
from pluginhub.jobs.tenant import TenantJobs
from pluginhub.models import Job, Registration
from pluginhub.types import Tenant
from tests.integration.jobs.steps import (
    ANN,
    do_due,
    due_lines,
    run_one,
)


def test_a_target_and_a_handler_run_and_their_results_are_kept(in_acme: Tenant) -> None:
    target, handler = jobs.enqueue("tasks", 1), jobs.enqueue("tasks.added", 2)
    assert do_due(in_acme) == 2
    assert jobs.status(target) | {"status": "succeeded", "result": {"value": 1}, "attempt": 1} == jobs.status(target)
    assert jobs.status(handler)["result"] == {"added": 2}
    assert jobs.status(target)["revision"] == 1
    assert due_lines() == 0


def test_the_caller_travels_with_the_job_and_arrives_by_the_edge_job(in_acme: Tenant) -> None:
    assert run_one("who", caller=ANN)["result"] == {
        "name": "ann",
        "edge": "job",
        "user_id": "7",
        "permissions": ["pluginhub.run_target"],
        "trusted": False,
    }


def test_a_plugin_enqueues_by_a_bare_name(in_acme: Tenant) -> None:
    inner = run_one("spawning")["result"]
    do_due(in_acme)
    assert jobs.status(inner)["name"] == "tasks.who"
    assert jobs.status(inner)["result"]["name"] == "host"  # who asked for the first one asked for both


def test_handlers_are_added_in_activate_only(in_acme: Tenant) -> None:
    with pytest.raises(HookError, match="activate"):
        TenantJobs(in_acme, "tasks").process("late", print)


@pytest.mark.parametrize("name", ["refused", "fatal"])
def test_what_trying_again_cannot_mend_fails_at_once(in_acme: Tenant, name: str) -> None:
    state = run_one(name)
    assert (state["status"], state["attempt"]) == ("failed", 1)
    assert state["problem"]["registration"] == "tasks"
    assert due_lines() == 0


def test_a_refusal_keeps_its_fields(in_acme: Tenant) -> None:
    assert run_one("refused")["problem"]["errors"] == {"code": "No such code."}


def test_an_error_is_tried_again_after_a_pause_until_the_attempts_are_used_up(in_acme: Tenant) -> None:
    state = run_one("broken", attempts=2)
    assert (state["status"], state["attempt"], due_lines()) == ("queued", 1, 1)
    assert Due.objects.filter(run_at__gt=Now()).exists()
    Job.objects.update(run_at=Now())
    do_due(in_acme)
    state = jobs.status(state["id"])
    assert (state["status"], state["attempt"], due_lines()) == ("dead", 2, 0)
    assert state["problem"]["status"] == 500
    assert "secret" not in json.dumps(state)


def test_a_plugin_chooses_when_to_try_again(in_acme: Tenant) -> None:
    assert run_one("flaky", {"attempt": 3, "delay": 0})["result"] == 3
    state = run_one("flaky", {"attempt": 3, "delay": 500})
    pause = datetime.fromisoformat(state["run_at"]) - datetime.fromisoformat(state["started"])
    assert timedelta(seconds=499) < pause < timedelta(seconds=501)


def test_pauses_double_up_to_five_minutes() -> None:
    from pluginhub.jobs.ending import back_off

    assert [back_off(attempt) for attempt in (1, 2, 3, 9, 10, 5000)] == [1, 2, 4, 256, 300, 300]


def test_a_result_that_is_no_json_fails_the_job(in_acme: Tenant) -> None:
    state = run_one("not-json")
    assert state["status"] == "failed"
    assert "JSON" in state["problem"]["detail"]


def test_a_target_disabled_meanwhile_fails_the_job(in_acme: Tenant) -> None:
    job = jobs.enqueue("tasks")
    publishing.write(lambda: Registration.objects.update(enabled=False), author="test", publish=True)
    do_due(in_acme)
    assert jobs.status(job)["problem"]["status"] == 404
