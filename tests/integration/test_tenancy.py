"""The tenant is a value; connections follow it, and a fence stands where they do not."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group
from django.db import DatabaseError, connection, connections, transaction
from django.test.utils import override_settings
from django_tenants.utils import schema_context

from pluginhub import crossing, tenancy
from pluginhub.exceptions import NoTenant, TenantMismatch
from pluginhub.tenancy import TenantCrossing
from pluginhub.types import PUBLIC, Tenant
from tenants.models import Domain
from tenants.models import Tenant as HostTenant


@pytest.fixture
def groups(acme: Tenant, globex: Tenant) -> None:
    """A row in each tenant that names it."""
    for tenant in (acme, globex):
        tenancy.gate(tenant, Group.objects.create, name=tenant.schema)


def here() -> Any:
    """This thread's connection."""
    return connections["default"]


def names() -> list[str]:
    return list(Group.objects.values_list("name", flat=True))


# The current tenant


def test_nobody_is_current_until_somebody_is_entered() -> None:
    assert tenancy.current_or_none() is None
    with pytest.raises(NoTenant, match="No tenant has been entered"):
        tenancy.current()


def test_entering_nests_and_ends() -> None:
    one, two = Tenant("one"), Tenant("two")
    with tenancy.enter(one):
        with tenancy.enter(two):
            assert tenancy.current() == two
        assert tenancy.current() == one
    assert tenancy.current_or_none() is None


def test_entering_ends_after_an_error_too() -> None:
    with pytest.raises(ZeroDivisionError), tenancy.enter(Tenant("one")):
        _ = 1 // 0
    assert tenancy.current_or_none() is None


def test_tasks_have_tenants_of_their_own() -> None:
    async def work(schema: str) -> str:
        with tenancy.enter(Tenant(schema)):
            await asyncio.sleep(0)
            return tenancy.current().schema

    async def both() -> list[str]:
        return list(await asyncio.gather(work("one"), work("two")))

    assert asyncio.run(both()) == ["one", "two"]


# Visiting


@pytest.mark.usefixtures("groups")
def test_a_visit_moves_the_connection_and_brings_it_back(acme: Tenant, globex: Tenant) -> None:
    with tenancy.visit(acme):
        assert names() == ["acme"]
        with tenancy.visit(globex):
            assert names() == ["globex"]
        assert names() == ["acme"]
    assert here().schema_name == "public"


@pytest.mark.usefixtures("groups")
def test_a_visit_leaves_the_host_s_own_schema_as_it_was(acme: Tenant, globex: Tenant) -> None:
    with schema_context("globex"):
        before = here().tenant
        with tenancy.visit(acme):
            assert names() == ["acme"]
        assert here().tenant is before
        assert names() == ["globex"]


@pytest.mark.usefixtures("groups")
def test_a_visit_ends_after_an_error_too(acme: Tenant) -> None:
    with pytest.raises(ZeroDivisionError), tenancy.visit(acme):
        _ = 1 // 0
    assert here().schema_name == "public"
    assert tenancy.current_or_none() is None


def test_a_visit_within_a_transaction_belongs_to_it(acme: Tenant) -> None:
    with transaction.atomic():
        tenancy.gate(acme, Group.objects.create, name="undone")
        transaction.set_rollback(True)
    assert tenancy.gate(acme, names) == []


def test_an_event_loop_s_thread_cannot_visit(acme: Tenant) -> None:
    async def work() -> None:
        with tenancy.visit(acme):
            pass

    with pytest.raises(TenantMismatch, match="An event loop's thread cannot visit 'acme'"):
        asyncio.run(work())


# The gate


@pytest.mark.usefixtures("groups")
def test_the_gate_returns_what_was_called(acme: Tenant, globex: Tenant) -> None:
    assert tenancy.gate(acme, names) == ["acme"]
    assert tenancy.gate(globex, Group.objects.get, name="globex").name == "globex"


async def _coroutine() -> None:
    """Never awaited: the gate refuses it."""


@pytest.mark.parametrize(
    "lazy",
    [
        lambda: Group.objects.all(),
        lambda: Group.objects.raw("SELECT 1 AS id"),
        lambda: (number for number in range(3)),
        lambda: iter([1]),
        lambda: map(str, ()),
        lambda: Group.objects,
        lambda: Group.objects.iterator(),
    ],
)
def test_nothing_lazy_leaves_the_gate(acme: Tenant, lazy: Callable[[], Any]) -> None:
    with pytest.raises(TenantMismatch, match="cannot leave the tenant 'acme'"):
        tenancy.gate(acme, lazy)


