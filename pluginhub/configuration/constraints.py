"""What no row could hold, in words: the database has the same constraints, and says less."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import TypeAlias

from pluginhub.configuration.values import ChainSpec, CompositionSpec, Configuration, InterceptorSpec, TargetSpec
from pluginhub.models.targets import NAME_PATTERN, RATE_PATTERN

__all__ = ["Problem", "broken", "unwritable", "used_in_order", "uses"]

Problem: TypeAlias = tuple[str, str, str, str]
"""`(kind, name, field, message)`; a field inside steps, members or config has dots: `steps.0.target`."""

POINT_PATTERN = r"[A-Za-z][A-Za-z0-9_.:-]*"


def broken(configuration: Configuration) -> list[Problem]:
    """Return the constraints that a configuration breaks. One that was read from rows breaks none."""
    return [
        *(problem for kind, spec in configuration.targets() for problem in _target(kind, spec)),
        *_names(configuration),
        *(problem for spec in configuration.chains.values() for problem in _chain(spec)),
        *(problem for spec in configuration.compositions.values() for problem in _composition(spec)),
        *(problem for spec in configuration.interceptors for problem in _interceptor(spec)),
        *_points(configuration),
    ]


def unwritable(configuration: Configuration) -> list[Problem]:
    """Return why rows cannot say what a configuration says: constraints, and names that nothing has."""
    return [*broken(configuration), *_absent(configuration)]


def _target(kind: str, spec: TargetSpec) -> Iterator[Problem]:
    if not _fits(NAME_PATTERN, spec.name):
        message = "A name is at most 63 lower case letters, digits, - and _, and begins with a letter."
        yield kind, spec.name, "name", message
    if not _fits(RATE_PATTERN, spec.rate_limit):
        message = f"{spec.rate_limit!r} is no rate limit: write calls per s, m, h or d, such as 60/m."
        yield kind, spec.name, "rate_limit", message
    if spec.public and not spec.rate_limit:
        yield kind, spec.name, "rate_limit", "A public target needs a rate limit, such as 60/m."


def _names(configuration: Configuration) -> Iterator[Problem]:
    count = Counter(spec.name for _, spec in configuration.targets())
    for kind, spec in configuration.targets():
        if count[spec.name] > 1:
            yield kind, spec.name, "name", "Another target has this name."


def _chain(spec: ChainSpec) -> Iterator[Problem]:
    for index, step in enumerate(spec.steps):
        if (step.on_failure == "fallback") != bool(step.fallback):
            message = "A fallback is named where another target is called instead, and only there."
            yield "chain", spec.name, f"steps.{index}.fallback", message


def _composition(spec: CompositionSpec) -> Iterator[Problem]:
    if (spec.strategy == "parent") != bool(spec.plugin):
        message = "Only the strategy “as the parent plugin says” has a plugin, and it needs one."
        yield "composition", spec.name, "plugin", message
    seen: set[str] = set()
    for index, member in enumerate(spec.members):
        if member.key in seen:
            yield "composition", spec.name, f"members.{index}.key", f"Another member has the key {member.key!r}."
        seen.add(member.key)


def _interceptor(spec: InterceptorSpec) -> Iterator[Problem]:
    kind, name = "interceptor", spec.registration
    if spec.path_prefix and not spec.path_prefix.startswith("/"):
        yield kind, name, "path_prefix", "A path begins with /."
    if not all(_fits("[A-Z]+", method) for method in spec.methods):
        yield kind, name, "methods", "Methods are upper case: GET, POST."
    if spec.scope != "request" and (spec.path_prefix or spec.methods):
        yield kind, name, "scope", "Only interceptors of HTTP requests choose by path and method."


def _points(configuration: Configuration) -> Iterator[Problem]:
    for spec in configuration.points.values():
        if not _fits(POINT_PATTERN, spec.point):
            message = "A point's name is letters, digits and . : _ -, and begins with a letter."
            yield "point", spec.point, "point", message
        for target, count in Counter(spec.targets).items():
            if count > 1:
                yield "point", spec.point, "targets", f"{target!r} already hangs on this point."


def _absent(configuration: Configuration) -> Iterator[Problem]:
    named = [
        *((kind, spec.name, target) for kind, spec in configuration.targets() for target in sorted(uses(spec))),
        *(("interceptor", spec.registration, target) for spec in configuration.interceptors for target in spec.targets),
        *(("point", spec.point, target) for spec in configuration.points.values() for target in spec.targets),
    ]
    for kind, name, target in named:
        if configuration.kind_of(target) is None:
            yield kind, name, "targets", f"There is no {target!r}."
    for spec in configuration.interceptors:
        if spec.registration not in configuration.registrations:
            yield "interceptor", spec.registration, "registration", f"There is no {spec.registration!r}."


def uses(spec: TargetSpec) -> set[str]:
    """Return the names of the targets that a target calls."""
    return set(used_in_order(spec))


def used_in_order(spec: TargetSpec) -> tuple[str, ...]:
    """Return the names of the targets that a target may call, each fallback after what it stands in for."""
    if isinstance(spec, ChainSpec):
        return tuple(name for step in spec.steps for name in (step.target, step.fallback) if name)
    return tuple(member.target for member in spec.members) if isinstance(spec, CompositionSpec) else ()


def _fits(pattern: str, text: str) -> bool:
    """Match the whole: `$` in a pattern of PostgreSQL takes no line break after it."""
    return re.fullmatch(pattern, text, re.ASCII) is not None and not text.endswith("\n")
