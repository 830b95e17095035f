"""Rows that stand in an order: moved by mouse or keyboard, numbered anew whenever they are saved."""

from __future__ import annotations

from typing import Any

from django import forms
from django.forms.models import BaseInlineFormSet, InlineForeignKeyField
from django.http import HttpRequest
from django.utils.text import capfirst

from pluginhub.admin.bases import TabularInline
from pluginhub.admin.drafts import row_problems
from pluginhub.admin.targets import target_choices
from pluginhub.admin.tenants import CheckedJSONField
from pluginhub.templatetags.telling import in_tenant

__all__ = ["OrderedFormSet", "OrderedInline"]


class _Adopted(InlineForeignKeyField):
    """The whole that a row belongs to, whichever it belonged to when the page was opened."""

    def clean(self, value: Any) -> Any:
        return self.parent_instance


class OrderedFormSet(BaseInlineFormSet):
    """Takes any positions, also equal or missing ones, and saves 1, 2, 3 in their order.

    What the page has is the whole: rows that somebody else has removed come back, rows that somebody else has added
    go. The form above has asked about both before.
    """

    request: HttpRequest

    def add_fields(self, form: Any, index: int | None) -> None:
        super().add_fields(form, index)
        if self._has_vanished(form, index):
            form.fields[form.instance._meta.pk.name] = forms.CharField(required=False, widget=forms.HiddenInput)
            form.fields[self.fk.name] = _Adopted(self.instance, label=form.fields[self.fk.name].label)
        form.fields["position"].required = False
        form.fields["target"].choices = self._choices()

    def clean(self) -> None:
        for number, form in enumerate(self._in_order(), 1):
            form.instance.position = form.cleaned_data["position"] = number
        super().clean()
        for number, form in enumerate(self._in_order()):
            for field, message in self._problems(number):
                form.add_error(field if field in form.fields else None, message)

    def save(self, commit: bool = True) -> Any:
        saved = super().save(commit)
        if commit and "seen" in self.data:
            self._save_vanished()
            self._remove_unknown()
        for form in self._in_order() if commit else ():  # those that only moved do not count as changed
            type(form.instance).objects.filter(pk=form.instance.pk).update(position=form.instance.position)
        return saved

    def _has_vanished(self, form: Any, index: int | None) -> bool:
        """Whether a form is of a row that was there when the page was opened, and is no more."""
        return self.is_bound and index is not None and index < self.initial_form_count() and form.instance.pk is None

    def _save_vanished(self) -> None:
        for form in self.initial_forms:
            if form.instance.pk is None and self._stays(form):
                self.new_objects.append(self.save_new(form))

    def _remove_unknown(self) -> None:
        known = [form.instance.pk for form in self.forms if form.instance.pk]
        self.get_queryset().model.objects.filter(**{self.fk.name: self.instance}).exclude(pk__in=known).delete()

    def _in_order(self) -> list[Any]:
        """The rows that stay, as the page orders them; those it gave no position come last."""

        def place(form: Any) -> tuple[bool, int]:
            position = form.cleaned_data.get("position")
            return position is None, position or 0

        return sorted(filter(self._stays, self.forms), key=place)

    def _stays(self, form: Any) -> bool:
        if not hasattr(form, "cleaned_data") or form in self.deleted_forms:
            return False
        return bool(form.instance.pk or form.has_changed())

    def _choices(self) -> list[tuple[str, Any]]:
        if not hasattr(self, "_known"):
            self._known = target_choices(without=self.instance.pk)
        return self._known

    def _problems(self, index: int) -> list[tuple[str, str]]:
        return row_problems(self.request, self.instance._meta.model_name or "", self.instance.name, index)


class OrderedInline(TabularInline):
    """Steps of a chain, members of a composition. Without JavaScript, positions are typed."""

    template = "admin/pluginhub/ordered.html"
    formset = OrderedFormSet
    extra = 0  # a blank row that is numbered counts as changed, and nothing saves
    ordering = ("position",)
    # Read by themes that order by themselves, and by no other.
    ordering_field = "position"
    hide_ordering_field = True

    class Media:
        js = ("pluginhub/ordering.js",)

    def get_formset(self, request: HttpRequest, obj: Any = None, **options: Any) -> Any:
        made = super().get_formset(request, obj, **options)
        return type(made.__name__, (made,), {"request": request})

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        if db_field.name == "position":
            options["widget"] = forms.NumberInput(attrs={"class": "pluginhub-position", "min": 0})
        elif db_field.name == "default":
            area = forms.Textarea(attrs={"rows": 2, "class": "pluginhub-json"})
            words = {"label": capfirst(db_field.verbose_name), "help_text": db_field.help_text}
            return CheckedJSONField(required=False, widget=area, **words)
        return super().formfield_for_dbfield(db_field, request, **options)

    # Who may change the whole may change its parts: they have no life of their own.

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return (in_tenant() and self._on_whole(request, "view")) or self._on_whole(request, "change")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return in_tenant() and self._on_whole(request, "change" if obj else "add")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return in_tenant() and self._on_whole(request, "change" if obj else "add")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return in_tenant() and self._on_whole(request, "change" if obj else "add")

    def _on_whole(self, request: HttpRequest, action: str) -> bool:
        opts = self.parent_model._meta
        return request.user.has_perm(f"{opts.app_label}.{action}_{opts.model_name}")
