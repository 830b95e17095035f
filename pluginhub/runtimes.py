"""One tenant's published configuration, brought to life in this process.

Building a runtime checks data only. A target is imported, activated and linked at its first call, once, whoever asks.
A runtime never changes what it serves: a new revision is a new runtime, to which instances whose registration did not
change are carried over. Runs finish on the runtime they began with; when the last has ended, what is gone goes down.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from pluginhub import compositions, crossing, loading
from pluginhub.configuration import ChainSpec, CompositionSpec, Configuration, InterceptorSpec, RegistrationSpec
from pluginhub.context import Services
from pluginhub.drivers import Colour, Node, colour_of
from pluginhub.exceptions import NotReady, PluginHubError, UnknownTarget
from pluginhub.instances import Instances, handlers_of
from pluginhub.interceptors import Interceptor, around_calls, intercept_of
from pluginhub.pipelines import series, timed
from pluginhub.plugins import Plugin, hook_of, jobs_of
from pluginhub.policies import Policy, guard
from pluginhub.types import Scope, Tenant

__all__ = ["Linked", "RequestLayer", "Runtime", "StreamSource"]

log = logging.getLogger("pluginhub.runtimes")


@dataclass(frozen=True, slots=True)
class Linked:
    """A target ready to run: `node` inside other targets, `entry` when called from outside, `job` in a worker."""

    name: str
    kind: str
    node: Node
    entry: Node
    job: Node


@dataclass(frozen=True, slots=True)
class StreamSource:
    """A target with a `stream` hook."""

    name: str
    plugin: Plugin
    hook: Callable[..., Any]
    services: Services
    colour: Colour


@dataclass(frozen=True, slots=True)
class RequestLayer:
    """An interceptor of HTTP requests and what it matches. `intercept` is absent where it could not be brought up."""

    path_prefix: str
    methods: tuple[str, ...]
    required: bool
    intercept: Interceptor | None
    problem: str = ""
    registration: str = ""


@dataclass(slots=True, eq=False)
class Runtime:
    """What one process serves of one tenant at one revision; 0 where nothing was published yet."""

    tenant: Tenant
    revision: int
    configuration: Configuration
    head: int = 0
    """The fleet's number it was built for, where the schema turned out to have another."""
    used: float = field(default_factory=monotonic)
    _linked: dict[str, Linked] = field(default_factory=dict)
    _points: dict[str, Node | None] = field(default_factory=dict)
    _layers: tuple[RequestLayer, ...] | None = None
    _wraps: bool | None = None
    _added: dict[Scope, list[Interceptor]] | None = None
    _locks: dict[str, threading.RLock] = field(default_factory=dict)
    _counter: threading.Lock = field(default_factory=threading.Lock)
    _leases: int = 0
    _retired: Callable[[Runtime], None] | None = None
    instances: Instances = field(init=False)

    def __post_init__(self) -> None:
        self.instances = Instances(self.tenant, self.configuration, lambda name: self._link_once(name).node)

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
            ended = self._retired if self._leases == 0 else None
        if ended is not None:
            ended(self)

    def retire(self, when_ended: Callable[[Runtime], None]) -> None:
        """Serve no new runs; call `when_ended` once, after the last."""
        with self._counter:
            self._retired = when_ended
            idle = self._leases == 0
        if idle:
            when_ended(self)

    @property
    def busy(self) -> bool:
        return self._leases > 0

    # What the tenant has

    def targets(self) -> dict[str, tuple[str, str]]:
        """Return what can be run, as `{name: (kind, title)}`."""
        found = {}
        for kind, name, spec in self._enabled():
            if kind != "registration" or self._has_hook(spec, "process"):
                found[name] = (kind, spec.title or self._title(spec))
        return found

    def streams(self) -> dict[str, str]:
        """Return the streams, as `{name: title}`."""
        return {
            name: spec.title or self._title(spec)
            for kind, name, spec in self._enabled()
            if kind == "registration" and self._has_hook(spec, "stream")
        }

    def handlers(self) -> dict[str, str]:
        """Return the handlers of jobs, as `{"<registration>.<handler>": title}`."""
        found = {}
        for kind, name, spec in self._enabled():
            entry = loading.catalog().get(spec.plugin) if kind == "registration" else None
            for handler in (*entry.jobs, *entry.adds_handlers) if entry else ():
                found[f"{name}.{handler}"] = f"{spec.title or self._title(spec)}: {handler}"
        return found

    # What can be called

    def target(self, name: str) -> Linked:
        """Return a target, brought up at its first call. Raises `UnknownTarget` or `NotReady`."""
        linked = self._linked.get(name)
        return linked if linked is not None else crossing.apart(self._link_once, name)

    async def atarget(self, name: str) -> Linked:
        linked = self._linked.get(name)
        return linked if linked is not None else await crossing.in_thread(self._link_once, name)

    def stream(self, name: str) -> StreamSource:
        """Return a target that streams. Raises `UnknownTarget` or `NotReady`. May activate: not on an event loop."""
        if name not in self.streams():
            raise UnknownTarget(name, self.streams(), kind="stream")
        active = self.instances.get(name)
        hook = hook_of(active.plugin, "stream")
        if hook is None:
            raise NotReady(f"The plugin of {name!r} has no stream hook any more.", hint="Check its version.")
        return StreamSource(name, active.plugin, hook, active.services, colour_of(hook))

    def handler(self, name: str) -> Node:
        """Return what handles jobs named `name`: a target, or `<registration>.<handler>`. May activate."""
        if "." not in name:
            return self.target(name).job
        registration, _, handler = name.partition(".")
        if registration not in self.configuration.registrations or name not in self.handlers():
            raise UnknownTarget(name, self.handlers(), kind="handler")
        active = self.instances.get(registration)
        method = jobs_of(active.plugin).get(handler)
        function = getattr(active.plugin, method) if method else handlers_of(active).get(handler)
        if function is None:
            raise NotReady(f"The plugin of {registration!r} does not handle {handler!r}.", hint="Check its activate.")
        return around_calls(name, self.interceptors("job", name), timed(function, active.services))

    def point(self, name: str) -> Node | None:
        """Return what hangs on a point, as one node; `None` when nothing does."""
        if name not in self._points:
            spec = self.configuration.points.get(name)
            targets = spec.targets if spec else ()
            self._points[name] = (
                series(name, [(each, self.target(each).entry) for each in targets]) if targets else None
            )
        return self._points[name]

    async def apoint(self, name: str) -> Node | None:
        """The asynchronous twin of `point`."""
        return self._points[name] if name in self._points else await crossing.in_thread(self.point, name)

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

    async def arequest_layers(self) -> tuple[RequestLayer, ...]:
        layers = self._layers
        return layers if layers is not None else await crossing.in_thread(self.request_layers)

    @property
    def request_prefixes(self) -> list[str]:
        """The path prefixes that request interceptors are bound to."""
        return [binding.path_prefix for binding in self._bindings("request")]

    @property
    def wraps_requests(self) -> bool:
        """Whether any request interceptor can exist, told without activating anything."""
        if self._wraps is None:
            self._wraps = bool(self._bindings("request")) or any(self._adding())
        return self._wraps

    # Linking

    def _link_once(self, name: str) -> Linked:
        with self._locks.setdefault(name, threading.RLock()):
            linked = self._linked.get(name)
            if linked is None:
                linked = self._linked[name] = self._link(name)
            return linked

    def _link(self, name: str) -> Linked:
        spec = self.configuration.spec(name) if name in self.configuration.names() else None
        if spec is None or not spec.enabled:
            raise UnknownTarget(name, self.targets())
        kind = self.configuration.kind_of(name) or ""
        if kind == "registration" and name not in self.targets():
            raise UnknownTarget(name, self.targets())
        bare = self._bare(spec)
        node = around_calls(name, self.interceptors("call", name, outside=False), bare)
        entry = around_calls(name, self.interceptors("call", name), bare)
        return Linked(name, kind, node, entry, around_calls(name, self.interceptors("job", name), entry))

    def _bare(self, spec: RegistrationSpec | ChainSpec | CompositionSpec) -> Node:
        if isinstance(spec, RegistrationSpec):
            active = self.instances.get(spec.name)
            return compositions.link(active.plugin, active.services)
        if isinstance(spec, ChainSpec):
            steps = []
            for step in spec.steps:
                policy = Policy(step.time_limit, step.attempts, step.backoff, step.on_failure, step.default)
                steps.append((step.label or step.target, guard(self._link_once(step.target).node, policy)))
            return series(spec.name, steps)
        return self._composition(spec)

    def _composition(self, spec: CompositionSpec) -> Node:
        if spec.strategy == "parent":
            active = self.instances.get(spec.name)
            return compositions.link(active.plugin, active.services)
        branches = [
            compositions.Branch(m.key or m.target, self._link_once(m.target).node, m.required) for m in spec.members
        ]
        return compositions.compose_members(spec.name, spec.strategy, branches)

    # Small questions

    def _enabled(self) -> Iterator[tuple[str, str, Any]]:
        for name in self.configuration.names():
            spec = self.configuration.spec(name)
            if spec.enabled:
                yield self.configuration.kind_of(name) or "", name, spec

    def _has_hook(self, spec: RegistrationSpec, hook: str) -> bool:
        entry = loading.catalog().get(spec.plugin)
        # A missing or unreadable package hides nothing: its targets answer 503 with the reason.
        return (hook == "process") if entry is None or entry.problem else _offers(entry, hook)

    def _title(self, spec: Any) -> str:
        entry = loading.catalog().get(getattr(spec, "plugin", ""))
        return (entry.title if entry else "") or spec.name

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

    def _adding(self) -> Iterator[str]:
        """Name the enabled registrations whose `activate` adds interceptors."""
        for kind, name, spec in self._enabled():
            entry = loading.catalog().get(spec.plugin) if kind == "registration" else None
            if entry is not None and entry.adds_middleware:
                yield name

    def _from_plugins(self) -> Mapping[Scope, list[Interceptor]]:
        if self._added is None:
            with self._locks.setdefault("added by plugins", threading.RLock()):
                if self._added is None:
                    self._added = self._gather_added()
        return self._added

    def _gather_added(self) -> dict[Scope, list[Interceptor]]:
        added: dict[Scope, list[Interceptor]] = {}
        for name in self._adding():
            try:
                middleware = self.instances.get(name).services.middleware
            except PluginHubError as error:
                log.warning("%s of %s adds no interceptors: %s", name, self.tenant, error)
                continue
            for scope, function in middleware.added:
                added.setdefault(scope, []).append(intercept_of(function))
        return added


def _offers(entry: loading.Entry, hook: str) -> bool:
    return hook in entry.hooks or (hook == "process" and entry.is_composite)
