"""`manage.py pluginhub_apply`: make a tenant's configuration what a file says."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

import yaml
from django.core.management.base import CommandError, CommandParser
from pydantic import ValidationError

from pluginhub import publishing
from pluginhub.configuration import Change, Configuration, reference_names, upgraded
from pluginhub.exceptions import PublishRefused
from pluginhub.management.commanding import OPERATOR, TenantCommand, near, read
from pluginhub.models import Revision
from pluginhub.types import Tenant

__all__ = ["Command"]

ENVIRONMENT = "PLUGINHUB_SECRET_"


class Command(TenantCommand):
    help = (
        "Rewrite a tenant's configuration from YAML (or JSON) and publish it, all or nothing. Secrets that the file"
        " only names are kept where the tenant has them."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("file", help="What pluginhub_export printed; - reads standard input.")
        parser.add_argument("--draft", action="store_true", help="Keep it as the draft; publish nothing.")
        parser.add_argument(
            "--dry-run", action="store_true", help="Say what would change and whether it could be published, and stop."
        )
        parser.add_argument(
            "--secrets",
            metavar="FILE|env",
            help="Secrets by name, as YAML or JSON: mail.password: … – or env: from variables such as"
            f" {ENVIRONMENT}MAIL_PASSWORD.",
        )
        parser.add_argument("--note", default="", help="Kept with the revision.")
        parser.add_argument("--expected", type=int, help="Refuse unless this is the newest revision.")

    def work(self, tenant: Tenant, options: dict[str, Any]) -> None:
        wanted = _configuration(options["file"])
        secrets = _secrets(options["secrets"], reference_names(wanted))
        rehearsal = publishing.rehearse(wanted, secrets=secrets)
        self._tell(rehearsal.changes if options["draft"] else rehearsal.published, rehearsal.discarded)
        if options["dry_run"]:
            self._end_rehearsal(rehearsal)
            return
        revision = publishing.apply_configuration(
            wanted,
            author=OPERATOR.name,
            publish=not options["draft"],
            note=options["note"],
            expected=options["expected"],
            secrets=secrets,
        )
        self._end(rehearsal, revision)

    def _tell(self, changes: list[Change], discarded: list[Change]) -> None:
        for change in changes:
            self.stdout.write(str(change))
        if discarded:
            self.stdout.write("Lost from the draft, since nobody published it:")
            for change in discarded:
                self.stdout.write(f"  {change}")

    def _end_rehearsal(self, rehearsal: publishing.Rehearsal) -> None:
        if rehearsal.problems:
            raise PublishRefused(rehearsal.problems)
        if not rehearsal.published:
            self.stdout.write("Nothing would change in what is live.")

    def _end(self, rehearsal: publishing.Rehearsal, revision: Revision | None) -> None:
        if revision is not None:
            said = f"Published as revision {revision.number}."
            self.stdout.write(said if rehearsal.published else f"Nothing changed: revision {revision.number} is live.")
            return
        self.stdout.write("Kept as the draft.")
        if rehearsal.problems:
            self.stdout.write("It cannot be published yet:")
        for *where, message in rehearsal.problems:
            self.stdout.write(f"  {' '.join(filter(None, where))}: {message}")


def _configuration(source: str) -> Configuration:
    data = upgraded(_yaml(source))
    try:
        return Configuration.model_validate(data)
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, each['loc'])) or 'the whole'}: {each['msg']}" for each in error.errors()]
        raise CommandError("\n".join([f"{source!r} is no configuration:", *lines])) from None


def _yaml(source: str, *, quote: bool = True) -> Any:
    """Return what a file says. `quote` tells whether an error may say what it found: not where secrets stand."""
    try:
        return yaml.safe_load(read(source))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        reason = f": {str(error).splitlines()[0]}" if quote else "."
        raise CommandError(f"{source!r} is no YAML{reason}") from None


def _secrets(source: str | None, names: list[str]) -> dict[str, str]:
    """Return the secrets given, by name. Raises `CommandError` for one that the configuration has no place for."""
    if source is None:
        return {}
    if source == "env":
        return dict(_from_environment(names))
    given = dict(_flat(_yaml(source, quote=False), ()))
    for name in given:
        if name not in names:
            raise CommandError(f"The file has no place for the secret {name!r}. {near(name, names)}".strip())
    return given


def _from_environment(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    taken: dict[str, str] = {}
    for name in names:
        variable = ENVIRONMENT + re.sub(r"[^A-Z0-9]", "_", name.upper())
        if variable in os.environ:
            if taken.setdefault(variable, name) != name:
                raise CommandError(f"{variable} is both {taken[variable]!r} and {name!r}. Give them in a file.")
            yield name, os.environ[variable]


def _flat(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield the texts of nested keys: `{mail: {password: x}}` and `{mail.password: x}` say the same."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _flat(each, (*path, str(key)))
    elif path and isinstance(value, str):
        yield ".".join(path), value
    else:
        raise CommandError(f"The secret {'.'.join(path) or '(the whole file)'!r} is no text: put it in quotes.")
