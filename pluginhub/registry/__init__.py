"""The runtimes this process serves, and how they follow the fleet.

The number is the truth: a thread compares all loaded tenants with the fleet's heads, and the code with the fleet's
generation, in one query, every `POLL_SECONDS`. Messages on Redis only make it look sooner. A process that cannot take
what is wanted keeps what it has, says so in its row of the fleet, and tries again ever later.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pluginhub import forks, tenancy
from pluginhub.registry.following import Registry, numbers
from pluginhub.registry.kept import Held
from pluginhub.registry.plugins import TenantPlugins
from pluginhub.runtimes import Runtime
from pluginhub.types import Tenant

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
    return TenantPlugins(tenancy.find(tenancy.value_of(tenant).schema), lease)