def test_no_coroutine_leaves_the_gate(acme: Tenant) -> None:
    made = _coroutine()
    with pytest.raises(TenantMismatch, match="A coroutine cannot leave"):
        tenancy.gate(acme, lambda: cast(Any, made))
    made.close()


@pytest.mark.usefixtures("groups")
def test_the_asynchronous_gate_sets_and_queries_in_one_hop(acme: Tenant, globex: Tenant) -> None:
    async def work(tenant: Tenant) -> bool:
        return await tenancy.agate(tenant, names) == [tenant.schema]

    async def many() -> list[bool]:
        return await asyncio.gather(*(work(tenant) for _ in range(50) for tenant in (acme, globex)))

    assert all(asyncio.run(many()))


@pytest.mark.usefixtures("acme")
def test_the_asynchronous_gate_does_not_queue_behind_one_thread(acme: Tenant) -> None:
    """Each of four waits for the others: on the one thread that Channels shares, none would ever go on."""
    together = threading.Barrier(4)

    async def many() -> None:
        await asyncio.gather(*(tenancy.agate(acme, together.wait, 5) for _ in range(4)))

    asyncio.run(many())


def test_work_in_a_pool_thread_has_its_tenant_s_connection_and_leaves_it_clean(acme: Tenant) -> None:
    seen: list[tuple[str, bool]] = []

    def look() -> str:
        seen.append((here().schema_name, tenancy.current() == acme))
        return str(here().schema_name)

    async def work() -> str:
        with tenancy.enter(acme):
            return await crossing.in_thread(look)

    async def after() -> set[str]:
        async def schema() -> str:
            return await crossing.in_thread(lambda: str(here().schema_name))

        return set(await asyncio.gather(*(schema() for _ in range(40))))

    async def both() -> tuple[str, set[str]]:
        return await work(), await after()

    assert asyncio.run(both()) == ("acme", {"public"})
    assert seen == [("acme", True)]


# The fence


def test_the_fence_stands_on_every_connection_once(acme: Tenant) -> None:
    def count() -> int:
        connection.ensure_connection()
        connection.close()
        connection.ensure_connection()
        wrappers = [wrapper for wrapper in connection.execute_wrappers if "_fence" in repr(wrapper)]
        connections.close_all()
        return len(wrappers)

    async def elsewhere() -> int:
        return await crossing.in_thread(count)

    assert (count(), asyncio.run(elsewhere())) == (1, 1)


@pytest.mark.usefixtures("groups")
def test_a_query_on_another_tenant_s_connection_is_refused(acme: Tenant) -> None:
    with tenancy.visit(acme), schema_context("globex"), pytest.raises(TenantCrossing) as caught:
        names()
    assert str(caught.value) == (
        "A query meant for 'acme' was refused: this thread's connection is on 'globex'. "
        "Set the tenant and query in one thread hop: tenancy.gate, or tenancy.agate from asynchronous code."
    )


@pytest.mark.usefixtures("acme")
def test_a_query_of_nobody_is_refused_inside_the_fence() -> None:
    with schema_context("acme"), tenancy.fenced(), pytest.raises(TenantCrossing, match="no tenant has been entered"):
        names()


@pytest.mark.usefixtures("groups")
def test_the_leak_of_two_hops_is_refused(acme: Tenant, globex: Tenant) -> None:
    """`with tenant: await query`: the query runs in a thread that knows another tenant."""

    async def leak() -> list[str]:
        await sync_to_async(here().set_schema)("globex")
        try:
            with tenancy.enter(acme), tenancy.fenced():
                return [name async for name in Group.objects.values_list("name", flat=True)]
        finally:
            await sync_to_async(_leave)()

    with pytest.raises(TenantCrossing):
        asyncio.run(leak())


def _leave() -> None:
    here().set_schema_to_public()
    connections.close_all()


@pytest.mark.usefixtures("groups")
def test_a_refusal_is_a_database_error_and_its_block_is_rolled_back(acme: Tenant) -> None:
    """As another error it would block the savepoint's rollback, and the outer block would commit what failed."""
    assert issubclass(TenantCrossing, DatabaseError)
    with tenancy.visit(acme):
        with transaction.atomic():
            Group.objects.create(name="outer")
            with pytest.raises(TenantCrossing):
                _write_and_cross()
        assert set(names()) == {"acme", "outer"}
    assert tenancy.gate(Tenant("globex"), names) == ["globex"]


@pytest.mark.usefixtures("groups")
def test_rollbacks_pass_the_fence_where_the_connection_has_moved(acme: Tenant) -> None:
    with tenancy.visit(acme):
        with transaction.atomic():
            Group.objects.create(name="outer")
            with _switched("globex"), pytest.raises(ZeroDivisionError), transaction.atomic():
                _ = 1 // 0
        assert set(names()) == {"acme", "outer"}


