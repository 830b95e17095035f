"""A server in a process of its own, for what is measured over a socket."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

__all__ = ["served"]


@contextmanager
def served(factory: str) -> Iterator[tuple[int, psutil.Process]]:
    """Serve what a factory such as `tests.benchmarks.streaming:application` makes; yield the port and the process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    options = ["--factory", "--port", str(port), "--lifespan", "off", "--log-level", "warning"]
    server = subprocess.Popen([sys.executable, "-m", "uvicorn", factory, *options])
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield port, psutil.Process(server.pid)
    finally:
        server.terminate()
        server.wait()
