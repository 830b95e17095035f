"""In which order interceptors stand around something: by position, but where plugins say who is outside of whom.

Constraints are between plugins, and hold for all of their interceptors within one scope. They come first; among what
they leave open, the lowest position stands furthest out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from heapq import heappop, heappush
from itertools import pairwise
from typing import Any, Generic, TypeVar

from pluginhub.exceptions import PluginHubError

__all__ = ["Constraint", "Contradiction", "Layer", "constraints", "contradictions", "decided", "ordered"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Layer(Generic[T]):
    """One interceptor of a scope. `name` is its registration's; `before` and `after` are what its plugin declares."""

    binding: T
    name: str
    plugin: str
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Constraint:
    """The plugin `outer` stands outside of the plugin `inner`. It is the plugin `by` that says so."""

    outer: str
    inner: str
    by: str


class Contradiction(PluginHubError):
    """No order keeps what the plugins of some interceptors declare.

    `cycle` holds the constraints that lead from a plugin back to itself, `layers` a layer of each plugin on it.
    """

    title = "Contradicting order"

    def __init__(self, cycle: Sequence[Constraint], layers: Sequence[Layer[Any]]) -> None:
        self.cycle = tuple(cycle)
        self.layers = tuple(layers)
        super().__init__(_words(self.cycle, {layer.plugin: layer.name for layer in layers}))


def ordered(layers: Sequence[Layer[T]]) -> list[Layer[T]]:
    """Return layers, which are given in the order of their positions, outermost first. Raises `Contradiction`."""
    for contradiction in contradictions(layers):
        raise contradiction
    places = {layer: place for place, layer in enumerate(layers)}
    sorter = TopologicalSorter[Layer[T]](dict.fromkeys(layers, ()))
    for outer, inner, _ in _pairs(layers):
        sorter.add(inner, outer)
    sorter.prepare()
    order: list[Layer[T]] = []
    ready: list[int] = []
    while sorter.is_active():
        for layer in sorter.get_ready():
            heappush(ready, places[layer])
        order.append(layers[heappop(ready)])
        sorter.done(order[-1])
    return order


def constraints(layers: Iterable[Layer[T]]) -> list[Constraint]:
    """Return what the plugins of layers say of one another, each pair once. Who is not among them is passed over."""
    declaring = {layer.plugin: layer for layer in layers}
    found: dict[tuple[str, str], Constraint] = {}
    for plugin, layer in declaring.items():
        said = [*((plugin, name) for name in layer.before), *((name, plugin) for name in layer.after)]
        for outer, inner in said:
            if outer in declaring and inner in declaring:
                found.setdefault((outer, inner), Constraint(outer, inner, plugin))
    return list(found.values())


def contradictions(layers: Sequence[Layer[T]]) -> list[Contradiction]:
    """Return each cycle of constraints; empty where there is an order. Cycles share no constraint."""
    first: dict[str, Layer[T]] = {}
    for layer in layers:
        first.setdefault(layer.plugin, layer)
    left = {(each.outer, each.inner): each for each in constraints(layers)}
    found = []
    while cycle := _cycle(left.values()):
        start = min(range(len(cycle)), key=lambda at: list(first).index(cycle[at].outer))
        turned = [*cycle[start:], *cycle[:start]]
        found.append(Contradiction(turned, [first[each.outer] for each in turned]))
        for each in cycle:
            del left[each.outer, each.inner]
    return found


def decided(layers: Sequence[Layer[T]]) -> dict[Layer[T], list[Constraint]]:
    """Return the layers that constraints take from where their position puts them, as few as tell the order.

    Each comes with the constraints that do. Raises `Contradiction`.
    """
    order, places = ordered(layers), {layer: place for place, layer in enumerate(layers)}
    found = constraints(layers)
    bound, saying = {end for each in found for end in (each.outer, each.inner)}, {each.by for each in found}
    # Who is not spoken of stays; then as many as can; then rather those that are only spoken of.
    kept = _rising([(places[each], (each.plugin not in bound, 1, each.plugin not in saying)) for each in order])
    moved: dict[Layer[T], list[Constraint]] = {}
    for layer in order:
        if places[layer] not in kept:
            about = [(outer, inner, each) for outer, inner, each in _pairs(layers) if layer in (outer, inner)]
            against = [each for outer, inner, each in about if places[outer] > places[inner]]
            moved[layer] = list(dict.fromkeys(against or [each for *_, each in about]))
    return moved


def _rising(places: Sequence[tuple[int, tuple[int, int, int]]]) -> set[int]:
    """Return places that rise from left to right: those that weigh most together."""
    nothing: tuple[tuple[int, int, int], list[int]] = ((0, 0, 0), [])
    best = [nothing]
    for place, (first, second, third) in places:
        (one, two, three), before = max(each for each in best if not each[1] or each[1][-1] < place)
        best.append(((one + first, two + second, three + third), [*before, place]))
    return set(max(best)[1])


def _pairs(layers: Sequence[Layer[T]]) -> Iterator[tuple[Layer[T], Layer[T], Constraint]]:
    """Yield who stands outside of whom, layer by layer."""
    of: dict[str, list[Layer[T]]] = {}
    for layer in layers:
        of.setdefault(layer.plugin, []).append(layer)
    for each in constraints(layers):
        yield from ((outer, inner, each) for outer in of[each.outer] for inner in of[each.inner])


def _cycle(found: Iterable[Constraint]) -> list[Constraint]:
    """Return constraints that lead back to where they begin, if there are any."""
    by_pair = {(each.outer, each.inner): each for each in found}
    sorter = TopologicalSorter[str]()
    for outer, inner in by_pair:
        sorter.add(inner, outer)
    try:
        sorter.prepare()
    except CycleError as error:
        path: list[str] = error.args[1]
        return [by_pair[pair] for pair in pairwise(path)]
    return []


def _words(cycle: Sequence[Constraint], names: Mapping[str, str]) -> str:
    if len(cycle) == 1:
        return f"{names[cycle[0].by]!r} would stand outside itself: its plugin {cycle[0].by!r} names itself."
    said = []
    for number, each in enumerate(cycle):
        who = "its plugin says so" if each.by == each.outer else f"the plugin of {names[each.by]!r} says so"
        stands = "stands outside" if number == 0 else "outside"
        said.append(f"{names[each.outer]!r} {stands} {names[each.inner]!r} ({who})")
    return f"{', '.join(said)}."
