"""The fleet: newest revisions, generations of code, live processes, who may use which plugin, and due work.

Every table is read across tenants in one query. Tenants see the schema `public` after their own, so these models work
on any connection.
"""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import Q
from django.utils import timezone

__all__ = ["AllowedPlugin", "Due", "Generation", "Head", "Process", "Reset"]


class Head(models.Model):
    """The number of a tenant's newest revision. Its row lock is what makes publishing one at a time."""

    schema = models.CharField(max_length=63, primary_key=True)
    revision = models.PositiveBigIntegerField(default=0, help_text="0: nothing published.")
    publish_saves = models.BooleanField(default=False, help_text="Whether every save of the draft is published.")
    resets = models.PositiveBigIntegerField(default=0, help_text="Counts the tenant's resets.")
    updated = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"{self.schema} at {self.revision}"


class Reset(models.Model):
    """How often an operator closed a registration's breakers, or emptied its cache: every process follows the numbers.

    Written with its head's `resets`, in one transaction.
    """

    schema = models.CharField(max_length=63)
    registration = models.CharField(max_length=63)
    breaker = models.PositiveBigIntegerField(default=0)
    cache = models.PositiveBigIntegerField(default=0)
    author = models.CharField(max_length=200, blank=True, help_text="Of the last one.")
    updated = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["schema", "registration"]
        constraints = [models.UniqueConstraint(name="pluginhub_reset", fields=["schema", "registration"])]

    def __str__(self) -> str:
        return f"{self.registration} of {self.schema}"


class Generation(models.Model):
    """A numbered loading of plugin code. The newest one says what every process should run."""

    number = models.PositiveBigIntegerField(unique=True)
    plugin = models.CharField(max_length=200, blank=True, help_text="The plugin whose reload was asked for.")
    distribution = models.CharField(max_length=200, blank=True)
    version = models.CharField(max_length=100, blank=True)
    digest = models.CharField(max_length=64, help_text="Of its package's source.")
    packages = models.JSONField(default=dict, blank=True, help_text="Every package reloaded so far, and its digest.")
    author = models.CharField(max_length=200, blank=True)
    created = models.DateTimeField(auto_now_add=True)
    note = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ["-number"]
        constraints = [models.CheckConstraint(name="pluginhub_generation_number", condition=Q(number__gte=1))]

    def __str__(self) -> str:
        return f"generation {self.number}"


class Process(models.Model):
    """A process of the fleet, alive while `seen` is fresh."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=32, help_text="web, worker, command.")
    host = models.CharField(max_length=255)
    pid = models.PositiveBigIntegerField()
    started = models.DateTimeField(default=timezone.now)
    seen = models.DateTimeField(default=timezone.now, db_index=True)
    state = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ["host", "pid"]
        verbose_name_plural = "processes"

    def __str__(self) -> str:
        return f"{self.kind} {self.host}:{self.pid}"


class AllowedPlugin(models.Model):
    """A plugin a tenant may use. A tenant without rows may use all of the catalog."""

    schema = models.CharField(max_length=63)
    plugin = models.CharField(max_length=200)

    class Meta:
        ordering = ["schema", "plugin"]
        constraints = [models.UniqueConstraint(name="pluginhub_allowed_plugin", fields=["schema", "plugin"])]

    def __str__(self) -> str:
        return f"{self.plugin} for {self.schema}"


class Due(models.Model):
    """A line of the due list: this tenant has a job to run from this moment on. Appended, deleted, never changed."""

    id = models.BigAutoField(primary_key=True)
    schema = models.CharField(max_length=63)
    job = models.UUIDField(db_index=True)
    run_at = models.DateTimeField(default=timezone.now)
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["run_at", "id"]
        verbose_name_plural = "due"
        indexes = [models.Index(name="pluginhub_due_run_at", fields=["run_at", "schema"])]

    def __str__(self) -> str:
        return f"{self.job} of {self.schema}"
