"""The storm of propagation: a tenant is published a thousand times while clients run it in several processes.

Publish n gives the three steps of a chain the number n, so a run that saw one revision tells one number three times,
and it is the number that was published as the revision its answer names. Workers hold no runtime between two bells:
of them it is asked that no job which began after a commit ran an older revision.
"""

from __future__ import annotations

import math
import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from django.db import connections, transaction
from django.test import override_settings

from pluginhub import publishing, tenancy, valkey
from pluginhub.configuration import ChainSpec, Configuration, RegistrationSpec, StepSpec
from pluginhub.models import Job, Registration
from pluginhub.types import Tenant
from tests.figures import Figure
from tests.storms.fleets import Fleet, Web, fleet, say, until
from tests.storms.grounds import grounds
from tests.storms.loads import Answer, Load, token
from tests.watching import HUB
from tests.watching.ledgers import Swap

__all__ = ["Leg", "Storm", "figures", "storming"]

STEPS = ("first", "second", "third")
PER_SECOND = 20
KILL_EVERY = 10
STOPPED_SECONDS = 5.0
JOB_EVERY = 60
ROWS_EVERY = 15
COMMAND = "make figures"


@dataclass(frozen=True, slots=True)
class Published:
    """A revision, the number it gave the steps, and when its commit had returned (time of the day, seconds)."""

    revision: int
    n: int
    at: float


@dataclass(frozen=True, slots=True)
class Leg:
    """A part of the storm, afterwards: what was published, and how long it took until the last process served it."""

    published: Sequence[Published]
    seconds: Sequence[float]
    settled: float
    """From the last commit until all web servers served it."""

    def took(self) -> str:
        told = [f"{name} {_quantile(self.seconds, q) * 1000:.0f} ms" for name, q in (("p50", 0.5), ("p99", 0.99))]
        return f"{', '.join(told)}, longest {max(self.seconds) * 1000:.0f} ms, of {len(self.seconds):,}"


