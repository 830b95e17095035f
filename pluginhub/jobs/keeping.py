"""Keeping a claimed job alive: its lease, its progress, word of a cancel, and its time limit.

One thread a bell does all the writing, so reporting progress costs the job no query, works from any thread and any
event loop, and is not caught in the job's own transaction.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from django.db import DatabaseError, connections

from pluginhub import tenancy
from pluginhub.conf import settings
from pluginhub.jobs import bells, claiming
from pluginhub.jobs.claiming import Claim, Progress
from pluginhub.types import Tenant

__all__ = ["Cancelled", "Held", "Interrupted", "Keeper", "LeaseLost", "TimeUp"]

log = logging.getLogger("pluginhub.jobs")

TICK_SECONDS = 0.25
"""How often progress is written, at most."""
BEAT_SECONDS = 2.0
"""How often a lease is renewed, at least; so soon is a cancel noticed."""
NOTE_LENGTH = 500


class Interrupted(BaseException):
    """Ends a job from outside. No `Exception`, so that a plugin's `except Exception: pass` does not swallow it."""


class Cancelled(Interrupted):
    """Somebody cancelled the job."""


class LeaseLost(Interrupted):
    """The lease passed without being renewed: another worker may have the job by now, and this one must let go."""


class TimeUp(Interrupted):
    """The job's time limit has passed."""


class Held:
    """A claim while its job runs. Lives as long as the attempt."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.progress = claim.progress
        self.interrupt: type[Interrupted] | None = None
        self.started = time.monotonic()
        self.renewed = self.started
        self._written = claim.progress

    def report(self, done: int, total: int | None = None, note: str = "") -> None:
        """Say how far the job has come. Raises `Interrupted` when it should stop."""
        if self.interrupt is not None:
            raise self.interrupt
        self.progress = Progress(max(0, int(done)), None if total is None else max(0, int(total)), note[:NOTE_LENGTH])

    @property
    def needs_writing(self) -> bool:
        beat = min(BEAT_SECONDS, settings.JOB_LEASE_SECONDS / 3)
        return self.progress is not self._written or time.monotonic() - self.renewed >= beat

    @property
    def overdue(self) -> float:
        """Seconds since the time limit passed; negative before."""
        return time.monotonic() - self.started - self.claim.seconds

    def write(self) -> None:
        """Renew the lease and write the progress; learn whether the job should stop."""
        at, progress = time.monotonic(), self.progress
        cancel = claiming.renew(self.claim, progress)
        if cancel is None:
            self.interrupt = LeaseLost
            return
        if cancel and self.interrupt is None:
            self.interrupt = Cancelled
        if progress is not self._written:
            bells.hint(self.claim.schema, self.claim.id)
        self.renewed, self._written = at, progress

    def judge(self) -> None:
        """Give the claim up when its lease must have passed, going by this process's clock."""
        if time.monotonic() - self.renewed > settings.JOB_LEASE_SECONDS:
            self.interrupt = LeaseLost


class Keeper:
    """The thread that keeps the job held at the moment. Lives as long as one bell."""

    def __init__(self, tenant: Tenant, *, when_overdue: Callable[[Held], None] | None = None) -> None:
        self._tenant = tenant
        self._when_overdue = when_overdue
        self._held: Held | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"pluginhub jobs of {tenant}", daemon=True)

    def __enter__(self) -> Keeper:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    @contextmanager
    def holding(self, claim: Claim) -> Iterator[Held]:
        """Keep a claim while the block runs and records its end."""
        held = Held(claim)
        self._held = held
        try:
            yield held
        finally:
            with self._lock:  # a write under way comes to its end first
                self._held = None

    def _keep(self) -> None:
        try:
            while not self._stop.wait(min(TICK_SECONDS, settings.JOB_LEASE_SECONDS / 4)):
                with self._lock:
                    if self._held is not None:
                        self._look_after(self._held)
        finally:
            connections.close_all()

    def _look_after(self, held: Held) -> None:
        try:
            if held.needs_writing:
                with tenancy.visit(self._tenant):
                    held.write()
        except DatabaseError as error:
            log.warning("Could not renew the lease of job %s: %s", held.claim.id, error)
            connections.close_all()  # the next tick comes with a new connection
            held.judge()
        if held.overdue > 0 and self._when_overdue is not None:
            self._when_overdue(held)
