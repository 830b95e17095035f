"""Secrets of a configuration that comes from elsewhere: a file in git, another tenant, a client.

A sealed secret opens in one place only: its tenant, registration and field. So a file says `{$secret: mail.password}`
in its place, or brings a token of elsewhere, which is worth as much. Either stands for the value that was given for
that name; else for the secret this tenant has in the same place; else it is not set.

In a list, the same place is that of the item which is otherwise the same: its position says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pluginhub import tenancy
from pluginhub.configuration.constraints import Problem
from pluginhub.configuration.values import CompositionSpec, Configuration, RegistrationSpec
from pluginhub.encryption import SealError, is_sealed, unseal

__all__ = ["REFERENCE", "place", "redacted", "reference_names", "referring"]

REFERENCE = "$secret"

Configured = RegistrationSpec | CompositionSpec
Path = tuple[str | int, ...]
_UNSET: Any = object()


def referring(configuration: Configuration) -> Configuration:
    """Return a configuration that says where its secrets are, and holds none: to be kept in a file."""
    return _changed(configuration, lambda spec, path, value: {REFERENCE: _name(spec, path, value)})


def redacted(value: Any) -> Any:
    """Return a value with a sign for every sealed secret and every reference to one: to be shown."""
    if is_sealed(value) or _is_reference(value):
        return "(secret)"
    if isinstance(value, dict):
        return {key: redacted(one) for key, one in value.items()}
    return [redacted(one) for one in value] if isinstance(value, list | tuple) else value


def reference_names(configuration: Configuration) -> list[str]:
    """Return the names of all secrets that stand in a configuration other than in plain text."""
    names: dict[str, None] = {}

    def note(spec: Configured, path: Path, value: Any) -> Any:
        names[_name(spec, path, value)] = None
        return value

    _changed(configuration, note)
    return list(names)


def place(
    configuration: Configuration, *, before: Configuration, given: Mapping[str, str]
) -> tuple[Configuration, list[Problem]]:
    """Return a configuration for the current tenant, with a value or a token in place of each reference.

    `before` is what the tenant has, `given` maps names to secrets in plain text, which the caller seals. The problems
    name those that are not set, which the returned configuration leaves out.
    """
    placing = _Placing(before, given)
    return _changed(configuration, placing.one), placing.problems


@dataclass(slots=True)
class _Placing:
    before: Configuration
    given: Mapping[str, str]
    problems: list[Problem] = field(default_factory=list)

    def one(self, spec: Configured, path: Path, value: Any) -> Any:
        name = _name(spec, path, value)
        if name in self.given:
            return self.given[name]
        if is_sealed(value) and _opens(value, spec, path):
            return value
        kept = self._kept(spec, path, value)
        if kept is _UNSET:
            kind = "composition" if isinstance(spec, CompositionSpec) else "registration"
            where = ".".join(["config", *map(str, path)])
            self.problems.append((kind, spec.name, where, _not_set(name)))
        return kept

    def _kept(self, spec: Configured, path: Path, value: Any) -> Any:
        old = self.before.registrations.get(spec.name) or self.before.compositions.get(spec.name)
        if old is None or old.plugin != spec.plugin:
            return _UNSET
        kept = _in_the_same_place(spec.config, old.config, path)
        # A token that was here before and does not open, its key lost, is no news.
        return kept if kept == value or _opens(kept, spec, path) else _UNSET


def _not_set(name: str) -> str:
    return (
        f"The secret {name!r} is not known to this tenant. Write it in its place, or give it to pluginhub_apply"
        " with --secrets."
    )


def _in_the_same_place(own: Any, stored: Any, path: Path) -> Any:
    for key in path:
        if isinstance(key, int):
            stored = _otherwise_same(own[key], stored)
        else:
            stored = stored.get(key) if isinstance(stored, dict) else None
        own = own[key]
    return stored


def _otherwise_same(item: Any, stored: Any) -> Any:
    bare = redacted(item)
    found = [each for each in stored if redacted(each) == bare] if isinstance(stored, list) else []
    return found[0] if len(found) == 1 else None


def _opens(token: Any, spec: Configured, path: Path) -> bool:
    if not is_sealed(token):
        return False
    place = ".".join("*" if isinstance(key, int) else key for key in path)
    try:
        unseal(token, tenant=tenancy.current(), registration=spec.name, path=place)
    except SealError:
        return False
    return True


# Walking


def _changed(configuration: Configuration, change: Callable[[Configured, Path, Any], Any]) -> Configuration:
    """Return a configuration with every token and reference changed; one that becomes `_UNSET` is left out."""

    def of(spec: Configured) -> Configured:
        config = _walk_keys(spec.config, (), lambda path, value: change(spec, path, value))
        return spec if config == spec.config else spec.model_copy(update={"config": config})

    update = {
        "registrations": {name: of(spec) for name, spec in configuration.registrations.items()},
        "compositions": {name: of(spec) for name, spec in configuration.compositions.items()},
    }
    return configuration.model_copy(update=update)


def _walk(value: Any, path: Path, change: Callable[[Path, Any], Any]) -> Any:
    if is_sealed(value) or _is_reference(value):
        return change(path, value)
    if isinstance(value, dict):
        return _walk_keys(value, path, change)
    if isinstance(value, list):
        return [one for at, each in enumerate(value) if (one := _walk(each, (*path, at), change)) is not _UNSET]
    return value


def _walk_keys(value: dict[str, Any], path: Path, change: Callable[[Path, Any], Any]) -> dict[str, Any]:
    return {key: one for key, each in value.items() if (one := _walk(each, (*path, key), change)) is not _UNSET}


def _is_reference(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {REFERENCE} and isinstance(value[REFERENCE], str)


def _name(spec: Configured, path: Path, value: Any) -> str:
    """Return the name of a secret: the reference's own, else that of its place."""
    own = value[REFERENCE] if isinstance(value, dict) else ""
    return own or ".".join([spec.name, *map(str, path)])
