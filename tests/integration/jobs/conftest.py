"""A plugin with jobs of every temper in both tenants, quick settings, and worker processes."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from pluginhub import publishing, tenancy
from pluginhub.models import Registration
from pluginhub.types import Tenant
from tests.integration.jobs.steps import (
    HURRIED,
    WorkerProcess,
)


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
def worker(tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """`worker()` starts a worker process; all that were started end with the test."""
    started: list[WorkerProcess] = []

    def start(command: str = "pluginhub_worker", *args: str, **changes: Any) -> WorkerProcess:
        started.append(WorkerProcess(tmp_path, command, *args, number=len(started), **changes))
        return started[-1]

    yield start
    for each in started:
        each.end()


@pytest.fixture
def no_redis(settings: Settings) -> None:
    """A Redis at an address where nothing listens."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    settings.RQ_QUEUES = {"default": {"URL": f"redis://127.0.0.1:{port}/0"}}
