"""Live plugin instances of one tenant: built from registrations, activated once, carried from runtime to runtime."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pluginhub import building, forks, lifecycles, loading, providers, tenancy
from pluginhub.breakers import Breaker
from pluginhub.conf import settings
from pluginhub.configuration import CompositionSpec, Configuration, MemberSpec, RegistrationSpec
from pluginhub.context import Context, Services
from pluginhub.drivers import Colour, Node
from pluginhub.exceptions import NotReady, PluginHubError, UnknownTarget, problem_of
from pluginhub.flights import Flights
from pluginhub.handoffs import Turnstile, has_state
from pluginhub.injection import Suppliers
from pluginhub.lifecycles import Limits
from pluginhub.plugins import CompositePlugin, Plugin
from pluginhub.presence import presence
from pluginhub.providers import TenantServices
from pluginhub.types import Tenant

__all__ = ["Active", "Instances", "handlers_of"]

log = logging.getLogger("pluginhub.instances")

RETRY_SECONDS = 1.0
"""How long a registration that could not be activated is left alone."""

_holding = threading.Lock()
_births = itertools.count(1)


def _anew() -> None:
    global _holding
    _holding = threading.Lock()


forks.in_child(_anew, "the lock of live plugins' holders")


@dataclass(slots=True, eq=False)
class Active:
    """A live plugin instance. Lives until no runtime holds it."""

    plugin: Plugin
    services: Services
    key: tuple[Any, ...]
    """What it was made of."""
    turnstile: Turnstile | None
    """Where runs are counted, if it has state to hand over."""
    givers: tuple[str, ...] = ()
    """The registrations whose plugins gave it services."""
    born: int = 0
    """Counts up as instances come up; they go down in reverse."""
    holders: int = 1
    breakers: dict[tuple[float, int, float], Breaker] = field(default_factory=dict)
    """By their settings: one whose settings changed begins anew."""

    def hold(self) -> None:
        with _holding:
            self.holders += 1

    def breaker(self, spec: RegistrationSpec) -> Breaker | None:
        """Return the breaker of a registration that has one: the same for all runtimes that hold this instance."""
        if spec.breaker_rate is None:
            return None
        settings = (spec.breaker_rate, spec.breaker_calls, spec.breaker_seconds)
        with _holding:
            found = self.breakers.get(settings)
            if found is None:
                opened = self.services.metrics.counter("breaker_opened", "How often breakers of a plugin opened")
                found = self.breakers[settings] = Breaker(*settings, when_opened=opened.inc)
            return found

    def let_go(self) -> None:
        """Deactivate it, if nobody else holds it."""
        with _holding:
            self.holders -= 1
            if self.holders:
                return
        try:
            lifecycles.deactivate(self.plugin, self.services, limits())
        except BaseException:
            log.exception("%s of tenant %s did not go down cleanly", self.services.name, self.services.tenant)


class Instances:
    """The instances that one runtime uses. Lives as long as the runtime."""

    def __init__(
        self,
        tenant: Tenant,
        configuration: Configuration,
        code: loading.Code,
        member: Callable[[str], Node],
        unlink: Callable[[Iterable[str]], None],
    ) -> None:
        self.tenant = tenant
        self.configuration = configuration
        self.code = code
        self._member = member
        self._unlink = unlink
        self._flights = Flights()
        self._successor: Instances | None = None
        self._actives: dict[str, Active] = {}
        self._failed: dict[str, tuple[float, PluginHubError]] = {}
        self._locks: dict[str, threading.RLock] = {}
        self._services: TenantServices | None = None
        self._suppliers: Suppliers | None = None
        self._ended = False

    @property
    def services(self) -> TenantServices:
        """The services of providers, held as long as these instances are."""
        with _holding:
            if self._services is None:
                self._services = providers.of(self.tenant, self.code)
                if not self._ended:
                    self._services.hold()
            return self._services

    def get(self, name: str) -> Active:
        """Return the instance of a registration, or of a composition with code of its own. May activate, once."""
        active = self._actives.get(name)
        return active if active is not None else self._flights.run(name, self._activate_once, name)

    def actives(self) -> Mapping[str, Active]:
        """Return what is up, by registration, in the order in which it came up."""
        return dict(self._actives)

    def breakers(self) -> dict[str, Breaker]:
        """Return the breakers of registrations that are up, by name."""
        found = {}
        for name, active in self._actives.copy().items():
            spec = self.configuration.registrations.get(name)
            if active.breakers and spec is not None and (breaker := active.breaker(spec)) is not None:
                found[name] = breaker
        return found

    def close_breakers(self, names: Iterable[str]) -> None:
        """Close the breakers of registrations, also those of other settings, to which they may be rolled back."""
        for name in names:
            active = self._actives.get(name)
            for breaker in list(active.breakers.values()) if active is not None else ():
                breaker.close()

    @property
    def is_empty(self) -> bool:
        """Whether nothing was brought up or opened."""
        return not self._actives and self._services is None

    def follow(self, code: loading.Code) -> None:
        """Go on with code that changes nothing here, and let the older go."""
        with _holding:
            self.code, self._suppliers = code, None

    def precede(self, newer: Instances) -> None:
        """Share with a successor what comes up from now on: there is one instance, whoever asked for it."""
        with _holding:
            self._successor = newer

    def carry_over(self, older: Instances) -> None:
        """Take over the older runtime's instances of registrations that did not change. May be called again."""
        theirs = older.actives()
        for name, active in sorted(theirs.items(), key=lambda each: each[1].born):
            has_givers = all(self._actives.get(giver) is theirs.get(giver) for giver in active.givers)
            if name not in self._actives and has_givers and self._key(name) == active.key:
                active.hold()
                self._actives[name] = active
        if self._actives:
            self.services  # noqa: B018 - what was carried over has some of them

    def end(self) -> None:
        """Deactivate what no other runtime holds, last come first gone. What comes up later goes down at once."""
        with _holding:
            self._ended = True
            actives = list(self._actives.values())
            self._actives.clear()
            services, self._services = self._services, None
        _take_down(actives)
        if services is not None:
            services.release()

    def _activate_once(self, name: str) -> Active:
        with self._locks.setdefault(name, threading.RLock()):
            active = self._actives.get(name)
            if active is None:
                self._refuse_what_just_failed(name)
                with tenancy.visit(self.tenant):
                    active = self._try(name)
                active = self._keep(name, active)
            return active

    def _keep(self, name: str, active: Active) -> Active:
        """Take in what has come up, or the one that has come up in its place meanwhile."""
        with _holding:
            kept = self._same(name, active)
            if kept is not None and not self._ended:
                self._actives[name] = kept
                if kept is active:
                    self._count_lost(name, active)
                    return active
                kept.holders += 1
        active.let_go()
        if kept is None or self._ended:
            raise NotReady(f"{name!r} came up after its time.", hint="Call it again.")
        return kept

    def _count_lost(self, name: str, active: Active) -> None:
        """Count what comes up with state that nobody takes over: a newer runtime serves already, with another one."""
        newer = self._successor
        if active.turnstile is not None and newer is not None and newer._actives.get(name) is not active:
            presence.lost += 1
            log.warning("%s of tenant %s came up behind its successor: its state is lost", name, self.tenant)

    def _same(self, name: str, active: Active) -> Active | None:
        """Return the instance that should serve under a name; where the successor has the same, it holds it, too."""
        here, newer = self._actives.get(name), self._successor
        if here is not None:
            return here
        if newer is None or newer._ended or newer._key(name) != active.key:
            return active
        there = newer._actives.get(name)
        if there is not None:
            return there if there.key == active.key else active
        newer._actives[name] = active
        active.holders += 1
        return active

    def _try(self, name: str) -> Active:
        try:
            return self._activate(name)
        except PluginHubError as error:
            self._failed[name] = (time.monotonic() + RETRY_SECONDS, error)
            raise

    def _refuse_what_just_failed(self, name: str) -> None:
        """Answer for a while with the reason it failed for: each try may take long, and those who wait would queue."""
        until, error = self._failed.get(name, (0.0, None))
        if error is not None and until > time.monotonic():
            raise NotReady(error.detail, hint=error.hint, **error.extra) from error.__cause__

    def _activate(self, name: str) -> Active:
        spec = self.configuration.spec(name)
        if not isinstance(spec, RegistrationSpec | CompositionSpec) or not spec.plugin:
            raise UnknownTarget(name, self.configuration.registrations, kind="registration")
        cls = self.code.load(spec.plugin)
        services = building.services_of(spec, self.tenant)
        givers: dict[str, None] = {}
        try:
            plugin = building.build(cls, spec, services, self._offering(name, givers), self.services.get)
            members = _give_members(plugin, spec)
            lifecycles.activate(plugin, services, limits())
            born = next(_births)
            try:
                building.check_provided(plugin, services)
                self._bring_up(members)
            except BaseException:
                self._take_down_again(plugin, services)
                raise
        except PluginHubError:
            raise
        except Exception as error:
            log.exception("%s of tenant %s could not be activated", name, self.tenant)
            raise NotReady(
                f"{name!r} could not be activated: {problem_of(error)['detail']}",
                hint="The process's log has the traceback.",
            ) from error
        turnstile = Turnstile() if has_state(plugin) else None
        return Active(plugin, services, self._key(name), turnstile, tuple(givers), born)

    def _take_down_again(self, plugin: Plugin, services: Services) -> None:
        try:
            lifecycles.deactivate(plugin, services, limits())
        except Exception:
            log.exception("%s of %s did not go down cleanly", services.name, self.tenant)

    def _offering(self, asking: str, givers: dict[str, None]) -> Callable[[Any], Any]:
        """Return what gives a plugin the services of others, which come up first and are noted in `givers`."""
        if self._suppliers is None:
            self._suppliers = building.suppliers(self.configuration, self.code)
        suppliers = self._suppliers
        suppliers.check(asking)

        def offered(wanted: Any) -> Any:
            giver = suppliers.of(wanted, asking)
            found = self.get(giver).services.provided[wanted]
            givers[giver] = None
            return found

        return offered

    def _bring_up(self, members: list[_Member]) -> None:
        """Bring a parent's members up after it, in order; if a required one fails, the others go down again."""
        for member in members:
            try:
                member.bind(self._member(member.spec.target))
            except Exception as error:
                if member.spec.required:
                    self._take_back(members)
                    raise
                log.warning("A composition of %s goes without %s: %s", self.tenant, member.spec.target, error)

    def _take_back(self, members: Iterable[_Member]) -> None:
        """Take down the private members that came up with a parent which then failed."""
        private = self.configuration.private().intersection(member.spec.target for member in members)
        self._unlink(private)
        _take_down([self._actives.pop(name) for name in private if name in self._actives])

    def _key(self, name: str) -> tuple[Any, ...]:
        """What an instance is made of: it serves on as long as this stays the same."""
        if name not in self.configuration.names():
            return ()
        spec = self.configuration.spec(name)
        if not isinstance(spec, RegistrationSpec | CompositionSpec) or not spec.enabled:
            return ()
        members = spec.members if isinstance(spec, CompositionSpec) else ()
        code = (self.code.label(spec.plugin), providers.sources_of(self.code))
        return (spec.plugin, *code, spec.config, spec.config_version, members)


