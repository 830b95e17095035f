"""Work that nobody waits for, each kind of it once at a time, in threads that leave no connection behind."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from django.db import connections

__all__ = ["Background"]

log = logging.getLogger("pluginhub.background")


PLACES = 8
"""How many are at work at once; each may hold a connection. Plugins that hang may fill them, so hooks have limits."""


class Background:
    """Threads by what they do. Lives as long as the process; a forked child has none of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places = threading.Semaphore(PLACES)
        self._going: dict[str, threading.Thread] = {}

    def run(self, key: str, f: Callable[..., Any], *args: Any) -> bool:
        """Call `f` in a thread; do nothing, and return false, while one with this key is going."""
        with self._lock:
            if key in self._going:
                return False
            thread = threading.Thread(target=self._run, args=(key, f, *args), name=f"pluginhub {key}", daemon=True)
            self._going[key] = thread
        try:
            thread.start()
        except BaseException:
            self._forget(key)
            raise
        return True

    def join(self, seconds: float) -> None:
        """Wait for what is going, for `seconds` each."""
        for thread in list(self._going.values()):
            thread.join(seconds)

    def _run(self, key: str, f: Callable[..., Any], *args: Any) -> None:
        try:
            with self._places:
                f(*args)
        except BaseException:
            log.exception("%s failed", key)
        finally:
            connections.close_all()
            self._forget(key)

    def _forget(self, key: str) -> None:
        with self._lock:
            self._going.pop(key, None)
