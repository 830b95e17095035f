"""Rows that name the tenant they belong to, so that the database itself refuses a write that crossed over."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import F
from django.db.models.lookups import Exact

from pluginhub import tenancy

__all__ = ["Owned", "current_schema", "json_type"]


def current_schema() -> str:
    """Return the schema a new row belongs to: the entered tenant's, never the connection's."""
    tenant = tenancy.current_or_none()
    return tenant.schema if tenant else ""


def json_type(field: str, kind: str) -> Exact:
    """Return the condition that a JSON field holds an `object`, an `array`, …"""
    of = models.Func(F(field), function="jsonb_typeof", output_field=models.CharField())
    return Exact(of, models.Value(kind))


class Owned(models.Model):
    """A row stamped with its schema.

    An instance loaded in one tenant and saved while the connection is on another's is an `IntegrityError`, also when
    a row with the same key exists there. A dump restores: while it loads, `current_schema()` is null, which passes.
    """

    schema = models.CharField(max_length=63, default=current_schema, editable=False)

    class Meta:
        abstract = True
        constraints = [
            models.CheckConstraint(
                name="%(app_label)s_%(class)s_own_schema",
                condition=models.Q(
                    schema=models.Func(function="current_schema", output_field=models.CharField(max_length=63))
                ),
                violation_error_message="This row belongs to another tenant.",
            )
        ]

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self.schema:  # the instance was made before the tenant was entered
            self.schema = tenancy.current().schema
        super().save(*args, **kwargs)
