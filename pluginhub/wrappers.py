"""The interceptors of one runtime: those that an operator bound, and those that plugins add while they are active."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from pluginhub.configuration import Configuration, InterceptorSpec, served
from pluginhub.exceptions import PluginHubError
from pluginhub.flights import Flights
from pluginhub.handoffs import Turnstile
from pluginhub.instances import Instances
from pluginhub.interceptors import Interceptor, intercept_of
from pluginhub.offers import Offers
from pluginhub.types import Scope, Tenant
from pluginhub.ways import RequestLayer

__all__ = ["Wrappers"]

log = logging.getLogger("pluginhub.wrappers")

_Added: TypeAlias = dict[Scope, list[tuple[Interceptor, Turnstile | None]]]
"""What plugins add, and where those are counted who pass it, if the plugin has state to hand over."""


@dataclass(slots=True, eq=False)
class Wrappers:
    """Finds what wraps requests, calls, jobs and streams, outermost first. Lives as long as its runtime."""

    tenant: Tenant
    configuration: Configuration
    offers: Offers
    instances: Instances
    _orders: dict[Scope, tuple[InterceptorSpec, ...]] = field(default_factory=dict)
    _layers: tuple[RequestLayer, ...] | None = None
    _wraps: bool | None = None
    _added: _Added | None = None
    _adding: threading.RLock = field(default_factory=threading.RLock)
    _flights: Flights = field(default_factory=Flights)

    def bindings(self, scope: Scope) -> tuple[InterceptorSpec, ...]:
        """Return the bindings of a scope, outermost first: an order that is told once."""
        found = self._orders.get(scope)
        if found is None:
            told = served(self.configuration, scope, self.offers.code.known, tenant=self.tenant)
            found = self._orders.setdefault(scope, told)
        return found

    def around(self, scope: Scope, target: str | None = None, *, outside: bool = True) -> list[Interceptor]:
        """Return the interceptors of a scope around a target, outermost first; may activate.

        Those bound to no target wrap what is called from outside; those bound by name wrap every call of that target.
        """
        found = [
            self._interceptor(binding)
            for binding in self.bindings(scope)
            if target in binding.targets or (outside and not binding.targets)
        ]
        return found + ([each for each, _ in self._from_plugins().get(scope, [])] if outside else [])

    def bound_to_jobs(self, targets: Iterable[str]) -> set[str]:
        """Name the registrations whose interceptors are bound to jobs of any of some targets."""
        names = set(targets)
        return {each.registration for each in self.bindings("job") if not each.targets or names & set(each.targets)}

    def request_layers(self) -> tuple[RequestLayer, ...]:
        """Return the interceptors of HTTP requests, outermost first; may activate. One that fails says why."""
        if self._layers is None:
            layers = [self._request_layer(binding) for binding in self.bindings("request")]
            added = self._from_plugins().get("request", [])
            layers += [RequestLayer("", (), False, each, turnstile=turnstile) for each, turnstile in added]
            if any(layer.intercept is None for layer in layers):
                return tuple(layers)  # to be tried again
            self._layers = tuple(layers)
        return self._layers

    async def arequest_layers(self) -> tuple[RequestLayer, ...]:
        """The asynchronous twin of `request_layers`."""
        layers = self._layers
        return layers if layers is not None else await self._flights.arun("layers of requests", self.request_layers)

    @property
    def has_layers(self) -> bool:
        """Whether the interceptors of requests were brought up."""
        return self._layers is not None

    @property
    def request_prefixes(self) -> list[str]:
        """The path prefixes that request interceptors are bound to."""
        return [binding.path_prefix for binding in self.bindings("request")]

    @property
    def wraps_requests(self) -> bool:
        """Whether any request interceptor can exist, told without activating anything."""
        if self._wraps is None:
            self._wraps = bool(self.bindings("request")) or any(self.offers.adding_middleware())
        return self._wraps

    def _interceptor(self, binding: InterceptorSpec) -> Interceptor:
        return intercept_of(self.instances.get(binding.registration).plugin, may_yield=binding.scope == "stream")

    def _request_layer(self, binding: InterceptorSpec) -> RequestLayer:
        found = (binding.path_prefix, binding.methods, binding.required)
        try:
            intercept, turnstile = self._interceptor(binding), self.instances.get(binding.registration).turnstile
            return RequestLayer(*found, intercept, registration=binding.registration, turnstile=turnstile)
        except PluginHubError as error:
            log.warning("The request interceptor %s of %s is not ready: %s", binding.registration, self.tenant, error)
            return RequestLayer(*found, None, str(error), binding.registration)

    def _from_plugins(self) -> _Added:
        if self._added is None:
            with self._adding:
                if self._added is None:
                    self._added = self._gather_added()
        return self._added

    def _gather_added(self) -> _Added:
        added: _Added = {}
        for name in self.offers.adding_middleware():
            try:
                active = self.instances.get(name)
            except PluginHubError as error:
                log.warning("%s of %s adds no interceptors: %s", name, self.tenant, error)
                continue
            for scope, function in active.services.middleware.added:
                interceptor = intercept_of(function, may_yield=scope == "stream")
                added.setdefault(scope, []).append((interceptor, active.turnstile))
        return added
