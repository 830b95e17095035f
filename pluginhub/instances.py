"""Live plugin instances of one tenant: built from registrations, activated once, carried from runtime to runtime."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pluginhub import building, crossing, drivers, lifecycles, loading, tenancy
from pluginhub.configuration import CompositionSpec, Configuration, RegistrationSpec
from pluginhub.context import Context, Services
from pluginhub.drivers import Colour, Node
from pluginhub.exceptions import NotReady, PluginHubError, UnknownTarget, problem_of
from pluginhub.plugins import CompositePlugin, Plugin
from pluginhub.types import Tenant

__all__ = ["Active", "Instances", "handlers_of"]

log = logging.getLogger("pluginhub.instances")

RETRY_SECONDS = 1.0
"""How long a registration that could not be activated is left alone."""


@dataclass(slots=True)
class Active:
    """A live plugin instance. Lives until no runtime holds it."""

    plugin: Plugin
    services: Services
    key: tuple[Any, ...] | None
    """What it was made of; `None` where it cannot be carried over."""
    holders: int = 1

    def deactivate(self) -> None:
        try:
            lifecycles.deactivate(self.plugin, self.services)
        except BaseException:
            log.exception("%s of tenant %s did not go down cleanly", self.services.name, self.services.tenant)


class Instances:
    """The instances that one runtime uses. Lives as long as the runtime."""

    def __init__(self, tenant: Tenant, configuration: Configuration, member: Callable[[str], Node]) -> None:
        self.tenant = tenant
        self.configuration = configuration
        self._member = member
        self._actives: dict[str, Active] = {}
        self._failed: dict[str, tuple[float, NotReady]] = {}
        self._locks: dict[str, threading.RLock] = {}

    def get(self, name: str) -> Active:
        """Return the instance of a registration, or of a composition with code of its own. May activate, once."""
        active = self._actives.get(name)
        return active if active is not None else crossing.apart(self._activate_once, name)

    def carry_over(self, older: Instances) -> None:
        """Take over the older runtime's instances of registrations that did not change."""
        for name, active in list(older._actives.items()):
            if active.key is not None and self._key(name) == active.key:
                active.holders += 1
                self._actives[name] = active

    def any(self) -> bool:
        """Say whether anything was brought up."""
        return bool(self._actives)

    def end(self) -> None:
        """Deactivate what no other runtime holds, last come first gone."""
        actives = list(self._actives.values())
        self._actives.clear()
        for active in reversed(actives):
            active.holders -= 1
            if active.holders == 0:
                active.deactivate()

    def _activate_once(self, name: str) -> Active:
        with self._locks.setdefault(name, threading.RLock()):
            active = self._actives.get(name)
            if active is None:
                self._refuse_what_just_failed(name)
                with tenancy.visit(self.tenant):
                    active = self._actives[name] = self._try(name)
            return active

    def _try(self, name: str) -> Active:
        try:
            return self._activate(name)
        except NotReady as error:
            self._failed[name] = (time.monotonic() + RETRY_SECONDS, error)
            raise

    def _refuse_what_just_failed(self, name: str) -> None:
        """Answer for a while with the reason it failed for: each try may take long, and those who wait would queue."""
        until, error = self._failed.get(name, (0.0, None))
        if error is not None and until > time.monotonic():
            raise NotReady(error.detail, hint=error.hint, **error.extra)

    def _activate(self, name: str) -> Active:
        spec = self.configuration.spec(name)
        if not isinstance(spec, RegistrationSpec | CompositionSpec) or not spec.plugin:
            raise UnknownTarget(name, self.configuration.registrations, kind="registration")
        cls = loading.load(spec.plugin)
        services = building.services_of(spec, self.tenant)
        try:
            plugin = building.build(cls, spec, services)
            self._give_members(plugin, spec)
            lifecycles.activate(plugin, services)
        except PluginHubError:
            raise
        except Exception as error:
            log.exception("%s of tenant %s could not be activated", name, self.tenant)
            raise NotReady(
                f"{name!r} could not be activated: {problem_of(error)['detail']}",
                hint="The process's log has the traceback.",
            ) from error
        return Active(plugin, services, self._key(name))

    def _give_members(self, plugin: Plugin, spec: RegistrationSpec | CompositionSpec) -> None:
        if isinstance(spec, CompositionSpec) and isinstance(plugin, CompositePlugin):
            for member in spec.members:
                child = _Member(self._member(member.target))
                plugin.add_plugin(child, key=member.key or member.target, required=member.required)

    def _key(self, name: str) -> tuple[Any, ...] | None:
        """What an instance is made of: it serves on as long as this stays the same."""
        if name not in self.configuration.names():
            return None
        spec = self.configuration.spec(name)
        if isinstance(spec, RegistrationSpec) and spec.enabled:
            return (spec.plugin, spec.config, spec.config_version)
        return None  # a parent holds its members' nodes, which belong to one runtime


class _Member(Plugin):
    """A composition's member as its parent's code sees it: a target of the tenant. Its life is not the parent's."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.node = node
        if node.colour is Colour.SYNC:
            self.process = lambda value, context: node.call(value, context._run)
        else:
            self.process = self._aprocess

    async def _aprocess(self, value: Any, context: Context) -> Any:
        return await drivers.arun(self.node, value, context._run)


def handlers_of(active: Active) -> Mapping[str, Callable[..., Any]]:
    """Return what a plugin passed to `context.jobs.process`, by name."""
    handlers: Mapping[str, Callable[..., Any]] = getattr(active.services.jobs, "handlers", {})
    return handlers
