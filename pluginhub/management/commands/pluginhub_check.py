"""`manage.py pluginhub_check`: will what is published work with the code on this disk?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import ProgrammingError

from pluginhub import configuration, loading, publishing, tenancy
from pluginhub.exceptions import PluginHubError
from pluginhub.fleet.models import AllowedPlugin
from pluginhub.management.commanding import TenantCommand, tenant_named
from pluginhub.types import Tenant

__all__ = ["Command"]

Line = tuple[str, str, str]


class Command(TenantCommand):
    help = "Check published configurations against the plugins on this disk, before a deploy. Fails on any problem."
    tenant_required = False

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--all", action="store_true", help="Check every tenant.")
        parser.add_argument("--draft", action="store_true", help="Check the drafts instead of what is published.")

    def handle(self, *args: Any, **options: Any) -> None:
        if bool(options["tenant"]) == options["all"]:
            raise CommandError("Say which tenant: --tenant SCHEMA, or --all.")
        tenants = tenancy.tenants() if options["all"] else [tenant_named(options["tenant"])]
        found = [problem for tenant in tenants for problem in _problems(tenant, draft=options["draft"])]
        for tenant, where, message in found:
            self.stdout.write(f"{tenant}: {where}: {message}")
        if found:
            raise CommandError(f"{len(found)} problems in {len({tenant for tenant, *_ in found})} tenants.")
        self.stdout.write(f"No problems in {len(tenants)} tenants.")


def _problems(tenant: Tenant, *, draft: bool) -> Iterator[Line]:
    try:
        with tenancy.visit(tenant):
            value = configuration.read() if draft else publishing.configuration_of(publishing.live())
            found = configuration.validate(value, loading.catalog(), _allowed(tenant))
    except ProgrammingError:
        yield tenant.schema, "tables", f"Not migrated: run manage.py migrate_schemas --schema {tenant.schema}."
        return
    except (PluginHubError, ValueError) as error:
        yield tenant.schema, "configuration", str(error)
        return
    for kind, name, field, message in found:
        yield tenant.schema, " ".join(filter(None, [kind, name, field])), message


def _allowed(tenant: Tenant) -> frozenset[str] | None:
    return frozenset(AllowedPlugin.objects.filter(schema=tenant.schema).values_list("plugin", flat=True)) or None
