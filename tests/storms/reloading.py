"""The storm of reloads: a plugin package is replaced a thousand times while clients run it in several processes.

Every run tells the version of each module it saw, at its beginning and, after a pause, in imports made inside
functions. A counter in memory is held against what the clients were told. Some versions are broken: they must leave
the one before serving. The same runs with `importlib.reload`, or with new modules put in place of the old, must see two
versions, or the storm proves nothing.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.db import connections
from django.test import override_settings

from pluginhub import publishing, reloading, tenancy
from pluginhub.configuration import ChainSpec, Configuration, RegistrationSpec, StepSpec
from pluginhub.fleet.models import Process
from pluginhub.models import Job
from pluginhub.types import PUBLIC, Tenant
from tests.figures import Figure
from tests.storms.fleets import Fleet, Web, fleet, say, until
from tests.storms.grounds import grounds
from tests.storms.loads import Answer, Load, token
from tests.storms.packages import BROKEN, Distributions, installed
from tests.storms.tearing import reloaded, swapped, torn
from tests.watching import HUB

__all__ = ["Census", "Storm", "figures", "storming"]

STEPS = ("stormy-tell", "stormy-follow", "stormy-count")
RUN = "/hub/run/told/"
WARM_RELOADS = 200
"""After so many, the interpreter's own tables have grown; one of them doubles, by 2 MB, somewhere on the way."""
BROKEN_EVERY = 10
REMOVED_EVERY = 7
BURST = 5
JOB_EVERY = 60
COMMAND = "make figures"


@dataclass(frozen=True, slots=True)
class Census:
    """What the web servers hold: memory in bytes, and the versions of plugin classes that are alive, by pid."""

    resident: dict[int, int]
    alive: dict[int, list[int]]

    def old(self, version: int) -> int:
        """Count the versions that live on in some process, besides this one and the first.

        The first one's modules have the names under which anybody may have imported them, and stay.
        """
        return sum(len(set(versions) - {1, version}) for versions in self.alive.values())


