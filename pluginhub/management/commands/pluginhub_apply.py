"""`manage.py pluginhub_apply`: make a tenant's configuration what a file says."""

from __future__ import annotations

from typing import Any

import yaml
from django.core.management.base import CommandError, CommandParser
from pydantic import ValidationError

from pluginhub import publishing
from pluginhub.configuration import Configuration
from pluginhub.exceptions import PublishRefused
from pluginhub.management.commanding import OPERATOR, TenantCommand, read
from pluginhub.types import Tenant

__all__ = ["Command"]


class Command(TenantCommand):
    help = "Rewrite a tenant's configuration from YAML (or JSON) and publish it, all or nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("file", help="What pluginhub_export printed; - reads standard input.")
        parser.add_argument("--draft", action="store_true", help="Keep it as the draft; publish nothing.")
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="Say what would change in the draft and whether it could be published, and stop.",
        )
        parser.add_argument("--note", default="", help="Kept with the revision.")
        parser.add_argument("--expected", type=int, help="Refuse unless this is the newest revision.")

    def work(self, tenant: Tenant, options: dict[str, Any]) -> None:
        wanted = _configuration(options["file"])
        changes, problems = publishing.rehearse(wanted)
        for change in changes:
            self.stdout.write(str(change))
        if options["dry_run"]:
            if problems:
                raise PublishRefused(problems)
            return
        revision = publishing.apply_configuration(
            wanted,
            author=OPERATOR.name,
            publish=not options["draft"],
            note=options["note"],
            expected=options["expected"],
        )
        self.stdout.write(f"Published as revision {revision.number}." if revision else "Kept as the draft.")


def _configuration(source: str) -> Configuration:
    try:
        data = yaml.safe_load(read(source))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise CommandError(f"{source!r} is no YAML: {str(error).splitlines()[0]}") from None
    try:
        return Configuration.model_validate(data)
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, each['loc'])) or 'the whole'}: {each['msg']}" for each in error.errors()]
        raise CommandError("\n".join([f"{source!r} is no configuration:", *lines])) from None
