"""From a model's schema to the fields of a form: which there are, in which groups, and where each puts its value."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django import forms
from django.forms.utils import pretty_name
from django.utils.html import escape
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from pluginhub.admin.configforms import fields
from pluginhub.admin.configforms.schema import SECRET_MASK, Schema, bears_secret, merged

__all__ = ["Group", "Leaf", "Path", "Plan", "plan"]

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Leaf:
    """One field of the form. An empty one gives `None` where the model allows it, else its key is left out."""

    path: Path
    field: forms.Field
    nullable: bool = False
    secret: bool = False
    default: Any = None

    @property
    def name(self) -> str:
        return ".".join(self.path)


@dataclass(frozen=True, slots=True)
class Group:
    """A nested model. One that may be absent has a switch: a checkbox named like the group."""

    path: Path
    title: str
    description: str = ""
    optional: bool = False
    default_on: bool = False

    @property
    def name(self) -> str:
        return ".".join(self.path)


@dataclass(frozen=True, slots=True)
class Plan:
    leaves: tuple[Leaf, ...]
    groups: tuple[Group, ...]

    def within(self, group: Group | None) -> list[Leaf]:
        """The leaves right inside a group; of the model itself for `None`."""
        path = group.path if group else ()
        return [leaf for leaf in self.leaves if leaf.path[:-1] == path]


def plan(root: Schema) -> Plan:
    top = merged(root, root)
    found = list(_walk(top, root, (), {}, frozenset(filter(None, [top.get("ref")])), demanded=True))
    return Plan(
        tuple(part for part in found if isinstance(part, Leaf)),
        tuple(part for part in found if isinstance(part, Group)),
    )


def _walk(
    schema: Schema, root: Schema, path: Path, defaults: Any, seen: frozenset[str], *, demanded: bool
) -> Iterator[Leaf | Group]:
    known = defaults if isinstance(defaults, dict) else {}
    for key, raw in schema.get("properties", {}).items():
        one = merged(raw, root)
        default = known.get(key, one.get("default"))
        required = key in schema.get("required", ()) and key not in known
        if _nests(one, seen):
            yield from _nest(one, root, (*path, key), default, seen, required=required, demanded=demanded)
        else:
            yield _leaf(one, raw, root, (*path, key), default, required=required, demanded=demanded)


def _nests(schema: Schema, seen: frozenset[str]) -> bool:
    return schema.get("type") == "object" and bool(schema.get("properties")) and schema.get("ref") not in seen


def _nest(
    schema: Schema, root: Schema, path: Path, default: Any, seen: frozenset[str], *, required: bool, demanded: bool
) -> Iterator[Leaf | Group]:
    optional = bool(schema.get("nullable"))
    yield Group(path, _label(schema, path), schema.get("description", ""), optional, default is not None)
    inside = seen | {schema["ref"]} if "ref" in schema else seen
    yield from _walk(schema, root, path, default, inside, demanded=demanded and not optional)


def _leaf(
    schema: Schema, raw: Schema, root: Schema, path: Path, default: Any, *, required: bool, demanded: bool
) -> Leaf:
    nullable = bool(schema.get("nullable"))
    secret = bears_secret(raw, root)
    shown = None if secret or default == SECRET_MASK else default
    field, empty_allowed = _field(schema, root, required=required, nullable=nullable)
    field.label = _label(schema, path)
    field.help_text = " ".join([*_description(schema), *_limits(schema), *_hints(field)])
    field.required = required and not nullable and not empty_allowed
    if not demanded:  # a group that is switched off must not stop the browser from submitting
        field.widget.use_required_attribute = _never
    takes_null = nullable or (isinstance(field, fields.JsonField) and not schema.get("type"))
    return Leaf(path, field, takes_null, secret, shown)


def _description(schema: Schema) -> Iterator[str]:
    if text := " ".join(schema.get("description", "").split()):
        ended = text if text[-1] in ".!?:…" else f"{text}."
        yield re.sub(r"`+([^`]+)`+", r"<code>\1</code>", escape(ended[0].upper() + ended[1:]))


def _label(schema: Schema, path: Path) -> str:
    made_from_class = "ref" in schema and "title" in schema and "properties" in schema
    return pretty_name(path[-1]) if made_from_class else schema.get("title") or pretty_name(path[-1])


def _field(schema: Schema, root: Schema, *, required: bool, nullable: bool) -> tuple[forms.Field, bool]:
    """Return the field, and whether an empty one is a value of its own (no text, no lines, unticked)."""
    if schema.get("writeOnly") and schema.get("type") == "string":
        return fields.SecretField(), False
    if (values := _values(schema)) is not None:
        return fields.OneOfField(values, empty="---------" if required or nullable else None), False
    if schema.get("type") == "boolean":
        if nullable:
            return fields.OneOfField([(True, _("Yes")), (False, _("No"))], empty=_("Not set")), False
        return forms.BooleanField(), True
    if schema.get("type") in ("integer", "number") or schema.get("format") == "decimal":
        return _number(schema), False
    if schema.get("type") == "string":
        return _text(schema, nullable=nullable), False
    if schema.get("type") == "array" and (several := _several(schema, root)) is not None:
        return several, not schema.get("minItems")
    if schema.get("type") == "object" and (read := _reader(schema.get("additionalProperties"), root)) is not None:
        return fields.PairsField(read=read, widget=_area(3)), not schema.get("minProperties")
    return fields.JsonField(widget=_area(6, "pluginhub-json")), False


def _values(schema: Schema) -> list[tuple[Any, str]] | None:
    if "const" in schema:
        return [(schema["const"], str(schema["const"]))]
    if "enum" not in schema:
        return None
    labels = schema.get("labels") or [value if isinstance(value, str) else str(value) for value in schema["enum"]]
    return list(zip(schema["enum"], labels, strict=True))


def _number(schema: Schema) -> forms.Field:
    low, high = schema.get("minimum"), schema.get("maximum")
    if schema.get("type") == "integer":
        low = schema["exclusiveMinimum"] + 1 if low is None and "exclusiveMinimum" in schema else low
        high = schema["exclusiveMaximum"] - 1 if high is None and "exclusiveMaximum" in schema else high
        widget = forms.NumberInput(attrs={"class": "vIntegerField"})
        return forms.IntegerField(min_value=low, max_value=high, widget=widget)
    widget = forms.NumberInput(attrs={"class": "vIntegerField", "step": schema.get("multipleOf", "any")})
    if schema.get("format") == "decimal":
        digits = {key: schema[key] for key in ("max_digits", "decimal_places") if key in schema}
        return fields.DecimalField(min_value=_decimal(low), max_value=_decimal(high), widget=widget, **digits)
    return forms.FloatField(min_value=low, max_value=high, widget=widget)


def _decimal(value: str | None) -> Any:
    return None if value is None else forms.DecimalField().clean(value)


def _text(schema: Schema, *, nullable: bool) -> forms.Field:
    if schema.get("format") == "date":
        return fields.DateField()
    plain = "format" not in schema and not nullable
    attrs = {"class": "vTextField"} | ({"pattern": shape} if (shape := _html_pattern(schema.get("pattern"))) else {})
    if "pattern" in schema:
        attrs["title"] = _("Must match %(pattern)s") % {"pattern": schema["pattern"]}
    long = schema.get("maxLength", 0) > 255 or schema.get("format") == "multi-line"
    return forms.CharField(
        min_length=schema.get("minLength"),
        max_length=schema.get("maxLength"),
        strip=False,
        empty_value="" if plain else None,
        widget=_area(4) if long else forms.TextInput(attrs=attrs),
    )


def _several(schema: Schema, root: Schema) -> forms.Field | None:
    item = merged(schema["items"], root) if isinstance(schema.get("items"), dict) else {}
    if (values := _values(item)) is not None:
        return fields.ChoicesField(values)
    read = _reader(schema.get("items"), root)
    return None if read is None else fields.LinesField(read=read, widget=_area(4))


def _reader(raw: Any, root: Schema) -> Any:
    """How one line becomes a value, for lists and mappings of simple things; `None` for all others."""
    item = merged(raw, root) if isinstance(raw, dict) else {}
    if item.get("writeOnly") or item.get("nullable") or "enum" in item or "const" in item:
        return None
    return {"string": str, "integer": int, "number": _finite}.get(item.get("type", ""))


def _finite(text: str) -> int | float:
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    number = float(text)
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError(text)
    return number


def _never(_initial: Any) -> bool:
    return False


def _area(rows: int, *classes: str) -> forms.Textarea:
    css = " ".join(["vLargeTextField", *classes])
    return forms.Textarea(attrs={"class": css, "rows": rows, "spellcheck": "false"})


def _html_pattern(pattern: str | None) -> str | None:
    """Browsers anchor patterns and read hyphens more strictly; what they would read differently the server checks."""
    if not pattern or not (pattern.startswith("^") and pattern.endswith("$")) or "(?" in pattern or "&&" in pattern:
        return None
    return re.sub(r"(?<!\\)(-(?=\])|(?<=\[)-|(?<=\[\^)-)", r"\\-", pattern[1:-1])


def _limits(schema: Schema) -> Iterator[str]:
    said = {
        "minimum": _("At least %s."),
        "maximum": _("At most %s."),
        "exclusiveMinimum": _("More than %s."),
        "exclusiveMaximum": _("Less than %s."),
        "multipleOf": _("A multiple of %s."),
    }
    yield from (words % schema[key] for key, words in said.items() if key in schema)
    counted = {
        "minLength": ngettext("At least %s character.", "At least %s characters.", schema.get("minLength", 0)),
        "maxLength": ngettext("At most %s character.", "At most %s characters.", schema.get("maxLength", 0)),
        "minItems": ngettext("At least %s item.", "At least %s items.", schema.get("minItems", 0)),
        "maxItems": ngettext("At most %s item.", "At most %s items.", schema.get("maxItems", 0)),
    }
    yield from (words % schema[key] for key, words in counted.items() if key in schema)
    if "pattern" in schema and schema.get("type") == "string":
        yield _("Must match %s.") % f"<code>{escape(schema['pattern'])}</code>"
    formats = {
        "date-time": _("Date and time, as in %s."),
        "time": _("Time, as in %s."),
        "duration": _("Duration, as in %s."),
    }
    samples = {"date-time": "2026-01-31T09:00:00Z", "time": "09:00:00", "duration": "PT1H30M"}
    if (kind := schema.get("format")) in formats:
        yield formats[kind] % f"<code>{samples[kind]}</code>"


def _hints(field: forms.Field) -> Iterator[str]:
    if isinstance(field, fields.PairsField):
        yield _("One %s a line.") % "<code>key=value</code>"
    elif isinstance(field, fields.LinesField):
        yield _("One a line.")
    elif isinstance(field, fields.JsonField):
        yield _("JSON.")
