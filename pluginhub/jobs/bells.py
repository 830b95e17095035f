"""Bells: all of a job that Redis ever holds. A bell says "this tenant has work", never what work.

Nothing here raises or stalls when Redis is away, and nothing is lost by it: the rows are the jobs, and the sweeper
rings again for those that nobody heard of. One bell a tenant waits at a time, kept so by a mark that holds its id.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar
from uuid import UUID, uuid4

from django.core.signals import setting_changed
from django_rq.queues import get_queue
from redis import Redis
from redis.exceptions import RedisError
from rq import Queue
from rq.exceptions import DeserializationError, NoSuchJobError
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.utils import as_text

from pluginhub import valkey
from pluginhub.conf import settings

__all__ = ["ENTRY", "SERIALIZER", "Bell", "BellOrJob", "answer", "channel_of", "hint", "ring", "ring_again"]

T = TypeVar("T")

log = logging.getLogger("pluginhub.jobs")

ENTRY = "pluginhub.jobs.bell"
SERIALIZER = "rq.serializers.JSONSerializer"

BELL_SECONDS = 3600
"""How long a bell and its mark live when no worker hears it: longer than a turn of all tenants takes, else those at
the end of a long queue would expire there again and again."""
AWAY_SECONDS = 1.0
"""How long Redis is left alone after it did not answer, so that a burst of jobs waits for it once."""

_away_until = 0.0

_BELL_FIELDS = frozenset(
    {"created_at", "data", "description", "ended_at", "enqueued_at", "failure_ttl", "last_heartbeat", "origin"}
    | {"result_ttl", "started_at", "status", "timeout", "ttl", "worker_name"}
)


class Bell(Job):
    """An RQ job that can only be a bell: whatever else stands in its Redis entry is not looked at or refused.

    Callbacks, webhooks and pickled fields would run what they name, so only the fields a bell needs are read.
    """

    def __init__(self, id: str | None = None, connection: Redis | None = None, serializer: Any = None) -> None:  # noqa: A002
        super().__init__(id, connection, serializer=JSONSerializer)

    def restore(self, raw_data: Any) -> Any:
        known = {key: value for key, value in raw_data.items() if as_text(key) in _BELL_FIELDS}
        try:
            return super().restore(known)
        except Exception as error:  # RQ passes over entries that do not exist; on any other error its worker quits
            log.warning("Passed over an entry of the queue that is no bell: %s", error)
            raise NoSuchJobError(f"Not a bell: {error}") from error

    def _deserialize_data(self) -> None:
        call = _read_bell(self.data)
        if call is None:
            raise DeserializationError(f"Refused: only {ENTRY} with a schema runs here.")
        self._func_name, self._instance, self._args, self._kwargs = call


class BellOrJob(Job):
    """An RQ job of the host's own, read as ever, or a bell, read as JSON: for workers that serve both."""

    def _deserialize_data(self) -> None:
        call = _read_bell(self.data)
        if call is None:
            super()._deserialize_data()  # type: ignore[no-untyped-call]
        else:
            self._func_name, self._instance, self._args, self._kwargs = call


def _read_bell(data: bytes) -> tuple[str, None, list[str], dict[str, Any]] | None:
    try:
        call = JSONSerializer.loads(data)  # type: ignore[no-untyped-call]
    except (ValueError, RecursionError):
        return None
    match call:
        case [name, None, [str() as schema], {**rest}] if name == ENTRY and not rest:
            return ENTRY, None, [schema], {}
    return None


def ring(schema: str) -> bool:
    """Tell the workers that a tenant has work, unless a bell of it waits already; return whether it rang."""
    return _attempt(lambda: _ring(_queue(), schema), False)


def ring_again(schema: str) -> bool:
    """Ring even though the tenant is marked, if no bell of it waits: its worker died on the way, or Redis forgot it."""
    return _attempt(lambda: _ring_again(_queue(), schema), False)


def answer(schema: str) -> None:
    """Take the tenant's mark away. To be done before claiming, so that work which comes later rings anew."""
    _attempt(lambda: valkey.client().delete(_mark(schema)), None)


def hint(schema: str, job: UUID) -> None:
    """Tell whoever follows a job that its row has changed."""
    _attempt(lambda: valkey.client().publish(channel_of(schema, job), b""), None)


def channel_of(schema: str, job: UUID | str) -> str:
    """Return the name of the pub/sub channel for hints about one job."""
    return f"pluginhub:job:{schema}:{job}"


def _mark(schema: str) -> str:
    return f"pluginhub:bell:{schema}"


def _ring_again(queue: Queue, schema: str) -> bool:
    waiting = queue.connection.get(_mark(schema))
    if waiting is not None:
        if queue.connection.lpos(queue.key, as_text(waiting)) is not None:
            return False
        queue.connection.delete(_mark(schema))
    return _ring(queue, schema)


def _ring(queue: Queue, schema: str) -> bool:
    bell = uuid4().hex  # never derived from the tenant: RQ's ids stay taken when a worker is killed
    if not queue.connection.set(_mark(schema), bell, nx=True, ex=BELL_SECONDS):
        return False
    queue.enqueue_call(
        ENTRY,
        args=[schema],
        job_id=bell,
        description=f"bell of {schema}",
        timeout=-1,  # each job has its own limit
        ttl=BELL_SECONDS,
        result_ttl=0,
        failure_ttl=BELL_SECONDS,
    )
    return True


def _attempt(do: Callable[[], T], otherwise: T) -> T:
    """Do something in Redis, or leave it while Redis is known to be away."""
    global _away_until
    if time.monotonic() < _away_until:
        return otherwise
    try:
        return do()
    except (RedisError, OSError) as error:
        _away_until = time.monotonic() + AWAY_SECONDS
        log.warning("Redis does not answer, jobs wait for the sweeper: %s", error)
        return otherwise


def _queue() -> Queue:
    return get_queue(
        settings.QUEUE, connection=valkey.client(), commit_mode="auto", job_class=Bell, serializer=JSONSerializer
    )


def _forget(*, setting: str, **_: Any) -> None:
    global _away_until
    if setting in ("RQ_QUEUES", "PLUGINHUB"):
        _away_until = 0.0


setting_changed.connect(_forget, dispatch_uid="pluginhub.jobs.bells")
