"""Whether a configuration can be served, as a whole: what no single row can know about itself."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from pluginhub import tenancy
from pluginhub.configuration.constraints import Problem, broken, used_in_order
from pluginhub.configuration.fitting import Plugins
from pluginhub.configuration.hanging import Hosted, unhung
from pluginhub.configuration.nesting import contradicting
from pluginhub.configuration.values import (
    ChainSpec,
    CompositionSpec,
    Configuration,
    InterceptorSpec,
    RegistrationSpec,
    StepSpec,
    TargetSpec,
)
from pluginhub.expressions import problem_with
from pluginhub.loading import Entry

__all__ = ["Problem", "validate"]


def validate(
    configuration: Configuration,
    entries: Mapping[str, Entry],
    allowed: Collection[str] | None = None,
    *,
    live: Configuration | None = None,
    points: Mapping[str, Hosted] = {},
) -> list[Problem]:
    """Return what is wrong with the current tenant's configuration; empty when it can be published.

    `entries` is the catalog, `allowed` the plugins this tenant may use (`None`: all). Imports the plugins of enabled
    targets. A plugin that is missing or cannot be imported is no problem where `live` uses it in the same way: a lost
    package must not keep an operator from publishing something else. `points` are those that the host declares; others
    may be declared elsewhere.
    """
    plugins = Plugins(tenancy.current(), entries, allowed, live)
    view = _View(configuration, plugins, _owners(configuration))
    hung = configuration.points.values()
    problems = [
        *broken(configuration),
        *(problem for kind, spec in configuration.targets() for problem in view.target(kind, spec)),
        *(problem for spec in configuration.interceptors for problem in view.interceptor(spec)),
        *contradicting(configuration, entries, live),
        *(problem for spec in hung for problem in view.used("point", spec.point, spec.targets)),
    ]
    # Types are compared, and services looked for, along what exists and ends.
    return (
        problems
        or [*_cycles(configuration)]
        or [
            *_unfitting(configuration, plugins),
            *unhung(configuration, plugins, points, live),
            *plugins.unserved(configuration),
        ]
    )


@dataclass(frozen=True, slots=True)
class _View:
    """A configuration with the plugins it names."""

    configuration: Configuration
    plugins: Plugins
    owners: Mapping[str, Collection[str]]
    """The compositions that a private member belongs to; more than one is one too many."""

    def target(self, kind: str, spec: RegistrationSpec | ChainSpec | CompositionSpec) -> Iterator[Problem]:
        if not spec.enabled:
            return
        if spec.public and spec.name in self.owners:
            yield kind, spec.name, "public", f"{self._owned(spec.name)} Strangers cannot call it."
        if isinstance(spec, ChainSpec):
            for index, step in enumerate(spec.steps):
                yield from ((kind, spec.name, f"steps.{index}.{field}", why) for field, why in self.step(step))
            return
        for field, message in self.plugins.problems(spec):
            yield kind, spec.name, field, message
        if isinstance(spec, CompositionSpec):
            yield from self.used(kind, spec.name, [member.target for member in spec.members], "members")

    def step(self, step: StepSpec) -> Iterator[tuple[str, str]]:
        """Yield `(field, message)` for what is wrong with a step."""
        for field, name in (("target", step.target), ("fallback", step.fallback)):
            message = name and (self._uncallable(name) or self._owned(name))
            if message:
                yield field, message
        for field, text in (("condition", step.condition), ("input", step.input), ("output", step.output)):
            if text and (message := problem_with(text)):
                yield field, message

    def interceptor(self, spec: InterceptorSpec) -> Iterator[Problem]:
        kind, name = "interceptor", spec.registration
        registration = self.configuration.registrations.get(name)
        if registration is None or not registration.enabled:
            yield kind, name, "registration", self._absent(name)
        elif not self.plugins.may_have(registration.plugin, "intercept"):
            yield kind, name, "registration", f"The plugin {registration.plugin!r} has no intercept hook."
        elif name in self.owners:
            yield kind, name, "registration", self._owned(name)
        for target in spec.targets:
            if self.configuration.kind_of(target) is None:
                yield kind, name, "targets", self._absent(target)
            elif target in self.owners:
                yield kind, name, "targets", self._owned(target)

    def used(self, kind: str, name: str, targets: Iterable[str], field: str = "targets") -> Iterator[Problem]:
        """Yield what is wrong with the targets that something calls."""
        for index, target in enumerate(targets):
            message = self._uncallable(target) or self._owned(target, but=name if kind == "composition" else "")
            if message:
                yield kind, name, field if field == "targets" else f"{field}.{index}.target", message

    def _owned(self, target: str, *, but: str = "") -> str:
        """Say whose a private member is, to all but the composition it belongs to."""
        owner = next((owner for owner in self.owners.get(target, ()) if owner != but), None)
        return f"{target!r} is private to the composition {owner!r}." if owner else ""

    def _uncallable(self, target: str) -> str:
        if self.configuration.kind_of(target) is None or not self.configuration.spec(target).enabled:
            return self._absent(target)
        registration = self.configuration.registrations.get(target)
        if registration is not None and not self.plugins.may_have(registration.plugin, "process"):
            return f"{target!r} cannot be called: the plugin {registration.plugin!r} has no process hook."
        return ""

    def _absent(self, name: str) -> str:
        if self.configuration.kind_of(name) is not None:
            return f"{name!r} is disabled. Enable it, or use another."
        near = get_close_matches(name, self.configuration.names(), n=3, cutoff=0.5)
        guess = f" Did you mean {', '.join(map(repr, near))}?" if near else ""
        return f"There is no {name!r}.{guess}"


def _owners(configuration: Configuration) -> dict[str, list[str]]:
    owners: dict[str, list[str]] = {}
    for spec in configuration.compositions.values():
        for target in dict.fromkeys(member.target for member in spec.members if member.private):
            owners.setdefault(target, []).append(spec.name)
    return owners


def _cycles(configuration: Configuration) -> Iterator[Problem]:
    """Yield each cycle once, at the first target on it, with its path."""
    uses = {spec.name: used_in_order(spec) for _, spec in configuration.targets() if spec.enabled}
    done: set[str] = set()
    for name in sorted(uses):
        path = _find_cycle(name, uses, done)
        if path:
            spec = configuration.spec(path[0])
            kind = configuration.kind_of(path[0]) or ""
            yield kind, path[0], _leading_to(path[1], spec), f"This calls itself: {' → '.join(path)}."


def _leading_to(name: str, spec: TargetSpec) -> str:
    """Return the field by which a target leads on to another: that of a fallback only where nothing else does."""
    if not isinstance(spec, ChainSpec):
        return "members"
    if any(step.target == name for step in spec.steps):
        return "steps"
    return next(f"steps.{index}.fallback" for index, step in enumerate(spec.steps) if step.fallback == name)


def _find_cycle(start: str, uses: Mapping[str, tuple[str, ...]], done: set[str]) -> list[str]:
    """Return the first cycle met from `start`, closed. Walks without recursion: chains may be long."""
    path: dict[str, None] = {}
    waiting: list[tuple[str, bool]] = [(start, False)]
    while waiting:
        name, leaving = waiting.pop()
        if leaving:
            path.pop(name)
            done.add(name)
        elif name in path:
            done.update(path)
            return [*list(path)[list(path).index(name) :], name]
        elif name not in done:
            path[name] = None
            waiting.append((name, True))
            waiting += [(used, False) for used in reversed(uses.get(name, ()))]
    return []


def _unfitting(configuration: Configuration, plugins: Plugins) -> Iterator[Problem]:
    for kind, spec in configuration.targets():
        if spec.enabled and not isinstance(spec, RegistrationSpec):
            for field, message in plugins.mismatches(configuration, spec):
                yield kind, spec.name, f"{'steps' if kind == 'chain' else 'members'}.{field}", message
