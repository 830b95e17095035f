"""Whether what hangs on a point takes what the host passes there, and gives what it expects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any, Protocol

from pluginhub.configuration.constraints import Problem
from pluginhub.configuration.fitting import Plugins, mismatch
from pluginhub.configuration.values import ChainSpec, CompositionSpec, Configuration, PointSpec

__all__ = ["Hosted", "unhung"]


class Hosted(Protocol):
    """A point as the host declares it."""

    input: Any
    output: Any
    several: Any


def unhung(
    configuration: Configuration, plugins: Plugins, points: Mapping[str, Hosted], live: Configuration | None
) -> Iterator[Problem]:
    """Yield what does not fit the points that this process knows.

    Not of points on which the same hangs in `live`: a host that has changed must not keep an operator from publishing
    something else.
    """
    for name, spec in configuration.points.items():
        point = points.get(name)
        if point is not None and not _hung_before(configuration, spec, live):
            for message in _misfits(configuration, plugins, spec.targets, point):
                yield "point", name, "targets", message


def _misfits(configuration: Configuration, plugins: Plugins, targets: tuple[str, ...], point: Hosted) -> Iterator[str]:
    is_chain = point.several == "chain"
    for target in targets[:1] if is_chain else targets:
        reason = mismatch(point.input, plugins.input_of(configuration, target))
        if reason:
            yield f"{target!r} does not take what the host passes: {reason}"
    for giver, taker in pairwise(targets) if is_chain else ():
        reason = mismatch(plugins.output_of(configuration, giver), plugins.input_of(configuration, taker))
        if reason:
            yield f"{taker!r} does not take what {giver!r} returns: {reason}"
    for target in targets[-1:] if is_chain else targets:
        reason = mismatch(plugins.output_of(configuration, target), point.output)
        if reason:
            yield f"{target!r} does not give what the host expects: {reason}"


def _hung_before(configuration: Configuration, spec: PointSpec, live: Configuration | None) -> bool:
    if live is None or live.points.get(spec.point) != spec:
        return False
    names = _reached(configuration, spec.targets)
    return all(live.kind_of(name) and live.spec(name) == configuration.spec(name) for name in names)


def _reached(configuration: Configuration, names: Iterable[str]) -> set[str]:
    """Return targets, and all that they call."""
    waiting, found = list(names), set[str]()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            spec = configuration.spec(name)
            if isinstance(spec, ChainSpec):
                waiting += [each for step in spec.steps for each in (step.target, step.fallback) if each]
            elif isinstance(spec, CompositionSpec):
                waiting += [member.target for member in spec.members]
    return found
