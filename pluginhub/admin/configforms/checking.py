"""What every configuration form does, made by us or by a plugin's author: check against the model, keep secrets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django import forms
from django.utils.translation import gettext as _
from pydantic import BaseModel, ValidationError
from pydantic_core import to_jsonable_python

from pluginhub.admin.configforms.planning import plan
from pluginhub.admin.configforms.schema import schema_of

__all__ = ["AuthorsForm", "CheckedForm", "Fieldsets"]

Fieldsets = list[tuple[str | None, dict[str, Any]]]


class CheckedForm(forms.Form):
    """A form whose outcome a model has accepted. `stored` is the present configuration, with secrets in the clear.

    After `is_valid()`, `config` is plain JSON as `model_validate` takes it, with secrets in the clear: seal them before
    they are stored.
    """

    model: ClassVar[type[BaseModel]]

    def __init__(self, *args: Any, stored: Mapping[str, Any] | None = None, **options: Any) -> None:
        self.stored = dict(stored or {})
        self.config: dict[str, Any] = {}
        super().__init__(*args, **options)

    def fieldsets(self) -> Fieldsets:
        """Return the fields in groups, as the admin writes them."""
        return [(None, {"fields": list(self.fields)})]

    def check_model(self, data: dict[str, Any]) -> BaseModel | None:
        """Validate, and lay what is wrong at its field. Nothing of the input is repeated: it may be secret."""
        try:
            return self.model.model_validate(data)
        except ValidationError as error:
            for one in error.errors(include_input=False, include_url=False, include_context=False):
                self.lay(one["loc"], one["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, "))
        except Exception as error:  # a validator is its author's code
            self.add_error(None, _("The plugin's own check failed: %s.") % type(error).__name__)
        return None

    def lay(self, loc: tuple[int | str, ...], message: str) -> None:
        """Add an error at the field it belongs to, saying where inside; to the form when there is none."""
        name, inside = self._field_at(loc)
        if name is not None and self.has_error(name):
            return  # the field itself has already said what is wrong
        where = " › ".join(str(part + 1) if isinstance(part, int) else part for part in inside)
        self.add_error(name, f"{where}: {message}" if where else message)

    def _field_at(self, loc: tuple[int | str, ...]) -> tuple[str | None, tuple[int | str, ...]]:
        for length in range(len(loc), 0, -1):
            name = ".".join(map(str, loc[:length]))
            if name in self.fields:
                return name, loc[length:]
        return None, loc


class AuthorsForm(CheckedForm):
    """Around a plugin's own form: its `cleaned_data` is the configuration. Empty secrets keep what is stored."""

    def __init__(self, *args: Any, stored: Mapping[str, Any] | None = None, **options: Any) -> None:
        self._hidden = {leaf.path[0] for leaf in plan(schema_of(self.model)).leaves if leaf.secret}
        shown = {key: value for key, value in (stored or {}).items() if key not in self._hidden}
        options["initial"] = shown | (options.get("initial") or {})
        super().__init__(*args, stored=stored, **options)
        for name in self._hidden & set(self.fields) & set(self.stored):
            self.fields[name].required = False

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        data = {key: value for key, value in cleaned.items() if key not in self._hidden or value}
        data |= {key: self.stored[key] for key in self._hidden if key in self.stored and not cleaned.get(key)}
        if self.check_model(data):
            self.config = to_jsonable_python(data)
        return cleaned
