"""`manage.py pluginhub_token`: make an access token."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from pluginhub import access
from pluginhub.management.commanding import TenantCommand, near
from pluginhub.types import Tenant

__all__ = ["Command"]

GUESSED_FROM = 1000


class Command(TenantCommand):
    help = "Make an access token for a tenant's user, and print it and nothing else. It cannot be shown again."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--user", required=True, help="The user's login name.")
        parser.add_argument("--name", default="command line", help="What the admin lists it as.")
        parser.add_argument("--days", type=_days, help="Days until it expires; never unless given.")

    def work(self, tenant: Tenant, options: dict[str, Any]) -> None:
        expires = timezone.now() + options["days"] if options["days"] else None
        self.stdout.write(access.issue_token(_user(tenant, options["user"]), options["name"], expires=expires))


def _user(tenant: Tenant, name: str) -> Any:
    model = get_user_model()
    field = model.USERNAME_FIELD
    user = model._default_manager.filter(**{field: name}).first()
    if user is None:
        names = map(str, model._default_manager.values_list(field, flat=True)[:GUESSED_FROM])
        raise CommandError(f"{tenant} has no user {name!r}. {near(name, names)}".strip())
    return user


def _days(text: str) -> timedelta:
    days = timedelta(days=float(text))
    if days <= timedelta(0):
        raise ValueError
    return days
