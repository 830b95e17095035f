"""What changed between two configurations, in words an operator can check before publishing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from pluginhub.configuration.references import redacted
from pluginhub.configuration.values import Configuration, InterceptorSpec

__all__ = ["Change", "Detail", "details", "difference"]


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


@dataclass(frozen=True, slots=True)
class Detail:
    """One field of a change: what it said and what it says, as plain JSON with a sign for each secret."""

    field: str
    before: Any
    after: Any


def difference(old: Configuration, new: Configuration) -> list[Change]:
    """Return what turns `old` into `new`, by kind and name. Empty where they say the same."""
    was, will = _specs(old), _specs(new)
    return [change for kind in was for change in _changes(kind, was[kind], will[kind])]


def details(old: Configuration, new: Configuration, change: Change) -> list[Detail]:
    """Return what one of the changes between two configurations consists of; what is new is told but for defaults."""
    was, will = _specs(old)[change.kind].get(change.name), _specs(new)[change.kind].get(change.name)
    fields = change.fields or (_said(will) if was is None and will is not None else ())
    return [Detail(field, redacted(_value(was, field)), redacted(_value(will, field))) for field in fields]


def _specs(configuration: Configuration) -> dict[str, Mapping[str, BaseModel]]:
    return {
        "registration": configuration.registrations,
        "chain": configuration.chains,
        "composition": configuration.compositions,
        "interceptor": _named(configuration.interceptors),
        "point": configuration.points,
    }


def _said(spec: BaseModel) -> Iterator[str]:
    for field, value in spec.model_dump(exclude_defaults=True).items():
        if field == "config":
            yield from (f"config.{key}" for key in value)
        elif field not in ("name", "point"):
            yield field


def _value(spec: BaseModel | None, field: str) -> Any:
    """Return what a spec says, leaving out what its parts only have by default."""
    if spec is None:
        return None
    field, _, key = field.partition(".")
    said = spec.model_dump(mode="json", include={field}, exclude_defaults=True)
    value = said.get(field, getattr(spec, field))
    return value.get(key) if key else value


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
