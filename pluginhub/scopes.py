"""How long a service lives: for authors of providers, who import this without Django."""

from __future__ import annotations

from dishka import Scope
from dishka.entities.scope import BaseScope

__all__ = ["LIFETIMES", "PROCESS", "RUN", "TENANT", "lifetime"]

PROCESS = Scope.APP
"""Made once a process, for all tenants. May take process services only, and sees no tenant."""

TENANT = Scope.SESSION
"""Made once a tenant, as long as that is in use in a process. May take `Tenant`, and process services."""

RUN = Scope.REQUEST
"""Made once a run, at the first `context.get`. May take `Caller` and `Tenant`, and services of all kinds."""

LIFETIMES: dict[BaseScope, str] = {
    Scope.RUNTIME: "as long as the process",
    PROCESS: "as long as the process",
    TENANT: "as long as its tenant is in use",
    RUN: "as long as one run",
}


def lifetime(scope: BaseScope | None) -> str:
    """Return in words how long services of a scope live."""
    return LIFETIMES.get(scope, "in a scope that is never opened") if scope is not None else "for ever"
