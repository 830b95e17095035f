"""Chains: targets one after the other."""

from __future__ import annotations

from django.db import models
from django.db.models import Deferrable, Q

from pluginhub.models.targets import Target

__all__ = ["Chain", "Step"]


class Chain(Target):
    """An ordered list of steps; each takes what the one before returned."""

    KIND = Target.Kind.CHAIN

    class Meta:  # its own: else Django takes that of the abstract `Owned`, whose column is in the parent's table
        verbose_name = "chain"


class Step(models.Model):
    """One target in a chain, with a policy of its own. Steps may swap positions within a transaction."""

    class OnFailure(models.TextChoices):
        FAIL = "fail", "fail the chain"
        SKIP = "skip", "go on with the input"
        DEFAULT = "default", "go on with the default"
        FALLBACK = "fallback", "call another target instead"

    chain = models.ForeignKey(Chain, models.CASCADE, related_name="steps")
    position = models.PositiveIntegerField()
    target = models.ForeignKey(Target, models.PROTECT, related_name="in_steps")
    label = models.CharField(max_length=100, blank=True, help_text="Names the step in errors and traces.")
    time_limit = models.FloatField(null=True, blank=True, help_text="Seconds; empty: what is left of the run's.")
    attempts = models.PositiveIntegerField(default=1)
    backoff = models.FloatField(default=0.1, help_text="Seconds before the second attempt; doubles from there.")
    on_failure = models.CharField(max_length=8, choices=OnFailure, default=OnFailure.FAIL)
    default = models.JSONField(null=True, blank=True, help_text="The result when the step fails and should not matter.")
    fallback = models.ForeignKey(
        Target, models.PROTECT, null=True, blank=True, related_name="stands_in", help_text="What to call instead."
    )
    condition = models.CharField(
        max_length=1000, blank=True, help_text="JMESPath over the value; the step is left out where it is not true."
    )
    input = models.CharField(max_length=1000, blank=True, help_text="JMESPath over the value: what the step takes.")
    output = models.CharField(
        max_length=1000, blank=True, help_text="JMESPath over {input, result}: what the chain goes on with."
    )

    class Meta:
        ordering = ["chain", "position"]
        constraints = [
            models.UniqueConstraint(
                name="pluginhub_step_position", fields=["chain", "position"], deferrable=Deferrable.DEFERRED
            ),
            models.CheckConstraint(
                name="pluginhub_step_time_limit",
                condition=Q(time_limit__isnull=True) | Q(time_limit__gt=0),
                violation_error_message="A time limit is more than 0 seconds.",
            ),
            models.CheckConstraint(
                name="pluginhub_step_attempts",
                condition=Q(attempts__gte=1),
                violation_error_message="A step is tried at least once.",
            ),
            models.CheckConstraint(
                name="pluginhub_step_backoff",
                condition=Q(backoff__gte=0),
                violation_error_message="A back-off is 0 seconds or more.",
            ),
            models.CheckConstraint(
                name="pluginhub_step_on_failure", condition=Q(on_failure__in=["fail", "skip", "default", "fallback"])
            ),
            models.CheckConstraint(
                name="pluginhub_step_fallback",
                condition=Q(on_failure="fallback", fallback__isnull=False)
                | (~Q(on_failure="fallback") & Q(fallback__isnull=True)),
                violation_error_message="A fallback is named where another target is called instead, and only there.",
            ),
        ]

    def __str__(self) -> str:
        return self.label or self.target.name
