"""From names to pipelines: a target is brought up and linked at its first call, once, whoever asks."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from pluginhub import compositions
from pluginhub.breakers import broken
from pluginhub.caching import Terms, kept
from pluginhub.configuration import ChainSpec, CompositionSpec, Configuration, RegistrationSpec, StepSpec, used_in_order
from pluginhub.drivers import Node, colour_of
from pluginhub.exceptions import HookError, NotReady, UnknownTarget
from pluginhub.flights import Flights
from pluginhub.handoffs import Turnstile
from pluginhub.instances import Active, Instances, handlers_of
from pluginhub.interceptors import around_calls
from pluginhub.leaves import Leaf
from pluginhub.offers import Offers
from pluginhub.pipelines import absent, series
from pluginhub.plugins import hook_of, jobs_of
from pluginhub.policies import Policy, guard
from pluginhub.resets import Resets
from pluginhub.ways import Hung, Linked, StreamSource, Way
from pluginhub.wrappers import Wrappers

__all__ = ["Links", "plugin_of"]


@dataclass(frozen=True, slots=True)
class _Inside:
    """A target without what wraps calls from outside: `node` is what other targets call."""

    bare: Node
    node: Node
    is_whole: bool


@dataclass(slots=True, eq=False)
class Links:
    """The linked targets and points of one runtime. Lives as long as the runtime."""

    configuration: Configuration
    offers: Offers
    wrappers: Wrappers
    resets: Resets
    _private: frozenset[str] = frozenset()
    _linked: dict[str, Linked] = field(default_factory=dict)
    _points: dict[str, Hung] = field(default_factory=dict)
    _locks: dict[str, threading.RLock] = field(default_factory=dict)
    _insides: dict[str, _Inside] = field(default_factory=dict)
    _inside_locks: dict[str, threading.RLock] = field(default_factory=dict)
    _flights: Flights = field(default_factory=Flights)
    _is_inherited: bool = False

    def __post_init__(self) -> None:
        self._private = self.configuration.private()

    @property
    def instances(self) -> Instances:
        return self.wrappers.instances

    # What can be called

    def target(self, name: str) -> Linked:
        """Return a target, brought up at its first call. Raises `UnknownTarget` or `NotReady`."""
        linked = self._linked.get(name)
        if linked is None:
            self._require(name)
            linked = self._flights.run(name, self.link, name)
        return linked

    async def atarget(self, name: str) -> Linked:
        """The asynchronous twin of `target`."""
        linked = self._linked.get(name)
        if linked is None:
            self._require(name)
            linked = await self._flights.arun(name, self.link, name)
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

    def stream(self, name: str) -> StreamSource:
        """Return a target that streams. Raises `UnknownTarget` or `NotReady`. May activate: not on an event loop."""
        if name not in self.offers.streams():
            raise UnknownTarget(name, self.offers.streams(), kind="stream")
        active = self.instances.get(name)
        hook = hook_of(active.plugin, "stream")
        if hook is None:
            raise NotReady(f"The plugin of {name!r} has no stream hook any more.", hint="Check its version.")
        spec = self.configuration.registrations.get(name)
        breaker = active.breaker(spec) if spec is not None else None
        return StreamSource(name, active.plugin, hook, active.services, colour_of(hook), active.turnstile, breaker)

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
        spec = self.configuration.registrations[registration]
        node = broken(Leaf(function, active.services), active.breaker(spec), registration, spec.plugin)
        node = around_calls(name, self.wrappers.around("job", name), node)
        return Way(node, self._turnstiles({registration, *self._around_jobs(name)}))

    def point(self, name: str, *, lenient: bool = False) -> Hung | None:
        """Return what hangs on a point; `None` when nothing does. May activate. Raises `NotReady`.

        With `lenient`, a target that cannot be brought up fails where it is called.
        """
        found = self._points.get(name)
        spec = self.configuration.points.get(name)
        if found is None and spec is not None and spec.targets:
            linked = [self._hung(target, lenient) for target in spec.targets]
            turnstiles = dict.fromkeys(each for one in linked for each in one.entry.turnstiles)
            found = Hung(tuple((one.name, one.entry.node) for one in linked), tuple(turnstiles))
            if all(one.is_whole for one in linked):
                self._points[name] = found
        return found

    async def apoint(self, name: str, *, lenient: bool = False) -> Hung | None:
        """The asynchronous twin of `point`."""
        found = self._points.get(name)
        if found is None and name in self.configuration.points:
            find = partial(self.point, name, lenient=lenient)
            found = await self._flights.arun(f"point {name} {lenient}", find)
        return found

    def _hung(self, name: str, lenient: bool) -> Linked:
        try:
            return self.target(name)
        except NotReady as error:
            if not lenient:
                raise
            node = absent(error)
            return Linked(name, node, Way(node), Way(node), is_whole=False)

    def used(self) -> tuple[set[str], set[str]]:
        """Return what is in use here: the targets and points that were linked."""
        return {*self._linked, *self._insides}, set(self._points)

    def needs(self, names: Iterable[str]) -> set[str]:
        """Return the registrations, and the compositions with code of their own, that calls of targets may pass."""
        calls = self.wrappers.bindings("call")
        needed: set[str] = {binding.registration for binding in calls if not binding.targets}
        waiting, seen = list(names), set[str]()
        while waiting:
            name = waiting.pop()
            if name in seen or not self.can_call(name):
                continue
            seen.add(name)
            spec = self.configuration.spec(name)
            waiting += used_in_order(spec)
            if plugin_of(spec):
                needed.add(name)
            needed |= {binding.registration for binding in calls if name in binding.targets}
        return needed

    def can_call(self, name: str) -> bool:
        """Say whether there is an enabled target of this name."""
        return name in self.configuration.names() and self.configuration.spec(name).enabled

    def disown(self) -> None:
        """Link nothing from here on: in a forked child, what was linked is the parent's."""
        self._is_inherited = True
        self._linked.clear()
        self._insides.clear()
        self._points.clear()

    # Linking

    def link(self, name: str) -> Linked:
        """Return a target, linked in this thread if nobody did before."""
        self._refuse_inherited(name)
        with self._locks.setdefault(name, threading.RLock()):
            linked = self._linked.get(name)
            if linked is None:
                linked = self._link(name)
                if linked.is_whole:
                    self._linked[name] = linked
            return linked

    def inside(self, name: str) -> Node:
        """Return what other targets call under a name, linked in this thread if nobody did before.

        Apart from `link`: what wraps calls from outside may need services of the one that is being linked.
        """
        return self._linked_inside(name).node

    def unlink(self, names: Iterable[str]) -> None:
        """Link targets anew at their next call: what they were linked to went down."""
        for name in names:
            self._linked.pop(name, None)
            self._insides.pop(name, None)
        self._points.clear()

    def _require(self, name: str) -> None:
        """Refuse names that nobody knows before anything is kept of them."""
        if not self.can_call(name):
            raise UnknownTarget(name, self.offers.targets())

    def _refuse_inherited(self, name: str) -> None:
        if self._is_inherited:
            raise HookError(
                f"{name!r} cannot be called: this process was forked amid the run.",
                hint="Run it by execution.run, which brings up what this process needs.",
            )

    def _link(self, name: str) -> Linked:
        inside, around = self._linked_inside(name), self.wrappers.around
        entry = around_calls(name, around("call", name), inside.bare)
        needed = {*self.needs([name]), *self.offers.adding_middleware()}
        way = Way(entry, self._turnstiles(needed))
        job = around_calls(name, around("job", name), entry)
        job_way = Way(job, self._turnstiles({*needed, *self._around_jobs(name)}))
        return Linked(name, inside.node, way, job_way, inside.is_whole)

    def _linked_inside(self, name: str) -> _Inside:
        self._refuse_inherited(name)
        with self._inside_locks.setdefault(name, threading.RLock()):
            found = self._insides.get(name)
            if found is None:
                found = self._link_inside(name)
                if found.is_whole:
                    self._insides[name] = found
            return found

    def _link_inside(self, name: str) -> _Inside:
        spec = self.configuration.spec(name) if name in self.configuration.names() else None
        is_mute = isinstance(spec, RegistrationSpec) and not self.offers.has_hook(spec, "process")
        if spec is None or not spec.enabled or is_mute:
            raise UnknownTarget(name, self.offers.targets())
        bare, is_whole = self._bare(spec)
        node = around_calls(name, self.wrappers.around("call", name, outside=False), bare)
        return _Inside(bare, node, is_whole)

    def _bare(self, spec: RegistrationSpec | ChainSpec | CompositionSpec) -> tuple[Node, bool]:
        if isinstance(spec, RegistrationSpec):
            return self._registration(spec), True
        if isinstance(spec, ChainSpec):
            steps = [self._step(step) for step in spec.steps]
            return series(spec.name, [(label, node) for label, node, _ in steps]), all(whole for _, _, whole in steps)
        if plugin_of(spec):
            active = self.instances.get(spec.name)
            return compositions.link(active.plugin, active.services), True
        return self._composition(spec)

    def _registration(self, spec: RegistrationSpec) -> Node:
        active = self.instances.get(spec.name)
        node = compositions.link(active.plugin, active.services)
        node = broken(node, active.breaker(spec), spec.name, spec.plugin)
        return kept(node, active.plugin, active.services, self._terms(spec))

    def _terms(self, spec: RegistrationSpec) -> Terms:
        return Terms(
            seconds=spec.cache_seconds,
            failures=spec.cache_failures,
            code=self.instances.code.digest(spec.plugin),
            config=spec.config,
            config_version=spec.config_version,
            resets=partial(self.resets.cache, spec.name),
        )

    def _step(self, step: StepSpec) -> tuple[str, Node, bool]:
        label, about = step.label or step.target, step.model_dump(exclude={"target", "label", "fallback"})
        policy = Policy(**about, fallback=step.fallback or None)
        node, is_whole = (self._required if step.on_failure == "fail" else self._optional)(step.target)
        if not step.fallback:
            return label, guard(node, policy, step=label), is_whole
        stand_in, is_also = self._optional(step.fallback)
        return label, guard(node, policy, step=label, fallback=(step.fallback, stand_in)), is_whole and is_also

    def _required(self, name: str) -> tuple[Node, bool]:
        found = self._linked_inside(name)
        return found.node, found.is_whole

    def _optional(self, name: str) -> tuple[Node, bool]:
        """Link what others can do without: where it cannot be brought up, it says why when it is called."""
        try:
            return self._required(name)
        except NotReady as error:
            return absent(error), False

    def _composition(self, spec: CompositionSpec) -> tuple[Node, bool]:
        branches, is_whole = [], True
        for member in spec.members:
            node, is_also = (self._required if member.required else self._optional)(member.target)
            is_whole &= is_also
            branches.append(compositions.Branch(member.key or member.target, node, member.required))
        assert spec.strategy != "parent"  # that has a plugin, and so an instance
        return compositions.compose_members(spec.name, spec.strategy, branches), is_whole

    def _around_jobs(self, name: str) -> set[str]:
        """Return the registrations whose interceptors wrap a job."""
        return self.wrappers.bound_to_jobs([name]) | set(self.offers.adding_middleware())

    def _turnstiles(self, names: Iterable[str]) -> tuple[Turnstile, ...]:
        actives: Mapping[str, Active] = self.instances.actives()
        found = [actives[name].turnstile for name in sorted(names) if name in actives]
        return tuple(each for each in found if each is not None)


def plugin_of(spec: RegistrationSpec | ChainSpec | CompositionSpec) -> str:
    """Return the plugin whose instance a target has, or an empty name."""
    if isinstance(spec, CompositionSpec) and spec.strategy != "parent":
        return ""
    return "" if isinstance(spec, ChainSpec) else spec.plugin
