"""What an author subclasses."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import pluginhub
from pluginhub import Context, Plugin, job
from pluginhub.exceptions import DependencyError, HookError
from pluginhub.plugins import hook_of, jobs_of
from pluginhub.testing import MemoryJobs, active, build, context


class Importing(Plugin):
    @job("import")
    def load(self, data: Any, context: Context) -> None:
        context.progress(1, 2, "half")


def test_jobs_are_found_by_name_and_inherited() -> None:
    class Child(Importing):
        @job("export")
        async def save(self, data: Any, context: Context) -> None: ...

    assert jobs_of(Child) == {"import": "load", "export": "save"}


@pytest.mark.parametrize("name", ["", "a.b", None])
def test_a_jobs_name_is_checked_when_declared(name: Any) -> None:
    with pytest.raises(HookError):
        job(name)


def test_hooks_that_are_absent_are_none_and_odd_ones_are_refused() -> None:
    class Odd(Plugin):
        process = 3

    assert hook_of(Plugin(), "process") is None
    with pytest.raises(HookError, match=r"Odd\.process"):
        hook_of(Odd(), "process")


def test_importing_the_package_needs_no_django() -> None:
    heavy = "{'django', 'redis', 'rq'}"
    code = f"import sys, pluginhub.testing; sys.exit(any(m.split('.')[0] in {heavy} for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_public_names_are_listed() -> None:
    assert sorted(pluginhub.__all__) == pluginhub.__all__
    contract = {"Plugin", "CompositePlugin", "Context", "Item", "Refuse", "RetryLater", "Fatal", "Stop", "job"}
    assert set(pluginhub.__all__) == contract


def test_progress_is_reported_and_harmless_outside_a_job() -> None:
    said: list[Any] = []
    Importing().load(None, context(report=lambda *progress: said.append(progress)))
    Importing().load(None, context())
    assert said == [(1, 2, "half")]


def test_what_only_activate_may_do_is_refused_elsewhere() -> None:
    class Adding(Plugin):
        def activate(self, context: Context) -> None:
            context.middleware.use(lambda request, call_next: call_next(request), scope="call")
            context.jobs.process("tidy", lambda data, context: None)

    jobs = MemoryJobs()
    within = context(jobs=jobs)
    with active(Adding(), within):
        assert [scope for scope, _ in within.middleware.added] == ["call"]
        assert list(jobs.handlers) == ["tidy"]
    with pytest.raises(HookError, match="activate only"):
        within.middleware.use(print)


def test_services_of_a_run_come_by_type() -> None:
    class Clock: ...

    clock = Clock()
    assert context(services={Clock: clock}).get(Clock) is clock
    with pytest.raises(DependencyError, match="Clock"):
        context().get(Clock)


def test_a_plugin_is_built_for_a_test_as_the_hub_would() -> None:
    class Sized(Plugin):
        from pydantic import BaseModel

        class Config(BaseModel):
            size: int = 1

        def process(self, value: int, context: Context) -> int:
            return int(value * self.config.size) + context.storage.increment("calls")

    assert build(Sized, {"size": 3}).process(2, context()) == 7
