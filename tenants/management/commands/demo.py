"""`manage.py demo`: the reference site with two tenants, a proof that it works, and what to try next."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections

from pluginhub.exceptions import PluginHubError
from tenants import processes
from tenants.demonstration import Demonstration
from tenants.processes import SiteProcess
from tenants.site.services import DATA_DIR


class Command(BaseCommand):
    help = "Bring up the reference site with two tenants, prove that it works, and stay until Ctrl-C."
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="Stop after the proof: exit 0 if every part worked.")
        parser.add_argument("--port", type=int, default=8000, help="Serve on this port of 127.0.0.1.")

    def handle(self, *args: Any, **options: Any) -> None:
        port = options["port"]
        if not processes.port_is_free(port):
            raise CommandError(f"Port {port} is in use. Choose another: PORT={port + 1000} make demo")
        for number in (signal.SIGINT, signal.SIGTERM):  # SIGINT too: a shell has its background jobs ignore it
            signal.signal(number, _interrupt)
        try:
            self._show(port, once=options["once"])
        except KeyboardInterrupt:
            self.stdout.write("\nStopped.")
        except PluginHubError as error:
            raise CommandError(str(error)) from error

    def _show(self, port: int, *, once: bool) -> None:
        began = time.monotonic()
        demonstration = Demonstration(port, self._say)
        self._say("Setting up the tenants acme and globex")
        clients = demonstration.set_up()
        connections.close_all()
        with ExitStack() as running:
            # Left in reverse: first nobody asks any more, then what was asked is finished.
            worker = running.enter_context(processes.worker(log=_log("worker")))
            web = running.enter_context(processes.web(port, log=_log("web")))
            self._say(f"Web process {web.pid} and worker process {worker.pid} are up; logs: {_log('web').parent}")
            demonstration.prove(clients, web=web.pid, worker=worker.pid)
            demonstration.explain(clients)
            self._say(f"\nAll parts worked, {time.monotonic() - began:.0f} s after the start.")
            if not once:
                self._say("Ctrl-C stops everything.")
                _stay(web, worker)

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()


def _stay(*running: SiteProcess) -> None:
    """Return never; raise when one of the processes ends by itself."""
    while True:
        time.sleep(0.5)
        for process in running:
            if not process.alive():
                raise processes.ProcessFailed(f"The {process.name} ended.", hint=process.last_words())


def _log(name: str) -> Any:
    folder = DATA_DIR / ".pluginhub"
    folder.mkdir(exist_ok=True)
    return folder / f"{name}.log"


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
