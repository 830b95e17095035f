"""Constructors that name what they need by type.

The resolver builds plugins; where a service is asked for that the hub does not have itself, `provide` is asked:
the host's providers (dishka), or the overrides of a test.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, Union

from pydantic import BaseModel

from pluginhub.exceptions import DependencyError
from pluginhub.plugins import Plugin

__all__ = ["Missing", "build", "requirements"]

P = TypeVar("P", bound=Plugin)
_EMPTY = inspect.Parameter.empty


class Missing(LookupError):
    """Raised by `provide` for a type nobody provides."""


def build(
    cls: type[P],
    *,
    config: BaseModel | None = None,
    services: Mapping[type, Any] | None = None,
    provide: Callable[[Any], Any] | None = None,
) -> P:
    """Make an instance, its constructor's parameters found by their annotations, then by `set_dependencies`.

    A parameter of the plugin's own `Config` type (or without annotation and named `config`) gets the configuration.
    Raises `DependencyError` naming plugin, parameter and type.
    """
    known = dict(services or {})
    if config is not None:
        known[type(config)] = config
    find = _finder(cls, known, provide)
    instance = cls(**{name: find(name, *need) for name, need in _needs(cls, cls.__init__, config).items()})
    setter = getattr(instance, "set_dependencies", None)
    if setter is not None:
        setter(**_dependencies(cls, setter, known, find))
    return instance


def requirements(cls: type[Plugin]) -> dict[str, Any]:
    """Return what a constructor needs besides its configuration, as `{parameter: type}`."""
    return {
        name: annotation
        for name, (annotation, default) in _needs(cls, cls.__init__, None).items()
        if annotation is not cls.Config and default is _EMPTY
    }


def _needs(cls: type[Plugin], f: Callable[..., Any], config: BaseModel | None) -> dict[str, tuple[Any, Any]]:
    """Return `{parameter: (type, default)}` of a constructor or setter, without self and stars."""
    parameters = inspect.signature(f).parameters
    hints = _hints(cls, f)
    needs: dict[str, tuple[Any, Any]] = {}
    for name, parameter in parameters.items():
        if name == "self" or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        annotation = hints.get(name, _EMPTY)
        if name == "config" and annotation in (_EMPTY, Any):
            annotation = type(config)
        needs[name] = (annotation, parameter.default)
    return needs


def _hints(cls: type[Plugin], f: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(f, localns=dict(vars(cls)))
    except NameError as error:
        raise DependencyError(
            f"{cls.__name__}: the annotation {error.name!r} of its constructor cannot be found when it runs.",
            hint="Import it at the module's top, not under TYPE_CHECKING.",
        ) from error


def _finder(cls: type[Plugin], known: Mapping[Any, Any], provide: Callable[[Any], Any] | None) -> Callable[..., Any]:
    def find(name: str, annotation: Any, default: Any) -> Any:
        wanted = _without_none(annotation)
        if wanted in known:
            return known[wanted]
        if wanted is types.NoneType and default is _EMPTY:
            return None
        if provide is not None and wanted is not _EMPTY:
            try:
                return provide(wanted)
            except Missing:
                pass
        if default is not _EMPTY:
            return default
        if wanted is not annotation:
            return None
        raise _missing(cls, name, annotation)

    return find


def _dependencies(
    cls: type[Plugin], setter: Callable[..., Any], known: Mapping[type, Any], find: Callable[..., Any]
) -> dict[str, Any]:
    needs = _needs(cls, setter, None)
    if any(p.kind is p.VAR_KEYWORD for p in inspect.signature(setter).parameters.values()):
        by_name = {kind.__name__.lower().removeprefix("tenant") or "tenant": each for kind, each in known.items()}
        return by_name | {name: find(name, *need) for name, need in needs.items()}
    return {name: find(name, *need) for name, need in needs.items()}


def _without_none(annotation: Any) -> Any:
    if typing.get_origin(annotation) in (Union, types.UnionType):
        inner = [each for each in typing.get_args(annotation) if each is not types.NoneType]
        if len(inner) == 1:
            return inner[0]
    return annotation


def _missing(cls: type[Plugin], name: str, annotation: Any) -> DependencyError:
    if annotation is _EMPTY:
        return DependencyError(
            f"{cls.__name__} needs {name!r}, which has no annotation.", hint="Annotate it with the service's type."
        )
    kind = getattr(annotation, "__qualname__", str(annotation))
    return DependencyError(
        f"{cls.__name__} needs {name!r} of type {kind}, and nobody provides it.",
        hint=f"Add a provider of {kind} to PLUGINHUB['PROVIDERS'].",
    )
