"""Form fields whose cleaned value is plain JSON, and whose shown value is made from plain JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from pluginhub import payloads
from pluginhub.exceptions import PluginHubError

__all__ = [
    "KEEP",
    "ChoicesField",
    "DateField",
    "DecimalField",
    "JsonField",
    "LinesField",
    "OneOfField",
    "PairsField",
    "SecretField",
    "parse_json",
]


class _Mark:
    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name

    def __deepcopy__(self, memo: Any) -> _Mark:
        return self


KEEP: Final = _Mark("KEEP")
"""A secret was left empty: what is stored stays."""


class DecimalField(forms.DecimalField):
    """A decimal number, kept as text so that no digit is lost."""

    def clean(self, value: Any) -> Any:
        number = super().clean(value)
        return str(number) if isinstance(number, Decimal) else number


class DateField(forms.DateField):
    widget = forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")

    def __init__(self, **options: Any) -> None:
        super().__init__(input_formats=["%Y-%m-%d"], **options)

    def clean(self, value: Any) -> Any:
        day = super().clean(value)
        return day.isoformat() if day else None


class OneOfField(forms.ChoiceField):
    """One of some JSON values; the page holds their names."""

    def __init__(self, values: Iterable[tuple[Any, str]], *, empty: str | None = None, **options: Any) -> None:
        pairs = list(values)
        self.values = {_key(value): value for value, _label in pairs}
        first = [] if empty is None else [("", empty)]
        super().__init__(choices=[*first, *((_key(value), label) for value, label in pairs)], **options)

    def prepare_value(self, value: Any) -> Any:
        return "" if value is None else _key(value)

    def clean(self, value: Any) -> Any:
        key = super().clean(value)
        return self.values[key] if key != "" or "" in self.values else None


class ChoicesField(forms.MultipleChoiceField):
    """Several of some JSON values, as checkboxes."""

    widget = forms.CheckboxSelectMultiple

    def __init__(self, values: Iterable[tuple[Any, str]], **options: Any) -> None:
        pairs = list(values)
        self.values = {_key(value): value for value, _label in pairs}
        super().__init__(choices=[(_key(value), label) for value, label in pairs], **options)

    def prepare_value(self, value: Any) -> Any:
        return [_key(one) for one in value] if isinstance(value, (list, tuple)) else value

    def clean(self, value: Any) -> Any:
        return [self.values[key] for key in super().clean(value)]


class JsonField(forms.CharField):
    """Any JSON value that the HTTP calls would take: no NaN, no repeated keys, no NUL, not too deep."""

    widget = forms.Textarea

    def prepare_value(self, value: Any) -> Any:
        return value if isinstance(value, str) and self._typed(value) else _pretty(value)

    def bound_data(self, data: Any, initial: Any) -> Any:
        return _Typed(data) if isinstance(data, str) else data

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        return parse_json(text) if text.strip() else None

    @staticmethod
    def _typed(value: str) -> bool:
        return isinstance(value, _Typed)


class _Typed(str):
    """Text that came from the page, to be shown again as it was typed."""

    __slots__ = ()


class LinesField(forms.CharField):
    """A list of texts or numbers, one a line; what lines cannot say may be written as a JSON list."""

    widget = forms.Textarea

    def __init__(self, *, read: Callable[[str], Any] = str, **options: Any) -> None:
        self.read = read
        super().__init__(**options)

    def prepare_value(self, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        lines = "\n".join(map(str, value))
        return lines if self._round_trips(lines, value) else _pretty(value)

    def clean(self, value: Any) -> list[Any]:
        return self._parse(super().clean(value))

    def _parse(self, text: str) -> list[Any]:
        if text.lstrip().startswith("["):
            return list(_typed_json(text, list))
        lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        return [_read_line(self.read, number, line) for number, line in lines]

    def _round_trips(self, text: str, value: list[Any]) -> bool:
        try:
            return self._parse(text) == value
        except ValidationError:
            return False


class PairsField(forms.CharField):
    """A mapping of text to texts or numbers, `key=value` a line; or a JSON object."""

    widget = forms.Textarea

    def __init__(self, *, read: Callable[[str], Any] = str, **options: Any) -> None:
        self.read = read
        super().__init__(**options)

    def prepare_value(self, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        lines = "\n".join(f"{key}={one}" for key, one in value.items())
        return lines if self._round_trips(lines, value) else _pretty(value)

    def clean(self, value: Any) -> dict[str, Any]:
        return self._parse(super().clean(value))

    def _parse(self, text: str) -> dict[str, Any]:
        if text.lstrip().startswith("{"):
            return dict(_typed_json(text, dict))
        pairs: dict[str, Any] = {}
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                key, one = self._pair(number, line)
                if key in pairs:
                    raise ValidationError(
                        _("Line %(number)s: %(key)s is there twice."), params={"number": number, "key": key}
                    )
                pairs[key] = one
        return pairs

    def _pair(self, number: int, line: str) -> tuple[str, Any]:
        key, equals, text = line.partition("=")
        if not equals or not key.strip():
            raise ValidationError(_("Line %(number)s: write key=value."), params={"number": number})
        return key.strip(), _read_line(self.read, number, text.strip())

    def _round_trips(self, text: str, value: Mapping[str, Any]) -> bool:
        try:
            return self._parse(text) == value
        except ValidationError:
            return False


class _SecretInput(forms.MultiWidget):
    template_name = "pluginhub/secret_input.html"

    def __init__(self, *, clearable: bool) -> None:
        entry = forms.PasswordInput(attrs={"autocomplete": "new-password", "class": "vTextField"})
        widgets: dict[str, forms.Widget | type[forms.Widget]] = {"": entry}
        if clearable:
            widgets["clear"] = forms.CheckboxInput()
        super().__init__(widgets)

    use_fieldset = False

    def decompress(self, value: Any) -> list[Any]:
        return ["" for _each in self.widgets]  # whatever is stored, the page holds none of it

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        return super().get_context(name, None, attrs)

    def id_for_label(self, id_: str) -> str:
        return f"{id_}_0" if id_ else id_


class SecretField(forms.Field):
    """A secret, write-only: empty keeps what is stored, a box clears it where the model can do without."""

    def __init__(self, **options: Any) -> None:
        self.stored = False
        super().__init__(widget=_SecretInput(clearable=False), **options)

    def keep_stored(self) -> None:
        """There is a stored value: empty keeps it, and where the model can do without, a box clears it."""
        self.widget = _SecretInput(clearable=not self.required)
        self.stored, self.required = True, False

    def clean(self, value: Any) -> Any:
        entered, clear = [*(value or ("",)), False][:2]
        if entered and "\x00" in entered:
            raise ValidationError(_("Null characters are not allowed."))
        if entered:
            return entered
        if self.stored and not clear:
            return KEEP
        if self.required:
            raise ValidationError(self.error_messages["required"], code="required")
        return None

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(data and any(data))


def parse_json(text: str) -> Any:
    """Read JSON as the HTTP calls do; raise `ValidationError` in words for what they would refuse."""
    try:
        return payloads.parse(text.encode())
    except UnicodeEncodeError:
        raise ValidationError(_("Half of a surrogate pair is no character.")) from None
    except PluginHubError as error:
        raise ValidationError(str(error)) from None


def _typed_json(text: str, kind: type) -> Any:
    value = parse_json(text)
    if not isinstance(value, kind):
        raise ValidationError(_("Not of the right shape."))
    return value


def _read_line(read: Callable[[str], Any], number: int, text: str) -> Any:
    try:
        return read(text)
    except ValueError:
        raise ValidationError(
            _("Line %(number)s: “%(text)s” is not a number."), params={"number": number, "text": text}
        ) from None


def _pretty(value: Any) -> str:
    return "" if value is None else json.dumps(value, indent=2, ensure_ascii=False)


def _key(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
