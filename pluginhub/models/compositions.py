"""Compositions: a parent with sub-plugins."""

from __future__ import annotations

from django.db import models
from django.db.models import Deferrable, Q

from pluginhub.models.owned import json_type
from pluginhub.models.targets import Target

__all__ = ["Composition", "Member"]


class Composition(Target):
    """A parent that runs its members by a strategy, or by the code of a `CompositePlugin`."""

    KIND = Target.Kind.COMPOSITION

    class Strategy(models.TextChoices):
        SEQUENCE = "sequence", "one after the other"
        PARALLEL = "parallel", "side by side, results in a list"
        FIRST = "first", "the first that succeeds"
        MERGE = "merge", "side by side, results by key"
        PARENT = "parent", "as the parent plugin says"

    strategy = models.CharField(max_length=8, choices=Strategy, default=Strategy.SEQUENCE)
    plugin = models.CharField(max_length=200, blank=True, help_text="The parent's name in the catalog.")
    config = models.JSONField(default=dict, blank=True)
    config_version = models.PositiveIntegerField(default=1, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="pluginhub_composition_strategy",
                condition=Q(strategy__in=["sequence", "parallel", "first", "merge", "parent"]),
            ),
            models.CheckConstraint(
                name="pluginhub_composition_plugin",
                condition=(Q(strategy="parent") & ~Q(plugin="")) | (~Q(strategy="parent") & Q(plugin="")),
                violation_error_message="Only the strategy “as the parent plugin says” has a plugin, and it needs one.",
            ),
            models.CheckConstraint(
                name="pluginhub_composition_config",
                condition=Q(json_type("config", "object")),
                violation_error_message="A configuration is a JSON object.",
            ),
            models.CheckConstraint(
                name="pluginhub_composition_config_version",
                condition=Q(config_version__gte=1),
            ),
        ]


class Member(models.Model):
    """One target in a composition. Members may swap positions within a transaction."""

    composition = models.ForeignKey(Composition, models.CASCADE, related_name="members")
    position = models.PositiveIntegerField()
    target = models.ForeignKey(Target, models.PROTECT, related_name="in_members")
    key = models.CharField(max_length=100, blank=True, help_text="Names its result; the target's name if empty.")
    required = models.BooleanField(default=True, help_text="Whether the whole fails when it does.")
    private = models.BooleanField(default=False, help_text="Whether nothing else may use it, inside or outside.")

    class Meta:
        ordering = ["composition", "position"]
        constraints = [
            models.UniqueConstraint(
                name="pluginhub_member_position", fields=["composition", "position"], deferrable=Deferrable.DEFERRED
            ),
            models.UniqueConstraint(
                name="pluginhub_member_key",
                fields=["composition", "key"],
                condition=~Q(key=""),
                violation_error_message="Another member has this key.",
            ),
        ]

    def __str__(self) -> str:
        return self.key or self.target.name
