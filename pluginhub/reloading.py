"""Reloading plugin code while it runs: a new generation, followed by every process as revisions are.

A reload covers the top-level package of a plugin and every other package of plugins that imports it. It is rehearsed
where it is asked for: read, imported, built, activated and asked for its health beside what serves. Only then does it
become a row, which every process follows by itself; one that cannot keeps the code it has, and says why.
"""

from __future__ import annotations

import ast
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings as django_settings
from django.db import connections, transaction
from django.db.models import Max
from django.utils import timezone
from django_tenants.utils import get_tenant_database_alias

from pluginhub import handoffs, loading, replacing, tenancy
from pluginhub.exceptions import NotReady, PluginHubError
from pluginhub.fleet.models import Generation, Process
from pluginhub.following import HEADS, ring
from pluginhub.instances import Instances
from pluginhub.linking import plugin_of
from pluginhub.loading import Code, Entry
from pluginhub.loading.snapshots import Snapshot
from pluginhub.presence import GONE_SECONDS, Problem, presence, reason
from pluginhub.registry import registry
from pluginhub.runtimes import Runtime
from pluginhub.types import PUBLIC, Tenant

__all__ = ["Progress", "ReloadRefused", "catch_up", "changed", "covered", "progress", "reload", "reload_here"]

log = logging.getLogger("pluginhub.reloading")

LOCK = 0x706C756767656E
"""The key of the advisory lock under which generations are numbered."""

COLLECTORS = frozenset({"Counter", "Gauge", "Histogram", "Summary", "Info", "Enum", "REGISTRY"})
"""What a module takes from prometheus_client when it registers collectors for the whole process."""


class ReloadRefused(PluginHubError):
    """The code cannot be reloaded. What serves is not touched."""

    status = 409
    title = "Reload refused"


def reload(plugin: str, version: str = "", *, author: str, note: str = "", rehearse: bool = True) -> Generation:
    """Have the whole fleet load a plugin's package anew, from the code on disk; return the new generation.

    `version`, where given, must be the installed one. Raises `ReloadRefused`, with the reason, where the package cannot
    be reloaded or does not come up; nothing changes then. Without `rehearse`, processes find out by themselves.
    """
    found = _installed(plugin, version)
    code = loading.current()
    try:
        snapshots = _snapshots(covered(found.top))
        trial = _trial(code, snapshots, code.number)
        trial.load(plugin)
        if rehearse:
            _rehearse(trial, {snapshot.top for snapshot in snapshots})
    except NotReady as error:
        raise ReloadRefused(reason(error), hint=error.hint) from error
    with tenancy.visit(PUBLIC), transaction.atomic(using=get_tenant_database_alias()):
        generation = _write(found, snapshots, author, note)
        transaction.on_commit(lambda: ring(HEADS), using=get_tenant_database_alias(), robust=True)
    return generation


@dataclass(frozen=True, slots=True)
class Progress:
    """How one process of the fleet fares with a generation."""

    process: str
    runs: bool
    problem: str = ""

    @property
    def is_done(self) -> bool:
        return self.runs or bool(self.problem)

    @property
    def told(self) -> str:
        return "runs it" if self.runs else self.problem or "is at it"


def progress(generation: Generation) -> list[Progress]:
    """Return how the processes that live fare with a generation, in order of their names."""
    fresh = timezone.now() - timedelta(seconds=GONE_SECONDS)
    rows = tenancy.gate(PUBLIC, lambda: list(Process.objects.filter(seen__gte=fresh, kind__in=["web", "worker"])))
    newest = tenancy.gate(PUBLIC, lambda: Generation.objects.aggregate(newest=Max("number"))["newest"]) or 0
    found = []
    for row in rows:
        state = row.state or {}
        failing = [each for each in state.get("problems", {}).values() if each["generation"] == generation.number]
        refused = state.get("generation_problem", "") if state.get("wanted_generation") == generation.number else ""
        problem = refused or next((each["why"] for each in failing), "")
        runs = generation.number <= state.get("generation", 0) <= newest and not problem
        found.append(Progress(str(row), runs, problem))
    return sorted(found, key=lambda each: each.process)


def changed(generation: Generation) -> list[str]:
    """Return the packages that a generation loaded anew."""
    before = tenancy.gate(PUBLIC, Generation.objects.filter(number__lt=generation.number).first)
    packages = before.packages if before else {}
    return [top for top, digest in generation.packages.items() if packages.get(top) != digest]


