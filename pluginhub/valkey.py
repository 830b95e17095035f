"""The Redis or Valkey of the fleet, for what may be missed: hints, tickets, counts. Never slow, also when it is down.

The server is the one of `RQ_QUEUES[PLUGINHUB["REDIS_ALIAS"]]`. Connections of our own, since the queue's wait as long
as redis-py pleases: a refused one blocks 4.2 s by its retries.
"""

from __future__ import annotations

import functools
from typing import Any

import django_rq
import redis
from django.core.signals import setting_changed
from redis.backoff import NoBackoff
from redis.retry import Retry

from pluginhub import forks
from pluginhub.conf import settings

__all__ = ["WAIT_SECONDS", "Unreachable", "client"]

WAIT_SECONDS = 0.5
Unreachable = redis.RedisError
"""What every call of a client may raise."""


def client() -> redis.Redis:
    """Return this process's client: thread-safe, connected at its first command, new after a fork."""
    return _client(settings.REDIS_ALIAS)


@functools.lru_cache(maxsize=4)
def _client(alias: str) -> redis.Redis:
    pool = django_rq.get_connection(alias).connection_pool
    options: dict[str, Any] = {
        **pool.connection_kwargs,
        "socket_timeout": WAIT_SECONDS,
        "socket_connect_timeout": WAIT_SECONDS,
        "retry": Retry(NoBackoff(), 1),  # once: the server may have closed an idle connection
    }
    return redis.Redis(connection_pool=redis.ConnectionPool(pool.connection_class, **options))


def _anew() -> None:
    _client.cache_clear()


forks.in_child(_anew, "the Redis client and its connections")


def _forget(*, setting: str, **_: Any) -> None:
    if setting in ("RQ_QUEUES", "PLUGINHUB"):
        _client.cache_clear()


setting_changed.connect(_forget, dispatch_uid="pluginhub.valkey")
