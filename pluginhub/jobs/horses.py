"""The work horse: the forked process in which a worker answers one bell. Its signals, and how it comes to an end.

The engine's own deadline is checked between steps. A step that does not come back is interrupted here by a signal to
the main thread, where a horse runs its jobs; code that does not return to Python even then dies with its horse.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from pluginhub import forks
from pluginhub.jobs.keeping import TimeUp

__all__ = ["HARD_SECONDS", "SOFT_SECONDS", "STOP_SIGNAL", "become", "interrupting", "is_horse", "kill", "stopping"]

SOFT_SECONDS = 1.0
"""How long after its limit a job is interrupted: the engine's own deadline, which says more, comes first."""
HARD_SECONDS = 5.0
"""How long after its limit a job's horse is killed."""

STOP_SIGNAL = signal.SIGUSR1
"""What a worker sends its horse when it was asked to stop: finish this job, begin no other."""

stopping = threading.Event()
_pid = 0


def _anew() -> None:
    global stopping
    stopping = threading.Event()


forks.in_child(_anew, "word that the worker stops")


def become() -> None:
    """Make this process a horse: it may be told to stop, and may be killed."""
    global _pid
    _pid = os.getpid()
    signal.signal(STOP_SIGNAL, _stop)


def is_horse() -> bool:
    return _pid == os.getpid()


def kill() -> NoReturn:
    """End this process at once, whatever its other threads do."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise SystemExit  # never reached


@contextmanager
def interrupting(seconds: float) -> Iterator[None]:
    """Raise `TimeUp` in the block when it takes longer. In other threads than the main one, do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, _time_is_up)
    signal.setitimer(signal.ITIMER_REAL, seconds + SOFT_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _time_is_up(signum: int, frame: FrameType | None) -> None:
    raise TimeUp


def _stop(signum: int, frame: FrameType | None) -> None:
    stopping.set()
