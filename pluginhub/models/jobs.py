"""Jobs: runs in a worker. The row is the job; what Redis carries is only the bell."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import Q
from django.utils import timezone

from pluginhub.models.owned import Owned, json_type

__all__ = ["Job"]

ENDED = ("succeeded", "failed", "cancelled", "dead")


class Job(Owned):
    """One run of a target or handler, from the transaction that asked for it until its end is recorded.

    A claim is a lease until `lease_until` under a fencing `token`; only its holder records the end. Times are moments,
    limits are seconds, progress counts what the job counts.
    """

    class Status(models.TextChoices):
        QUEUED = "queued", "queued"
        RUNNING = "running", "running"
        SUCCEEDED = "succeeded", "succeeded"
        FAILED = "failed", "failed"
        CANCELLED = "cancelled", "cancelled"
        DEAD = "dead", "dead"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=200, help_text="A target, or <registration>.<handler>.")
    data = models.JSONField(null=True, blank=True)
    status = models.CharField(max_length=9, choices=Status, default=Status.QUEUED)

    done = models.PositiveBigIntegerField(default=0)
    total = models.PositiveBigIntegerField(null=True, blank=True)
    note = models.CharField(max_length=500, blank=True)
    result = models.JSONField(null=True, blank=True)
    problem = models.JSONField(null=True, blank=True)

    attempt = models.PositiveIntegerField(default=0)
    max_attempts = models.PositiveIntegerField(default=1)
    token = models.UUIDField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    run_at = models.DateTimeField(default=timezone.now)
    priority = models.IntegerField(default=0)
    time_limit = models.FloatField(null=True, blank=True)
    cancel_requested = models.BooleanField(default=False)

    caller = models.JSONField(default=dict)
    revision = models.PositiveBigIntegerField(null=True, blank=True)
    idempotency_key = models.CharField(max_length=255, null=True, blank=True, unique=True)
    created = models.DateTimeField(auto_now_add=True)
    started = models.DateTimeField(null=True, blank=True)
    ended = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created"]
        indexes = [
            models.Index(
                name="pluginhub_job_claim",
                fields=["-priority", "run_at"],
                condition=Q(status__in=["queued", "running"]),
            ),
            models.Index(name="pluginhub_job_created", fields=["-created"]),
        ]
        constraints = [
            *Owned.Meta.constraints,
            models.CheckConstraint(
                name="pluginhub_job_status",
                condition=Q(status__in=["queued", "running", "succeeded", "failed", "cancelled", "dead"]),
            ),
            models.CheckConstraint(name="pluginhub_job_name", condition=~Q(name="")),
            models.CheckConstraint(
                name="pluginhub_job_running_is_leased",
                condition=~Q(status="running")
                | Q(token__isnull=False, lease_until__isnull=False, started__isnull=False),
            ),
            models.CheckConstraint(
                name="pluginhub_job_end_is_dated",
                condition=Q(status__in=ENDED, ended__isnull=False)
                | Q(status__in=["queued", "running"], ended__isnull=True),
            ),
            models.CheckConstraint(name="pluginhub_job_max_attempts", condition=Q(max_attempts__gte=1)),
            models.CheckConstraint(
                name="pluginhub_job_time_limit", condition=Q(time_limit__isnull=True) | Q(time_limit__gt=0)
            ),
            models.CheckConstraint(name="pluginhub_job_caller", condition=Q(json_type("caller", "object"))),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.id})"

    @property
    def is_ended(self) -> bool:
        return self.status in ENDED
