"""This process as the fleet sees it: what it runs, what it was asked to run, and why it could not."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, TypeAlias

from django.utils import timezone

from pluginhub.exceptions import PluginHubError
from pluginhub.fleet.models import Process
from pluginhub.loading import Code

__all__ = ["GONE_SECONDS", "SEEN_SECONDS", "Breakers", "Presence", "Problem", "presence", "reason"]

SEEN_SECONDS = 5.0
"""How often a process says in the fleet that it lives."""
GONE_SECONDS = 60.0

Breakers: TypeAlias = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""The circuit breakers that are not closed: by schema and registration, as `Breaker.data` tells of them."""

FIRST_DELAY = 1.0
LONGEST_DELAY = 60.0
"""How long something that failed is left alone, in seconds, doubling from the first."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something that is wanted does not run here. `until` is on the clock of `time.monotonic`."""

    revision: int
    generation: int
    why: str
    since: str
    until: float
    delay: float = FIRST_DELAY

    @classmethod
    def of(cls, error: BaseException, revision: int, generation: int, before: Problem | None) -> Problem:
        """Return the problem that an error is; a repeated one is tried again ever later."""
        again = before is not None and (before.revision, before.generation) == (revision, generation)
        delay = min(before.delay * 2, LONGEST_DELAY) if again and before else FIRST_DELAY
        since = before.since if again and before else timezone.now().isoformat(timespec="seconds")
        return cls(revision, generation, reason(error), since, time.monotonic() + delay, delay)

    def holds(self, revision: int, generation: int) -> bool:
        """Say whether trying these again should wait."""
        return (self.revision, self.generation) == (revision, generation) and time.monotonic() < self.until

    def data(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if key not in ("until", "delay")}


def reason(error: BaseException) -> str:
    """Return the reason in words, for operators: also what a plugin raised, which clients are not told."""
    cause = error.__cause__
    raised = f"{type(cause).__name__}: {cause}" if cause is not None and not isinstance(cause, PluginHubError) else ""
    if not isinstance(error, PluginHubError):
        return f"{type(error).__name__}: {error}"
    return f"{error.detail} ({raised})" if raised and raised not in error.detail else error.detail


class Presence:
    """What is said of this process in its row of the fleet. Lives as long as the process."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.id = uuid.uuid4()
        self.kind = "web"
        self.started = timezone.now()
        self.problems: dict[str, Problem] = {}
        self.generation_problem: Problem | None = None
        self.lost = 0
        """How many runs and streams outlived the moment in which their instance's state moved."""
        self._said: dict[str, Any] = {}
        self._at = float("-inf")

    def data(self, revisions: Mapping[str, int], code: Code, breakers: Breakers) -> dict[str, Any]:
        """Return the state as JSON."""
        problem = self.generation_problem
        stray = f"This machine has another {', '.join(code.strays)} than the fleet." if code.strays else ""
        return {
            "generation": code.number,
            "wanted_generation": problem.generation if problem else code.number,
            "generation_problem": problem.why if problem else stray,
            "revisions": dict(revisions),
            "problems": {schema: problem.data() for schema, problem in list(self.problems.items())},
            "lost": self.lost,
            "breakers": breakers,
        }

    def say(self, revisions: Mapping[str, int], code: Code, breakers: Breakers) -> None:
        """Write the row where it says something new, or is due; remove those of processes long silent. In `PUBLIC`."""
        state = self.data(revisions, code, breakers)
        is_due = time.monotonic() - self._at >= SEEN_SECONDS
        if not is_due and state == self._said:
            return
        now = timezone.now()
        facts = {"kind": self.kind, "host": socket.gethostname(), "pid": os.getpid(), "seen": now}
        changed = {**facts, "state": state} if state != self._said else facts
        if not self._said or not Process.objects.filter(id=self.id).update(**changed):
            Process.objects.update_or_create(id=self.id, defaults={**facts, "state": state, "started": self.started})
        self._said, self._at = state, time.monotonic()
        if is_due:
            Process.objects.filter(seen__lt=now - timedelta(seconds=GONE_SECONDS)).delete()

    def leave(self) -> None:
        """Take the row out. In `PUBLIC`."""
        self._said = {}
        Process.objects.filter(id=self.id).delete()


presence = Presence()
