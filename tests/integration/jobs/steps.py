"""What the tests of the jobs do again and again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import django_rq
import psutil
from django.db import connection
from django.db.models.functions import Now
from rq.serializers import JSONSerializer

from pluginhub import jobs, tenancy
from pluginhub.fleet.models import Due
from pluginhub.jobs import claiming
from pluginhub.models import Job
from pluginhub.types import Caller, Tenant

ROOT = Path(__file__).resolve().parents[3]
PLUGINS = {"tasks": "tests.integration.jobs.plugins:Tasks"}
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


Start = Callable[..., "WorkerProcess"]
"""The type of the fixture `worker`."""


class WorkerProcess:
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
        for pid in [self.process.pid, *children(self.process.pid)]:
            os.kill(pid, signal.SIGKILL)
        self.process.wait(10)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()


def children(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children()]


def wait_for(until: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait for a condition, and return what made it true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := until():
            return found
        time.sleep(0.02)
    raise AssertionError(f"It did not happen within {seconds:g} s.")


def ending_of(job: str) -> Callable[[], Any]:
    """Return what looks for a job's end, and gives its status then."""
    return lambda: (state := jobs.status(job))["ended"] and state


def do_due(tenant: Tenant, seconds: float = 5.0) -> int:
    return jobs.work(tenant, seconds=seconds)


def run_one(name: str, data: Any = None, **options: Any) -> dict[str, Any]:
    """Enqueue a job, do what is due in this process, and return how it stands."""
    job = jobs.enqueue(f"tasks.{name}", data, **options)
    do_due(tenancy.current())
    return jobs.status(job)


def bells_waiting() -> list[str]:
    """Return the schemas whose bells wait in the queue, in order."""
    return [job.args[0] for job in django_rq.get_queue(serializer=JSONSerializer, job_class=jobs.Bell).jobs]


def due_lines() -> int:
    return Due.objects.count()


def expire(job: str) -> None:
    """Let the lease of a running job lie in the past, as if its worker had been dead for long."""
    Job.objects.filter(id=job).update(lease_until=Now() - timedelta(seconds=1))


def queues() -> dict[str, Any]:
    return {"default": {"URL": os.environ["REDIS_URL"]}}


def backend() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def claim_one() -> claiming.Claim:
    claim = jobs.claim()
    assert claim is not None
    return claim


@contextmanager
def working_aside(tenant: Tenant) -> Iterator[list[int]]:
    """Do a tenant's jobs in a thread of this process meanwhile; give the process id of its session."""
    backends: list[int] = []

    def work() -> None:
        try:
            backends.append(backend())
            do_due(tenant, seconds=0.1)
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield backends
    finally:
        thread.join()
