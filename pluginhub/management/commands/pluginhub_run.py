"""`manage.py pluginhub_run`: run a target."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from pluginhub import execution, payloads
from pluginhub.management.commanding import OPERATOR, TenantCommand, failure, pretty, read
from pluginhub.tracing import trace_of
from pluginhub.types import Tenant

__all__ = ["Command"]


class Command(TenantCommand):
    help = "Run a target of a tenant and print its result as JSON."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("target")
        parser.add_argument("value", nargs="?", help="The input as JSON, or - to read it; null unless given.")
        parser.add_argument("--trace", action="store_true", help="Print what each step took and gave, too.")
        parser.add_argument("--timeout", type=float, help="Seconds it may take; RUN_SECONDS unless given.")

    def work(self, tenant: Tenant, options: dict[str, Any]) -> None:
        given = options["value"]
        value = payloads.parse(read("-") if given == "-" else (given or "").encode())
        try:
            outcome = execution.perform(
                options["target"], value, caller=OPERATOR, timeout=options["timeout"], trace=options["trace"]
            )
        except Exception as error:  # a plugin may raise anything
            self._show(trace_of(error) if options["trace"] else None)
            raise failure(error) from error
        self._show(outcome.trace)
        self.stdout.write(pretty(outcome.result))

    def _show(self, trace: list[dict[str, Any]] | None) -> None:
        """Write the trace apart from the result, which programs read."""
        if trace is not None:
            self.stderr.write(pretty(trace))
