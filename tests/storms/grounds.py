"""Where storms rage when no test run has made the place: databases of their own, and tenants."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections

from pluginhub import tenancy
from pluginhub.types import Tenant
from tenants import installation
from tests import services

__all__ = ["grounds"]


@contextmanager
def grounds(count: int) -> Iterator[tuple[list[Tenant], str]]:
    """Start servers, migrate, and yield `count` new tenants and the database's URL. Leaves nothing behind."""
    with services.running():
        installation.migrate()
        installation.create_public_site()
        for number in range(count):
            installation.create_tenant(f"storm{number}")
        tenancy.forget()
        try:
            yield [tenancy.find(f"storm{number}") for number in range(count)], os.environ["DATABASE_URL"]
        finally:
            connections.close_all()
