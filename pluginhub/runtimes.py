"""One tenant's published configuration, brought to life in this process.

Building a runtime checks data only. A target is imported, activated and linked at its first call, once, whoever asks.
A runtime never changes what it serves: a new revision is a new runtime, to which instances whose registration did not
change are carried over. Runs finish on the runtime they began with; when the last has ended, what is gone goes down.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from time import monotonic

from pluginhub import compositions, loading, providers
from pluginhub.configuration import ChainSpec, CompositionSpec, Configuration, InterceptorSpec, RegistrationSpec
from pluginhub.drivers import Node, colour_of
from pluginhub.exceptions import HookError, NotReady, PluginHubError, UnknownTarget
from pluginhub.flights import Flights
from pluginhub.handoffs import Turnstile
from pluginhub.instances import Active, Instances, handlers_of
from pluginhub.interceptors import Interceptor, around_calls, intercept_of
from pluginhub.offers import Offers
from pluginhub.pipelines import absent, series, timed
from pluginhub.plugins import hook_of, jobs_of
from pluginhub.policies import Policy, guard
from pluginhub.types import Scope, Tenant
from pluginhub.ways import Linked, RequestLayer, StreamSource, Way

__all__ = ["Linked", "RequestLayer", "Runtime", "StreamSource", "Way", "plugin_of"]

log = logging.getLogger("pluginhub.runtimes")


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
    _linked: dict[str, Linked] = field(default_factory=dict)
    _points: dict[str, Way | None] = field(default_factory=dict)
    _layers: tuple[RequestLayer, ...] | None = None
    _wraps: bool | None = None
    _added: dict[Scope, list[Interceptor]] | None = None
    _locks: dict[str, threading.RLock] = field(default_factory=dict)
    _flights: Flights = field(default_factory=Flights)
    _counter: threading.Lock = field(default_factory=threading.Lock)
    _leases: int = 0
    _retired: Callable[[Runtime], None] | None = None
    _ended: bool = False
    _is_inherited: bool = False
    instances: Instances = field(init=False)
    offers: Offers = field(init=False)
    _private: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self._private = self.configuration.private()
        self.offers = Offers(self.configuration, self.code)
        self.instances = Instances(
            self.tenant, self.configuration, self.code, lambda name: self._link_once(name).node, self._unlink
        )

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
        self._is_inherited = self._ended = True
        self._counter = threading.Lock()
        self._linked.clear()
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
        self.offers = Offers(self.configuration, code)
        return True

    @property
    def busy(self) -> bool:
        return self._leases > 0

    # What can be called

    def target(self, name: str) -> Linked:
        """Return a target, brought up at its first call. Raises `UnknownTarget` or `NotReady`."""
        linked = self._linked.get(name)
        if linked is None:
            self._require(name)
            linked = self._flights.run(name, self._link_once, name)
        return linked

    def entry(self, name: str) -> Way:
        """Return the way into a target from outside, where private members of a composition are unknown."""
        if name in self._private:
            raise UnknownTarget(name, self.offers.targets())
        return self.target(name).entry

    async def aentry(self, name: str) -> Way:
        """The asynchronous twin of `entry`."""
        if name in self._private:
            raise UnknownTarget(name, self.offers.targets())
        return (await self.atarget(name)).entry

    async def atarget(self, name: str) -> Linked:
        linked = self._linked.get(name)
        if linked is None:
            self._require(name)
            linked = await self._flights.arun(name, self._link_once, name)
        return linked

    def stream(self, name: str) -> StreamSource:
        """Return a target that streams. Raises `UnknownTarget` or `NotReady`. May activate: not on an event loop."""
        if name not in self.offers.streams():
            raise UnknownTarget(name, self.offers.streams(), kind="stream")
        active = self.instances.get(name)
        hook = hook_of(active.plugin, "stream")
        if hook is None:
            raise NotReady(f"The plugin of {name!r} has no stream hook any more.", hint="Check its version.")
        return StreamSource(name, active.plugin, hook, active.services, colour_of(hook), active.turnstile)

    def handler(self, name: str) -> Way:
        """Return what handles jobs named `name`: a target, or `<registration>.<handler>`. May activate."""
        if "." not in name:
            return self.target(name).job
        registration, _, handler = name.partition(".")
        if registration not in self.configuration.registrations or name not in self.offers.handlers():
            raise UnknownTarget(name, self.offers.handlers(), kind="handler")
        active = self.instances.get(registration)
        method = jobs_of(active.plugin).get(handler)
        function = getattr(active.plugin, method) if method else handlers_of(active).get(handler)
        if function is None:
            raise NotReady(f"The plugin of {registration!r} does not handle {handler!r}.", hint="Check its activate.")
        node = around_calls(name, self.interceptors("job", name), timed(function, active.services))
        return Way(node, self._turnstiles({registration}))

    def point(self, name: str) -> Way | None:
        """Return what hangs on a point, as one; `None` when nothing does."""
        if name not in self._points:
            spec = self.configuration.points.get(name)
            ways = [(each, self.target(each).entry) for each in (spec.targets if spec else ())]
            turnstiles = {each: None for _, way in ways for each in way.turnstiles}
            node = series(name, [(each, way.node) for each, way in ways])
            self._points[name] = Way(node, tuple(turnstiles)) if ways else None
        return self._points[name]

    async def apoint(self, name: str) -> Way | None:
        """The asynchronous twin of `point`."""
        return (
            self._points[name] if name in self._points else await self._flights.arun(f"point {name}", self.point, name)
        )

    def has_point(self, name: str) -> bool:
        return bool(self.configuration.points) and name in self.configuration.points

    # Interceptors

    def interceptors(self, scope: Scope, target: str | None = None, *, outside: bool = True) -> list[Interceptor]:
        """Return the interceptors of a scope around a target, outermost first; may activate.

        Those bound to no target wrap what is called from outside; those bound by name wrap every call of that target.
        """
        found = [
            self._interceptor(binding)
            for binding in self._bindings(scope)
            if target in binding.targets or (outside and not binding.targets)
        ]
        return found + (self._from_plugins().get(scope, []) if outside else [])

    def request_layers(self) -> tuple[RequestLayer, ...]:
        """Return the interceptors of HTTP requests, outermost first; may activate. One that fails says why."""
        if self._layers is None:
            layers = [self._request_layer(binding) for binding in self._bindings("request")]
            layers += [RequestLayer("", (), False, each) for each in self._from_plugins().get("request", [])]
            if any(layer.intercept is None for layer in layers):
                return tuple(layers)  # to be tried again
            self._layers = tuple(layers)
        return self._layers

    @property
    def has_layers(self) -> bool:
        """Whether the interceptors of requests were brought up."""
        return self._layers is not None

    async def arequest_layers(self) -> tuple[RequestLayer, ...]:
        layers = self._layers
        return layers if layers is not None else await self._flights.arun("layers of requests", self.request_layers)

    @property
    def request_prefixes(self) -> list[str]:
        """The path prefixes that request interceptors are bound to."""
        return [binding.path_prefix for binding in self._bindings("request")]

    @property
    def wraps_requests(self) -> bool:
        """Whether any request interceptor can exist, told without activating anything."""
        if self._wraps is None:
            self._wraps = bool(self._bindings("request")) or any(self.offers.adding_middleware())
        return self._wraps

    # Linking

    def _require(self, name: str) -> None:
        """Refuse names that nobody knows before anything is kept of them."""
        if not self.can_call(name):
            raise UnknownTarget(name, self.offers.targets())

    def _unlink(self, names: Iterable[str]) -> None:
        """Link targets anew at their next call: what they were linked to went down."""
        for name in names:
            self._linked.pop(name, None)

    def _link_once(self, name: str) -> Linked:
        if self._is_inherited:
            raise HookError(
                f"{name!r} cannot be called: this process was forked amid the run.",
                hint="Run it by execution.run, which brings up what this process needs.",
            )
        with self._locks.setdefault(name, threading.RLock()):
            linked = self._linked.get(name)
            if linked is None:
                linked = self._link(name)
                if linked.is_whole:
                    self._linked[name] = linked
            return linked

    def _link(self, name: str) -> Linked:
        spec = self.configuration.spec(name) if name in self.configuration.names() else None
        is_mute = isinstance(spec, RegistrationSpec) and not self.offers.has_hook(spec, "process")
        if spec is None or not spec.enabled or is_mute:
            raise UnknownTarget(name, self.offers.targets())
        bare, is_whole = self._bare(spec)
        node = around_calls(name, self.interceptors("call", name, outside=False), bare)
        entry = around_calls(name, self.interceptors("call", name), bare)
        turnstiles = self._turnstiles({*self.needs([name]), *self.offers.adding_middleware()})
        job = around_calls(name, self.interceptors("job", name), entry)
        return Linked(name, node, Way(entry, turnstiles), Way(job, turnstiles), is_whole)

    def _bare(self, spec: RegistrationSpec | ChainSpec | CompositionSpec) -> tuple[Node, bool]:
        if isinstance(spec, CompositionSpec) and not plugin_of(spec):
            return self._composition(spec)
        if not isinstance(spec, ChainSpec):
            active = self.instances.get(spec.name)
            return compositions.link(active.plugin, active.services), True
        steps, is_whole = [], True
        for step in spec.steps:
            policy = Policy(step.time_limit, step.attempts, step.backoff, step.on_failure, step.default)
            linked = self._link_once(step.target)
            is_whole &= linked.is_whole
            steps.append((step.label or step.target, guard(linked.node, policy)))
        return series(spec.name, steps), is_whole

    def _composition(self, spec: CompositionSpec) -> tuple[Node, bool]:
        branches, is_whole = [], True
        for member in spec.members:
            try:
                linked = self._link_once(member.target)
                node, is_whole = linked.node, is_whole and linked.is_whole
            except NotReady as error:
                if member.required:
                    raise
                node, is_whole = absent(error), False
            branches.append(compositions.Branch(member.key or member.target, node, member.required))
        assert spec.strategy != "parent"  # that has a plugin, and so an instance
        return compositions.compose_members(spec.name, spec.strategy, branches), is_whole

    # Small questions

    def can_call(self, name: str) -> bool:
        """Say whether there is an enabled target of this name."""
        return name in self.configuration.names() and self.configuration.spec(name).enabled

    def needs(self, names: Iterable[str]) -> set[str]:
        """Return the registrations, and the compositions with code of their own, that calls of targets may pass."""
        needed: set[str] = {binding.registration for binding in self._bindings("call") if not binding.targets}
        waiting, seen = list(names), set[str]()
        while waiting:
            name = waiting.pop()
            if name in seen or not self.can_call(name):
                continue
            seen.add(name)
            spec = self.configuration.spec(name)
            if isinstance(spec, ChainSpec):
                waiting += [step.target for step in spec.steps]
            elif isinstance(spec, CompositionSpec):
                waiting += [member.target for member in spec.members]
            if plugin_of(spec):
                needed.add(name)
            needed |= {binding.registration for binding in self._bindings("call") if name in binding.targets}
        return needed

    def binding(self, targets: Iterable[str], *, requests: bool) -> set[str]:
        """Return the registrations that wrap jobs of targets, and requests where these are wrapped already."""
        names = set(targets)
        found = {each.registration for each in self._bindings("job") if not each.targets or names & set(each.targets)}
        return found | ({each.registration for each in self._bindings("request")} if requests else set())

    def used_by(self) -> tuple[set[str], set[str]]:
        """Return what is in use here: the targets and points that were linked."""
        return set(self._linked), {name for name, way in list(self._points.items()) if way is not None}

    def _turnstiles(self, names: Iterable[str]) -> tuple[Turnstile, ...]:
        actives: Mapping[str, Active] = self.instances.actives()
        found = [actives[name].turnstile for name in sorted(names) if name in actives]
        return tuple(each for each in found if each is not None)

    def _bindings(self, scope: Scope) -> list[InterceptorSpec]:
        return [binding for binding in self.configuration.interceptors if binding.scope == scope]

    def _interceptor(self, binding: InterceptorSpec) -> Interceptor:
        return intercept_of(self.instances.get(binding.registration).plugin)

    def _request_layer(self, binding: InterceptorSpec) -> RequestLayer:
        found = (binding.path_prefix, binding.methods, binding.required)
        try:
            return RequestLayer(*found, self._interceptor(binding), registration=binding.registration)
        except PluginHubError as error:
            log.warning("The request interceptor %s of %s is not ready: %s", binding.registration, self.tenant, error)
            return RequestLayer(*found, None, str(error), binding.registration)

    def _from_plugins(self) -> Mapping[Scope, list[Interceptor]]:
        if self._added is None:
            with self._locks.setdefault("added by plugins", threading.RLock()):
                if self._added is None:
                    self._added = self._gather_added()
        return self._added

    def _gather_added(self) -> dict[Scope, list[Interceptor]]:
        added: dict[Scope, list[Interceptor]] = {}
        for name in self.offers.adding_middleware():
            try:
                middleware = self.instances.get(name).services.middleware
            except PluginHubError as error:
                log.warning("%s of %s adds no interceptors: %s", name, self.tenant, error)
                continue
            for scope, function in middleware.added:
                added.setdefault(scope, []).append(intercept_of(function))
        return added


def plugin_of(spec: RegistrationSpec | ChainSpec | CompositionSpec) -> str:
    """Return the plugin whose instance a target has, or an empty name."""
    if isinstance(spec, CompositionSpec) and spec.strategy != "parent":
        return ""
    return "" if isinstance(spec, ChainSpec) else spec.plugin
