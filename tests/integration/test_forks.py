"""A forked child does all that PluginHub does, on sessions of its own, and its parent notices nothing."""

from __future__ import annotations

import gc
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection as default_connection
from django.db import transaction

from pluginhub import crossing, execution, jobs, tenancy, valkey
from pluginhub.caching import TenantCache
from pluginhub.configuration import RegistrationSpec
from pluginhub.models import StoredValue
from pluginhub.registry import registry
from pluginhub.storage import TenantStorage
from pluginhub.types import Tenant
from tests.forking import held, in_child, locks
from tests.integration.forked_plugins import PLUGINS, open_sockets
from tests.integration.hub import Hub, chain, publish
from tests.integration.jobs.steps import WorkerProcess, ending_of, wait_for
from tests.integration.samples import PLUGINS as SAMPLES
from tests.integration.samples import Clocks

connection: Any = default_connection
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture(autouse=True)
def hub(settings: Any, in_acme: Tenant, ledger: Path) -> None:
    """Targets of both colours, a chain of them, and a job, each used once in this process."""
    settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": PLUGINS | SAMPLES, "PROVIDERS": [Clocks]}
    publish(
        RegistrationSpec(name="living", plugin="living", config={"ledger": str(ledger)}),
        chain("both", "living", "doubling"),
        asking="asking",
        doubling="doubling",
        forking="forking",
    )
    assert execution.run("both", "warm") == 2
    assert TenantCache(in_acme, "here").get_or_set("key", lambda: "parent") == "parent"
    assert execution.run("asking") == "twelve"


def lines(ledger: Path) -> list[str]:
    return ledger.read_text().splitlines()


def backend() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def do_everything() -> list[Any]:
    """Use each part of PluginHub once, in the current tenant."""
    tenant = tenancy.current()
    notes = jobs.enqueue("living.note")
    jobs.work(tenant, seconds=5)
    cache = TenantCache(tenant, "here")
    cache.set("child", os.getpid())
    results = [execution.run("living", "from the child"), execution.run("both", "again")]
    scrape = Hub("wsgi").get("/metrics")
    return [
        *results,
        jobs.status(notes)["status"],
        TenantStorage(tenant, "living").get("last"),
        cache.get("child") == os.getpid(),
        execution.run("asking"),
        *re.findall(r'plugin_living_calls_total{plugin="living",tenant="acme"} (.*)', scrape.content.decode()),
    ]


EVERYTHING = [1, 4, "succeeded", "again", True, "twelve", "2.0"]


class TestTheChild:
    def test_it_does_everything_though_other_threads_held_every_lock(self) -> None:
        with held(locks()) as names:
            assert len(names) > 20
            assert in_child(do_everything) == EVERYTHING

    def test_it_does_everything_when_forked_by_a_thread_of_the_pool(self) -> None:
        assert crossing.submit(in_child, do_everything).result(60) == EVERYTHING

    def test_a_child_of_a_child_does_everything(self) -> None:
        assert in_child(in_child, do_everything) == EVERYTHING

    def test_its_effects_are_seen_and_its_parents_instances_are_untouched(self, ledger: Path) -> None:
        child = in_child(lambda: [execution.run("living", "child"), os.getpid()])
        assert child[0] == 1, "an instance of its own"
        assert TenantStorage(tenancy.current(), "living").get("last") == "child"
        assert execution.run("living", "parent") == 2

    def test_it_brings_down_its_own_instances_only(self, ledger: Path) -> None:
        def live_and_die() -> int:
            execution.run("living", "child")
            registry.clear()
            gc.collect()
            wait_for(lambda: f"down {os.getpid()}" in lines(ledger))
            return os.getpid()

        child = in_child(live_and_die)
        assert lines(ledger) == [f"up {os.getpid()}", f"up {child}", f"down {child}"]
        registry.clear()
        wait_for(lambda: f"down {os.getpid()}" in lines(ledger))

    def test_it_ends_no_instance_whose_runtime_was_held_at_the_fork(self, ledger: Path, in_acme: Tenant) -> None:
        def leave(held: Any) -> None:
            held.release()
            crossing.submit(gc.collect).result(20)

        runtime = registry.acquire(in_acme)
        registry.clear()  # it ends with its last run
        in_child(leave, runtime)
        assert lines(ledger) == [f"up {os.getpid()}"]
        runtime.release()
        wait_for(lambda: f"down {os.getpid()}" in lines(ledger))

    def test_it_cannot_go_on_with_its_parents_run(self) -> None:
        refused, went_on = execution.run("forking", 21)
        assert "forked" in refused
        assert went_on == 42

    def test_it_does_not_follow_the_fleet_before_it_serves(self, in_acme: Tenant) -> None:
        def followers() -> list[str]:
            return [each.name for each in threading.enumerate() if each.name.startswith("pluginhub")]

        assert "pluginhub-follow" in followers()
        assert in_child(followers) == []
        assert in_child(lambda: [execution.run("doubling", 1), "pluginhub-follow" in followers()]) == [2, True]


