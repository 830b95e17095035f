"""`manage.py pluginhub_check`: will what is published work with the code on this disk?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from time import monotonic
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import ProgrammingError

from pluginhub import building, configuration, loading, points, providers, publishing, tenancy
from pluginhub.configuration import ChainSpec, Configuration, Problem
from pluginhub.exceptions import PluginHubError
from pluginhub.fleet.models import AllowedPlugin
from pluginhub.management.commanding import TenantCommand, tenant_named
from pluginhub.providers import TenantServices
from pluginhub.types import Tenant

__all__ = ["Command"]

PROGRESS_SECONDS = 1.0


class Command(TenantCommand):
    help = (
        "Build what tenants have published with the plugins on this disk, before a deploy: classes, configurations,"
        " injected services, constructors. Activates nothing. Fails on any problem."
    )
    tenant_required = False

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--all", action="store_true", help="Check every tenant.")
        parser.add_argument("--drafts", "--draft", action="store_true", help="Check the drafts, too.")

    def handle(self, *args: Any, **options: Any) -> None:
        if bool(options["tenant"]) == options["all"]:
            raise CommandError("Say which tenant: --tenant SCHEMA, or --all.")
        tenants = tenancy.tenants() if options["all"] else [tenant_named(options["tenant"])]
        found: list[str] = []
        for tenant in self._counted(tenants):
            problems = list(_problems(tenant, drafts=options["drafts"]))
            for where, message in problems:
                self.stdout.write(f"{tenant.schema}: {where}: {message}")
            found += [tenant.schema] * len(problems)
        if found:
            raise CommandError(f"{len(found)} problems in {len(set(found))} tenants.")
        self.stdout.write(f"No problems in {len(tenants)} tenants.")

    def _counted(self, tenants: list[Tenant]) -> Iterator[Tenant]:
        """Say now and then how far it is, where a person may be waiting."""
        said = monotonic()
        for number, tenant in enumerate(tenants):
            if monotonic() - said >= PROGRESS_SECONDS:
                said = monotonic()
                self.stderr.write(f"{number} of {len(tenants)} tenants", self.style.NOTICE)
            yield tenant


def _problems(tenant: Tenant, *, drafts: bool) -> Iterator[tuple[str, str]]:
    """Yield where and what is wrong: in what is live, and in the draft where it is another."""
    known: set[Problem] = set()
    with tenancy.visit(tenant):
        for which in ("live", "draft") if drafts else ("live",):
            try:
                found = _found(tenant, publishing.configuration_at(which))
            except ProgrammingError:
                yield "tables", f"Not migrated: run manage.py migrate_schemas --schema {tenant.schema}."
                return
            except PluginHubError as error:
                yield "configuration", str(error)
                continue
            except (
                Exception
            ) as error:  # the models of plugins are asked, too; the other tenants are still to be checked
                yield "configuration", f"{type(error).__name__}: {error}"
                continue
            for problem in found:
                kind, name, field, message = problem
                if problem not in known:
                    yield " ".join(filter(None, ["draft" if which == "draft" else "", kind, name, field])), message
            known |= {*found}


def _found(tenant: Tenant, value: Configuration) -> list[Problem]:
    found = configuration.validate(value, loading.catalog(), _allowed(tenant), points=points.declared())
    unfit = {(kind, name) for kind, name, *_ in found}
    services = providers.of(tenant).hold()
    try:
        return [*found, *_unbuilt(services, value, unfit)]
    finally:
        services.release()


def _unbuilt(services: TenantServices, value: Configuration, unfit: Iterable[tuple[str, str]]) -> Iterator[Problem]:
    """Make each plugin object, and let it go: what no look at the configuration tells."""
    code = loading.current()
    suppliers = building.suppliers(value, code)
    for kind, spec in value.targets():
        if isinstance(spec, ChainSpec) or not spec.enabled or not spec.plugin or (kind, spec.name) in unfit:
            continue
        try:
            if any(suppliers.givers(spec.name)):
                continue  # what another plugin provides is there once that is active
            its = building.services_of(spec, services.tenant)
            building.build(code.load(spec.plugin), spec, its, provide=services.get)
        except PluginHubError as error:
            yield kind, spec.name, "constructor", str(error)
        except Exception as error:  # the author's constructor
            message = f"The constructor of {spec.plugin!r} failed with {type(error).__name__}: {error}"
            yield kind, spec.name, "constructor", message


def _allowed(tenant: Tenant) -> frozenset[str] | None:
    return frozenset(AllowedPlugin.objects.filter(schema=tenant.schema).values_list("plugin", flat=True)) or None
