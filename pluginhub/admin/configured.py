"""Rows that configure a plugin: a second form, made from the plugin's model, inside the row's own."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.admin.helpers import AdminForm
from django.http import HttpRequest
from django.utils.translation import gettext as _
from pydantic import BaseModel

from pluginhub import encryption, loading, tenancy
from pluginhub.admin.configforms import form_for
from pluginhub.admin.configforms.checking import CheckedForm
from pluginhub.admin.drafts import DraftAdmin, DraftForm
from pluginhub.exceptions import NotFound, PluginHubError
from pluginhub.plugins import Plugin

__all__ = ["ConfiguredAdmin", "ConfiguredForm"]


class ConfiguredForm(DraftForm):
    """A row with `plugin`, `config` and `config_version`. Secrets are opened to be checked and sealed to be saved."""

    plugin: ClassVar[str] = ""
    """The plugin of a row that has none yet."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.instance.plugin = self.instance.plugin or self.plugin
        self.trouble = ""
        self.plugin_class = self._load(self.instance.plugin)
        self.configuration = self._make(*args, **options) if self.plugin_class else None

    @property
    def changed_data(self) -> list[str]:
        """As Django's, with "config": the admin's history says so, and never what it is."""
        changed = self.configuration is not None and self.configuration.has_changed()
        return [*super().changed_data, *(["config"] if changed else [])]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if self.configuration is not None and not self.configuration.is_valid():
            self.add_error(None, _("The configuration does not fit the plugin: see its fields below."))
        return cleaned

    def lay_own(self, field: str, message: str) -> None:
        inside = field.removeprefix("config.")
        if field != inside and self.configuration is not None and inside in self.configuration.fields:
            self.configuration.add_error(inside, message)
            field, message = "", _("The configuration does not fit the plugin: see its fields below.")
        super().lay_own(field, message)

    def save(self, commit: bool = True) -> Any:
        if self.configuration is not None and self.plugin_class is not None:
            self.instance.config = self._sealed(self.configuration.model, self.configuration.config)
            self.instance.config_version = self.plugin_class.config_version
        return super().save(commit)

    def _sealed(self, model: type[BaseModel], data: dict[str, Any]) -> dict[str, Any]:
        sealed = encryption.seal_config(model, data, tenant=tenancy.current(), registration=self.instance.name)
        if self.instance.name != self.initial.get("name"):
            return sealed  # a token opens under the name it was sealed for
        steady: dict[str, Any] = _steady(sealed, data, self._before, self._opened)
        return steady

    def _load(self, name: str) -> type[Plugin] | None:
        if not name:
            return None
        try:
            return loading.load(name)
        except NotFound:
            return None  # its state says so
        except PluginHubError as error:
            self.trouble = str(error)
            return None

    def _make(self, data: Any = None, *_args: Any, **_options: Any) -> CheckedForm | None:
        plugin = self.plugin_class
        if plugin is None or plugin.Config is None:
            return None
        form = form_for(plugin.Config, own=getattr(plugin, "Form", None))
        return form(self.data if self.is_bound else None, stored=self._stored(plugin), prefix="config")

    def _open(self) -> dict[str, Any]:
        self._before: dict[str, Any] = self.instance.config if self.instance.pk else {}
        try:
            self._opened = encryption.unseal_config(
                self._before, tenant=tenancy.current(), registration=self.instance.name
            )
        except encryption.SealError as error:
            self.trouble = str(error)
            self._opened = _without_sealed(self._before)
        return self._opened

    def _stored(self, plugin: type[Plugin]) -> dict[str, Any]:
        data = self._open()
        if self.instance.config_version == plugin.config_version:
            return data
        try:
            return plugin.migrate_config(data, self.instance.config_version)
        except Exception as error:  # an author's code
            self.trouble = _("The stored configuration could not be brought up to date (%s).") % type(error).__name__
            return {}


class ConfiguredAdmin(DraftAdmin):
    """Shows the configuration's fields after the row's own."""

    form = ConfiguredForm

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any) -> Any:
        form = context["adminform"].form
        configuration = getattr(form, "configuration", None)
        row = options.get("obj")
        may_edit = self.has_change_permission(request, row) if row else self.has_add_permission(request)
        if configuration is not None and may_edit:
            context["config_fieldsets"] = AdminForm(configuration, configuration.fieldsets(), {}, (), self)
            context["config_errors"] = configuration.non_field_errors()
            context["media"] += configuration.media
        context["config_trouble"] = getattr(form, "trouble", "")
        return super().render_change_form(request, context, *args, **options)


def _steady(sealed: Any, plain: Any, before: Any, opened: Any) -> Any:
    """Return the token of before wherever the secret is the same: a new one each time would look like a change."""
    if isinstance(sealed, dict) and isinstance(before, dict) and isinstance(opened, dict):
        return {key: _steady(one, plain[key], before.get(key), opened.get(key)) for key, one in sealed.items()}
    if isinstance(sealed, list) and isinstance(before, list) and isinstance(opened, list):
        both = [*zip(before, opened, strict=False), *[(None, None)] * len(sealed)]
        return [_steady(one, plain[at], *both[at]) for at, one in enumerate(sealed)]
    return before if encryption.is_sealed(before) and encryption.is_sealed(sealed) and plain == opened else sealed


def _without_sealed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_sealed(one) for key, one in value.items() if not encryption.is_sealed(one)}
    if isinstance(value, list):
        return [_without_sealed(one) for one in value if not encryption.is_sealed(one)]
    return value