class TestSessions:
    def test_a_child_is_on_sessions_of_its_own(self) -> None:
        def sessions() -> list[int]:
            return [backend(), valkey.client().client_id()]

        mine, others = sessions(), in_child(sessions)
        assert others[0] != mine[0]
        assert others[1] != mine[1]
        assert backend() == mine[0], "the parent's goes on"
        assert valkey.client().ping()

    def test_a_child_waits_for_no_thread_that_was_connecting_to_valkey(self) -> None:
        with held({"pool": valkey.client().connection_pool._lock}) as names:
            assert names == ["pool"]
            assert in_child(lambda: valkey.client().ping()) is True

    @linux
    def test_no_socket_to_the_database_stays_open_in_a_child(self) -> None:
        """Also none of other threads': while it is open, the parent's session outlives the parent."""
        ready, leave = threading.Event(), threading.Event()
        inodes = [os.fstat(connection.connection.pgconn.socket).st_ino]

        def query() -> None:
            backend()
            inodes.append(os.fstat(connection.connection.pgconn.socket).st_ino)
            ready.set()
            leave.wait(60)
            connection.close()

        thread = threading.Thread(target=query)
        thread.start()
        assert ready.wait(20)
        assert set(inodes) <= set(open_sockets(os.getpid()))
        assert not set(inodes) & set(in_child(lambda: open_sockets(os.getpid())))
        leave.set()
        thread.join()

    def test_a_child_is_outside_its_parents_transaction_and_in_its_tenant(self, in_acme: Tenant) -> None:
        def write() -> list[Any]:
            StoredValue.objects.create(namespace="fork", key="child", value=1)
            keys = StoredValue.objects.filter(namespace="fork").values_list("key", flat=True)
            return [connection.schema_name, sorted(keys)]

        with transaction.atomic():
            StoredValue.objects.create(namespace="fork", key="parent", value=1)
            assert in_child(write) == ["acme", ["child"]]
            transaction.set_rollback(True)
        assert list(StoredValue.objects.filter(namespace="fork").values_list("key", flat=True)) == ["child"]

    def test_a_transaction_of_the_parents_ends_in_the_child_without_a_trace(self, in_acme: Tenant) -> None:
        def leave() -> bool:
            block.__exit__(None, None, None)
            return bool(connection.in_atomic_block)

        block = transaction.atomic()
        block.__enter__()
        StoredValue.objects.create(namespace="fork", key="parent", value=1)
        assert in_child(leave) is False
        assert connection.in_atomic_block
        transaction.set_rollback(True)
        block.__exit__(None, None, None)
        assert not StoredValue.objects.filter(namespace="fork").exists()


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    started: list[WorkerProcess] = []

    def start(command: str, *args: str, **changes: Any) -> WorkerProcess:
        started.append(WorkerProcess(tmp_path, command, *args, number=len(started), PLUGINS=PLUGINS, **changes))
        return started[-1]

    yield start
    for each in started:
        each.end()


@linux
@pytest.mark.parametrize(
    ("command", "changes"),
    [(["pluginhub_worker"], {}), (["rqworker", "default"], {"RQ": {"WORKER_CLASS": "pluginhub.jobs.Worker"}})],
    ids=["pluginhub_worker", "rqworker"],
)
def test_a_work_horse_shares_no_session_with_its_worker(
    worker: Callable[..., WorkerProcess], command: list[str], changes: dict[str, Any]
) -> None:
    publish(telling="telling")
    one = worker(*command, **changes)
    first = wait_for(ending_of(jobs.enqueue("telling.sessions")))["result"]
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()::text")
        ((now,),) = cursor.fetchall()
    newest = valkey.client().client_id()
    second = wait_for(ending_of(jobs.enqueue("telling.sessions")))["result"]
    assert first["pid"] != second["pid"] != one.process.pid
    assert second["since"] > now, "its session with the database began after the fork"
    assert second["client"] > newest, "and so did that with Valkey"
    for each in (first, second):
        assert each["ours"] in each["sockets"]
        assert each["ours"] not in each["worker's sockets"]
