"""Chains, with their steps in order."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from pluginhub.admin.ordering import OrderedInline
from pluginhub.admin.targets import OPEN, TargetAdmin, joined
from pluginhub.models import Chain, Step

__all__ = ["ChainAdmin"]


class StepInline(OrderedInline):
    model = Step
    fk_name = "chain"  # its target may be a chain, too
    fieldsets = (
        (None, {"fields": ["position", "target", "label"]}),
        (_("Policy"), {"fields": ["time_limit", "attempts", "backoff", "on_failure", "default"]}),
    )


@admin.register(Chain)
class ChainAdmin(TargetAdmin):
    columns = ("shown_steps",)
    fieldsets = ((None, {"fields": ["name", "title", "enabled"]}), OPEN)
    inlines = (StepInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        steps = Prefetch("steps", Step.objects.select_related("target").order_by("position"))
        return super().get_queryset(request).prefetch_related(steps)

    @admin.display(description=_("Steps"))
    def shown_steps(self, row: Chain) -> str:
        return joined([step.target.name for step in row.steps.all()], "→")
