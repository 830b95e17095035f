"""`manage.py pluginhub_export`: a tenant's configuration as YAML."""

from __future__ import annotations

from typing import Any

import yaml
from django.core.management.base import CommandParser

from pluginhub import configuration, publishing
from pluginhub.management.commanding import TenantCommand
from pluginhub.types import Tenant

__all__ = ["Command"]


class Command(TenantCommand):
    help = (
        "Print what a tenant has published as YAML, for pluginhub_apply, for git, for another tenant. Secrets stay"
        " here: the file names them."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        which = parser.add_mutually_exclusive_group()
        which.add_argument("--draft", action="store_true", help="Print the draft instead.")
        which.add_argument("--revision", type=int, metavar="N", help="Print an older revision instead.")
        parser.add_argument(
            "--sealed",
            action="store_true",
            help="Print secrets too, sealed: they open for the same tenant, registration and field only.",
        )

    def work(self, tenant: Tenant, options: dict[str, Any]) -> None:
        which: publishing.Which = "draft" if options["draft"] else "live"
        value = publishing.configuration_at(which if options["revision"] is None else options["revision"])
        value = value if options["sealed"] else configuration.referring(value)
        self.stdout.write(yaml.safe_dump(value.data(), sort_keys=False, allow_unicode=True), ending="")
