"""Plugins that say in which process they live, and on which sessions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from django.db import connection
from pydantic import BaseModel

from pluginhub import Context, Plugin, job, valkey
from pluginhub.exceptions import problem_of
from tests.forking import in_child

__all__ = ["PLUGINS", "open_sockets"]

PLUGINS = {
    name: f"tests.integration.forked_plugins:{kind}"
    for name, kind in {"doubling": "Doubling", "forking": "Forking", "living": "Living", "telling": "Telling"}.items()
}


class Living(Plugin):
    """Count its calls, and keep a ledger of its life."""

    class Config(BaseModel):
        ledger: str

    def activate(self, context: Context) -> None:
        self.calls = 0
        self.write("up")

    def deactivate(self, context: Context) -> None:
        self.write("down")

    def process(self, value: Any, context: Context) -> int:
        self.calls += 1
        context.storage.set("last", value)
        context.metrics.counter("living_calls").inc()
        return self.calls

    @job("note")
    def note(self, data: Any, context: Context) -> int:
        return context.storage.increment("notes")

    def write(self, what: str) -> None:
        with Path(self.config.ledger).open("a") as file:
            file.write(f"{what} {os.getpid()}\n")


class Doubling(Plugin):
    """Double a number on the loop."""

    async def process(self, value: int, context: Context) -> int:
        return value * 2


class Forking(Plugin):
    """Fork amid a run, and try to go on with the run in the child."""

    def process(self, value: Any, context: Context) -> Any:
        def call() -> Any:
            try:
                return context.call("doubling", value)
            except Exception as error:
                return problem_of(error)["detail"]

        return [in_child(call), context.call("doubling", value)]


class Telling(Plugin):
    """Tell from a job on what sessions its process is."""

    @job("sessions")
    def sessions(self, data: Any, context: Context) -> dict[str, Any]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pid, backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid()")
            backend, since = cursor.fetchone()
        client = valkey.client().client_id()
        return {
            "pid": os.getpid(),
            "backend": backend,
            "since": since,
            "client": client,
            "sockets": open_sockets(os.getpid()),
            "worker's sockets": open_sockets(os.getppid()),
            "ours": os.fstat(connection.connection.pgconn.socket).st_ino,
        }


def open_sockets(pid: int) -> list[int]:
    """Return the inodes of a process's sockets, on Linux."""
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(descriptor)
        except OSError:
            continue
        if target.startswith("socket:["):
            found.append(int(target[8:-1]))
    return sorted(found)
