"""The runtimes this process serves, and how they follow the fleet.

The number is the truth: a thread compares all loaded tenants with the fleet's heads, and the code with the fleet's
generation, in one query, every `POLL_SECONDS`. Messages on Redis only make it look sooner. A process that cannot take
what is wanted keeps what it has, says so in its row of the fleet, and tries again ever later.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from django.db import close_old_connections, connections
from django.db.models import Max, Value

from pluginhub import crossing, forks, handoffs, loading, replacing, tenancy
from pluginhub.background import Background
from pluginhub.conf import settings
from pluginhub.fleet.models import Generation, Head
from pluginhub.following import Hints
from pluginhub.plugins import Plugin
from pluginhub.presence import Problem, presence
from pluginhub.runtimes import Runtime
from pluginhub.signals import swapped
from pluginhub.types import PUBLIC, Tenant

__all__ = [
    "Held",
    "Registry",
    "TenantPlugins",
    "aacquire",
    "acquire",
    "lease",
    "numbers",
    "plugins_for",
    "refresh",
    "registry",
]

log = logging.getLogger("pluginhub.registry")


class Enterable(Protocol):
    """What is found in a runtime to be run: it names the turnstiles on its way."""

    @property
    def turnstiles(self) -> tuple[handoffs.Turnstile, ...]: ...


E = TypeVar("E", bound=Enterable)


@dataclass(frozen=True, slots=True)
class Held:
    """A runtime and a way into it, both held until `release`."""

    runtime: Runtime
    way: Any

    def release(self) -> None:
        for turnstile in self.way.turnstiles:
            turnstile.leave()
        self.runtime.release()


@dataclass(slots=True)
class _Lease:
    """A runtime that is given back, unless what was looked for in it was found."""

    runtime: Runtime
    is_kept: bool = False

    def give_back(self) -> None:
        if not self.is_kept:
            self.runtime.release()


class Registry:
    """The tenants' runtimes of one process. Lives as long as the process; a forked child starts with an empty one."""

    catch_up: Callable[[int], None]
    """Brings this process to a generation of code; set by `reloading`, when the app is ready."""
    watch: Callable[[Background, threading.Event], None]
    """Begins to watch files of plugins, where a developer works on them; set to that of `watching`."""

    def __init__(self) -> None:
        self.catch_up = lambda generation: None
        self.watch = lambda background, stop: None
        self.reset()

    def reset(self) -> None:
        """Forget everything, without deactivating it."""
        presence.reset()
        self._runtimes: dict[str, Runtime] = {}
        self._locks: dict[str, threading.RLock] = {}
        self._draining: dict[Runtime, float] = {}
        self._background = Background()
        self._starting = threading.Lock()
        self._follower: threading.Thread | None = None
        self._follows = True
        self._stop = threading.Event()

    def clear(self) -> None:
        """Let go of every runtime, and go on following: the next call loads its tenant anew."""
        for schema in list(self._runtimes):
            runtime = self._runtimes.pop(schema, None)
            if runtime is not None:
                self._retire(runtime)
        presence.problems.clear()

    # Leasing

    def acquire(self, tenant: Tenant) -> Runtime:
        """Return the tenant's runtime, to be released; loaded when this is its first use. One query, then."""
        while True:
            runtime = self._runtimes.get(tenant.schema)
            if runtime is None:
                runtime = crossing.apart(self._load, tenant)
            if runtime.acquire():
                return runtime
            self._let_go(runtime)

    async def aacquire(self, tenant: Tenant) -> Runtime:
        """The asynchronous twin of `acquire`."""
        while True:
            runtime = self._runtimes.get(tenant.schema)
            if runtime is None:
                runtime = await crossing.in_thread(self._load, tenant)
            if runtime.acquire():
                return runtime
            self._let_go(runtime)

    def hold(self, tenant: Tenant, find: Callable[[Runtime], Enterable], seconds: float | None = None) -> Held:
        """Hold the tenant's runtime and what `find` finds in it, where no state is moving; else wait for `seconds`."""
        while True:
            runtime = self.acquire(tenant)
            try:
                way = find(runtime)
                closed = handoffs.enter(way.turnstiles)
            except BaseException:
                runtime.release()
                raise
            if closed is None:
                return Held(runtime, way)
            runtime.release()
            closed.wait(seconds)

    async def ahold(self, tenant: Tenant, find: Callable[[Runtime], Any], seconds: float | None = None) -> Held:
        """The asynchronous twin of `hold`; `find` is asynchronous."""
        while True:
            runtime = await self.aacquire(tenant)
            lease = _Lease(runtime)
            with crossing.holding(lease.give_back):
                way = await find(runtime)
                closed = handoffs.enter(way.turnstiles)
                if closed is None:
                    lease.is_kept = True
                    return Held(runtime, way)
            await closed.await_(seconds)

    def _let_go(self, runtime: Runtime) -> None:
        """Forget a runtime that has ended, unless another stands in its place already."""
        with self._lock(runtime.tenant):
            if self._runtimes.get(runtime.tenant.schema) is runtime:
                del self._runtimes[runtime.tenant.schema]

    def running(self) -> dict[str, int]:
        """Return the revision that runs here, by schema."""
        return {schema: runtime.revision for schema, runtime in list(self._runtimes.items())}

    def runtimes(self) -> list[Runtime]:
        """Return the runtimes that are loaded, for the one who brings new code."""
        return list(self._runtimes.values())

    # Following

    def refresh(self, tenant: Tenant) -> None:
        """Compare one tenant with its newest revision now, and follow. One query when nothing changed."""
        runtime = self._runtimes.get(tenant.schema)
        if runtime is not None:
            newest = crossing.apart(_newest, tenant)
            if newest != runtime.revision:
                crossing.apart(self.replace, tenant, newest)

    def look(self) -> None:
        """Compare all loaded tenants, and the code, with what the fleet wants, in one query; follow what differs."""
        self.follow_numbers(tenancy.gate(PUBLIC, numbers))
        self._end_overdue()

    def follow_numbers(self, numbers: dict[str, int]) -> None:
        """Follow the newest revisions, by schema, and the newest generation, under an empty name."""
        generation = numbers.pop("", 0)
        code = loading.current()
        if generation > code.number and not _waits(presence.generation_problem, 0, generation):
            self._do("reload", self.catch_up, generation)
        for schema, runtime in list(self._runtimes.items()):
            head = numbers.get(schema, runtime.revision)
            # Once for each number: a restored schema may never have the revision its head names.
            is_behind = head not in (runtime.revision, runtime.head) or runtime.code is not code
            if is_behind and not _waits(presence.problems.get(schema), head, code.number):
                self._follow_one(runtime, head)

    def _follow_one(self, runtime: Runtime, head: int) -> None:
        """Swap at once where nothing has to be brought up; else in a thread, so that nobody waits for a slow plugin."""
        if not self.replace(runtime.tenant, head, at_once=True):
            self._do(f"replace {runtime.tenant.schema}", self.replace, runtime.tenant, head)

    def follow(self, kind: str | None = None) -> None:
        """Start the thread that follows the fleet, once. `kind` names this process there: web, worker, command."""
        presence.kind = kind or presence.kind
        if self._follows and not self._is_followed():
            with self._starting:
                if not self._is_followed():
                    self._follower = threading.Thread(target=self._run, name="pluginhub-follow", daemon=True)
                    self._follower.start()
                    self.watch(self._background, self._stop)

    def _is_followed(self) -> bool:
        return self._follower is not None and self._follower.is_alive()

    def refrain(self) -> None:
        """Start no threads: for a process that forks, or lives for a while only, and looks by itself."""
        self._follows = False

    def _do(self, key: str, f: Callable[..., Any], *args: Any) -> None:
        if self._follows:
            self._background.run(key, self._do_and_say, f, *args)
        else:
            f(*args)

    def _do_and_say(self, f: Callable[..., Any], *args: Any) -> None:
        f(*args)
        self.say()

    def stop(self) -> None:
        """End the following thread, and take this process out of the fleet."""
        follower, self._follower = self._follower, None
        if follower is not None:
            self._stop.set()
            follower.join(timeout=5)
            self._stop = threading.Event()
        self._background.join(5)

    def say(self) -> None:
        """Write this process's row of the fleet, if there is news."""
        tenancy.gate(PUBLIC, presence.say, self.running(), loading.current())

    # Inside

    def _load(self, tenant: Tenant) -> Runtime:
        self.follow()
        with self._lock(tenant):
            runtime = self._runtimes.get(tenant.schema)
            if runtime is None:
                runtime = replacing.build(tenant, loading.current())
                self._runtimes[tenant.schema] = runtime
                self._make_room(tenant.schema)
            return runtime

    def replace(
        self, tenant: Tenant, head: int = 0, *, code: loading.Code | None = None, at_once: bool = False
    ) -> bool:
        """Bring a tenant to its newest revision with the present code, or `code`; on failure keep what serves, and why.

        Returns whether it is there. Where new code does not work, the revision is tried with the code that does. With
        `at_once`, does nothing where a plugin would have to be brought up.
        """
        lock = self._lock(tenant)
        if not lock.acquire(blocking=not at_once):
            return True  # somebody is at it
        try:
            older = self._runtimes.get(tenant.schema)
            wanted = code or loading.current()
            if older is None:
                return True
            is_followed = older.follow(wanted)
            if head in (0, older.revision, older.head) and is_followed:
                presence.problems.pop(tenant.schema, None)
                return True
            return self._try(older, wanted, head, at_once)
        finally:
            lock.release()

    def _try(self, older: Runtime, wanted: loading.Code, head: int, at_once: bool) -> bool:
        for code in dict.fromkeys([wanted, older.code]):
            if code is not wanted and head in (0, older.revision):
                break  # that is what serves
            try:
                newer = self._built(older, code, head)
                if at_once and not replacing.is_warm(older, newer):
                    newer.instances.end()
                    return False
                self._swap(older, newer)
            except Exception as error:
                self._note(older.tenant, error, head or older.revision, wanted.number)
                continue
            if code is wanted:
                presence.problems.pop(older.tenant.schema, None)
            break
        return True

    def _built(self, older: Runtime, code: loading.Code, head: int) -> Runtime:
        if head in (0, older.revision):
            newer = replacing.rebuild(older, code)
        else:
            code.retry()
            newer = replacing.build(older.tenant, code)
            newer.head = head
        newer.instances.carry_over(older.instances)
        return newer

    def _swap(self, older: Runtime, newer: Runtime) -> None:
        with replacing.succession(older, newer) as outliving:
            self._runtimes[newer.tenant.schema] = newer
        if outliving:
            presence.lost += outliving
            log.warning("%s runs of %s outlived the moving of their plugin's state", outliving, newer.tenant)
        self._retire(older)
        swapped.send_robust(sender=Runtime, tenant=newer.tenant, revision=newer.revision, generation=newer.code.number)

    def _note(self, tenant: Tenant, error: Exception, revision: int, generation: int) -> None:
        before = presence.problems.get(tenant.schema)
        problem = presence.problems[tenant.schema] = Problem.of(error, revision, generation, before)
        if before is None or before.why != problem.why:
            log.warning("Tenant %s stays at its last good runtime: %s", tenant, problem.why, exc_info=error)

    def _retire(self, runtime: Runtime) -> None:
        self._draining[runtime] = time.monotonic() + settings.DRAIN_SECONDS
        runtime.retire(self._end)

    def _end_overdue(self) -> None:
        now = time.monotonic()
        for runtime in [runtime for runtime, until in list(self._draining.items()) if until < now]:
            left = runtime.end()
            log.warning("%s runs of %s go on with revision %s after its end", left, runtime.tenant, runtime.revision)

    def _make_room(self, kept: str) -> None:
        surplus = len(self._runtimes) - settings.RUNTIMES
        if surplus <= 0:
            return
        idle = [r for schema, r in list(self._runtimes.items()) if schema != kept and not r.busy]
        for runtime in sorted(idle, key=lambda runtime: runtime.used)[:surplus]:
            lock = self._lock(runtime.tenant)
            if not lock.acquire(blocking=False):
                continue  # it is being replaced
            try:
                if self._runtimes.get(runtime.tenant.schema) is not runtime:
                    continue
                del self._runtimes[runtime.tenant.schema]
            finally:
                lock.release()
            self._retire(runtime)

    def _lock(self, tenant: Tenant) -> threading.RLock:
        return self._locks.setdefault(tenant.schema, threading.RLock())

    def _run(self) -> None:
        stop = self._stop
        hints = Hints(stop)
        while not stop.is_set():
            try:
                self.look()
                self.say()
                close_old_connections()
            except Exception:  # the thread must outlive whatever one look may meet
                log.warning("The fleet's heads cannot be read; serving what is loaded", exc_info=True)
            hints.wait(settings.POLL_SECONDS)
        hints.close()
        try:
            tenancy.gate(PUBLIC, presence.leave)
        except Exception:
            log.debug("This process could not leave the fleet", exc_info=True)
        connections.close_all()

    def _end(self, runtime: Runtime) -> None:
        """Deactivate what is gone in a thread of its own: a plugin that hangs there holds nobody else up."""
        self._draining.pop(runtime, None)
        if runtime.instances.actives():
            self._background.run(f"end {id(runtime)}", tenancy.gate, runtime.tenant, runtime.instances.end)
        else:
            runtime.instances.end()


