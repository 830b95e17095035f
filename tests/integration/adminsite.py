"""Asking a tenant's admin for its pages, and rows for it to show."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from pluginhub.models import Chain, Registration, Step, Target
from pluginhub.types import Tenant

__all__ = ["GREET", "PLUGINS", "chain", "client_of", "errors", "register", "step", "steps", "text", "url"]

PLUGINS = {name.lower(): f"tests.integration.admin_plugins:{name}" for name in ("Greet", "Louder", "Wrap")}

GREET = {"name": "greet", "title": "", "enabled": "on", "config-greeting": "Hello", "config-token": ""}


def client_of(user: User, tenant: Tenant) -> Client:
    client = Client(headers={"host": f"{tenant.schema}.localhost"})
    client.force_login(user)
    return client


def url(model: str, page: str = "changelist", *args: Any, **query: str) -> str:
    path = reverse(f"admin:pluginhub_{model}_{page}", args=args, urlconf="tenants.site.urls")
    return f"{path}?{'&'.join(f'{key}={value}' for key, value in query.items())}" if query else path


def text(response: Any) -> str:
    """What a person reads of a page."""
    page = re.sub(r"(?s)<(script|style|head)\b.*?</\1>", " ", response.content.decode())
    page = re.sub(r"</?(a|code|span|strong)\b[^>]*>", "", page)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def errors(response: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = response.context["adminform"].form.errors
    return found


def register(**fields: Any) -> Registration:
    return Registration.objects.create(**{"name": "greet", "plugin": "greet", **fields})


def chain(name: str, *targets: str) -> Chain:
    made = Chain.objects.create(name=name)
    for position, target in enumerate(targets, 1):
        Step.objects.create(chain=made, position=position, target=Target.objects.get(name=target))
    return made


def step(index: int, **fields: Any) -> dict[str, Any]:
    """The fields of one step as the page sends them."""
    row = {"attempts": 1, "backoff": 0.1, "on_failure": "fail", "position": index + 1, **fields}
    return {f"steps-{index}-{field}": value for field, value in row.items()}


def steps(*rows: dict[str, Any], initial: int = 0) -> dict[str, Any]:
    sent = {"steps-TOTAL_FORMS": len(rows), "steps-INITIAL_FORMS": initial}
    for index, row in enumerate(rows):
        sent |= step(index, **row)
    return sent
