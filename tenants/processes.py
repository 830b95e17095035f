"""The site as processes, one that serves and one that works: for the demo and for tests."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import django_rq
import rq

from pluginhub.exceptions import PluginHubError
from tenants.site.services import BASE_DIR

__all__ = ["ProcessFailed", "SiteProcess", "free_port", "port_is_free", "web", "worker"]

STOP_SECONDS = 15.0


class ProcessFailed(PluginHubError):
    """A process of the site ended, or did not become ready in time."""

    title = "Process failed"


class SiteProcess:
    """One child process and its log. Lives from entering the block, which waits until it is ready, to leaving it."""

    def __init__(self, name: str, command: list[str], *, log: Path, ready: Callable[[], bool]) -> None:
        self.name = name
        self.command = command
        self.log = log
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> SiteProcess:
        self.start()
        try:
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it in a session of its own: Ctrl-C is for whoever started it, who then stops it in order."""
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=BASE_DIR,
                start_new_session=True,
                preexec_fn=_stop_with_parent(),
            )

    def wait_until_ready(self, seconds: float = 60.0) -> None:
        until = time.monotonic() + seconds
        while not self._ready():
            if not self.alive():
                raise ProcessFailed(f"The {self.name} ended before it was ready.", hint=self.last_words())
            if time.monotonic() > until:
                raise ProcessFailed(f"The {self.name} is not ready after {seconds:g} s.", hint=self.last_words())
            time.sleep(0.05)

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def last_words(self, lines: int = 40) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self) -> None:
        """Ask it to finish what it does; insist after a while."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def web(port: int, *, log: Path) -> SiteProcess:
    """The server: HTTP and websockets by uvicorn. Ready when its probe says so."""
    options = ["--host", "127.0.0.1", "--port", str(port), "--lifespan", "off", "--timeout-graceful-shutdown", "5"]
    command = ["-m", "uvicorn", "tenants.site.asgi:application", *options, "--no-access-log", "--no-server-header"]
    return SiteProcess("web server", command, log=log, ready=lambda: _answers(f"http://127.0.0.1:{port}/readyz"))


def worker(*, log: Path) -> SiteProcess:
    """The worker, which does the jobs of all tenants. Ready when it has said so in Redis."""
    process = SiteProcess("worker", ["manage.py", "pluginhub_worker"], log=log, ready=lambda: _works(process.pid))
    return process


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _works(pid: int) -> bool:
    return any(each.pid == pid for each in rq.Worker.all(connection=django_rq.get_connection()))


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _stop_with_parent() -> Callable[[], None] | None:
    """On Linux the kernel stops it also when its parent was killed."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    set_parent_death_signal = 1
    return lambda: libc.prctl(set_parent_death_signal, int(signal.SIGTERM))
