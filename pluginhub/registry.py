"""The runtimes this process serves, and how they follow the fleet.

The number is the truth: a thread compares all loaded tenants with the fleet's heads, in one query, every
`POLL_SECONDS`. Messages on Redis only make it look sooner. A process that cannot build a revision keeps the last good
one, and says so in its row of the fleet.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.db import (
    DatabaseError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    close_old_connections,
    connections,
)
from django.utils import timezone

from pluginhub import crossing, tenancy
from pluginhub.conf import settings
from pluginhub.configuration import Configuration
from pluginhub.exceptions import NotReady
from pluginhub.fleet.models import Head, Process
from pluginhub.following import Hints
from pluginhub.models import Revision
from pluginhub.plugins import Plugin
from pluginhub.runtimes import Runtime
from pluginhub.types import PUBLIC, Tenant

__all__ = ["Registry", "TenantPlugins", "aacquire", "acquire", "lease", "plugins_for", "refresh", "registry"]

log = logging.getLogger("pluginhub.registry")

SEEN_SECONDS = 5.0
"""How often a process says in the fleet that it lives."""
GONE_SECONDS = 60.0


class Registry:
    """The tenants' runtimes of one process. Lives as long as the process; a forked child starts with an empty one."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything, without deactivating it: after a fork, what was inherited belongs to the parent."""
        self.process = uuid.uuid4()
        self.kind = "web"
        self.started = timezone.now()
        self._runtimes: dict[str, Runtime] = {}
        self._errors: dict[str, str] = {}
        self._locks: dict[str, threading.RLock] = {}
        self._ending: set[threading.Thread] = set()
        self._starting = threading.Lock()
        self._follower: threading.Thread | None = None
        self._follows = True
        self._stop = threading.Event()

    def clear(self) -> None:
        """Let go of every runtime, and go on following: the next call loads its tenant anew."""
        for schema in list(self._runtimes):
            runtime = self._runtimes.pop(schema, None)
            if runtime is not None:
                runtime.retire(self._end)
        self._errors.clear()

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

    def _let_go(self, runtime: Runtime) -> None:
        """Forget a runtime that has ended, unless another stands in its place already."""
        with self._lock(runtime.tenant):
            if self._runtimes.get(runtime.tenant.schema) is runtime:
                del self._runtimes[runtime.tenant.schema]

    def running(self) -> dict[str, int]:
        """Return the revision that runs here, by schema."""
        return {schema: runtime.revision for schema, runtime in list(self._runtimes.items())}

    # Following

    def refresh(self, tenant: Tenant) -> None:
        """Compare one tenant with its newest revision now, and follow. One query when nothing changed."""
        runtime = self._runtimes.get(tenant.schema)
        if runtime is not None and crossing.apart(_newest, tenant) != runtime.revision:
            crossing.apart(self._replace, tenant)

    def look(self) -> None:
        """Compare every loaded tenant with the fleet's heads, in one query, and follow where they differ."""
        heads = dict(tenancy.gate(PUBLIC, lambda: list(Head.objects.values_list("schema", "revision"))))
        for schema, runtime in list(self._runtimes.items()):
            head = heads.get(schema, runtime.revision)
            # Once for each number: a restored schema may never have the revision its head names.
            if head not in (runtime.revision, runtime.head):
                self._replace(runtime.tenant, head)

    def follow(self, kind: str | None = None) -> None:
        """Start the thread that follows the fleet, once. `kind` names this process there: web, worker, command."""
        self.kind = kind or self.kind
        if self._follows and not self._is_followed():
            with self._starting:
                if not self._is_followed():
                    self._follower = threading.Thread(target=self._run, name="pluginhub-follow", daemon=True)
                    self._follower.start()

    def _is_followed(self) -> bool:
        return self._follower is not None and self._follower.is_alive()

    def refrain(self) -> None:
        """Start no thread that follows: for a short-lived process, which calls `refresh` before each job."""
        self._follows = False

    def stop(self) -> None:
        """End the following thread, and take this process out of the fleet."""
        follower, self._follower = self._follower, None
        if follower is not None:
            self._stop.set()
            follower.join(timeout=5)
            self._stop = threading.Event()
        for thread in list(self._ending):
            thread.join(timeout=5)

    def state(self) -> dict[str, Any]:
        """Return what the fleet's view shows of this process."""
        return {"revisions": self.running(), "errors": dict(self._errors)}

    # Inside

    def _load(self, tenant: Tenant) -> Runtime:
        self.follow()
        with self._lock(tenant):
            runtime = self._runtimes.get(tenant.schema)
            if runtime is None:
                runtime = tenancy.gate(tenant, _build, tenant)
                self._runtimes[tenant.schema] = runtime
                self._make_room(tenant.schema)
            return runtime

    def _replace(self, tenant: Tenant, head: int = 0) -> None:
        """Build the newest revision aside and swap it in; on failure keep what serves, and keep the reason."""
        with self._lock(tenant):
            older = self._runtimes.get(tenant.schema)
            try:
                newer = tenancy.gate(tenant, _build, tenant)
            except Exception as error:
                self._errors[tenant.schema] = f"{type(error).__name__}: {error}"
                log.exception("Tenant %s stays at its last good revision", tenant)
                return
            newer.head = head
            self._errors.pop(tenant.schema, None)
            if older is not None:
                newer.instances.carry_over(older.instances)
            self._runtimes[tenant.schema] = newer
        if older is not None:
            older.retire(self._end)

    def _make_room(self, kept: str) -> None:
        surplus = len(self._runtimes) - settings.RUNTIMES
        if surplus <= 0:
            return
        idle = [r for schema, r in list(self._runtimes.items()) if schema != kept and not r.busy]
        for runtime in sorted(idle, key=lambda runtime: runtime.used)[:surplus]:
            with self._lock(runtime.tenant):
                if self._runtimes.get(runtime.tenant.schema) is not runtime:
                    continue  # replaced meanwhile
                del self._runtimes[runtime.tenant.schema]
            runtime.retire(self._end)

    def _lock(self, tenant: Tenant) -> threading.RLock:
        return self._locks.setdefault(tenant.schema, threading.RLock())

    def _run(self) -> None:
        stop = self._stop
        hints = Hints(stop)
        said = 0.0
        while not stop.is_set():
            try:
                if time.monotonic() - said >= SEEN_SECONDS:
                    said = time.monotonic()
                    tenancy.gate(PUBLIC, self.say_alive)
                self.look()
                close_old_connections()
            except Exception:  # the thread must outlive whatever one look may meet
                log.warning("The fleet's heads cannot be read; serving what is loaded", exc_info=True)
            hints.wait(settings.POLL_SECONDS)
        self._leave(hints)

    def _leave(self, hints: Hints) -> None:
        hints.close()
        try:
            tenancy.gate(PUBLIC, lambda: Process.objects.filter(id=self.process).delete())
        except (DatabaseError, InterfaceError):
            log.debug("This process could not leave the fleet", exc_info=True)
        connections.close_all()

    def say_alive(self) -> None:
        """Write this process's row of the fleet, and remove those of processes long silent. In `PUBLIC`."""
        now = timezone.now()
        facts = {"kind": self.kind, "host": socket.gethostname(), "pid": os.getpid(), "seen": now}
        Process.objects.update_or_create(
            id=self.process, defaults={**facts, "started": self.started, "state": self.state()}
        )
        Process.objects.filter(seen__lt=now - timedelta(seconds=GONE_SECONDS)).delete()

    def _end(self, runtime: Runtime) -> None:
        """Deactivate what is gone in a thread of its own: a plugin that hangs there holds nobody else up."""
        if not runtime.instances.any():
            return
        thread = threading.Thread(target=self._end_in, args=(runtime,), name="pluginhub-end", daemon=True)
        self._ending.add(thread)
        thread.start()

    def _end_in(self, runtime: Runtime) -> None:
        try:
            with tenancy.visit(runtime.tenant):
                runtime.instances.end()
        finally:
            connections.close_all()
            self._ending.discard(threading.current_thread())


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
os.register_at_fork(after_in_child=registry.reset)


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


def _newest(tenant: Tenant) -> int:
    row = tenancy.gate(
        PUBLIC, lambda: Head.objects.filter(schema=tenant.schema).values_list("revision", flat=True).first()
    )
    return row or 0


def _build(tenant: Tenant) -> Runtime:
    """Read the tenant's newest revision, in the tenant: one query."""
    try:
        row = Revision.objects.order_by("-number").values_list("number", "data").first()
    except OperationalError as error:
        raise NotReady(
            f"The configuration of tenant {tenant} cannot be read: the database does not answer.",
            hint="It is tried again at the next call.",
        ) from error
    except ProgrammingError as error:
        raise NotReady(
            f"Tenant {tenant} has not been migrated.", hint=f"Run manage.py migrate_schemas --schema {tenant.schema}."
        ) from error
    if row is None:
        return Runtime(tenant, 0, Configuration())
    number, data = row
    return Runtime(tenant, number, Configuration.model_validate(data))