class _Member(Plugin):
    """A composition's member as its parent's code sees it: a target of the tenant, in the runtime of each run."""

    def __init__(self, spec: MemberSpec) -> None:
        super().__init__()
        self.spec = spec
        self.process: Callable[..., Any] = self._absent

    def bind(self, node: Node) -> None:
        """Be called in the colour of what it stands for."""
        self.process = self._process if node.colour is Colour.SYNC else self._aprocess

    def _absent(self, value: Any, context: Context) -> Any:
        raise NotReady(f"The member {self.spec.target!r} is not ready.", hint="It is tried again at the next publish.")

    def _process(self, value: Any, context: Context) -> Any:
        return context.call(self.spec.target, value)

    async def _aprocess(self, value: Any, context: Context) -> Any:
        return await context.acall(self.spec.target, value)


def _take_down(actives: Iterable[Active]) -> None:
    for active in sorted(actives, key=lambda active: active.born, reverse=True):
        active.let_go()


def _give_members(plugin: Plugin, spec: RegistrationSpec | CompositionSpec) -> list[_Member]:
    members = [_Member(each) for each in spec.members] if isinstance(spec, CompositionSpec) else []
    if isinstance(plugin, CompositePlugin):
        for member in members:
            plugin.add_plugin(member, key=member.spec.key or member.spec.target, required=member.spec.required)
    return members


def handlers_of(active: Active) -> Mapping[str, Callable[..., Any]]:
    """Return what a plugin passed to `context.jobs.process`, by name."""
    handlers: Mapping[str, Callable[..., Any]] = getattr(active.services.jobs, "handlers", {})
    return handlers


def limits() -> Limits:
    """Return how long hooks may take."""
    return Limits(settings.HOOK_SECONDS, settings.TREE_SECONDS)
