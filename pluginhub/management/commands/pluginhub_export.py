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
    help = "Print a tenant's published configuration as YAML, for pluginhub_apply. Secrets stay sealed for this tenant."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--draft", action="store_true", help="Print the draft instead.")

    def work(self, tenant: Tenant, options: dict[str, Any]) -> None:
        value = configuration.read() if options["draft"] else publishing.configuration_of(publishing.live())
        self.stdout.write(yaml.safe_dump(value.data(), sort_keys=False, allow_unicode=True), ending="")
