"""What changed between two configurations, in words an operator can check before publishing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from pluginhub.configuration.values import Configuration, InterceptorSpec

__all__ = ["Change", "difference"]


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that was added, removed or changed; `fields` names what of it."""

    kind: str
    name: str
    what: Literal["added", "removed", "changed"]
    fields: tuple[str, ...] = ()

    def __str__(self) -> str:
        fields = f" ({', '.join(self.fields)})" if self.fields else ""
        return f"{self.kind} {self.name} {self.what}{fields}"


def difference(old: Configuration, new: Configuration) -> list[Change]:
    """Return what turns `old` into `new`, by kind and name. Empty where they say the same."""
    return [
        *_changes("registration", old.registrations, new.registrations),
        *_changes("chain", old.chains, new.chains),
        *_changes("composition", old.compositions, new.compositions),
        *_changes("interceptor", _named(old.interceptors), _named(new.interceptors)),
        *_changes("point", old.points, new.points),
    ]


def _changes(kind: str, old: Mapping[str, BaseModel], new: Mapping[str, BaseModel]) -> Iterator[Change]:
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            yield Change(kind, name, "added")
        elif name not in new:
            yield Change(kind, name, "removed")
        elif old[name] != new[name]:
            yield Change(kind, name, "changed", tuple(_fields(old[name].model_dump(), new[name].model_dump())))


def _fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Yield the fields that differ; inside a configuration, its fields."""
    for field in (field for field, value in new.items() if old.get(field) != value):
        if field == "config":
            yield from _config_fields(old["config"], new["config"])
        else:
            yield field


def _config_fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted(old.keys() | new.keys()):
        if key not in old or key not in new or old[key] != new[key]:
            yield f"config.{key}"


def _named(interceptors: tuple[InterceptorSpec, ...]) -> dict[str, InterceptorSpec]:
    """Interceptors have no names: call each by its registration and scope, and number those that share both."""
    named: dict[str, InterceptorSpec] = {}
    for spec in interceptors:
        name, number = f"{spec.registration} around {spec.scope}", 1
        while (key := name if number == 1 else f"{name} {number}") in named:
            number += 1
        named[key] = spec
    return named
