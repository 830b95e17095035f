"""Secrets inside what is edited as JSON: shown as a sign that says which one, and put back where the sign stands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, SecretBytes, SecretStr

__all__ = ["kept", "masked", "secret_places"]

Place = tuple[Any, ...]

_SIGN = re.compile(r"\(kept secret (.+)\)")


def secret_places(value: Any, place: Place = ()) -> Iterator[Place]:
    """Where secrets stand in a validated value, in terms of the data it was made from."""
    if isinstance(value, (SecretStr, SecretBytes)):
        yield place
    elif isinstance(value, BaseModel):
        for name, info in type(value).model_fields.items():
            alias = info.validation_alias if isinstance(info.validation_alias, str) else name
            yield from secret_places(getattr(value, name), (*place, alias))
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from secret_places(one, (*place, key))
    elif isinstance(value, (list, tuple)):
        for index, one in enumerate(value):
            yield from secret_places(one, (*place, index))


def masked(value: Any, places: set[Place], place: Place) -> Any:
    """The value with a sign in each of these places."""
    if place in places:
        return f"(kept secret {'/'.join(map(str, place))})"
    if isinstance(value, dict):
        return {key: masked(one, places, (*place, key)) for key, one in value.items()}
    if isinstance(value, list):
        return [masked(one, places, (*place, index)) for index, one in enumerate(value)]
    return value


def kept(value: Any, stored: dict[Place, Any], place: Place) -> tuple[Any, set[Place]]:
    """Put stored secrets back where their signs stand; return the value and the places that got one."""
    if isinstance(value, str) and (sign := _SIGN.fullmatch(value)):
        named = {"/".join(map(str, known)): secret for known, secret in stored.items()}
        if sign[1] in named:
            return named[sign[1]], {place}
    if isinstance(value, dict):
        inside = {key: kept(one, stored, (*place, key)) for key, one in value.items()}
        return {key: one for key, (one, _) in inside.items()}, _all(inside.values())
    if isinstance(value, list):
        items = [kept(one, stored, (*place, index)) for index, one in enumerate(value)]
        return [one for one, _ in items], _all(items)
    return value, set()


def _all(parts: Any) -> set[Place]:
    return {place for _, places in parts for place in places}
