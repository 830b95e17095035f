"""Turning the draft into revisions: the one way in which configuration changes.

Every write is one transaction: lock the tenant's head, apply, read all rows, validate the whole, insert the revision,
move the head. The order matters. Whoever holds the lock sees all that was committed before, and nobody else changes
anything until he has committed: what an author saw is compared with what is there, and nothing comes in between. Rows
that are read before locking would publish a draft without the changes made meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

from django.db import connections, transaction
from django.db.models import Max
from django_tenants.utils import get_tenant_database_alias

from pluginhub import loading, points, tenancy
from pluginhub.configuration import (
    Change,
    Configuration,
    Problem,
    UnreadableFormat,
    difference,
    read,
    rewrite,
    seal,
    stored,
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
    "PUBLISH",
    "VIEW",
    "Rehearsal",
    "Which",
    "apply_configuration",
    "changes",
    "configuration_at",
    "configuration_of",
    "live",
    "mark",
    "mark_of",
    "problems",
    "publish",
    "publishes_saves",
    "rehearse",
    "rollback",
    "set_publishes_saves",
    "write",
]

T = TypeVar("T")

PUBLISH = "pluginhub.publish"
"""The permission to publish and to roll back."""
VIEW = "pluginhub.view_revision"
"""The permission to see configurations as a whole."""

Which = int | Literal["draft", "live"]
"""A configuration of the tenant's: a revision's, the newest one's, or what the rows say."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What writing a configuration would do. `problems` say why it would be refused."""

    changes: list[Change]
    """What changes in the rows."""
    published: list[Change]
    """What changes in what is live."""
    discarded: list[Change]
    """What the draft has changed, and nobody published, and would be lost."""
    problems: list[Problem]


def write(
    apply: Callable[[], T],
    *,
    author: str,
    publish: bool | None = None,
    note: str = "",
    expected: int | str | None = None,
    value: Callable[[], Configuration] | None = None,
) -> tuple[T, Revision | None]:
    """Change the current tenant's draft by `apply`, and publish it if asked, all or nothing.

    Returns what `apply` returned and the revision: the live one where the draft says the same. With `publish=None` it
    is published where the tenant publishes every save. `expected` is what the author saw: the number of the newest
    revision, or the `mark` of revision and draft. `value` says what is published in place of the draft. Raises
    `Conflict` where `expected` is another by now, and `PublishRefused` where the configuration is not valid; either
    undoes what `apply` did.
    """
    tenant = tenancy.current()
    with tenancy.visit(tenant), transaction.atomic(using=get_tenant_database_alias()):
        # Who only saves a draft waits here too: what he saw is what he changes, and nobody publishes half of it.
        head = _lock(tenant)
        _expect(head.revision, expected)
        result = apply()
        _check_constraints()
        if not (head.publish_saves if publish is None else publish):
            return result, None
        return result, _publish(tenant, head, author, note, value)


def publish(*, author: str, note: str = "", expected: int | str | None = None) -> Revision:
    """Publish the current tenant's draft. Returns the live revision where nothing changed. Raises as `write` does."""
    _, revision = write(lambda: None, author=author, publish=True, note=note, expected=expected)
    if revision is None:
        raise PluginHubError("Nothing was published.")
    return revision


def apply_configuration(
    configuration: Configuration,
    *,
    author: str,
    publish: bool = True,
    note: str = "",
    expected: int | str | None = None,
    secrets: Mapping[str, str] = {},
) -> Revision | None:
    """Rewrite the current tenant's rows to say what `configuration` says, and publish. Raises as `write` does.

    `secrets` are those that `configuration` refers to, by name, in plain text; others are kept where the tenant has
    them in the same place. One that is not known is refused, and left out of what stays a draft.
    """
    apply = partial(rewrite, configuration, secrets=secrets, unset=not publish)
    return write(apply, author=author, publish=publish, note=note, expected=expected)[1]


