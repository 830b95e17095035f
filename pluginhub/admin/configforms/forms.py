"""The form of a configuration: ordinary Django fields in, plain JSON out, and the model has the last word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django import forms
from django.utils.html import escape
from django.utils.translation import gettext as _
from pydantic import BaseModel

from pluginhub.admin.configforms import secrets
from pluginhub.admin.configforms.checking import AuthorsForm, CheckedForm, Fieldsets
from pluginhub.admin.configforms.fields import KEEP, SecretField
from pluginhub.admin.configforms.planning import Group, Leaf, Path, Plan, plan
from pluginhub.admin.configforms.schema import schema_of

__all__ = ["ConfigForm", "form_for"]


def form_for(model: type[BaseModel], *, own: type[forms.Form] | None = None) -> type[CheckedForm]:
    """Return the form class of a configuration; `own` is what a plugin gives as its `Form`, checked like ours."""
    if own is not None:
        return type(own.__name__, (AuthorsForm, own), {"model": model})
    made = plan(schema_of(model))
    fields: dict[str, Any] = {leaf.name: leaf.field for leaf in made.leaves}
    fields |= {group.name: _switch(group) for group in made.groups if group.optional}
    return type(f"{model.__name__}Form", (ConfigForm,), {"model": model, "plan": made, **fields})


class ConfigForm(CheckedForm):
    """A form made from a model. Its fields are named by their path in the data, with dots: `limits.soft`."""

    plan: ClassVar[Plan]

    def __init__(self, *args: Any, stored: Mapping[str, Any] | None = None, **options: Any) -> None:
        super().__init__(*args, stored=stored, **options)
        self._secrets = self._stored_secrets()
        for group in self.plan.groups:
            if group.optional:
                self.initial.setdefault(group.name, _is_set(self.stored, group))
        for leaf in self.plan.leaves:
            self._begin(leaf, self.fields[leaf.name])

    def fieldsets(self) -> Fieldsets:
        """Return the model's own fields first, then a group for each nested model."""
        sets: Fieldsets = [(None, {"fields": [leaf.name for leaf in self.plan.within(None)]})]
        for group in self.plan.groups:
            switch = [group.name] if group.optional else []
            names = [leaf.name for leaf in self.plan.within(group)]
            sets.append((self._heading(group), {"fields": switch + names, "description": escape(group.description)}))
        return [one for one in sets if one[1]["fields"]]

    def clean(self) -> dict[str, Any]:
        off = {group.path for group in self.plan.groups if group.optional and not self.cleaned_data.get(group.name)}
        for leaf in self.plan.leaves:
            if _under(leaf.path, off):
                self.errors.pop(leaf.name, None)
        self.config = self._outline(off)
        restored = self._fill([leaf for leaf in self.plan.leaves if not _under(leaf.path, off)])
        if checked := self.check_model(self.config):
            for place in restored - set(secrets.secret_places(checked)):
                self.lay(place, _("A kept secret cannot move to where it would be shown."))
        return self.cleaned_data

    def _begin(self, leaf: Leaf, field: forms.Field) -> None:
        present = _has(self.stored, leaf.path)
        value = _dig(self.stored, leaf.path)
        if isinstance(field, SecretField):
            if value:
                field.keep_stored()
                field.help_text = f"{field.help_text} {_('A value is stored; leave empty to keep it.')}".strip()
        elif not leaf.secret:
            self.initial.setdefault(leaf.name, value if present else leaf.default)
        elif self._secrets is not None:
            self.initial[leaf.name] = secrets.masked(value, set(self._secrets), leaf.path)
        # Else which parts of it are secret cannot be told, and none is shown.
        if isinstance(field.widget, forms.Textarea):
            shown = str(field.prepare_value(self.initial.get(leaf.name)) or "")
            field.widget.attrs["rows"] = min(max(int(field.widget.attrs["rows"]), shown.count("\n") + 1), 20)

    def _stored_secrets(self) -> dict[secrets.Place, Any] | None:
        try:
            places = list(secrets.secret_places(self.model.model_validate(self.stored)))
        except Exception:  # what is stored need not fit the plugin of today, and a validator is its author's code
            return None
        return {place: _dig(self.stored, place) for place in places if _has(self.stored, place)}

    def _outline(self, off: set[Path]) -> dict[str, Any]:
        """Return the configuration without its leaves: nested models, and what an open model keeps besides."""
        data: dict[str, Any] = {}
        if self.model.model_config.get("extra") == "allow":
            known = {leaf.path[0] for leaf in self.plan.leaves} | {group.path[0] for group in self.plan.groups}
            data = {key: value for key, value in self.stored.items() if key not in known}
        for group in self.plan.groups:
            if not _under(group.path[:-1], off):
                _put(data, group.path, None if group.path in off else {})
        return data

    def _fill(self, leaves: list[Leaf]) -> set[secrets.Place]:
        """Put each leaf's value in its place; return where stored secrets were put back."""
        restored: set[secrets.Place] = set()
        for leaf in leaves:
            value = self.cleaned_data.get(leaf.name)
            if value is KEEP:
                value = _dig(self.stored, leaf.path)
            elif leaf.secret:
                value, places = secrets.kept(value, self._secrets or {}, leaf.path)
                restored |= places
            if value is not None or leaf.nullable:
                _put(self.config, leaf.path, value)
        return restored

    def _heading(self, group: Group) -> str:
        titles = {one.path: one.title for one in self.plan.groups}
        return " › ".join(titles[group.path[:length]] for length in range(1, len(group.path) + 1))


def _switch(group: Group) -> forms.Field:
    label = _("Set %s") % group.title
    return forms.BooleanField(required=False, label=label, help_text=_("Unticked, the fields below count for nothing."))


def _is_set(stored: Mapping[str, Any], group: Group) -> bool:
    return _dig(stored, group.path) is not None if _has(stored, group.path) else group.default_on


def _under(path: Path, off: set[Path]) -> bool:
    return any(path[: len(one)] == one for one in off)


def _dig(data: Any, path: tuple[Any, ...], default: Any = None) -> Any:
    for key in path:
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            return default
    return data


def _has(data: Any, path: tuple[Any, ...]) -> bool:
    return _dig(data, path, KEEP) is not KEEP


def _put(data: dict[str, Any], path: Path, value: Any) -> None:
    for key in path[:-1]:
        data = data.setdefault(key, {})
    data[path[-1]] = value
