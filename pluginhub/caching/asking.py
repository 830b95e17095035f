"""Asking Django's `default` cache: one that does not answer is a miss, never an error, and is left alone for a while.

Each try of a cache that is down may cost seconds. After a pause one caller tries; meanwhile all others go on without.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any

from django.core.cache import cache
from django.core.cache.backends.base import DEFAULT_TIMEOUT
from redis.exceptions import RedisError

__all__ = ["MISSING", "PAUSE_SECONDS", "ask", "get", "seconds"]

log = logging.getLogger("pluginhub.caching")

PAUSE_SECONDS = 5.0
"""How long a cache that failed is not asked."""

MISSING: Any = object()
"""What a cache answers that has nothing, or is down: anything else, also `None`, is a value."""

_DOWN = (RedisError, OSError)


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
        return ask(lambda: cache.get(key, MISSING))
    except Exception as error:  # unpickling raises anything
        log.debug("What is kept as %s cannot be read: %s", key, error)
        return MISSING


def seconds(ttl: float | None) -> Any:
    """Return a time to live as caches take it: whole seconds, rounded up; `None` is the cache's own."""
    return DEFAULT_TIMEOUT if ttl is None else max(0, math.ceil(ttl))
