"""Building a plugin from what it asks for; and telling, without building it, whether that could succeed."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel

from pluginhub.exceptions import DependencyError, InvalidInput, NotReady, PluginHubError
from pluginhub.injection.missing import Missing, RunOnly
from pluginhub.injection.needs import EMPTY, Need, name_of, needs_of, needs_of_function, setter_of
from pluginhub.plugins import Plugin

__all__ = ["build", "problems"]

P = TypeVar("P", bound=Plugin)

log = logging.getLogger("pluginhub.injection")


def build(
    cls: type[P],
    *,
    config: BaseModel | None = None,
    services: Mapping[type, Any] | None = None,
    provide: Callable[[Any], Any] | None = None,
) -> P:
    """Make an instance, its constructor's parameters found by their annotations, then by `set_dependencies`.

    A parameter of the plugin's own `Config` type (or without annotation and named `config`) gets the configuration;
    `self.config` is it in any case, unless the constructor sets something else. Raises `DependencyError` naming plugin,
    parameter and type.
    """
    finder = _Finder(cls, dict(services or {}), type(config) if config is not None else None, config, provide)
    instance = _made(cls, config, finder.arguments(cls.__init__))
    setter = setter_of(cls)
    if setter is not None:
        everything = finder.by_name() if _takes_everything(setter) else {}
        instance.set_dependencies(**everything | finder.arguments(setter))  # type: ignore[attr-defined]
    return instance


def problems(cls: type[Plugin], known: Collection[type], provide: Callable[[Any], Any]) -> list[DependencyError]:
    """Return why a plugin could not be built, without building anything.

    `known` are the types that the hub itself has; `provide` returns anything, or raises `Missing`, for all others.
    """
    finder = _Finder(cls, dict.fromkeys(known), cls.Config, None, provide)
    found = []
    try:
        for need in needs_of(cls):
            try:
                finder.find(need)
            except DependencyError as error:
                found.append(error)
    except DependencyError as error:  # an annotation that cannot be read
        found.append(error)
    return found


@dataclass(frozen=True, slots=True)
class _Finder:
    """Where one plugin's parameters are looked for, in order."""

    cls: type[Plugin]
    known: Mapping[Any, Any]
    model: type | None
    config: Any
    provide: Callable[[Any], Any] | None

    def arguments(self, f: Callable[..., Any]) -> dict[str, Any]:
        return {need.name: self.find(need) for need in needs_of_function(self.cls, f)}

    def by_name(self) -> dict[str, Any]:
        """Return what the hub itself has, under names that read well: `storage`, `tenant`, `logger`."""
        return {kind.__name__.lower().removeprefix("tenant") or "tenant": each for kind, each in self.known.items()}

    def find(self, need: Need) -> Any:
        if need.wanted in self.known:
            return self.known[need.wanted]
        if need.is_config(self.model):
            return self.config if self.config is not None or need.default is EMPTY else need.default
        why = ""
        if self.provide is not None and need.wanted is not EMPTY:
            try:
                return self._provided(need, self.provide)
            except Missing as missing:
                why = missing.why
        if need.is_free:
            return None if need.default is EMPTY else need.default
        raise self._missing(need, why)

    def _provided(self, need: Need, provide: Callable[[Any], Any]) -> Any:
        try:
            return provide(need.wanted)
        except RunOnly:
            # Also where it has a default: it would never get anything else.
            raise DependencyError(
                f"{self._need(need)}, which lives as long as one run.",
                hint=f"Take it by context.get({name_of(need.wanted)}) where it is used.",
            ) from None
        except (Missing, DependencyError, NotReady, InvalidInput):  # these say themselves what is wrong, and where
            raise
        except Exception as error:
            log.exception("Making %s for %s failed", name_of(need.wanted), self.cls.__name__)
            why = str(error) if isinstance(error, PluginHubError) else f"{type(error).__name__}."
            raise DependencyError(
                f"{self._need(need)}, and making it failed: {why}", hint="The process's log has the traceback."
            ) from error

    def _missing(self, need: Need, why: str) -> DependencyError:
        if need.wanted is EMPTY:
            return DependencyError(
                f"{self.cls.__name__} needs {need.name!r}, which has no annotation.",
                hint="Annotate it with the service's type.",
            )
        way_out = f"Add a provider of {name_of(need.wanted)} to PLUGINHUB['PROVIDERS']."
        return DependencyError(f"{self._need(need)}, and nobody provides it.", hint=f"{why} {way_out}".strip())

    def _need(self, need: Need) -> str:
        return f"{self.cls.__name__} needs {need.name!r} of type {name_of(need.wanted)}"


def _made(cls: type[P], config: BaseModel | None, arguments: dict[str, Any]) -> P:
    """Make an instance that has its configuration even where its constructor forgets to keep it."""
    if config is None or cls.__new__ is not object.__new__ or type(cls).__call__ is not type.__call__:
        return cls(**arguments)  # who makes instances in a way of their own keeps the configuration, too
    instance = cls.__new__(cls)
    vars(instance)["config"] = config
    cls.__init__(instance, **arguments)
    return instance


def _takes_everything(setter: Callable[..., Any]) -> bool:
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(setter).parameters.values())
