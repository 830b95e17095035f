"""Chains, with their steps in order, and a policy for each."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from pluginhub.admin.ordering import OrderedFormSet, OrderedInline
from pluginhub.admin.targets import OPEN, TargetAdmin, joined
from pluginhub.expressions import problem_with
from pluginhub.models import Chain, Step

__all__ = ["ChainAdmin"]

_EXAMPLES = {
    "condition": "weight_kg > `100`",
    "input": "{origin: from, destination: to}",
    "output": "merge(input, {price: result})",
}


class StepForm(forms.ModelForm):
    """A step: what is no JMESPath is an error at its field, and so is a missing fallback."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for field, example in _EXAMPLES.items():
            if field in self.fields:
                asked = self.fields[field]
                asked.widget.attrs |= {"spellcheck": "false", "autocapitalize": "off"}
                asked.help_text = format_html("{} {} <code>{}</code>", asked.help_text, _("Such as"), example)

    def clean_condition(self) -> str:
        return self._expression("condition")

    def clean_input(self) -> str:
        return self._expression("input")

    def clean_output(self) -> str:
        return self._expression("output")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("on_failure") != Step.OnFailure.FALLBACK:
            cleaned["fallback"] = None  # the page does not show it, then
        elif not cleaned.get("fallback") and "fallback" not in self.errors:
            self.add_error("fallback", _("Choose what to call instead."))
        return cleaned

    def _expression(self, field: str) -> str:
        text: str = self.cleaned_data[field].strip()
        if text and (wrong := problem_with(text)):
            raise ValidationError(wrong)
        return text


class StepFormSet(OrderedFormSet):
    """Offers as fallbacks what it offers as targets."""

    def add_fields(self, form: Any, index: int | None) -> None:
        super().add_fields(form, index)
        if "fallback" in form.fields:
            form.fields["fallback"].choices = form.fields["target"].choices


class StepInline(OrderedInline):
    model = Step
    form = StepForm
    formset = StepFormSet
    fk_name = "chain"  # its target and its fallback may be chains, too
    fieldsets = (
        (None, {"fields": ["position", "target", "label"]}),
        (
            gettext_lazy("Policy"),
            {
                "fields": [
                    *("condition", "input", "output"),
                    *("time_limit", "attempts", "backoff"),
                    *("on_failure", "default", "fallback"),
                ]
            },
        ),
    )


@admin.register(Chain)
class ChainAdmin(TargetAdmin):
    columns = ("shown_steps",)
    fieldsets = ((None, {"fields": ["name", "title", "enabled"]}), OPEN)
    inlines = (StepInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        steps = Prefetch("steps", Step.objects.select_related("target").order_by("position"))
        return super().get_queryset(request).prefetch_related(steps)

    @admin.display(description=gettext_lazy("Steps"))
    def shown_steps(self, row: Chain) -> str:
        return joined([step.target.name for step in row.steps.all()], "→")
