"""What a plugin's constructor, or its `set_dependencies`, asks for."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Union

from pydantic import BaseModel

from pluginhub.exceptions import DependencyError
from pluginhub.plugins import Plugin

__all__ = ["EMPTY", "Need", "name_of", "needs_of", "needs_of_function", "requirements", "setter_of"]

EMPTY = inspect.Parameter.empty

_ORDINAL = re.compile(r"@\d+\b")
"""What a generation of plugin code adds to the names of its modules."""


@dataclass(frozen=True, slots=True)
class Need:
    """One parameter. `wanted` is its type without `None`; `EMPTY` stands for no annotation, and for no default."""

    name: str
    wanted: Any
    default: Any = EMPTY
    optional: bool = False

    @property
    def is_free(self) -> bool:
        """Whether the plugin does without, if nobody provides it."""
        return self.optional or self.default is not EMPTY

    def is_config(self, model: type | None) -> bool:
        """Say whether this is where the plugin's own configuration goes."""
        if self.wanted in (EMPTY, Any):
            return self.name == "config"
        # Its own Config, or the one it inherits from.
        return model is not None and self.wanted in model.__mro__ and issubclass(self.wanted, BaseModel)


def needs_of(cls: type[Plugin]) -> list[Need]:
    """Return what a plugin asks for, by its constructor and then by `set_dependencies`. Raises `DependencyError`."""
    setter = setter_of(cls)
    return needs_of_function(cls, cls.__init__) + (needs_of_function(cls, setter) if setter is not None else [])


def requirements(cls: type[Plugin]) -> dict[str, Any]:
    """Return what a constructor needs besides its configuration, as `{parameter: type}`."""
    needs = needs_of_function(cls, cls.__init__)
    return {need.name: need.wanted for need in needs if not need.is_free and not need.is_config(cls.Config)}


def setter_of(cls: type[Plugin]) -> Callable[..., Any] | None:
    """Return a plugin's `set_dependencies`, if it has one."""
    found: Callable[..., Any] | None = getattr(cls, "set_dependencies", None)
    return found


def needs_of_function(cls: type[Plugin], f: Callable[..., Any]) -> list[Need]:
    """Return a constructor's or setter's parameters, without self and stars."""
    hints = _hints(cls, f)
    return [
        _need(name, hints.get(name, EMPTY), parameter.default)
        for name, parameter in inspect.signature(f).parameters.items()
        if name != "self" and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]


def name_of(wanted: Any) -> str:
    """Return a type's name as an author would write it."""
    return _ORDINAL.sub("", getattr(wanted, "__qualname__", None) or str(wanted))


def _need(name: str, annotation: Any, default: Any) -> Need:
    if typing.get_origin(annotation) in (Union, types.UnionType):
        inner = [each for each in typing.get_args(annotation) if each is not types.NoneType]
        if len(inner) == 1:
            return Need(name, inner[0], default, optional=True)
    return Need(name, annotation, default, optional=annotation is types.NoneType)


def _hints(cls: type[Plugin], f: Callable[..., Any]) -> dict[str, Any]:
    inside: dict[str, Any] = {}
    for base in reversed(cls.__mro__):  # a constructor may be inherited, and name its own class's Config
        inside |= vars(base)
    try:
        return typing.get_type_hints(f, localns=inside)
    except NameError as error:
        raise DependencyError(
            f"{cls.__name__}: the annotation {error.name!r} of its constructor cannot be found when it runs.",
            hint="Import it at the module's top, not under TYPE_CHECKING.",
        ) from error
