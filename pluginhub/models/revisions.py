"""Published configurations."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from pluginhub.models.owned import Owned, json_type

__all__ = ["Revision"]


class Revision(Owned):
    """One published configuration. A trigger in the database refuses to change it."""

    number = models.PositiveBigIntegerField(unique=True)
    format = models.PositiveIntegerField()
    data = models.JSONField()
    digest = models.CharField(max_length=64)
    note = models.CharField(max_length=500, blank=True)
    author = models.CharField(max_length=200)
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-number"]
        constraints = [
            *Owned.Meta.constraints,
            models.CheckConstraint(name="pluginhub_revision_number", condition=Q(number__gte=1)),
            models.CheckConstraint(name="pluginhub_revision_data", condition=Q(json_type("data", "object"))),
        ]

    def __str__(self) -> str:
        return f"revision {self.number}"
