"""One tenant's published configuration, brought to life in this process.

Building a runtime checks data only. A target is imported, activated and linked at its first call, once, whoever asks.
A runtime never changes what it serves: a new revision is a new runtime, to which instances whose registration did not
change are carried over. Runs finish on the runtime they began with; when the last has ended, what is gone goes down.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from time import monotonic

from pluginhub import loading, providers
from pluginhub.configuration import ChainSpec, Configuration
from pluginhub.encryption import secrets_in
from pluginhub.instances import Instances
from pluginhub.linking import Links, plugin_of
from pluginhub.offers import Offers
from pluginhub.resets import Resets
from pluginhub.types import Tenant
from pluginhub.wrappers import Wrappers

__all__ = ["Runtime"]


@dataclass(slots=True, eq=False)
class Runtime:
    """What one process serves of one tenant at one revision; 0 where nothing was published yet."""

    tenant: Tenant
    revision: int
    configuration: Configuration
    code: loading.Code = field(default_factory=loading.current)
    head: int = 0
    """The fleet's number it was built for, where the schema turned out to have another."""
    used: float = field(default_factory=monotonic)
    resets: Resets = field(default_factory=Resets)
    """How often breakers were closed and caches emptied: shared with the runtimes that follow."""
    _counter: threading.Lock = field(default_factory=threading.Lock)
    _leases: int = 0
    _retired: Callable[[Runtime], None] | None = None
    _ended: bool = False
    instances: Instances = field(init=False)
    offers: Offers = field(init=False)
    wrappers: Wrappers = field(init=False)
    links: Links = field(init=False)

    def __post_init__(self) -> None:
        self.offers = Offers(self.configuration, self.code)
        self.instances = Instances(
            self.tenant,
            self.configuration,
            self.code,
            lambda name: self.links.inside(name),
            lambda names: self.links.unlink(names),
        )
        self.wrappers = Wrappers(self.tenant, self.configuration, self.offers, self.instances)
        self.links = Links(self.configuration, self.offers, self.wrappers, self.resets)

    # Leases

    def acquire(self) -> bool:
        """Count one more run; false when the runtime was replaced and has ended meanwhile."""
        with self._counter:
            if self._retired is not None and self._leases == 0:
                return False
            self._leases += 1
        self.used = monotonic()
        return True

    def release(self) -> None:
        with self._counter:
            self._leases -= 1
            is_last = self._leases == 0 and self._retired is not None
        if is_last:
            self.end()

    def retire(self, when_ended: Callable[[Runtime], None]) -> None:
        """Serve no new runs; call `when_ended` once, after the last, or at `end`."""
        with self._counter:
            self._retired = when_ended
            idle = self._leases == 0
        if idle:
            self.end()

    def end(self) -> int:
        """Wait for runs no longer, and return how many there are still."""
        with self._counter:
            ended, self._ended = self._ended, True
        if not ended and self._retired is not None:
            self._retired(self)
        return self._leases

    def disown(self) -> None:
        """Serve and end nothing from here on: in a forked child, all of it is the parent's."""
        self._ended = True
        self._counter = threading.Lock()
        self.links.disown()
        for active in self.instances.actives().values():
            if active.turnstile is not None:
                active.turnstile.unlock()

    def follow(self, code: loading.Code) -> bool:
        """Go on with the code of another generation; false where that changes any plugin of this tenant."""
        plugins = {plugin_of(spec) for _, spec in self.configuration.targets()} - {""}
        if any(code.label(plugin) != self.code.label(plugin) for plugin in plugins):
            return False
        if providers.sources_of(code) != providers.sources_of(self.code):
            return False
        self.code = code
        self.instances.follow(code)
        self.offers = self.wrappers.offers = self.links.offers = Offers(self.configuration, code)
        return True

    def secrets(self) -> list[str]:
        """Return the secrets of all registrations, for who must not show them."""
        specs = [spec for _, spec in self.configuration.targets() if not isinstance(spec, ChainSpec)]
        return [
            secret for spec in specs for secret in secrets_in(spec.config, tenant=self.tenant, registration=spec.name)
        ]

    @property
    def busy(self) -> bool:
        return self._leases > 0

    def binding(self, targets: Iterable[str], *, requests: bool) -> set[str]:
        """Return the registrations that wrap jobs of targets, and requests where these are wrapped already."""
        wrapping = {each.registration for each in self.wrappers.bindings("request")} if requests else set()
        return self.wrappers.bound_to_jobs(targets) | wrapping