class TenantPlugins(Mapping[str, Plugin]):
    """A tenant's enabled registrations, by name; each plugin is brought up when it is first looked at."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant

    def __getitem__(self, name: str) -> Plugin:
        with lease(self.tenant) as runtime:
            if name not in self._names(runtime):
                raise KeyError(name)
            return runtime.instances.get(name).plugin

    def __iter__(self) -> Iterator[str]:
        with lease(self.tenant) as runtime:
            return iter(self._names(runtime))

    def __len__(self) -> int:
        with lease(self.tenant) as runtime:
            return len(self._names(runtime))

    @staticmethod
    def _names(runtime: Runtime) -> list[str]:
        return [name for name, spec in runtime.configuration.registrations.items() if spec.enabled]


registry = Registry()
acquire = registry.acquire
aacquire = registry.aacquire
refresh = registry.refresh


def _anew() -> None:
    inherited = {*registry.runtimes(), *registry._draining}
    for runtime in inherited:
        runtime.disown()
    forks.keep(*inherited)  # a plugin that is collected may say goodbye to somebody
    registry.reset()


forks.in_child(_anew, "the runtimes with their live plugins, and the thread that follows the fleet")


@contextmanager
def lease(tenant: Tenant) -> Iterator[Runtime]:
    """Hold the tenant's runtime of now: what it serves does not change until it is given back."""
    runtime = registry.acquire(tenant)
    try:
        yield runtime
    finally:
        runtime.release()


def plugins_for(tenant: Any) -> TenantPlugins:
    """Return a tenant's plugins by registration name: `plugins_for(tenant)["redact"]`.

    Takes the host's tenant model, a `Tenant`, or a schema's name. Raises `NoTenant` where there is no such schema.
    """
    return TenantPlugins(tenancy.find(tenancy.value_of(tenant).schema))


def _waits(problem: Problem | None, revision: int, generation: int) -> bool:
    return problem is not None and problem.holds(revision, generation)


def numbers(tenant: Tenant | None = None, *, using: str | None = None) -> dict[str, int]:
    """Return each tenant's newest revision, or one's, and the newest generation under an empty name: one query."""
    heads = Head.objects.using(using).values_list("schema", "revision")
    if tenant is not None:
        heads = heads.filter(schema=tenant.schema)
    generations = Generation.objects.using(using).order_by().values(none=Value(""))
    newest = generations.annotate(newest=Max("number")).values_list("none", "newest")
    return {schema: number or 0 for schema, number in heads.union(newest)}


def _newest(tenant: Tenant) -> int:
    row = tenancy.gate(
        PUBLIC, lambda: Head.objects.filter(schema=tenant.schema).values_list("revision", flat=True).first()
    )
    return row or 0
