"""The process that keeps the pair: `python -m pluginhub.contrib.embedded.supervisor <checkout>`.

Lives from the first user's connection until a grace after the last one is gone. Holds a lock, so there is one of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from pluginhub.contrib.embedded.places import Places, make_private, places
from pluginhub.contrib.embedded.servers import Servers

__all__ = ["main"]

GRACE_SECONDS = 1.0


def main(base_dir: str) -> None:
    """Return at once in the process that was started; go on in one of a session of its own.

    Ctrl-C is for the command that started us, not for servers that others may be using.
    """
    if os.fork():
        return
    os.setsid()
    place = places(base_dir)
    with only_one(place) as mine:
        if mine:
            signal.signal(signal.SIGTERM, _leave)
            make_private(place.run)
            try:
                with listening(place.supervisor_socket) as listener:
                    serve(place, listener)
            finally:
                shutil.rmtree(place.run, ignore_errors=True)


@contextlib.contextmanager
def only_one(place: Places) -> Iterator[bool]:
    """Whether this process is the supervisor. The lock goes with the process."""
    with place.lock.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


@contextlib.contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """Listen from the start, so that users wait in the backlog instead of starting supervisors."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(128)
        yield listener


def serve(place: Places, listener: socket.socket) -> None:
    """Start the servers, answer users, and stop the servers when the last user is gone."""
    try:
        with Servers(place) as servers:
            _keep(listener, servers)
            # Whoever connects from here on starts the next supervisor, which waits for our lock.
            place.supervisor_socket.unlink(missing_ok=True)
            listener.close()
    except Exception as error:
        _refuse(listener, error)
        raise


def _keep(listener: socket.socket, servers: Servers) -> None:
    """Return once there has been no user for the grace, or a server has died."""
    users = selectors.DefaultSelector()
    users.register(listener, selectors.EVENT_READ)
    listener.setblocking(False)
    idle_since = time.monotonic()
    while servers.alive() and time.monotonic() - idle_since < GRACE_SECONDS:
        for key, _ in users.select(timeout=0.2):
            if key.fileobj is listener:
                _welcome(listener, users)
            elif isinstance(key.fileobj, socket.socket):
                _hear(key.fileobj, users)
        if len(users.get_map()) > 1:
            idle_since = time.monotonic()


def _welcome(listener: socket.socket, users: selectors.BaseSelector) -> None:
    with contextlib.suppress(OSError):
        user, _ = listener.accept()
        users.register(user, selectors.EVENT_READ)
        user.sendall(b"ready\n")


def _hear(user: socket.socket, users: selectors.BaseSelector) -> None:
    """A user never says anything: what there is to read is its end."""
    try:
        gone = not user.recv(4096)
    except OSError:
        gone = True
    if gone:
        users.unregister(user)
        user.close()


def _refuse(listener: socket.socket, error: Exception) -> None:
    """Tell those who wait why there are no servers."""
    with contextlib.suppress(OSError):
        listener.setblocking(False)
        while True:
            user, _ = listener.accept()
            with user:
                user.sendall(f"{error}\n".encode())


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    main(sys.argv[1])