@transaction.atomic
def _write_and_cross() -> None:
    Group.objects.create(name="inner")
    with _switched("globex"):
        Group.objects.create(name="crossed")


@contextmanager
def _switched(schema: str) -> Iterator[None]:
    before = here().tenant
    here().set_schema(schema)
    try:
        yield
    finally:
        here().set_tenant(before)


@pytest.mark.usefixtures("groups")
def test_host_code_may_switch_schemas_as_ever(acme: Tenant) -> None:
    with tenancy.enter(acme), schema_context("globex"):
        assert names() == ["globex"]


@pytest.mark.usefixtures("groups")
def test_everywhere_means_host_code_too(acme: Tenant) -> None:
    with override_settings(PLUGINHUB={"FENCE": "everywhere"}), tenancy.enter(acme):
        with schema_context("acme"):
            assert names() == ["acme"]
        with schema_context("globex"), pytest.raises(TenantCrossing):
            names()


@pytest.mark.usefixtures("groups")
def test_a_report_is_a_warning_and_the_query_runs(acme: Tenant, caplog: pytest.LogCaptureFixture) -> None:
    with (
        override_settings(PLUGINHUB={"FENCE": "report"}),
        caplog.at_level(logging.WARNING, "pluginhub.tenancy"),
        tenancy.enter(acme),
        schema_context("globex"),
    ):
        assert names() == ["globex"]
    (record,) = caplog.records
    assert "A query meant for 'acme' ran on a connection that is on 'globex': SELECT" in record.getMessage()


@pytest.mark.usefixtures("groups")
def test_a_row_s_queryset_made_in_one_tenant_is_refused_in_another(acme: Tenant, globex: Tenant) -> None:
    with tenancy.visit(acme):
        lazy = Group.objects.all()
        with _switched("globex"), pytest.raises(TenantCrossing):
            list(lazy)


# Finding tenants


def test_a_tenant_is_found_by_its_schema(acme: Tenant) -> None:
    assert tenancy.find("acme") == Tenant("acme", "Acme")
    assert tenancy.find("public") is PUBLIC


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize("schema", ["nobody", "", "acme; DROP SCHEMA acme", "pg_catalog"])
def test_a_schema_that_is_no_tenant_s_is_refused(schema: str) -> None:
    with pytest.raises(NoTenant, match="There is no tenant with the schema"):
        tenancy.find(schema)


@pytest.fixture
def unmade(db: None) -> Iterator[HostTenant]:
    """A tenant whose row is there and whose schema is not: the search path would fall through to public."""
    row = HostTenant(schema_name="unmade", name="Unmade")
    row.auto_create_schema = False
    row.save()
    Domain.objects.create(tenant=row, domain="unmade.localhost", is_primary=True)
    tenancy.forget()
    yield row
    row.delete(force_drop=False)


@pytest.mark.usefixtures("unmade")
def test_a_tenant_without_a_schema_is_refused_and_not_listed() -> None:
    with pytest.raises(NoTenant, match=r"Check its spelling.*migrate_schemas"):
        tenancy.find("unmade")
    assert tenancy.resolve("unmade.localhost") is None
    assert [tenant.schema for tenant in tenancy.tenants()] == ["acme", "globex"]


@pytest.mark.parametrize(
    "host", ["acme.localhost", "acme.localhost:8000", "ACME.localhost", "www.acme.localhost", "acme.localhost."]
)
def test_a_host_header_names_a_tenant(acme: Tenant, host: str) -> None:
    assert tenancy.resolve(host) == acme


@pytest.mark.usefixtures("db")
def test_the_public_site_has_hosts_of_its_own() -> None:
    assert tenancy.resolve("localhost:8000") is PUBLIC


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize(
    "host", ["", "nobody.localhost", "[::1]:8000", "a\0b", "x" * 10_000, "' OR 1=1", "acme localhost"]
)
def test_other_hosts_are_nobody_s(host: str) -> None:
    assert tenancy.resolve(host) is None


def test_finding_and_resolving_are_remembered_for_a_while(acme: Tenant, django_assert_num_queries: Any) -> None:
    tenancy.resolve("acme.localhost")
    with django_assert_num_queries(0):
        assert tenancy.find("acme") == tenancy.resolve("acme.localhost") == acme


def test_all_tenants_come_in_one_query(acme: Tenant, globex: Tenant, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(2):  # the other one is django-tenants' SET search_path
        assert tenancy.tenants() == [acme, globex]