@dataclass
class Storm:
    """One tenant, a fleet, and clients. Publishes in this process, which serves nothing."""

    tenant: Tenant
    fleet: Fleet
    load: Load
    ledger: dict[int, int]
    """The number that each revision gave the steps."""
    published: list[Published] = field(default_factory=list)

    def leg(self, publishes: int, *, kill_every: int = 0) -> Leg:
        """Publish so many times, at a steady pace, and wait until every web server has the last."""
        begun, first = time.monotonic(), len(self.published)
        for number in range(publishes):
            time.sleep(max(0.0, begun + number / PER_SECOND - time.monotonic()))
            self.publish()
            if kill_every and number % kill_every == 0:
                valkey.client().client_kill_filter(_type="pubsub")
            if number % (5 * PER_SECOND) == 0:
                self.report(number, publishes)
        settled = self.settle(self.fleet.webs)
        mine = self.published[first:]
        return Leg(mine, list(self.delays(mine)), settled)

    def publish(self) -> Published:
        """Publish the next number; the clock is read when the commit has returned, before anybody is told of it."""
        n, committed = len(self.published) + 1, list[float]()
        with tenancy.visit(self.tenant), transaction.atomic():
            transaction.on_commit(lambda: committed.append(time.time()))
            _, revision = publishing.write(lambda: _number(n), author="storm", publish=True)
        assert revision is not None
        self.ledger[revision.number] = n
        self.published.append(Published(revision.number, n, committed[0]))
        return self.published[-1]

    def stop_and_go_on(self, web: Web, seconds: float) -> float:
        """Publish on while a process is stopped; return how long it took, once resumed, to serve the newest."""
        os.kill(web.pid, signal.SIGSTOP)
        try:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                self.publish()
                time.sleep(1 / PER_SECOND)
        finally:
            os.kill(web.pid, signal.SIGCONT)
        return self.settle([web])

    def settle(self, webs: Sequence[Web], seconds: float = 30.0) -> float:
        """Wait until these serve the newest revision; return how long that took. Infinite where they did not."""
        newest, begun = self.published[-1].revision, time.time()
        for _ in until(seconds):
            reached = self.reached(newest)
            if all(web.pid in reached for web in webs):
                return max(0.0, *(reached[web.pid] - begun for web in webs))
        return math.inf

    def reached(self, revision: int) -> dict[int, float]:
        """Return when each web server first served this revision or a newer one, by pid."""
        found: dict[int, float] = {}
        for swap in self.fleet.swaps():
            if swap.schema == self.tenant.schema and swap.revision >= revision:
                found.setdefault(swap.pid, swap.at)
        return found

    def delays(self, published: Sequence[Published]) -> Iterator[float]:
        """Yield the seconds from each commit until the last web server served it or a newer revision."""
        noted = self.fleet.swaps()
        firsts = [_firsts([s for s in noted if s.pid == web.pid], published) for web in self.fleet.webs]
        for each, *times in zip(published, *firsts, strict=True):
            yield max(times) - each.at

    def report(self, number: int, publishes: int) -> None:
        told = f"{len(self.load.answers):,} answers, {len(self.load.failures())} failed"
        say(f"{number:,} of {publishes:,} publishes, {told}")

    # What the clients were told

    def inconsistent(self) -> list[Answer]:
        """Answers of the chain that saw two revisions, or another than they name."""
        return [answer for answer in self.of("/hub/run/steps/") if not self._is_consistent(answer)]

    def _is_consistent(self, answer: Answer) -> bool:
        numbers = [self.ledger.get(answer.revision)] * len(STEPS)
        return bool(answer.body["revision"] == answer.revision and answer.body["result"] == numbers)

    def backwards(self) -> int:
        """How many answers came from an older revision than the same client saw before in the same process."""
        newest, count = Counter[tuple[int, int]](), 0
        for answer in self.of("/hub/run/steps/"):
            count += answer.revision < newest[answer.client, answer.port]
            newest[answer.client, answer.port] = answer.revision
        return count

    def torn(self) -> int:
        """How many runs that read the rows saw two configurations."""
        return sum(len(set(answer.body["result"])) > 1 for answer in self.of("/hub/run/rows/"))

    def of(self, path: str) -> list[Answer]:
        """Return the good answers to one path."""
        return [answer for answer in self.load.answers if answer.path == path and answer.status == 200]

    # What the workers did

    def jobs(self, seconds: float = 60.0) -> list[Job]:
        """Wait for the jobs to end, and return them."""
        for _ in until(seconds):
            jobs = tenancy.gate(self.tenant, lambda: list(Job.objects.all()))
            if all(job.is_ended for job in jobs):
                break
        return jobs

    def stale(self, jobs: Sequence[Job]) -> list[Job]:
        """Jobs that ran an older revision than had been committed when they began, or saw two."""
        return [job for job in jobs if not self._is_fresh(job)]

    def _is_fresh(self, job: Job) -> bool:
        if job.started is None or job.revision is None:
            return False
        before = [each.revision for each in self.published if each.at < job.started.timestamp()]
        n = self.ledger.get(job.revision)
        return job.result == [n] * len(STEPS) and job.revision >= max(before, default=0)


@contextmanager
def storming(tenant: Tenant, folder: Path, *, webs: int = 2, workers: int = 2) -> Iterator[Storm]:
    """Prepare the tenant, start a fleet and the clients, and wait until each server has answered."""
    with override_settings(PLUGINHUB=HUB):
        first = prepare(tenant)
        with fleet(folder, webs=webs, workers=workers) as processes:
            ports = [web.port for web in processes.webs]
            with Load(f"{tenant.schema}.localhost", ports, token(tenant), ask) as load:
                load.warm_up()
                storm = Storm(tenant, processes, load, {first: 0})
                storm.publish()
                storm.settle(processes.webs)
                yield storm
            assert not processes.dead(), processes.dead()


