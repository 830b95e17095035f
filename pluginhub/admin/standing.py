"""How the fleet stands: what each process runs against what is wanted, and whose tenants wait for what.

Three queries, however many processes and tenants there are. Nothing here is remembered.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from pluginhub import tenancy
from pluginhub.fleet.models import Generation, Head, Process
from pluginhub.presence import GONE_SECONDS
from pluginhub.types import PUBLIC

__all__ = [
    "SHOWN",
    "SILENT_SECONDS",
    "BreakerStanding",
    "Fleet",
    "Standing",
    "TenantStanding",
    "Waiting",
    "breakers",
    "open_breakers",
    "troubles",
]

SILENT_SECONDS = 15.0
"""After how long a process that says nothing is shown as silent: three times what it promises."""
SHOWN = 50
"""How many tenants a page lists."""
SERVING = frozenset({"web", "worker"})
"""The kinds that have to follow; a command ends by itself."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A tenant for which a process does not run its newest revision, or code. `why` is empty while it is on its way."""

    schema: str
    process: str
    runs: int
    revision: int
    generation: int
    since: datetime | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class BreakerStanding:
    """How a registration's breaker stands in one process; all of it is empty where that says it is closed."""

    process: Process
    state: str = "closed"
    since: datetime | None = None
    failed: int = 0
    calls: int = 0
    retry_at: datetime | None = None

    @classmethod
    def of(cls, process: Process, schema: str, registration: str) -> BreakerStanding:
        data = process.state.get("breakers", {}).get(schema, {}).get(registration)
        if data is None:
            return cls(process)
        since, retry_at = parse_datetime(data["since"]), parse_datetime(data["retry_at"])
        return cls(process, data["state"], since, data["failed"], data["calls"], retry_at)

    @property
    def code(self) -> str:
        """One word for a pill: `failing` or `active`."""
        return "active" if self.state == "closed" else "failing"

    @property
    def label(self) -> str:
        return {"closed": _("Closed"), "open": _("Open"), "half-open": _("Half-open")}[self.state]


@dataclass(frozen=True, slots=True)
class Standing:
    """One process: what it runs, what it should, and what keeps it from that."""

    row: Process
    wanted: int
    waiting: tuple[Waiting, ...]

    @property
    def is_silent(self) -> bool:
        return timezone.now() - self.row.seen > timedelta(seconds=SILENT_SECONDS)

    @property
    def seconds(self) -> int:
        """How long ago it was last seen."""
        return max(0, int((timezone.now() - self.row.seen).total_seconds()))

    @property
    def generation(self) -> int:
        return int(self.row.state.get("generation", 0))

    @property
    def tenants(self) -> int:
        return len(self.row.state.get("revisions", {}))

    @property
    def lost(self) -> int:
        return int(self.row.state.get("lost", 0))

    @property
    def breakers(self) -> list[str]:
        """The registrations whose breakers are not closed there."""
        found = self.row.state.get("breakers", {})
        return [f"{schema}: {', '.join(sorted(names))}" for schema, names in sorted(found.items())]

    @property
    def error(self) -> str:
        """Why it does not run what is wanted: of its code first, else of the tenant that waits for longest."""
        failing = sorted((each for each in self.waiting if each.why), key=lambda each: str(each.since))
        own = str(self.row.state.get("generation_problem", ""))
        return own or next((f"{each.schema}: {each.why}" for each in failing), "")

    @property
    def code(self) -> str:
        """One word for a pill: `silent`, `behind` or `current`."""
        if self.is_silent:
            return "silent"
        is_behind = self.generation < self.wanted or self.waiting or self.row.state.get("generation_problem")
        return "behind" if is_behind else "current"

    @property
    def label(self) -> str:
        return {"silent": _("Silent"), "behind": _("Behind"), "current": _("Up to date")}[self.code]


@dataclass(frozen=True, slots=True)
class TenantStanding:
    """One tenant: its newest revision, how many processes run which, and those that wait for it."""

    schema: str
    newest: int
    runs: Mapping[int, int]
    waiting: tuple[Waiting, ...]