def rollback(number: int, *, author: str, note: str = "", expected: int | str | None = None) -> Revision | None:
    """Publish an older revision's configuration anew. Rewrites the rows; restores no code."""
    configuration = configuration_at(number)
    note = note or f"Back to revision {number}"
    return apply_configuration(configuration, author=author, note=note, expected=expected)


def live() -> Revision | None:
    """Return the current tenant's newest revision, or `None` before the first."""
    return tenancy.gate(tenancy.current(), Revision.objects.order_by("-number").first)


def configuration_of(revision: Revision | None) -> Configuration:
    """Return a revision's configuration; an empty one for `None`. Raises `UnreadableFormat`."""
    return Configuration() if revision is None else stored(revision.data)


def configuration_at(which: Which) -> Configuration:
    """Return one of the current tenant's configurations. Raises `NotFound`, and `UnreadableFormat`."""
    if which == "draft":
        return read()
    if which == "live":
        return configuration_of(live())
    row = tenancy.gate(tenancy.current(), Revision.objects.filter(number=which).first)
    if row is None:
        raise NotFound(f"There is no revision {which}.", hint="The admin lists those there are.")
    return configuration_of(row)


def changes(old: Which = "live", new: Which = "draft") -> list[Change]:
    """Return what turns one configuration into another; by default, what publishing would change."""
    return difference(configuration_at(old), configuration_at(new))


def mark() -> str:
    """Return what stands for the newest revision and the draft as they are: `<number>-<digest of the draft>`.

    To be given as `expected` by who looks now and writes later.
    """
    return mark_of(live(), read())


def mark_of(newest: Revision | None, draft: Configuration) -> str:
    """Return the `mark` of a newest revision and a draft."""
    return f"{newest.number if newest else 0}-{draft.digest()}"


def problems(configuration: Configuration | None = None) -> list[Problem]:
    """Return why a configuration, or the current tenant's draft, cannot be published; empty when it can."""
    return _problems(tenancy.current(), configuration or read(), _readable(live()))


def rehearse(
    configuration: Configuration, *, secrets: Mapping[str, str] = {}, expected: int | str | None = None
) -> Rehearsal:
    """Return what `apply_configuration` would change, and why it would refuse. Writes nothing.

    Raises `Conflict` where `expected` is another by now.
    """
    tenant, draft, revision = tenancy.current(), read(), live()
    _expect(revision.number if revision else 0, expected)
    newest = _readable(revision)
    wanted, found = tenancy.gate(tenant, writable, configuration, draft, secrets=secrets)
    now = difference(draft, wanted)
    touched = {(change.kind, change.name) for change in now}
    return Rehearsal(
        changes=now,
        published=difference(newest, wanted),
        discarded=[each for each in difference(newest, draft) if (each.kind, each.name) in touched],
        problems=found or _problems(tenant, wanted, newest),
    )


# Publishing every save


def publishes_saves() -> bool:
    """Say whether the current tenant publishes every save."""
    tenant = tenancy.current()
    return tenancy.gate(tenant, Head.objects.filter(schema=tenant.schema, publish_saves=True).exists)


def set_publishes_saves(on: bool, *, author: str, expected: int | str | None = None) -> Revision | None:
    """Have every save of the current tenant published from now on, or not. Switching it on publishes the draft.

    Raises as `write` does.
    """
    rows = Head.objects.filter(schema=tenancy.current().schema)
    _, revision = write(lambda: rows.update(publish_saves=on), author=author, publish=on, expected=expected)
    return revision


# Inside


def _expect(number: int, expected: int | str | None) -> None:
    """Refuse where the author saw something else than what is there."""
    if expected is None:
        return
    if expected == (mark() if isinstance(expected, str) else number):
        return
    seen, _, _ = str(expected).partition("-")
    if seen != str(number):
        what = f"Revision {number} was published meanwhile; you saw {seen}."
    else:
        what = f"The draft was changed meanwhile; revision {number} is still the newest."
    extra = {"seen": int(seen)} if seen.isascii() and seen.isdecimal() and len(seen) < 19 else {}
    raise Conflict(what, hint="Look at what changed, and do it again.", revision=number, **extra)


