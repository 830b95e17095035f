"""A user of the pair: one connection to the supervisor, which the kernel closes when this process ends."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from pluginhub import forks
from pluginhub.contrib.embedded.places import EmbeddedError, Places, places, refuse_foreign

__all__ = ["leave", "urls"]

START_SECONDS = 60.0

_held: dict[Path, socket.socket] = {}
_lock = threading.Lock()


def urls(base_dir: Path | str) -> tuple[str, str]:
    """Return `(database_url, redis_url)` of the pair of the checkout at `base_dir`, once it is up.

    It stays up at least as long as this process lives. A forked child holds nothing, and may call this again.
    """
    place = places(base_dir)
    with _lock:
        if place.base not in _held:
            _held[place.base] = _join(place)
    return place.addresses.database_url, place.addresses.redis_url


def leave(base_dir: Path | str) -> None:
    """Let go of the pair before this process ends. It ends about a second later, unless others use it."""
    with _lock:
        connection = _held.pop(places(base_dir).base, None)
    if connection is not None:
        connection.close()


def _join(place: Places) -> socket.socket:
    """Connect to the supervisor, starting one as long as there is none."""
    place.home.mkdir(parents=True, exist_ok=True)
    if not place.home.is_relative_to(place.base):
        refuse_foreign(place.home)  # it holds programs that we run
    until = time.monotonic() + START_SECONDS
    next_start = 0.0
    while (now := time.monotonic()) < until:
        if (connection := _ask(place, until)) is not None:
            return connection
        if now >= next_start:
            # Two may be started at once; the one without the lock ends by itself.
            _start_supervisor(place)
            next_start = now + 1.0
        time.sleep(0.02)
    raise EmbeddedError("The embedded servers did not come up.", hint=f"See {place.supervisor_log}.")


def _ask(place: Places, until: float) -> socket.socket | None:
    """Return a connection that the supervisor counts, or `None` where there is no supervisor, or one about to leave."""
    refuse_foreign(place.run)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(max(0.1, until - time.monotonic()))
    try:
        connection.connect(str(place.supervisor_socket))
        answer = connection.recv(65536).decode()
    except OSError:
        answer = ""
    if answer == "ready\n":
        return connection
    connection.close()
    if answer:
        raise EmbeddedError(f"The embedded servers failed: {answer.strip()}", hint=f"See {place.home}/*.log.")
    return None


def _start_supervisor(place: Places) -> None:
    """Start one that is no child of ours: nobody here waits for it. It leaves this session by itself."""
    source = str(Path(__file__).resolve().parents[3])
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH", "")]))
    with place.supervisor_log.open("ab") as log:
        subprocess.run(
            [sys.executable, "-m", "pluginhub.contrib.embedded.supervisor", str(place.base)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env={**os.environ, "PYTHONPATH": path},
            check=True,
        )


def _forget() -> None:
    """In a forked child: let go, or the pair would outlive the process that asked for it."""
    global _lock
    _lock = threading.Lock()
    for connection in _held.values():
        connection.close()
    _held.clear()


forks.in_child(_forget, "the connection that keeps the embedded servers up")
