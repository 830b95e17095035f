"""What can be called by name, and registrations: a tenant's own uses of plugins."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models
from django.db.models import Q

from pluginhub.models.owned import Owned, json_type

__all__ = ["NAME_PATTERN", "RATE_PATTERN", "Registration", "Target"]

NAME_PATTERN = r"^[a-z][a-z0-9_-]{0,62}$"
RATE_PATTERN = r"^([1-9][0-9]{0,8}/[smhd])?$"


class Target(Owned):
    """A registration, a chain or a composition: one namespace, held by the unique name.

    A multi-table parent; make and change it through its kind.
    """

    class Kind(models.TextChoices):
        REGISTRATION = "registration", "registration"
        CHAIN = "chain", "chain"
        COMPOSITION = "composition", "composition"

    KIND: ClassVar[str] = ""

    name = models.CharField(max_length=63, unique=True, help_text="Lower case letters, digits, - and _.")
    kind = models.CharField(max_length=16, choices=Kind, editable=False)
    title = models.CharField(max_length=200, blank=True, help_text="What people read; the name if empty.")
    enabled = models.BooleanField(default=True)
    public = models.BooleanField(default=False, help_text="Callable without a login, under /in/. Needs a rate limit.")
    rate_limit = models.CharField(max_length=16, blank=True, help_text="Calls per s, m, h or d, such as 60/m.")
    created = models.DateTimeField(auto_now_add=True)
    updated = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]
        permissions = [
            ("run_target", "Can run targets, enqueue jobs and follow streams"),
            ("publish", "Can publish and roll back"),
            ("reload_code", "Can reload plugin code"),
            ("view_traces", "Can see traces of runs"),
        ]
        constraints = [
            *Owned.Meta.constraints,
            models.CheckConstraint(
                name="pluginhub_target_name",
                condition=Q(name__regex=NAME_PATTERN),
                violation_error_message="A name is lower case letters, digits, - and _, and begins with a letter.",
            ),
            models.CheckConstraint(
                name="pluginhub_target_kind",
                condition=Q(kind__in=["registration", "chain", "composition"]),
            ),
            models.CheckConstraint(
                name="pluginhub_target_rate_limit",
                condition=Q(rate_limit__regex=RATE_PATTERN),
                violation_error_message="A rate limit is a number per s, m, h or d, such as 60/m.",
            ),
            models.CheckConstraint(
                name="pluginhub_target_public_is_limited",
                condition=Q(public=False) | ~Q(rate_limit=""),
                violation_error_message="A public target needs a rate limit, such as 60/m.",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        super().clean()
        self.kind = self.KIND or self.kind

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.kind = self.KIND or self.kind
        super().save(*args, **kwargs)

    @property
    def label(self) -> str:
        """What people read."""
        return self.title or self.name


class Registration(Target):
    """A plugin of the catalog, configured. Secrets inside `config` are sealed."""

    KIND = Target.Kind.REGISTRATION

    plugin = models.CharField(max_length=200, help_text="Its name in the catalog.")
    config = models.JSONField(default=dict, blank=True)
    config_version = models.PositiveIntegerField(default=1, editable=False)
    breaker_rate = models.FloatField(
        null=True, blank=True, help_text="Opens the breaker: the share of failed calls, such as 0.5. Empty: none."
    )
    breaker_calls = models.PositiveIntegerField(default=20, help_text="Of how many last calls the share is taken.")
    breaker_seconds = models.FloatField(default=30, help_text="Seconds until a call is tried again.")
    cache_seconds = models.FloatField(
        null=True, blank=True, help_text="Seconds a result is kept for the same input. Empty: not kept."
    )
    cache_failures = models.FloatField(
        null=True, blank=True, help_text="Seconds a failure is kept for the same input. Empty: not kept."
    )

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="pluginhub_registration_breaker_rate",
                condition=Q(breaker_rate__isnull=True) | Q(breaker_rate__gt=0, breaker_rate__lte=1),
                violation_error_message="A share of failed calls is more than 0 and at most 1.",
            ),
            models.CheckConstraint(
                name="pluginhub_registration_breaker_calls",
                condition=Q(breaker_calls__gte=1, breaker_calls__lte=1000),
                violation_error_message="A breaker looks at 1 to 1000 calls.",
            ),
            models.CheckConstraint(
                name="pluginhub_registration_breaker_seconds",
                condition=Q(breaker_seconds__gt=0),
                violation_error_message="A breaker stays open for more than 0 seconds.",
            ),
            models.CheckConstraint(
                name="pluginhub_registration_cache_seconds",
                condition=Q(cache_seconds__isnull=True) | Q(cache_seconds__gt=0),
                violation_error_message="Results are kept for more than 0 seconds.",
            ),
            models.CheckConstraint(
                name="pluginhub_registration_cache_failures",
                condition=Q(cache_failures__isnull=True) | Q(cache_failures__gt=0),
                violation_error_message="Failures are kept for more than 0 seconds.",
            ),
            models.CheckConstraint(
                name="pluginhub_registration_plugin",
                condition=~Q(plugin=""),
                violation_error_message="A registration needs a plugin.",
            ),
            models.CheckConstraint(
                name="pluginhub_registration_config",
                condition=Q(json_type("config", "object")),
                violation_error_message="A configuration is a JSON object.",
            ),
            models.CheckConstraint(
                name="pluginhub_registration_config_version",
                condition=Q(config_version__gte=1),
            ),
        ]
