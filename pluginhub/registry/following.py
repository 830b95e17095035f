"""Following the fleet: newest revisions and the newest generation of code, by their numbers."""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from django.db import close_old_connections, connections
from django.db.models import Max, Value

from pluginhub import crossing, loading, providers, replacing, tenancy
from pluginhub.background import Background
from pluginhub.conf import settings
from pluginhub.fleet.models import Generation, Head
from pluginhub.following import Hints, ring
from pluginhub.presence import Problem, presence
from pluginhub.registry.kept import Kept
from pluginhub.runtimes import Runtime
from pluginhub.signals import swapped
from pluginhub.types import PUBLIC, Tenant

__all__ = ["Number", "Registry", "numbers"]

log = logging.getLogger("pluginhub.registry")


class Registry(Kept):
    """Runtimes that follow the fleet."""

    catch_up: Callable[[int], None]
    """Brings this process to a generation of code; set by `reloading`, when the app is ready."""

    watch: Callable[[Background, threading.Event], None]
    """Begins to watch files of plugins, where a developer works on them; set to that of `watching`."""

    def __init__(self) -> None:
        self.catch_up = lambda generation: None
        self.watch = lambda background, stop: None
        super().__init__()

    def reset(self) -> None:
        super().reset()
        presence.reset()
        self.coming: loading.Code | None = None
        """The code that is being brought to one tenant after the other; who has it must not go back."""
        self.renewing = threading.Lock()
        """Held by the one who brings new code."""
        self._starting = threading.Lock()
        self._follower: threading.Thread | None = None
        self._follows = True
        self._stop = threading.Event()

    def refresh(self, tenant: Tenant) -> None:
        """Compare one tenant with its newest revision now, and follow. One query when nothing changed."""
        runtime = self._runtimes.get(tenant.schema)
        if runtime is not None:
            newest = crossing.apart(_newest, tenant)
            crossing.apart(self._follow_resets, runtime, newest.resets)
            if newest.revision != runtime.revision:
                crossing.apart(self.replace, tenant, newest.revision)

    def look(self) -> None:
        """Compare all loaded tenants, and the code, with what the fleet wants, in one query; follow what differs."""
        self.follow_numbers(tenancy.gate(PUBLIC, numbers))
        self._end_overdue()

    def follow_numbers(self, numbers: dict[str, Number]) -> None:
        """Follow the newest revisions, by schema, and the newest generation, under an empty name."""
        generation = numbers.pop("", Number()).revision
        code = self.coming or loading.current()
        # Another number, not a larger one: the fleet's tables may have been restored.
        if generation not in (0, code.number) and not _waits(presence.generation_problem, 0, generation):
            self._do("reload", self.catch_up, generation)
        for schema, runtime in list(self._runtimes.items()):
            head, resets = numbers.get(schema, Number(runtime.revision, runtime.resets.number))
            self._follow_resets(runtime, resets)
            # Once for each number: a restored schema may never have the revision its head names.
            is_behind = head not in (runtime.revision, runtime.head) or runtime.code is not code
            if is_behind and not _waits(presence.problems.get(schema), head, code.number):
                try:
                    self._follow_one(runtime, head)
                except Exception as error:  # of one tenant: the others follow
                    self._note(runtime.tenant, error, head, code.number)

    def _follow_resets(self, runtime: Runtime, number: int) -> None:
        """Close the breakers that an operator closed; caches look at their counters themselves."""
        try:
            closed = runtime.resets.follow(runtime.tenant, number)
            runtime.instances.close_breakers(closed)
            serving = self._runtimes.get(runtime.tenant.schema)  # it may have been replaced meanwhile
            if serving is not None and serving is not runtime:
                serving.instances.close_breakers(closed)
        except Exception:  # of one tenant: the others follow, and this one is looked at again
            log.warning("The resets of %s cannot be read", runtime.tenant, exc_info=True)

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
                    atexit.unregister(self.leave)
                    atexit.register(self.leave)
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
            ring(_own_channel())  # it may be listening for as long as POLL_SECONDS
            follower.join(timeout=5)
            self._stop = threading.Event()
        self._background.join(5)

    def say(self) -> None:
        """Write this process's row of the fleet, if there is news."""
        tenancy.gate(PUBLIC, presence.say, self.running(), loading.current(), self.breakers())

    def leave(self) -> None:
        """Take everything down in this thread: for a process that ends by itself. One that is killed skips this."""
        self.stop()
        for runtime in [self._runtimes.pop(schema) for schema in list(self._runtimes)]:
            runtime.retire(lambda ended: None)
            tenancy.gate(runtime.tenant, runtime.instances.end)
        providers.close()

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
            wanted = code or self.coming or loading.current()
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
            newer = replacing.build(older.tenant, code, older.resets)
            newer.head = head
        try:
            newer.instances.carry_over(older.instances)
        except BaseException:
            newer.instances.end()
            raise
        return newer

    def _swap(self, older: Runtime, newer: Runtime) -> None:
        with replacing.succession(older, newer) as outliving:
            self._runtimes[newer.tenant.schema] = newer
        if outliving:
            presence.lost += outliving
            log.warning("%s runs and streams of %s outlived the moving of a state", outliving, newer.tenant)
        self._retire(older)
        swapped.send_robust(sender=Runtime, tenant=newer.tenant, revision=newer.revision, generation=newer.code.number)

    def _note(self, tenant: Tenant, error: Exception, revision: int, generation: int) -> None:
        before = presence.problems.get(tenant.schema)
        problem = presence.problems[tenant.schema] = Problem.of(error, revision, generation, before)
        if before is None or before.why != problem.why:
            log.warning("Tenant %s stays at its last good runtime: %s", tenant, problem.why, exc_info=error)

    def _run(self) -> None:
        stop = self._stop
        hints = Hints(stop, _own_channel())
        while not stop.is_set():
            try:
                self.look()
                self.say()
                close_old_connections()
                hints.wait(settings.POLL_SECONDS)
            except Exception:  # the thread must outlive whatever one look may meet
                log.warning("The fleet's heads cannot be read; serving what is loaded", exc_info=True)
                stop.wait(1.0)
        hints.close()
        try:
            tenancy.gate(PUBLIC, presence.leave)
        except Exception:
            log.debug("This process could not leave the fleet", exc_info=True)
        connections.close_all()


def _own_channel() -> str:
    return f"pluginhub:process:{presence.id}"


def _waits(problem: Problem | None, revision: int, generation: int) -> bool:
    return problem is not None and problem.holds(revision, generation)


class Number(NamedTuple):
    """What the fleet's numbers say of one tenant."""

    revision: int = 0
    resets: int = 0


def numbers(tenant: Tenant | None = None, *, using: str | None = None) -> dict[str, Number]:
    """Return each tenant's newest numbers, or one's, and the newest generation under an empty name: one query."""
    heads = Head.objects.using(using).values_list("schema", "revision", "resets")
    if tenant is not None:
        heads = heads.filter(schema=tenant.schema)
    generations = Generation.objects.using(using).order_by().values(none=Value(""))
    newest = generations.annotate(newest=Max("number"), zero=Value(0)).values_list("none", "newest", "zero")
    return {schema: Number(number or 0, resets) for schema, number, resets in heads.union(newest)}


def _newest(tenant: Tenant) -> Number:
    rows = Head.objects.filter(schema=tenant.schema).values_list("revision", "resets")
    return Number(*(tenancy.gate(PUBLIC, rows.first) or ()))
