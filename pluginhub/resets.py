"""Closing breakers and emptying caches in every process: counters in the fleet, which each process follows.

The number is the truth: a tenant's head counts its resets, every process compares it with the one it knows, as it does
with revisions, and reads the tenant's counters where it is another. The message on Redis only makes it look sooner.
Linked pipelines ask `runtime.resets.cache(registration)`, which costs no query: the counters came with the revision.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

from django.contrib.postgres.expressions import ArraySubquery
from django.db import transaction
from django.db.models import F, Max, Subquery
from django.db.models.functions import JSONObject
from django_tenants.utils import get_tenant_database_alias

from pluginhub import tenancy
from pluginhub.exceptions import UnknownTarget
from pluginhub.fleet.models import Head, Reset
from pluginhub.following import HEADS, ring
from pluginhub.models import Registration, Revision
from pluginhub.types import PUBLIC, Tenant

__all__ = ["Counts", "Resets", "What", "columns", "counts_in", "reset"]

What = Literal["breaker", "cache"]


class Counts(NamedTuple):
    """How often a registration's breakers were closed, and its cache was emptied."""

    breaker: int = 0
    cache: int = 0


_NONE = Counts()


class Resets:
    """What this process knows of a tenant's resets. Lives as long as the tenant is loaded, over its revisions."""

    __slots__ = ("_counts", "_reading", "number")

    def __init__(self, number: int = 0, counts: Mapping[str, Counts] = {}) -> None:
        self.number = number
        """The one of the tenant's head which the counters belong to."""
        self._counts = counts
        self._reading = threading.Lock()

    def cache(self, registration: str) -> int:
        """Return how often a registration's cache was emptied: a part of the keys in it."""
        return self._counts.get(registration, _NONE).cache

    def follow(self, tenant: Tenant, number: int) -> set[str]:
        """Come to the head's number, with one query where it is another; return whose breakers were closed since."""
        with self._reading:  # who reads later knows more: no counter goes back
            if number == self.number:
                return set()
            counts = tenancy.gate(PUBLIC, _read, tenant.schema)
            known, self._counts, self.number = self._counts, counts, number
        return {name for name, each in counts.items() if each.breaker != known.get(name, _NONE).breaker}


def reset(registration: str, what: What, *, author: str) -> None:
    """Close a registration's breakers, or empty its cache, in all processes. Acts on the current tenant.

    Every process follows within `POLL_SECONDS`, most at once. Raises `UnknownTarget`.
    """
    tenant = tenancy.current()
    with tenancy.visit(tenant), transaction.atomic(using=get_tenant_database_alias()):
        known = Registration.objects.order_by("name").values_list("name", flat=True)
        if not known.filter(name=registration).exists():
            raise UnknownTarget(registration, known, kind="registration")
        _count(tenant.schema, registration, what, author)
        transaction.on_commit(partial(ring, HEADS, tenant.schema), using=get_tenant_database_alias(), robust=True)


def columns(tenant: Tenant) -> tuple[Subquery, Subquery]:
    """Return what a query of the tenant's adds to its values to learn the resets by the way; see `counts_in`."""
    rows = Reset.objects.filter(schema=tenant.schema).order_by()
    row = JSONObject(name="registration", breaker="breaker", cache="cache")
    return Subquery(Head.objects.filter(schema=tenant.schema).values("resets")), ArraySubquery(rows.values(row=row))


def counts_in(resets: int | None, counts: Iterable[Mapping[str, Any]]) -> Resets:
    """Return the resets that such a query found."""
    return Resets(resets or 0, {each["name"]: Counts(each["breaker"], each["cache"]) for each in counts})


def _count(schema: str, registration: str, what: What, author: str) -> None:
    """Count one more. The head first, as publishing does: it is the lock."""
    newest = Revision.objects.aggregate(newest=Max("number"))["newest"] or 0
    Head.objects.update_or_create(
        schema=schema, defaults={"resets": F("resets") + 1}, create_defaults={"resets": 1, "revision": newest}
    )
    Reset.objects.update_or_create(
        schema=schema,
        registration=registration,
        defaults={what: F(what) + 1, "author": author},
        create_defaults={what: 1, "author": author},
    )


def _read(schema: str) -> dict[str, Counts]:
    rows = Reset.objects.filter(schema=schema).values_list("registration", "breaker", "cache")
    return {name: Counts(breaker, cache) for name, breaker, cache in rows}
