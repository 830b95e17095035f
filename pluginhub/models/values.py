"""What plugins keep."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from pluginhub.models.owned import Owned

__all__ = ["StoredValue"]


class StoredValue(Owned):
    """One durable JSON value. The namespace is a registration's name, or empty for what the tenant's plugins share."""

    namespace = models.CharField(max_length=63, blank=True)
    key = models.CharField(max_length=500, db_collation="C")
    value = models.JSONField()
    updated = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["namespace", "key"]
        constraints = [
            *Owned.Meta.constraints,
            models.UniqueConstraint(name="pluginhub_stored_value_key", fields=["namespace", "key"]),
            models.CheckConstraint(
                name="pluginhub_stored_value_key_given",
                condition=~Q(key=""),
                violation_error_message="A value needs a key.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.namespace}/{self.key}"
