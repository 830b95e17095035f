"""Replacing a tenant's runtime by another: built aside, warmed, given the state, and then swapped by one reference.

A new revision, a rollback and a reload of code are the same operation. Whatever fails before the swap leaves the older
runtime serving.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import OperationalError, ProgrammingError

from pluginhub import handoffs, loading, resets, tenancy
from pluginhub.conf import settings
from pluginhub.configuration import Configuration, stored
from pluginhub.exceptions import NotReady
from pluginhub.instances import Active
from pluginhub.linking import plugin_of
from pluginhub.models import Revision
from pluginhub.resets import Resets
from pluginhub.runtimes import Runtime
from pluginhub.types import Tenant

__all__ = ["build", "is_warm", "rebuild", "succession"]


def build(tenant: Tenant, code: loading.Code, known: Resets | None = None) -> Runtime:
    """Build a tenant's newest revision, from data only: one query. Raises `NotReady`.

    `known` is what this process knows of the tenant's resets, where it was loaded before.
    """
    row = tenancy.gate(tenant, _newest, tenant)
    if row is None:
        return Runtime(tenant, 0, Configuration(), code, resets=known or Resets())
    number, data, counted, counts = row
    return Runtime(tenant, number, stored(data), code, resets=known or resets.counts_in(counted, counts))


def rebuild(older: Runtime, code: loading.Code) -> Runtime:
    """Build the revision that a runtime serves with other code: no query."""
    return Runtime(older.tenant, older.revision, older.configuration, code, older.head, resets=older.resets)


def is_warm(older: Runtime, newer: Runtime) -> bool:
    """Say whether all that is in use is up in the newer runtime, so that it can be swapped in at once."""
    up = newer.instances.actives()
    targets, points = older.links.used()
    for point in points:
        spec = newer.configuration.points.get(point)
        targets |= set(spec.targets if spec else ())
    adding = set(newer.offers.adding_middleware())
    wrapping = newer.binding(targets, requests=older.wrappers.has_layers)
    return {*newer.links.needs(targets), *wrapping, *adding, *_still_active(older, newer)} <= up.keys()


@contextmanager
def succession(older: Runtime, newer: Runtime) -> Iterator[int]:
    """Bring up in `newer` what is in use in `older`, and move its state; swap in the block.

    Yields how many runs outlive the moving of their instance's state. Raises what keeps the newer one from serving, and
    then takes down what was brought up for it.
    """
    try:
        _warm(older, newer)
        fresh = _fresh(older, newer)
        pairs = _pairs(older, fresh)
        successors = {id(pair[3]) for pair in pairs}
        for active in fresh.values():
            if id(active.plugin) not in successors:  # those that take a state over are asked when they have it
                handoffs.check_health(active.plugin, active.services)
        with handoffs.moving(pairs, settings.HANDOFF_SECONDS) as outliving:
            for _, _, _, plugin, services in pairs:
                handoffs.check_health(plugin, services)
            older.instances.precede(newer.instances)
            newer.instances.carry_over(older.instances)  # what came up meanwhile
            yield outliving
    except BaseException:
        newer.instances.end()
        raise


def _warm(older: Runtime, newer: Runtime) -> None:
    targets, points = older.links.used()
    for name in _still_active(older, newer):
        newer.instances.get(name)
    for name in targets:
        if newer.links.can_call(name):
            newer.links.target(name)
    for name in points:
        newer.links.point(name)
    if older.wrappers.has_layers:
        newer.wrappers.request_layers()


def _still_active(older: Runtime, newer: Runtime) -> set[str]:
    """Name what is up in the older runtime and has a place in the newer one."""
    found = set()
    for name in older.instances.actives():
        if newer.links.can_call(name) and plugin_of(newer.configuration.spec(name)):
            found.add(name)
    return found


def _fresh(older: Runtime, newer: Runtime) -> dict[str, Active]:
    """Return the newer instances that were not carried over."""
    before = {id(active) for active in older.instances.actives().values()}
    return {name: active for name, active in newer.instances.actives().items() if id(active) not in before}


def _pairs(older: Runtime, fresh: dict[str, Active]) -> list[handoffs.Pair]:
    """Return the older instances with state, each with its successor."""
    pairs = []
    for name, old in older.instances.actives().items():
        new = fresh.get(name)
        if old.turnstile is not None and new is not None and old.services.plugin == new.services.plugin:
            pairs.append((old.turnstile, old.plugin, old.services, new.plugin, new.services))
    return pairs


def _newest(tenant: Tenant) -> tuple[int, Any, int | None, list[dict[str, Any]]] | None:
    try:
        return Revision.objects.order_by("-number").values_list("number", "data", *resets.columns(tenant)).first()
    except OperationalError as error:
        raise NotReady(
            f"The configuration of tenant {tenant} cannot be read: the database does not answer.",
            hint="It is tried again at the next call.",
        ) from error
    except ProgrammingError as error:
        raise NotReady(
            f"Tenant {tenant} has not been migrated.", hint=f"Run manage.py migrate_schemas --schema {tenant.schema}."
        ) from error
