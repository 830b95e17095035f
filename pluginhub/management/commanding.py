"""What the commands share: a tenant to work in, and errors that say what to do."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from pluginhub import payloads, tenancy
from pluginhub.exceptions import PluginHubError, PublishRefused, problem_of
from pluginhub.types import Caller, Tenant

__all__ = ["OPERATOR", "TenantCommand", "failure", "near", "pretty", "read", "tenant_named"]

OPERATOR = Caller("command line", "command", trusted=True)


class TenantCommand(BaseCommand):
    """A command inside one tenant. Override `work`; its `PluginHubError`s become the command's."""

    tenant_required = True

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--tenant", required=self.tenant_required, metavar="SCHEMA", help="The tenant, by its schema's name."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        tenant = tenant_named(options["tenant"])
        try:
            with tenancy.visit(tenant):
                self.work(tenant, options)
        except PluginHubError as error:
            raise failure(error) from error

    def work(self, tenant: Tenant, options: dict[str, Any]) -> None:
        """Do what the command does; the tenant is current."""
        raise NotImplementedError


def tenant_named(schema: str) -> Tenant:
    """Return the tenant of a schema. Raises `CommandError` naming near misses."""
    known = {tenant.schema: tenant for tenant in tenancy.tenants()}
    if schema not in known:
        raise CommandError(f"There is no tenant with the schema {schema!r}. {near(schema, known)}".strip())
    return known[schema]


def near(name: str, known: Iterable[str]) -> str:
    """Return "Did you mean …?" for the near misses of a name, or what there is, or nothing."""
    names = sorted(known)
    found = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if found:
        return f"Did you mean {', '.join(map(repr, found))}?"
    return f"There is {', '.join(map(repr, names[:10]))}." if 0 < len(names) <= 10 else ""


def failure(error: Exception) -> CommandError:
    """Return an error as a command's: its detail, its way out, what is wrong by field, and where it happened."""
    if isinstance(error, PublishRefused):
        refused = (f"  {' '.join(filter(None, where))}: {message}" for *where, message in error.problems)
        return CommandError("\n".join(["This cannot be published:", *refused]))
    problem = problem_of(error)
    lines = [" ".join(filter(None, [problem.get("detail"), problem.get("hint")]))]
    lines += [f"  {field or 'value'}: {message}" for field, message in (problem.get("errors") or {}).items()]
    lines += [f"  {key}: {problem[key]}" for key in ("chain", "step", "registration", "plugin") if key in problem]
    return CommandError("\n".join(lines))


def read(source: str | None) -> bytes:
    """Return the bytes of a file, of standard input for `-`, or none for `None`. Raises `CommandError`."""
    if source is None:
        return b""
    if source == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise CommandError(f"{source!r} cannot be read: {error.strerror}.") from None


def pretty(value: Any) -> str:
    """Return a value as JSON for people."""
    return json.dumps(json.loads(payloads.render(value)), indent=2, ensure_ascii=False)