@dataclass(frozen=True, slots=True)
class Fleet:
    """All processes and their tenants at one moment. Lives as long as a page."""

    wanted: int
    processes: tuple[Standing, ...]
    heads: Mapping[str, int]

    @classmethod
    def now(cls) -> Fleet:
        """Read it: three queries. In the public schema."""
        wanted = Generation.objects.order_by("-number").values_list("number", flat=True).first() or 0
        heads = dict(Head.objects.order_by("schema").values_list("schema", "revision"))
        rows = Process.objects.order_by("kind", "host", "pid")
        return cls(wanted, tuple(Standing(row, wanted, tuple(_waiting(row, heads))) for row in rows), heads)

    @property
    def is_well(self) -> bool:
        return all(each.code == "current" for each in self._serving())

    def summary(self) -> str:
        """One sentence: does everything run what is wanted?"""
        serving = self._serving()
        if not serving:
            return _("No process has said that it lives. One does when it serves a tenant for the first time.")
        if self.is_well:
            said = ngettext(
                "The one process runs what is wanted.", "All %(all)d processes run what is wanted.", len(serving)
            )
            return said % {"all": len(serving)}
        counts = {code: sum(each.code == code for each in serving) for code in ("current", "behind", "silent")}
        said = _("Up to date: %(current)d of %(all)d processes. Behind: %(behind)d. Silent: %(silent)d.")
        return said % {"all": len(serving), **counts}

    def tenants(self, search: str = "") -> list[TenantStanding]:
        """Return the tenants whose schema contains `search`: those that wait first, then by name."""
        waiting, runs = defaultdict[str, list[Waiting]](list), defaultdict[str, dict[int, int]](dict)
        for process in self.processes:
            for each in process.waiting:
                waiting[each.schema].append(each)
            for schema, revision in process.row.state.get("revisions", {}).items():
                runs[schema][revision] = runs[schema].get(revision, 0) + 1
        found = []
        for schema in {**self.heads, **runs, **waiting}:
            if search in schema:
                runs_here, waiting_here = dict(sorted(runs[schema].items())), tuple(waiting[schema])
                found.append(TenantStanding(schema, self.heads.get(schema, 0), runs_here, waiting_here))
        return sorted(found, key=lambda each: (not each.waiting, each.schema))

    def _serving(self) -> list[Standing]:
        return [each for each in self.processes if each.row.kind in SERVING]


def troubles(schema: str) -> list[Waiting]:
    """Return why processes that live do not run the newest of one tenant, one line a reason. One query."""
    return [each for row in _living() for each in _failing(row) if each.schema == schema]


def breakers(schema: str, registration: str) -> list[BreakerStanding]:
    """Return how a breaker stands in each process that lives and serves the tenant. One query."""
    serving = [row for row in _living() if schema in row.state.get("revisions", {})]
    return [BreakerStanding.of(row, schema, registration) for row in serving]


def open_breakers(schema: str) -> Mapping[str, int]:
    """Return in how many processes a tenant's breakers are not closed, by registration. One query."""
    return Counter(name for row in _living() for name in row.state.get("breakers", {}).get(schema, {}))


def _living() -> list[Process]:
    fresh = timezone.now() - timedelta(seconds=GONE_SECONDS)
    rows = Process.objects.filter(seen__gte=fresh).order_by("kind", "host", "pid")
    return tenancy.gate(PUBLIC, lambda: list(rows))


def _waiting(row: Process, heads: Mapping[str, int]) -> Iterable[Waiting]:
    """Yield what a process has not come to: what it failed at, and what it has not taken yet."""
    failing = {each.schema: each for each in _failing(row)}
    yield from failing.values()
    for schema, revision in row.state.get("revisions", {}).items():
        head = heads.get(schema, revision)
        if schema not in failing and head != revision:
            yield Waiting(schema, str(row), revision, head, int(row.state.get("generation", 0)))


def _failing(row: Process) -> Iterable[Waiting]:
    for schema, problem in row.state.get("problems", {}).items():
        runs = int(row.state.get("revisions", {}).get(schema, 0))
        since = parse_datetime(str(problem.get("since", "")))
        yield Waiting(schema, str(row), runs, problem["revision"], problem["generation"], since, problem["why"])
