"""Create the public site and tenants, with the host names they answer to. Again is harmless."""

from __future__ import annotations

from collections.abc import Iterable

from django.core.management import call_command
from django_tenants.utils import get_public_schema_name

from tenants.models import Domain, Tenant

__all__ = ["create_public_site", "create_tenant", "migrate"]

PUBLIC_DOMAINS = ("localhost", "127.0.0.1")


def migrate() -> None:
    """Bring the public schema and every tenant's to the newest migration."""
    call_command("migrate_schemas", interactive=False, verbosity=0)


def create_public_site() -> Tenant:
    return _create(get_public_schema_name(), "Installation", PUBLIC_DOMAINS)


def create_tenant(schema: str, *, name: str = "") -> Tenant:
    """Create a tenant that answers at `<schema>.localhost`, its schema migrated."""
    return _create(schema, name or schema.title(), [f"{schema.replace('_', '-')}.localhost"])


def _create(schema: str, name: str, domains: Iterable[str]) -> Tenant:
    tenant: Tenant | None = Tenant.objects.filter(schema_name=schema).first()
    if tenant is None:
        tenant = Tenant(schema_name=schema, name=name)
        tenant.save(verbosity=0)
    for position, domain in enumerate(domains):
        Domain.objects.get_or_create(domain=domain, defaults={"tenant": tenant, "is_primary": position == 0})
    return tenant
