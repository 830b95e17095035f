"""`context.jobs`: a registration's own view of the tenant's jobs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pluginhub import registry, tenancy
from pluginhub.exceptions import HookError
from pluginhub.jobs.enqueueing import enqueue
from pluginhub.types import HOST, Caller, Json, Tenant

__all__ = ["TenantJobs"]


class TenantJobs:
    """Enqueues for a registration and collects the handlers it adds. Lives as long as its plugin instance."""

    __slots__ = ("caller", "handlers", "open", "registration", "tenant")

    def __init__(self, tenant: Tenant, registration: str) -> None:
        self.tenant = tenant
        self.registration = registration
        self.handlers: dict[str, Callable[..., Any]] = {}
        self.open = False
        self.caller = Caller(registration, "host", trusted=True)

    def asked_by(self, caller: Caller) -> TenantJobs:
        """Return the same jobs, to be enqueued in a caller's name. The plugin's code is trusted with what it asks."""
        if caller is HOST:
            return self
        asked = copy.copy(self)
        asked.caller, asked.open = replace(caller, trusted=True), False
        return asked

    def enqueue(self, name: str, data: Json = None, **options: Any) -> str:
        """Write a job in the caller's transaction and return its id. Takes the options of `pluginhub.jobs.enqueue`.

        A bare name that is one of this registration's handlers means that; else it is a target, or a handler's full
        name.
        """
        options.setdefault("caller", self.caller)
        with tenancy.enter(self.tenant):
            return enqueue(self._full_name(name), data, **options)

    async def aenqueue(self, name: str, data: Json = None, **options: Any) -> str:
        """Do the same from asynchronous code, in one hop to a thread; so in no transaction of the caller's."""
        return await tenancy.agate(self.tenant, self.enqueue, name, data, **options)

    def process(self, name: str, handler: Callable[..., Any]) -> None:
        """Handle jobs named `<registration>.<name>` by `handler(data, context)`. Only in `activate`."""
        if not self.open:
            raise HookError("context.jobs.process works in activate only.", hint="Move the call there.")
        if not name or "." in name:
            raise HookError(f"A handler needs a name without dots, not {name!r}.", hint="Leave the registration out.")
        self.handlers[name] = handler

    def _full_name(self, name: str) -> str:
        if "." in name:
            return name
        own = f"{self.registration}.{name}"
        if name in self.handlers:
            return own
        with registry.lease(self.tenant) as runtime:
            return own if own in runtime.offers.handlers() else name
