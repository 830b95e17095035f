"""Chains, with their steps in order, and a policy for each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

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

_LONGEST = 40
"""How many characters of a condition are told of a policy that is folded."""


class StepForm(forms.ModelForm):
    """A step: what is no JMESPath is an error at its field, and so is a missing fallback."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for field, example in _EXAMPLES.items():
            if field in self.fields:
                asked = self.fields[field]
                asked.widget.attrs |= {"spellcheck": "false", "autocapitalize": "off"}
                asked.help_text = format_html("{} {} <code>{}</code>", asked.help_text, _("Such as"), example)

    @property
    def told(self) -> str:
        """The policy in a few words, for whoever has not unfolded it; nothing where it is the usual one."""
        return " · ".join(_policy(self.instance))

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

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("fallback")


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


def _policy(step: Step) -> Iterator[str]:
    if step.condition:
        yield _("if %s") % Truncator(step.condition).chars(_LONGEST)
    if step.input:
        yield _("input mapped")
    if step.output:
        yield _("output mapped")
    if step.time_limit is not None:
        yield _("%g s at most") % step.time_limit
    if step.attempts > 1:
        yield ngettext("%d attempt", "%d attempts", step.attempts) % step.attempts
    if step.on_failure == Step.OnFailure.SKIP:
        yield _("on failure go on with the input")
    elif step.on_failure == Step.OnFailure.DEFAULT:
        yield _("on failure go on with the default")
    elif step.fallback is not None:
        yield _("on failure call %s") % step.fallback.name