def reload_here(tops: Iterable[str]) -> None:
    """Load packages anew in this process alone, as they are on disk. Raises `NotReady`; what serves then serves on."""
    with registry.renewing:
        code = loading.current()
        take_over(_trial(code, _snapshots(tops), code.number))


def catch_up(number: int) -> None:
    """Bring this process to the fleet's newest generation; where that fails, keep the code there is, and why."""
    before = presence.generation_problem
    try:
        row = tenancy.gate(PUBLIC, Generation.objects.order_by("-number").first)
        if row is None or row.number == loading.current().number:
            return
        number = row.number
        with registry.renewing:
            take_over(_wanted(row))
        presence.generation_problem = None
    except Exception as error:
        problem = presence.generation_problem = Problem.of(error, 0, number, before)
        if before is None or before.why != problem.why:
            log.warning("Generation %s is not taken: %s", number, problem.why, exc_info=error)


def take_over(code: Code) -> None:
    """Make other code the current one, and replace every runtime that it changes, one by one.

    Raises `NotReady` where no runtime that uses it comes up with it: then nothing was replaced.
    """
    taken, refused = 0, []
    registry.coming = code
    try:
        for runtime in registry.runtimes():
            changes = not runtime.follow(code)
            registry.replace(runtime.tenant, code=code)
            problem = presence.problems.get(runtime.tenant.schema)
            if problem is not None and (problem.revision, problem.generation) == (runtime.revision, code.number):
                refused.append(problem)
            elif changes:
                taken += 1
        if refused and not taken:
            raise NotReady(refused[0].why, hint="The code that serves goes on. Correct the plugin and reload again.")
        loading.become(code)
    finally:
        registry.coming = None


def covered(top: str) -> list[str]:
    """Return the packages that a reload of one covers: it, and those of other plugins that import it, by whatever way.

    Raises `ReloadRefused` for one that cannot be loaded twice.
    """
    tops = _importing([top])
    for name in sorted(tops):
        reason = _unloadable(loading.snapshot_of(name))
        if reason:
            raise ReloadRefused(
                f"The package {name!r} cannot be reloaded while it runs: {reason}",
                hint="Deploy it, and restart the processes.",
            )
    return sorted(tops)


def _importing(tops: Iterable[str]) -> set[str]:
    """Return packages, and those of other plugins that import them, by whatever way."""
    imported = {each: set(_imported(loading.snapshot_of(each))) for each in _tops()}
    found, waiting = set[str](), list(tops)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [other for other, names in imported.items() if name in names]
    return found


def _installed(plugin: str, version: str) -> Entry:
    loading.rediscover()
    found = loading.entry(plugin)
    if version and version != found.version:
        here = f"{found.distribution} {found.version}" if found.version else f"a {found.origin} without version"
        raise ReloadRefused(
            f"Version {version} of {plugin!r} is not installed here: there is {here}.",
            hint=f"Install it first: pip install '{found.distribution or plugin}=={version}'.",
        )
    if found.problem:
        raise ReloadRefused(f"Plugin {plugin!r} cannot be loaded: {found.problem}", hint="Correct it, and reload.")
    return found


def _tops() -> set[str]:
    """Return the packages of the catalog that have source of their own, the host's left out."""
    host = {app.partition(".")[0] for app in django_settings.INSTALLED_APPS}
    found = set()
    for entry in loading.catalog().values():
        if entry.top not in host and entry.path and entry.origin != "setting":
            found.add(entry.top)
    return found


def _snapshots(tops: Iterable[str]) -> list[Snapshot]:
    return [loading.snapshot_of(top) for top in sorted(tops)]


def _trial(code: Code, snapshots: list[Snapshot], number: int) -> Code:
    """Load packages aside, and import of them what is imported now. Raises `NotReady`."""
    tops = {snapshot.top for snapshot in snapshots}
    loading.rediscover()
    trial = code.renewed(snapshots, number)
    for name in code.loaded():
        # Who uses a plugin that is gone will say so; who once used it must not keep the others back.
        if code.entry(name).top in tops and trial.known(name) is not None:
            trial.load(name)
    return trial