def prepare(tenant: Tenant) -> int:
    """Publish the chain, and what reads the same numbers from the rows; return that revision, which says 0."""
    plugins = dict(zip(STEPS, ("number", "late-number", "number"), strict=True)) | {"rows": "row-numbers"}
    registrations = {name: RegistrationSpec(name=name, plugin=plugin, config={}) for name, plugin in plugins.items()}
    steps = ChainSpec(name="steps", steps=tuple(StepSpec(target=name) for name in STEPS))
    configuration = Configuration(registrations=registrations, chains={"steps": steps})
    with tenancy.visit(tenant):
        revision = publishing.apply_configuration(configuration, author="storm")
    assert revision is not None
    return revision.number


def ask(number: int) -> tuple[str, Any]:
    """Return a client's n-th request: mostly a run, now and then a job or a run that reads the rows."""
    if number % JOB_EVERY == 0:
        return "/hub/jobs/steps/", []
    if number % ROWS_EVERY == 0:
        return "/hub/run/rows/", STEPS
    return "/hub/run/steps/", []


def _number(n: int) -> None:
    Registration.objects.filter(name__in=STEPS).update(config={"n": n})


def _firsts(swaps: Sequence[Swap], published: Sequence[Published]) -> Iterator[float]:
    """Yield when a process first served each of these revisions, or a newer one; infinite where it never did."""
    mine = iter(swaps)
    swap = next(mine, None)
    for each in published:
        while swap is not None and swap.revision < each.revision:
            swap = next(mine, None)
        yield math.inf if swap is None else swap.at


def _quantile(values: Sequence[float], q: float) -> float:
    return sorted(values)[min(len(values) - 1, int(q * len(values)))]


def figures(publishes: int = 1_000, killed: int = 400, silent: int = 100) -> Iterator[Figure]:
    """Run the long storm."""
    with grounds(1) as ([tenant], _), tempfile.TemporaryDirectory() as folder:
        with storming(tenant, Path(folder)) as storm:
            calm = storm.leg(publishes)
            cut = storm.leg(killed, kill_every=KILL_EVERY)
            with patch.object(publishing, "ring", lambda *_: False):
                unheard = storm.leg(silent)
            resumed = storm.stop_and_go_on(storm.fleet.webs[0], STOPPED_SECONDS)
            jobs = storm.jobs()
            yield from _of_propagation(calm, cut, unheard, resumed)
        yield from _of_runs(storm, jobs)
        connections.close_all()


def _of_propagation(calm: Leg, cut: Leg, unheard: Leg, resumed: float) -> Iterator[Figure]:
    yield Figure("From a publish's commit to the last process, under load", "p99 ≤ 100 ms", calm.took(), COMMAND)
    name = f"The same, Redis' subscriptions killed at every {KILL_EVERY}th"
    yield Figure(name, "≤ 2 s", f"{cut.took()}; all at the last after {cut.settled * 1000:.0f} ms", COMMAND)
    yield Figure("The same, without any message over Redis", "≤ 2 s", unheard.took(), COMMAND)
    name = f"A web server stopped for {STOPPED_SECONDS:g} s, then resumed: at the newest revision after"
    yield Figure(name, "≤ 2 s", f"{resumed * 1000:.0f} ms", COMMAND)


def _of_runs(storm: Storm, jobs: Sequence[Job]) -> Iterator[Figure]:
    answers = storm.of("/hub/run/steps/")
    told = f"{len(storm.inconsistent())} inconsistent, {storm.backwards()} older than one before, of {len(answers):,}"
    told += f"; {len(storm.load.failures())} of {len(storm.load.answers):,} requests failed"
    name = f"Runs over HTTP while a tenant is published {len(storm.published):,} times"
    yield Figure(name, "0 that saw two revisions, 0 failed", told, COMMAND)
    told = f"{len(storm.stale(jobs))} of {len(jobs):,}"
    yield Figure("Jobs that ran an older revision than was committed when they began", "0", told, COMMAND)
    rows = storm.of("/hub/run/rows/")
    told = f"{storm.torn():,} of {len(rows):,} saw two configurations"
    yield Figure("The same steps, reading the rows instead", "more than 0", told, COMMAND)
