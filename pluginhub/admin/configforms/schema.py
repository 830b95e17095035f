"""What a form needs to know of a pydantic model, as JSON schema with the few things added that the standard lacks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, PydanticSchemaGenerationError, PydanticUserError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

__all__ = ["Schema", "bears_secret", "merged", "schema_of"]

Schema = dict[str, Any]

SECRET_MASK = "**********"
"""What pydantic writes where a secret has a default; never a value to show."""


class _FormSchema(GenerateJsonSchema):
    """Pydantic's own generator, except where forms need more: decimals, enum labels, made defaults, titles."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> Schema:
        return {}  # a callable, say: it falls to the JSON text area, and validation has the last word

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False  # only titles an author wrote; others are made from the name, Django's way

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> Schema:
        limits = {"minimum": "ge", "maximum": "le", "exclusiveMinimum": "gt", "exclusiveMaximum": "lt"}
        found = {name: str(schema[key]) for name, key in limits.items() if schema.get(key) is not None}  # type: ignore[literal-required]
        places = {key: schema[key] for key in ("max_digits", "decimal_places") if schema.get(key) is not None}
        return {"type": "string", "format": "decimal", **found, **places}

    def enum_schema(self, schema: core_schema.EnumSchema) -> Schema:
        labels = [str(getattr(member, "label", member.name)) for member in schema["members"]]
        return {**super().enum_schema(schema), "labels": labels}

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> Schema:
        found = super().default_schema(schema)
        if "default" in found or "default_factory" not in schema or schema.get("default_factory_takes_data"):
            return found
        made = core_schema.with_default_schema(schema["schema"], default=schema["default_factory"]())  # type: ignore[call-arg]
        return super().default_schema(made)


def schema_of(model: type[BaseModel]) -> Schema:
    """Return the model's schema, keyed by alias as validation is; `{}` where pydantic can make none."""
    try:
        return model.model_json_schema(by_alias=True, schema_generator=_FormSchema)
    except (PydanticUserError, PydanticSchemaGenerationError):
        return {}


def merged(schema: Schema, root: Schema) -> Schema:
    """Follow references and fold `X | None` into X with `nullable`; what stands outside wins, as a title does."""
    outer = {key: value for key, value in schema.items() if key not in ("$ref", "anyOf", "allOf")}
    if "$ref" in schema:
        inner = merged(root.get("$defs", {}).get(schema["$ref"].rpartition("/")[2], {}), root)
        return {**inner, "ref": schema["$ref"], **outer}
    choices = [choice for choice in schema.get("anyOf", ()) if choice.get("type") != "null"]
    if len(choices) < len(schema.get("anyOf", ())) and len(choices) == 1:
        return {**merged(choices[0], root), **outer, "nullable": True}
    if choices and {choice.get("type") for choice in choices} == {"integer", "number"} and len(choices) == 2:
        return {"type": "number", **outer, **({"nullable": True} if len(schema["anyOf"]) == 3 else {})}
    if None in schema.get("enum", ()):
        return {**schema, "enum": [value for value in schema["enum"] if value is not None], "nullable": True}
    return schema


def bears_secret(schema: Schema, root: Schema, seen: frozenset[str] = frozenset()) -> bool:
    """Whether a secret may stand anywhere inside."""
    if schema.get("writeOnly"):
        return True
    if (reference := schema.get("$ref")) and reference not in seen:
        target = root.get("$defs", {}).get(reference.rpartition("/")[2], {})
        if bears_secret(target, root, seen | {reference}):
            return True
    return any(bears_secret(inner, root, seen) for inner in _inside(schema))


def _inside(schema: Schema) -> Iterator[Schema]:
    for key in ("properties", "patternProperties"):
        yield from (inner for inner in schema.get(key, {}).values() if isinstance(inner, dict))
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        yield from schema.get(key, ())
    for key in ("items", "additionalProperties"):
        if isinstance(inner := schema.get(key), dict):
            yield inner