def _publish(tenant: Tenant, head: Head, author: str, note: str, value: Callable[[], Configuration] | None) -> Revision:
    newest, wanted = live(), (value or read)()
    before = _readable(newest)
    # What both mean, not their digests: the newest may have been stored in an older format. A newer one is not known.
    if newest is not None and before == wanted and newest.format <= wanted.format:
        return newest
    wanted, found = (wanted, []) if value else _sealed(wanted, before)
    found += _problems(tenant, wanted, before)
    if found:
        raise PublishRefused(found)
    head.revision += 1
    head.save(update_fields=["revision", "updated"])
    revision = Revision.objects.create(
        number=head.revision,
        format=wanted.format,
        data=wanted.data(),
        digest=wanted.digest(),
        note=note,
        author=author,
    )
    told = difference(before, wanted)
    # Robust: the revision is committed, and whoever cannot be told finds it by its number.
    for tell in (partial(registry.refresh, tenant), partial(_announce, tenant, revision.number, told)):
        transaction.on_commit(tell, using=get_tenant_database_alias(), robust=True)
    return revision


def _readable(revision: Revision | None) -> Configuration:
    """Return a revision's configuration, or an empty one: what cannot be read must not keep anybody from publishing."""
    try:
        return configuration_of(revision)
    except UnreadableFormat:
        return Configuration()


def _sealed(draft: Configuration, newest: Configuration) -> tuple[Configuration, list[Problem]]:
    """Seal what code wrote into rows in plain text: a revision is kept for ever, and its readers are many.

    The problems are those of disabled targets, which cannot be looked into; `validate` has those of enabled ones.
    """
    sealed, found = seal(draft, before=newest)
    if sealed != draft:
        rewrite(sealed)
        sealed = read()
    return sealed, [problem for problem in found if not draft.spec(problem[1]).enabled]


def _announce(tenant: Tenant, number: int, told: list[Change]) -> None:
    ring(HEADS, tenant.schema)
    published.send_robust(sender=Revision, tenant=tenant, revision=number, changes=told)


def _problems(tenant: Tenant, draft: Configuration, newest: Configuration) -> list[Problem]:
    return validate(draft, loading.catalog(), _allowed(tenant), live=newest, points=points.declared())


def _allowed(tenant: Tenant) -> frozenset[str] | None:
    rows = AllowedPlugin.objects.filter(schema=tenant.schema).values_list("plugin", flat=True)
    return tenancy.gate(tenant, lambda: frozenset(rows)) or None


def _lock(tenant: Tenant) -> Head:
    """Return the tenant's head, locked until the transaction ends.

    Every statement after it must see what was committed while it waited: the isolation level must be READ COMMITTED.
    """
    _require_read_committed()
    locked = Head.objects.select_for_update()
    head = locked.filter(schema=tenant.schema).first()
    if head is None:
        newest = Revision.objects.aggregate(newest=Max("number"))["newest"] or 0
        Head.objects.bulk_create([Head(schema=tenant.schema, revision=newest)], ignore_conflicts=True)
        head = locked.get(schema=tenant.schema)
    return head


def _check_constraints() -> None:
    """Let what is deferred, such as two steps in one place, fail here and not at the commit."""
    connections[get_tenant_database_alias()].check_constraints()


def _require_read_committed() -> None:
    with connections[get_tenant_database_alias()].cursor() as cursor:
        cursor.execute("SELECT current_setting('transaction_isolation')")
        (level,) = cursor.fetchone()
    if level != "read committed":
        raise PluginHubError(
            f"Configuration cannot be written in a {level} transaction: it would not see what others published.",
            hint="Write it outside of that transaction, or leave DATABASES' isolation_level at its default.",
        )
