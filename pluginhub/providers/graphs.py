"""Providers as one graph: validated as a whole before anything is made, with its faults in words."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dishka import Container, Provider, from_context, make_container
from dishka.dependency_source import Factory
from dishka.entities.component import DEFAULT_COMPONENT
from dishka.entities.factory_type import FactoryData, FactoryType
from dishka.entities.key import DependencyKey
from dishka.entities.scope import BaseScope
from dishka.entities.validation_settings import ValidationSettings
from dishka.exception_base import DishkaError
from dishka.exceptions import CycleDependenciesError, ImplicitOverrideDetectedError, NoFactoryError
from dishka.registry import Registry

from pluginhub.exceptions import DependencyError
from pluginhub.injection import name_of
from pluginhub.scopes import LIFETIMES, RUN, TENANT, lifetime
from pluginhub.types import Caller, Tenant

__all__ = ["Found", "Given", "Graph", "ProvidersError"]

_ASYNCHRONOUS = (FactoryType.ASYNC_FACTORY, FactoryType.ASYNC_GENERATOR)
_ORDINAL = re.compile(r"@\d+\b")


class ProvidersError(DependencyError):
    """Providers do not fit together: something is missing, needs itself, or outlives what it needs."""

    title = "Broken providers"


class Given(Provider):
    """What factories may take without a provider."""

    tenant = from_context(Tenant, scope=TENANT)
    caller = from_context(Caller, scope=RUN)


@dataclass(frozen=True, slots=True)
class Found:
    """Where a type's services come from. `key` is the type as the providers know it."""

    key: Any
    scope: BaseScope
    is_kept: bool
    """Whether there is one in each scope, and not a new one for each who asks."""


class Graph:
    """Providers that fit together. Raises `ProvidersError` where they do not. Makes no service.

    With `strict`, two that make the same type do not fit, unless one says `override=True`; else the later one counts.
    """

    def __init__(self, providers: Sequence[Provider], *, strict: bool = False) -> None:
        rules = ValidationSettings(implicit_override=strict)
        try:
            # A factory may take dishka's Container and ask it: the lock must let its own thread in again.
            self.root: Container = make_container(
                *providers, Given(), lock_factory=threading.RLock, validation_settings=rules
            )
        except DishkaError as error:
            raise _in_words(error) from error
        self._registries = list(_registries(self.root))
        self._known: dict[Any, Found] = {}
        self._by_name: dict[tuple[str, str], Any] | None = None
        for factory in self.factories():
            _refuse_unusable(factory)

    def find(self, wanted: Any) -> Found | None:
        """Return where a type's services come from; `None` where no provider makes them."""
        found = self._known.get(wanted)
        if found is None:
            found = self._look(wanted)
            if found is None:  # not to be remembered: the types of old generations must go
                return self._look(self._first_generation(wanted))
            self._known[wanted] = found
        return found

    def factories(self) -> Iterator[Factory]:
        """Yield what makes services, without what all containers have."""
        for registry in self._registries:
            for key, factory in list(registry.factories.items()):
                plain = key.component == DEFAULT_COMPONENT and key.depth == 0 and key.type_hint is not Container
                if plain and factory.type is not FactoryType.CONTEXT and isinstance(key.type_hint, type):
                    yield factory

    def _look(self, wanted: Any) -> Found | None:
        if wanted is None or wanted is Container:
            return None
        key = DependencyKey(wanted, DEFAULT_COMPONENT)
        for registry in self._registries:
            factory = registry.get_factory(key)
            if factory is not None:
                return Found(wanted, registry.scope, factory.cache and factory.type is not FactoryType.CONTEXT)
        return None

    def _first_generation(self, wanted: Any) -> Any:
        """Return what the host knows a type of a reloaded package as.

        The host's code was imported with the first generation of that package, and its services stay what they are.
        """
        module = getattr(wanted, "__module__", None) or ""
        real = _ORDINAL.sub("", module)
        if real == module:
            return None
        if self._by_name is None:
            kinds = [factory.provides.type_hint for factory in self.factories()]
            self._by_name = {(kind.__module__, kind.__qualname__): kind for kind in kinds}
        return self._by_name.get((real, getattr(wanted, "__qualname__", "")))


def _registries(root: Container) -> Iterator[Registry]:
    outermost = root
    while outermost.parent_container is not None:
        outermost = outermost.parent_container
    registry: Registry | None = outermost.registry
    while registry is not None:
        yield registry
        registry = registry.child_registry


def _refuse_unusable(factory: FactoryData) -> None:
    made = name_of(factory.provides.type_hint)
    if factory.type in _ASYNCHRONOUS:
        raise ProvidersError(
            f"{made} is made asynchronously, which the hub's containers are not.",
            hint="Make it by a plain function; what is asynchronous is opened in a plugin's activate.",
        )
    if factory.scope not in LIFETIMES:
        raise ProvidersError(
            f"{made} has the scope {factory.scope}, which the hub never opens.",
            hint="Use PROCESS, TENANT or RUN from pluginhub.scopes.",
        )


def _in_words(error: DishkaError) -> ProvidersError:
    if isinstance(error, CycleDependenciesError):
        path = [name_of(each.provides.type_hint) for each in error.path]
        return ProvidersError(
            f"{path[0]} needs itself: {' → '.join([*path, path[0]])}.", hint="Let one of them take what it needs later."
        )
    if isinstance(error, NoFactoryError) and error.path:
        return _unmet(error)
    if isinstance(error, ImplicitOverrideDetectedError):
        sources = " and ".join(sorted(name_of(each.source) for each in (error.existing, error.new)))
        return ProvidersError(
            f"{name_of(error.new.provides.type_hint)} is made twice: by {sources}.",
            hint="Name the provider that counts in PLUGINHUB['PROVIDERS'].",
        )
    text = " ".join(str(error).split())
    return ProvidersError(f"{type(error).__name__}: {text}", hint="See dishka's documentation of providers.")


def _unmet(error: NoFactoryError) -> ProvidersError:
    taker, wanted = error.path[-1], name_of(error.requested.type_hint)
    path = " → ".join([*(name_of(each.provides.type_hint) for each in error.path), wanted])
    who = name_of(taker.provides.type_hint)
    other = next(iter(error.suggest_other_scopes), None)
    if other is None:
        return ProvidersError(
            f"{who} needs {wanted}, and no provider makes it: {path}.",
            hint=f"Add a provider of {wanted} to PLUGINHUB['PROVIDERS'].",
        )
    return ProvidersError(
        f"{who} lives {lifetime(taker.scope)}, and needs {wanted}, which lives {lifetime(other.scope)}: {path}.",
        hint=f"Give {who} the scope of {wanted}, or hand it over when it is called.",
    )
