"""Which interceptor of a configuration stands outside of which: positions, and what the plugins' source says."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias, TypeVar, get_args

from pluginhub.configuration.constraints import Problem
from pluginhub.configuration.values import Configuration, InterceptorSpec
from pluginhub.loading import Entry
from pluginhub.ordering import Contradiction, Layer, contradictions, ordered
from pluginhub.types import Scope, Tenant

__all__ = ["SCOPES", "Known", "around", "contradicting", "layer", "layers", "served"]

log = logging.getLogger("pluginhub.configuration")

T = TypeVar("T")

Known: TypeAlias = Callable[[str], Entry | None]
"""Returns what the catalog says of a plugin, or `None` where there is none."""

SCOPES: tuple[Scope, ...] = get_args(Scope)


def layers(configuration: Configuration, scope: Scope, known: Known) -> list[Layer[InterceptorSpec]]:
    """Return the interceptors of a scope in the order of their positions, with what their plugins declare."""
    bindings = sorted(
        (each for each in configuration.interceptors if each.scope == scope), key=lambda each: each.position
    )
    registrations = configuration.registrations
    return [
        layer(each, each.registration, registrations[each.registration].plugin, known)
        if each.registration in registrations
        else Layer(each, each.registration, "")
        for each in bindings
    ]


def served(configuration: Configuration, scope: Scope, known: Known, *, tenant: Tenant) -> tuple[InterceptorSpec, ...]:
    """Return the interceptors of a scope as a runtime has them, outermost first.

    Where plugins contradict one another, as only those can that changed since publishing, positions alone decide.
    """
    found = layers(configuration, scope, known)
    try:
        found = ordered(found)
    except Contradiction as error:
        log.warning("%s stays with the positions of its interceptors. %s", tenant, around(scope, error))
    return tuple(each.binding for each in found)


def layer(binding: T, name: str, plugin: str, known: Known) -> Layer[T]:
    """Return a binding with what its plugin declares; nothing where the plugin is missing or cannot be read."""
    entry = known(plugin)
    return Layer(binding, name, plugin, entry.before, entry.after) if entry else Layer(binding, name, plugin)


def contradicting(
    configuration: Configuration, entries: Mapping[str, Entry], live: Configuration | None
) -> Iterator[Problem]:
    """Yield each contradiction at an interceptor that takes part in it.

    Not where `live` contradicts in the same way, since a plugin's new version says so: that must not keep an operator
    from publishing something else.
    """
    for scope in SCOPES:
        served = {each.plugin for each in layers(live, scope, entries.get)} if live else set()
        for found in contradictions(layers(configuration, scope, entries.get)):
            fresh = [each.name for each in found.layers if each.plugin not in served]
            if fresh:
                yield "interceptor", fresh[0], "position", around(scope, found)


def around(scope: Scope, contradiction: Contradiction) -> str:
    """Say a contradiction with the scope it is in."""
    return f"Around {scope}s, {contradiction.detail}"
