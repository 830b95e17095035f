"""Where plugins are hung: interceptors around things, targets on the host's points."""

from __future__ import annotations

from django.db import models
from django.db.models import Deferrable, Q

from pluginhub.models.owned import Owned
from pluginhub.models.targets import Registration, Target

__all__ = ["InterceptorBinding", "PointBinding"]


class InterceptorBinding(Owned):
    """A registration with an `intercept` hook, and what it wraps."""

    class Scope(models.TextChoices):
        REQUEST = "request", "HTTP requests"
        CALL = "call", "calls of targets"
        JOB = "job", "jobs"
        STREAM = "stream", "streams"

    registration = models.ForeignKey(Registration, models.PROTECT, related_name="intercepts")
    scope = models.CharField(max_length=8, choices=Scope)
    path_prefix = models.CharField(
        max_length=200, blank=True, help_text="Requests only. Empty: all but admin, login, health and metrics."
    )
    methods = models.CharField(max_length=100, blank=True, help_text="Requests only: GET,POST. Empty: all.")
    targets = models.ManyToManyField(
        Target, blank=True, related_name="intercepted_by", help_text="None: every call from outside."
    )
    position = models.PositiveIntegerField(default=0, help_text="Lower ones stand further out.")
    required = models.BooleanField(default=False, help_text="Whether to answer 503 rather than go on without it.")
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering = ["scope", "position", "pk"]
        constraints = [
            *Owned.Meta.constraints,
            models.CheckConstraint(
                name="pluginhub_interceptor_scope", condition=Q(scope__in=["request", "call", "job", "stream"])
            ),
            models.CheckConstraint(
                name="pluginhub_interceptor_path_prefix",
                condition=Q(path_prefix="") | Q(path_prefix__startswith="/"),
                violation_error_message="A path begins with /.",
            ),
            models.CheckConstraint(
                name="pluginhub_interceptor_methods",
                condition=Q(methods__regex=r"^([A-Z]+(,[A-Z]+)*)?$"),
                violation_error_message="Methods are upper case, with commas and without spaces: GET,POST.",
            ),
            models.CheckConstraint(
                name="pluginhub_interceptor_request_only",
                condition=Q(scope="request") | Q(path_prefix="", methods=""),
                violation_error_message="Only interceptors of HTTP requests choose by path and method.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.registration.name} around {self.get_scope_display()}"


class PointBinding(Owned):
    """A target hung on a point. Bindings of a point may swap positions within a transaction."""

    point = models.CharField(max_length=100)
    target = models.ForeignKey(Target, models.PROTECT, related_name="hung_on")
    position = models.PositiveIntegerField(default=0)
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering = ["point", "position"]
        verbose_name_plural = "points"
        constraints = [
            *Owned.Meta.constraints,
            models.UniqueConstraint(
                name="pluginhub_point_position", fields=["point", "position"], deferrable=Deferrable.DEFERRED
            ),
            models.UniqueConstraint(
                name="pluginhub_point_target",
                fields=["point", "target"],
                violation_error_message="This target already hangs on this point.",
            ),
            models.CheckConstraint(
                name="pluginhub_point_name",
                condition=Q(point__regex=r"^[A-Za-z][A-Za-z0-9_.:-]*$"),
                violation_error_message="A point's name is letters, digits and . : _ -, and begins with a letter.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.target.name} on {self.point}"
