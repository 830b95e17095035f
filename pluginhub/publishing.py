"""Turning the draft into revisions: the one way in which configuration changes.

Every write is one transaction: apply, lock the tenant's head, read all rows anew, validate the whole, insert the
revision, move the head. The order matters. Whoever holds the lock sees all that was committed before, and nobody
commits until he has; reading before locking would publish a draft without the changes made meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from django.db import connections, transaction
from django.db.models import Max
from django_tenants.utils import get_tenant_database_alias

from pluginhub import loading, tenancy
from pluginhub.configuration import (
    FORMAT,
    Change,
    Configuration,
    Problem,
    difference,
    read,
    rewrite,
    seal,
    validate,
    writable,
)
from pluginhub.exceptions import Conflict, NotFound, PluginHubError, PublishRefused
from pluginhub.fleet.models import AllowedPlugin, Head
from pluginhub.following import HEADS, ring
from pluginhub.models import Revision
from pluginhub.registry import registry
from pluginhub.signals import published
from pluginhub.types import Tenant

__all__ = [
    "apply_configuration",
    "changes",
    "configuration_of",
    "live",
    "problems",
    "publish",
    "rehearse",
    "rollback",
    "write",
]

T = TypeVar("T")


def write(
    apply: Callable[[], T], *, author: str, publish: bool = False, note: str = "", expected: int | None = None
) -> tuple[T, Revision | None]:
    """Change the current tenant's draft by `apply`, and publish it if asked, all or nothing.

    Returns what `apply` returned and the revision: the live one where the draft says the same. `expected` is the
    number of the revision the author saw. Raises `Conflict` where it is another by now, and `PublishRefused` where the
    draft is no valid configuration; either undoes what `apply` did.
    """
    tenant = tenancy.current()
    with tenancy.visit(tenant), transaction.atomic(using=get_tenant_database_alias()):
        result = apply()
        # Who only saves a draft waits here too, so that no save is half read by the one who publishes.
        head = _lock(tenant)
        if expected is not None and expected != head.revision:
            raise Conflict(
                f"Revision {head.revision} was published meanwhile; you saw {expected}.",
                hint="Look at what changed, and publish again.",
                revision=head.revision,
            )
        return result, _publish(tenant, head, author, note) if publish else None


def publish(*, author: str, note: str = "", expected: int | None = None) -> Revision:
    """Publish the current tenant's draft. Returns the live revision where nothing changed. Raises as `write` does."""
    _, revision = write(lambda: None, author=author, publish=True, note=note, expected=expected)
    if revision is None:
        raise PluginHubError("Nothing was published.")
    return revision


def apply_configuration(
    configuration: Configuration, *, author: str, publish: bool = True, note: str = "", expected: int | None = None
) -> Revision | None:
    """Rewrite the current tenant's rows to say what `configuration` says, and publish. Raises as `write` does."""
    apply = partial(rewrite, configuration)
    return write(apply, author=author, publish=publish, note=note, expected=expected)[1]


def rollback(number: int, *, author: str, note: str = "", expected: int | None = None) -> Revision | None:
    """Publish an older revision's configuration anew. Rewrites the rows; restores no code."""
    row = tenancy.gate(tenancy.current(), Revision.objects.filter(number=number).first)
    if row is None:
        raise NotFound(f"There is no revision {number}.", hint="The admin lists those there are.")
    note = note or f"Back to revision {number}"
    return apply_configuration(configuration_of(row), author=author, note=note, expected=expected)


def live() -> Revision | None:
    """Return the current tenant's newest revision, or `None` before the first."""
    return tenancy.gate(tenancy.current(), Revision.objects.order_by("-number").first)


def configuration_of(revision: Revision | None) -> Configuration:
    """Return a revision's configuration; an empty one for `None`."""
    return Configuration() if revision is None else Configuration.model_validate(revision.data)


def changes() -> list[Change]:
    """Return what publishing would change."""
    return difference(configuration_of(live()), read())


def problems() -> list[Problem]:
    """Return why the current tenant's draft cannot be published; empty when it can."""
    return _problems(tenancy.current(), read(), configuration_of(live()))


def rehearse(configuration: Configuration) -> tuple[list[Change], list[Problem]]:
    """Return what `apply_configuration` would change in the draft, and why it would refuse. Writes nothing."""
    tenant, now = tenancy.current(), read()
    sealed, found = tenancy.gate(tenant, writable, configuration, now)
    return difference(now, sealed), found or _problems(tenant, sealed, configuration_of(live()))


def _publish(tenant: Tenant, head: Head, author: str, note: str) -> Revision:
    draft, newest = read(), live()
    if newest is not None and newest.digest == draft.digest():
        return newest
    draft = _sealed(draft, configuration_of(newest))
    found = _problems(tenant, draft, configuration_of(newest))
    if found:
        raise PublishRefused(found)
    head.revision += 1
    head.save()
    revision = Revision.objects.create(
        number=head.revision, format=FORMAT, data=draft.data(), digest=draft.digest(), note=note, author=author
    )
    told = difference(configuration_of(newest), draft)
    # Robust: the revision is committed, and whoever cannot be told finds it by its number.
    for tell in (partial(registry.refresh, tenant), partial(_announce, tenant, revision.number, told)):
        transaction.on_commit(tell, using=get_tenant_database_alias(), robust=True)
    return revision


def _sealed(draft: Configuration, newest: Configuration) -> Configuration:
    """Seal what code wrote into rows in plain text: a revision is kept for ever, and its readers are many.

    What cannot be looked into is refused by `validate` where it is enabled.
    """
    sealed, _ = seal(draft, before=newest)
    if sealed == draft:
        return draft
    rewrite(sealed)
    return read()


def _announce(tenant: Tenant, number: int, told: list[Change]) -> None:
    ring(HEADS, tenant.schema)
    published.send_robust(sender=Revision, tenant=tenant, revision=number, changes=told)


def _problems(tenant: Tenant, draft: Configuration, newest: Configuration) -> list[Problem]:
    return validate(draft, loading.catalog(), _allowed(tenant), live=newest)


def _allowed(tenant: Tenant) -> frozenset[str] | None:
    rows = AllowedPlugin.objects.filter(schema=tenant.schema).values_list("plugin", flat=True)
    return tenancy.gate(tenant, lambda: frozenset(rows)) or None


def _lock(tenant: Tenant) -> Head:
    """Return the tenant's head, locked until the transaction ends.

    Every statement after it must see what was committed while it waited: the isolation level must be READ COMMITTED.
    """
    connection: Any = connections[get_tenant_database_alias()]
    connection.check_constraints()  # what is deferred, such as two steps in one place, fails here and not at commit
    _require_read_committed(connection)
    locked = Head.objects.select_for_update()
    head = locked.filter(schema=tenant.schema).first()
    if head is None:
        newest = Revision.objects.aggregate(newest=Max("number"))["newest"] or 0
        Head.objects.bulk_create([Head(schema=tenant.schema, revision=newest)], ignore_conflicts=True)
        head = locked.get(schema=tenant.schema)
    return head


def _require_read_committed(connection: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('transaction_isolation')")
        (level,) = cursor.fetchone()
    if level != "read committed":
        raise PluginHubError(
            f"Configuration cannot be written in a {level} transaction: it would not see what others published.",
            hint="Write it outside of that transaction, or leave DATABASES' isolation_level at its default.",
        )
