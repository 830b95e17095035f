"""Asking Django's `default` cache: one that does not answer is a miss, never an error, and is left alone for a while.

Each try of a cache that is down may cost seconds. After a pause one caller tries; meanwhile all others go on without.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Any

from django.core.cache import caches
from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.core.signals import setting_changed
from redis.exceptions import RedisError

from pluginhub import forks

__all__ = ["MISSING", "PAUSE_SECONDS", "ask", "cache", "get", "seconds"]

log = logging.getLogger("pluginhub.caching")

PAUSE_SECONDS = 5.0
"""How long a cache that failed is not asked."""

MISSING: Any = object()
"""What a cache answers that has nothing, or is down: anything else, also `None`, is a value."""

_DOWN = (RedisError, OSError)


_here = threading.local()


def cache() -> BaseCache:
    """Return this thread's own connection to the default cache.

    Django's `cache` has one for each context, and so for each task, and for each hop to a thread: always a new one.
    """
    try:
        return _here.cache  # type: ignore[no-any-return]
    except AttributeError:
        _here.cache = caches.create_connection("default")
        return _here.cache  # type: ignore[no-any-return]


class _Outage:
    """Until when the cache is not asked, on the clock of `time.monotonic`; 0 while it answers. One per process."""

    until = 0.0


def ask(question: Callable[[], Any]) -> Any:
    """Return what the cache answers; `MISSING` while it is down."""
    known = _Outage.until
    if known:
        if time.monotonic() < known:
            return MISSING
        _Outage.until = time.monotonic() + PAUSE_SECONDS
    try:
        answer = question()
    except _DOWN as error:
        _Outage.until = time.monotonic() + PAUSE_SECONDS
        log.warning("The cache does not answer and is not asked for %g s: %s", PAUSE_SECONDS, error)
        return MISSING
    if known:
        _Outage.until = 0.0
    return answer


def get(key: str) -> Any:
    """Return what is kept. What this process cannot read, such as instances of classes it does not have, is a miss."""
    try:
        return ask(lambda: cache().get(key, MISSING))
    except Exception as error:  # unpickling raises anything
        log.debug("What is kept as %s cannot be read: %s", key, error)
        return MISSING


def seconds(ttl: float | None) -> Any:
    """Return a time to live as caches take it: whole seconds, rounded up; `None` is the cache's own."""
    return DEFAULT_TIMEOUT if ttl is None else max(0, math.ceil(ttl))


def _anew() -> None:
    global _here
    forks.keep(_here)
    _here = threading.local()


forks.in_child(_anew, "the threads' connections to the cache")


def _forget(*, setting: str, **_: Any) -> None:
    global _here
    if setting == "CACHES":
        _here = threading.local()


setting_changed.connect(_forget, dispatch_uid="pluginhub.caching")