def _wanted(row: Generation) -> Code:
    """Return the code that a generation asks for, where the disk has it. Raises `NotReady`."""
    code = loading.current()
    # What runs that very source already, or is read when it is first used, needs no loading.
    here = {top: package.snapshot.digest for top, package in code.packages.items() if top == package.top}
    changed = [top for top, digest in here.items() if row.packages.get(top, digest) != digest]
    snapshots = _snapshots(_importing(changed) & here.keys()) if changed else []
    for snapshot in snapshots:
        if snapshot.digest != row.packages.get(snapshot.top, snapshot.digest):
            raise NotReady(
                f"The package {snapshot.top!r} on this machine is not the one that was reloaded.",
                hint=f"Deploy version {row.version or 'of that reload'} here, too.",
            )
    made = _trial(code, snapshots, row.number) if snapshots else code.numbered(row.number)
    made.wanted = row.packages
    made.retry()
    return made


def _write(found: Entry, snapshots: list[Snapshot], author: str, note: str) -> Generation:
    with connections[get_tenant_database_alias()].cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
    newest = Generation.objects.order_by("-number").first()
    number = newest.number + 1 if newest else 1
    packages = dict(newest.packages) if newest else {}
    packages |= {snapshot.top: snapshot.digest for snapshot in snapshots}
    digest = next(snapshot.digest for snapshot in snapshots if snapshot.top == found.top)
    return Generation.objects.create(
        number=number, plugin=found.name, distribution=found.distribution, version=found.version,
        digest=digest, packages=packages, author=author, note=note,
    )  # fmt: skip


# The rehearsal


def _rehearse(trial: Code, tops: set[str]) -> None:
    """Bring up one registration of each plugin of the packages with the new code, and take it down again."""
    plugins = {entry.name for entry in loading.catalog().values() if entry.top in tops}
    seen: set[str] = set()
    for tenant in tenancy.tenants():
        if seen == plugins:
            return
        try:
            runtime = replacing.build(tenant, trial)
        except NotReady:
            continue  # not migrated yet: it has no plugins
        try:
            for name, plugin in _concerned(runtime, tops):
                if plugin not in seen:
                    seen.add(plugin)
                    _try_on(tenant, runtime.instances, name)
        finally:
            tenancy.gate(tenant, runtime.instances.end)


def _concerned(runtime: Runtime, tops: set[str]) -> Iterator[tuple[str, str]]:
    for _, spec in runtime.configuration.targets():
        plugin = plugin_of(spec)
        entry = runtime.code.known(plugin) if plugin and spec.enabled else None
        if entry is not None and entry.top in tops:
            yield spec.name, plugin


def _try_on(tenant: Tenant, instances: Instances, name: str) -> None:
    try:
        active = instances.get(name)
        with tenancy.visit(tenant):
            handoffs.check_health(active.plugin, active.services)
    except PluginHubError as error:
        raise ReloadRefused(
            f"With the new code, {name!r} of tenant {tenant} does not come up: {reason(error)}", hint=error.hint
        ) from error


# What can be loaded twice


def _imported(snapshot: Snapshot) -> Iterator[str]:
    """Yield the top-level packages that any module imports, at the top or inside functions."""
    for _, tree in snapshot.trees():
        for node in ast.walk(tree):
            match node:
                case ast.Import(names=names):
                    yield from (alias.name.partition(".")[0] for alias in names)
                case ast.ImportFrom(module=str(module), level=0):
                    yield module.partition(".")[0]


def _unloadable(snapshot: Snapshot) -> str:
    """Return why a package cannot be loaded a second time; empty when it can."""
    if snapshot.top in {app.partition(".")[0] for app in django_settings.INSTALLED_APPS}:
        return "it is one of the host's INSTALLED_APPS."
    if snapshot.top not in _tops():
        return "only PLUGINHUB['PLUGINS'] names it, and what that names is imported as the host's own code."
    if snapshot.binaries:
        return f"it has compiled extensions ({snapshot.binaries[0]}), which a process loads once."
    for module, tree in snapshot.trees():
        for node in ast.walk(tree):
            reason = _global(node)
            if reason:
                return f"{module} {reason}."
    return ""


def _global(node: ast.AST) -> str:
    match node:
        case ast.ImportFrom(module="django.db", names=names) if any(alias.name == "models" for alias in names):
            return "holds Django models, which belong to an app"
        case ast.ImportFrom(module="django.db.models", names=names) if any(alias.name == "Model" for alias in names):
            return "holds Django models, which belong to an app"
        case ast.ImportFrom(module="prometheus_client", names=names):
            if any(alias.name in COLLECTORS for alias in names):
                return "registers collectors for the whole process; use context.metrics"
    return ""
