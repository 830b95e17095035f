"""Who the tenants are, and by which host names they are reached. Lives in the public schema."""

from __future__ import annotations

from django.db import models
from django_tenants.models import DomainMixin, TenantMixin


class Tenant(TenantMixin):
    """One customer. Saving a new one creates and migrates its PostgreSQL schema."""

    name = models.CharField(max_length=100)
    created = models.DateTimeField(auto_now_add=True)

    auto_create_schema = True
    auto_drop_schema = False

    class Meta:
        ordering = ("schema_name",)

    def __str__(self) -> str:
        return self.name


class Domain(DomainMixin):
    """One host name of a tenant, without a port."""

    class Meta:
        ordering = ("domain",)
