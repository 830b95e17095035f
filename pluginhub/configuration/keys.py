"""Keys of a configuration that its model does not know: pydantic drops them in silence, and they are mostly typos."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import AliasChoices, AliasPath, BaseModel, RootModel

__all__ = ["FieldProblem", "unknown_keys"]

FieldProblem = tuple[str, str]
"""`(field, message)`"""


def unknown_keys(fitted: Any, data: Any, path: str = "config") -> Iterator[FieldProblem]:
    """Yield what `data` says that did not become part of `fitted`, the value a model made of it.

    Left out are models that allow extra keys, and those that reshape their input before they read it.
    """
    if isinstance(fitted, RootModel):
        yield from unknown_keys(fitted.root, data, path)
    elif isinstance(fitted, BaseModel):
        if isinstance(data, Mapping) and not _reshapes(type(fitted)):
            yield from _in_model(fitted, data, path)
    elif isinstance(fitted, Mapping) and isinstance(data, Mapping):
        for key in fitted.keys() & data.keys():
            yield from unknown_keys(fitted[key], data[key], f"{path}.{key}")
    elif isinstance(fitted, list | tuple) and isinstance(data, list) and len(fitted) == len(data):
        for index, (value, given) in enumerate(zip(fitted, data, strict=True)):
            yield from unknown_keys(value, given, f"{path}.{index}")


def _in_model(fitted: BaseModel, data: Mapping[str, Any], path: str) -> Iterator[FieldProblem]:
    model = type(fitted)
    known = {key: name for name in model.model_fields for key in _keys(model, name)}
    for key, given in data.items():
        if key in known:
            yield from unknown_keys(getattr(fitted, known[key]), given, f"{path}.{key}")
        elif model.model_config.get("extra") != "allow":
            near = get_close_matches(key, sorted(known), n=3, cutoff=0.6)
            guess = f" Did you mean {', '.join(map(repr, near))}?" if near else ""
            yield f"{path}.{key}", f"There is no field {key!r}.{guess}"


def _keys(model: type[BaseModel], name: str) -> Iterator[str]:
    """Yield the keys under which a field may be given."""
    yield name
    field = model.model_fields[name]
    given = field.validation_alias
    for alias in (field.alias, *(given.choices if isinstance(given, AliasChoices) else [given])):
        if isinstance(alias, AliasPath):
            yield str(alias.path[0])
        elif alias is not None:
            yield alias


def _reshapes(model: type[BaseModel]) -> bool:
    validators = model.__pydantic_decorators__.model_validators.values()
    return any(validator.info.mode in ("before", "wrap") for validator in validators)
