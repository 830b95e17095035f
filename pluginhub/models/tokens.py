"""Access tokens: how services log in."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from pluginhub.models.owned import Owned

__all__ = ["AccessToken"]


class AccessToken(Owned):
    """A token of one user. Only its SHA-256 is kept, in hex, and its first eight characters to know it by."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    name = models.CharField(max_length=100)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    prefix = models.CharField(max_length=8, editable=False)
    created = models.DateTimeField(auto_now_add=True)
    expires = models.DateTimeField(null=True, blank=True)
    last_used = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ["-created"]
        constraints = [
            *Owned.Meta.constraints,
            models.CheckConstraint(name="pluginhub_access_token_digest", condition=Q(digest__regex=r"^[0-9a-f]{64}$")),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"
