"""A fleet of an installation's own processes, as it is deployed: web servers and workers, on the databases of the run.

Each process appends to one ledger what it swaps in, and tells at `/watch/` what it holds.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tenants import processes
from tenants.processes import SiteProcess
from tests.watching import LEDGER
from tests.watching.ledgers import Ledger, Swap

__all__ = ["Fleet", "Web", "fleet", "say", "until"]

STEP_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Web:
    """A web server of the fleet."""

    port: int
    process: SiteProcess

    @property
    def pid(self) -> int:
        return self.process.pid

    def watch(self) -> dict[str, Any]:
        """Return what the process holds: see `tests.watching.views`."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", "/watch/", headers={"Host": "localhost"})
            told: dict[str, Any] = json.loads(connection.getresponse().read())
        return told


@dataclass(frozen=True, slots=True)
class Fleet:
    """Running processes. They end when the block that `fleet` opened is left."""

    webs: tuple[Web, ...]
    workers: tuple[SiteProcess, ...]
    ledger: Ledger

    def swaps(self) -> list[Swap]:
        """Return what the web servers noted. A worker's horses note theirs, too, and are gone."""
        pids = {web.pid for web in self.webs}
        return [swap for swap in self.ledger.swaps() if swap.pid in pids]

    def dead(self) -> str:
        """Return the last words of processes that ended by themselves; none should."""
        every = [*(web.process for web in self.webs), *self.workers]
        return "\n".join(f"{each.name} died:\n{each.last_words()}" for each in every if not each.alive())


@contextmanager
def fleet(folder: Path, *, webs: int = 2, workers: int = 2, path: str = "") -> Iterator[Fleet]:
    """Start a fleet that keeps logs and ledger in `folder`; `path` is a folder to import from, besides its own."""
    ports = [processes.free_port() for _ in range(webs)]
    serving = [Web(port, processes.web(port, log=folder / f"web-{port}.log")) for port in ports]
    working = [processes.worker(log=folder / f"worker-{number}.log") for number in range(workers)]
    made = Fleet(tuple(serving), tuple(working), Ledger(folder / "swaps.jsonl"))
    with ExitStack() as stack, patch.dict(os.environ, _environment(made.ledger.path, path)):
        every = [*(web.process for web in serving), *working]
        for process in every:
            stack.callback(process.stop)
            process.start()
        for process in every:
            process.wait_until_ready()
        say(f"{webs} web servers and {workers} workers are up")
        yield made


def _environment(ledger: Path, path: str) -> dict[str, str]:
    paths = [each for each in (path, os.environ.get("PYTHONPATH", "")) if each]
    return {
        "DJANGO_SETTINGS_MODULE": "tests.watching.settings",
        "PYTHONPATH": os.pathsep.join(paths),
        LEDGER: str(ledger),
        # A server that was stopped for its 5 s would else, once resumed, close connections on which requests wait.
        "UVICORN_TIMEOUT_KEEP_ALIVE": "60",
    }


def until(seconds: float) -> Iterator[None]:
    """Yield again and again, a moment apart, until the time is over: `for _ in until(2): if …: return`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(STEP_SECONDS)


def say(line: str) -> None:
    """Tell whoever waits for a storm how far it is."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)