@dataclass
class Storm:
    """One tenant, a fleet, clients, and a package that this process replaces and reloads."""

    tenant: Tenant
    fleet: Fleet
    load: Load
    distributions: Distributions
    version: int = 1
    refused: Counter[str] = field(default_factory=Counter)
    """How many broken versions were refused before any process was asked to load them, by kind."""
    kept_out: Counter[str] = field(default_factory=Counter)
    """How many broken versions no process served, each telling why, by kind."""
    late: int = 0
    """How many reloads some process neither served nor refused in time."""
    served: int = 0

    def leg(self, reloads: int, *, broken_every: int = BROKEN_EVERY, total: int = 0) -> None:
        """Reload so many times, waiting each time until every web server serves it or says why not."""
        for number in range(1, reloads + 1):
            if broken_every and number % broken_every == 0:
                turn = number // broken_every - 1
                self.reload_broken(BROKEN[turn % len(BROKEN)], rehearse=(turn + turn // len(BROKEN)) % 2 == 0)
            else:
                # What follows a broken one, and now and then a few in a row, does not wait.
                self.reload(wait=number % (10 * BURST) > BURST)
            if number % 50 == 0:
                self.report(number, reloads)

    def reload(self, *, wait: bool = True) -> None:
        """Write the next version and reload it."""
        self.version += 1
        self.distributions.write(self.version, remove_first=self.version % REMOVED_EVERY == 0)
        generation = reloading.reload("stormy-tell", author="storm")
        self.served += 1
        if wait:
            self.late += not self.arrives(generation.number)

    def reload_broken(self, kind: str, *, rehearse: bool) -> None:
        """Write a version that cannot serve, and reload it; then put the one before in its place again."""
        before, self.version = self.version, self.version + 1
        self.distributions.write(self.version, kind)
        try:
            generation = reloading.reload("stormy-tell", author="storm", rehearse=rehearse)
        except reloading.ReloadRefused:
            self.refused[kind] += 1
        else:
            self.late += not self.arrives(generation.number)
            self.kept_out[kind] += self._all_refuse(generation.number)
        self.distributions.write(before)

    def arrives(self, generation: int, seconds: float = 15.0) -> bool:
        """Wait until every web server serves this generation, or a newer one, or says why it does not."""
        for _ in until(seconds):
            reached = {swap.pid for swap in self.fleet.swaps()[-100:] if swap.generation >= generation}
            if all(web.pid in reached or self._problem(web, generation) for web in self.fleet.webs):
                return True
        return False

    def _all_refuse(self, generation: int) -> bool:
        return all(self._problem(web, generation) for web in self.fleet.webs)

    def _problem(self, web: Web, generation: int) -> str:
        row = tenancy.gate(PUBLIC, lambda: Process.objects.filter(pid=web.pid, kind="web").first())
        state = {} if row is None else row.state
        problems = [problem["why"] for problem in state.get("problems", {}).values()]
        problems.append(state.get("generation_problem", ""))
        return next(filter(None, problems), "") if state.get("wanted_generation", 0) >= generation else ""

    def census(self) -> Census:
        """Count what is alive in the web servers; each collects its garbage first."""
        told = [web.watch() for web in self.fleet.webs]
        resident = {each["pid"]: each["resident"] for each in told}
        return Census(resident, {each["pid"]: sorted(set(each["alive"])) for each in told})

    def rest(self, seconds: float = 10.0) -> Census:
        """Stop the clients, and count once the old versions are gone; or when the time is over, what is left."""
        self.load.stop()
        for _ in until(seconds):
            census = self.census()
            if not census.old(self.version):
                break
        return census

    def report(self, number: int, reloads: int) -> None:
        told = f"{len(self.load.answers):,} answers, {len(self.load.failures())} failed, {len(self.mixed())} mixed"
        memory = ", ".join(f"{size / 1e6:.1f} MB" for size in self.census().resident.values())
        say(f"{number:,} of {reloads:,} reloads, {told}; {memory}")

    # What the clients were told

    def answers(self) -> list[Answer]:
        """Return the good answers of runs."""
        return [answer for answer in list(self.load.answers) if answer.path == RUN and answer.status == 200]

    def mixed(self) -> list[Answer]:
        """Answers of runs that saw two versions."""
        return [answer for answer in self.answers() if len(answer.body["result"]["seen"]) != 1]

    def versions(self) -> set[int]:
        """Every version that some run saw."""
        return {version for answer in self.answers() for version in answer.body["result"]["seen"]}

    def backwards(self) -> int:
        """How many answers came from an older version than the same client saw before in the same process."""
        newest, count = Counter[tuple[int, int]](), 0
        for answer in self.answers():
            version = max(answer.body["result"]["seen"])
            count += version < newest[answer.client, answer.port]
            newest[answer.client, answer.port] = version
        return count

    def counted(self) -> dict[int, tuple[int, int]]:
        """Return by pid how many runs clients were told of, and how many the counter there has."""
        told = Counter[int](answer.body["result"]["pid"] for answer in self.answers())
        return {pid: (count, self._count(pid)) for pid, count in told.items()}

    def lost(self) -> int:
        """How many of the runs that clients were told of are not in the counters."""
        return sum(max(0, told - count) for told, count in self.counted().values())

    def _count(self, pid: int) -> int:
        return max(int(a.body["result"]["count"]) for a in self.answers() if a.body["result"]["pid"] == pid)

    @staticmethod
    def mixed_jobs(jobs: Sequence[Job]) -> list[Job]:
        """Jobs that saw two versions."""
        return [job for job in jobs if job.result is not None and len(job.result["seen"]) != 1]

    def jobs(self, seconds: float = 60.0) -> list[Job]:
        """Wait for the jobs to end, and return them."""
        for _ in until(seconds):
            jobs = tenancy.gate(self.tenant, lambda: list(Job.objects.all()))
            if all(job.is_ended for job in jobs):
                break
        return jobs


@contextmanager
def storming(tenant: Tenant, folder: Path, *, webs: int = 2, workers: int = 2) -> Iterator[Storm]:
    """Install the package, prepare the tenant, start a fleet and the clients, and wait until each server answers."""
    with override_settings(PLUGINHUB=HUB), installed(folder / "site", slow=2 * HUB["HOOK_SECONDS"]) as distributions:
        prepare(tenant)
        with fleet(folder, webs=webs, workers=workers, path=str(distributions.folder)) as processes:
            ports = [web.port for web in processes.webs]
            with Load(f"{tenant.schema}.localhost", ports, token(tenant), ask) as load:
                load.warm_up()
                yield Storm(tenant, processes, load, distributions)
            assert not processes.dead(), processes.dead()


def prepare(tenant: Tenant) -> None:
    """Publish a chain of the package's plugins."""
    registrations = {name: RegistrationSpec(name=name, plugin=name, config={}) for name in STEPS}
    told = ChainSpec(name="told", steps=tuple(StepSpec(target=name) for name in STEPS))
    with tenancy.visit(tenant):
        publishing.apply_configuration(
            Configuration(registrations=registrations, chains={"told": told}), author="storm"
        )


def ask(number: int) -> tuple[str, Any]:
    """Return a client's n-th request: mostly a run, now and then a job."""
    return ("/hub/jobs/told/" if number % JOB_EVERY == 0 else RUN), None


# The figures


def figures(reloads: int = 1_000) -> Iterator[Figure]:
    """Run the long storm."""
    with grounds(1) as ([tenant], _), tempfile.TemporaryDirectory() as folder:
        with storming(tenant, Path(folder)) as storm:
            storm.leg(min(WARM_RELOADS, reloads))
            warm = storm.census()
            storm.leg(max(0, reloads - WARM_RELOADS))
            storm.reload()
            end = storm.census()
            jobs = storm.jobs()
            rest = storm.rest()
        yield from _of_runs(storm, jobs)
        yield from _of_processes(storm, warm, end, rest)
        connections.close_all()
    for how, renew in {"importlib.reload": reloaded, "new modules put in place of the old": swapped}.items():
        with tempfile.TemporaryDirectory() as folder, installed(Path(folder) / "site") as distributions:
            mixed, runs = torn(distributions, renew)
        yield Figure(
            f"The same runs with {how}", "more than 0", f"{mixed:,} of {runs:,} saw two versions, or failed", COMMAND
        )


def _of_runs(storm: Storm, jobs: Sequence[Job]) -> Iterator[Figure]:
    broken = storm.refused + storm.kept_out
    name = f"Runs during {storm.served:,} reloads and {broken.total()} of broken versions"
    told = f"{len(storm.mixed())} that saw two of {len(storm.versions()):,} versions, "
    told += f"{storm.backwards()} an older one than before, of {len(storm.answers()):,}; "
    told += f"{len(storm.load.failures())} of {len(storm.load.answers):,} requests failed"
    yield Figure(name, "0 that saw two versions, 0 failed", told, COMMAND)
    times = sorted(answer.told - answer.asked for answer in storm.answers())
    told = f"p50 {times[len(times) // 2] * 1000:.0f} ms, p99 {times[int(len(times) * 0.99)] * 1000:.0f} ms, "
    yield Figure("How long these took", "—", told + f"longest {times[-1] * 1000:.0f} ms", COMMAND)
    told = f"{storm.lost()} of {sum(told for told, _ in storm.counted().values()):,}"
    yield Figure("Increments of a counter in memory that were lost", "0", told, COMMAND)
    told = f"{len(storm.mixed_jobs(jobs))} that saw two versions, of {len(jobs):,}; "
    told += f"{sum(job.status != 'succeeded' for job in jobs)} failed"
    yield Figure(
        "Jobs meanwhile, in workers that try no version on before they take it", "0 that saw two", told, COMMAND
    )


def _of_processes(storm: Storm, warm: Census, end: Census, rest: Census) -> Iterator[Figure]:
    told = f"{storm.refused.total()} before any process loaded them, {storm.kept_out.total()} by every process"
    yield Figure("Broken versions that were refused, with the reason", "all", told, COMMAND)
    growth = ", ".join(f"{(size - warm.resident[pid]) / 1e6:+.1f} MB" for pid, size in end.resident.items())
    yield Figure(f"Memory of each web server after the first {WARM_RELOADS} reloads", "< 5 MB", growth, COMMAND)
    name = "Older versions whose classes live on, by weak reference, besides the first"
    yield Figure(name, "0", str(rest.old(storm.version)), COMMAND)
