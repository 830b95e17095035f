"""Hints over Redis that something changed. They may be lost: nothing depends on one arriving."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from pluginhub import valkey

__all__ = ["HEADS", "Hints", "ring"]

log = logging.getLogger("pluginhub.following")

HEADS = "pluginhub:heads"
RETRY_SECONDS = 5.0


def ring(channel: str, message: str = "") -> bool:
    """Publish a hint; return whether Redis took it. Never raises, never waits long."""
    try:
        valkey.client().publish(channel, message)
    except valkey.Unreachable:
        return False
    return True


class Hints:
    """A thread's ear for hints on `HEADS`, and on `own`, a channel to wake this thread alone.

    Lives as long as the thread; without Redis it is a timer.
    """

    def __init__(self, stopping: threading.Event, own: str = "") -> None:
        self._stopping = stopping
        self._channels = [HEADS, own] if own else [HEADS]
        self._pubsub: Any = None
        self._not_before = 0.0

    def wait(self, seconds: float) -> bool:
        """Return when a hint came or the time is over; say whether it was a hint."""
        pubsub = self._listening()
        if pubsub is None:
            self._stopping.wait(seconds)
            return False
        if self._stopping.is_set():  # before we could hear that
            return False
        until = time.monotonic() + seconds
        try:
            while (left := until - time.monotonic()) > 0:
                if pubsub.get_message(ignore_subscribe_messages=True, timeout=left) is not None:
                    return True
        except (valkey.Unreachable, OSError):
            self.close()
        return False

    def close(self) -> None:
        pubsub, self._pubsub = self._pubsub, None
        if pubsub is not None:
            try:
                pubsub.close()
            except (valkey.Unreachable, OSError):
                pass

    def _listening(self) -> Any:
        if self._pubsub is None and time.monotonic() >= self._not_before:
            self._not_before = time.monotonic() + RETRY_SECONDS
            try:
                pubsub = valkey.client().pubsub()  # type: ignore[no-untyped-call]
                pubsub.subscribe(*self._channels)
                self._pubsub = pubsub
            except (valkey.Unreachable, OSError):
                log.info("Redis does not answer: changes are followed by the number alone")
        return self._pubsub
