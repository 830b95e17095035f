"""What spans tenants lives in the public schema only, and is reached from every tenant."""

from __future__ import annotations

import uuid

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from pluginhub import tenancy
from pluginhub.fleet.models import AllowedPlugin, Due, Generation, Head, Process
from pluginhub.registry import numbers
from pluginhub.types import PUBLIC, Tenant

OF_FLEET = "SELECT DISTINCT schemaname FROM pg_tables WHERE tablename LIKE 'pluginhub\\_fleet\\_%'"
OF_TENANTS = "SELECT DISTINCT schemaname FROM pg_tables WHERE tablename = 'pluginhub_target'"


def schemas(query: str) -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return {schema for (schema,) in cursor.fetchall()}


@pytest.mark.usefixtures("acme")
def test_tables_are_where_they_belong() -> None:
    assert schemas(OF_FLEET) == {"public"}
    assert "public" not in schemas(OF_TENANTS)
    assert {"acme", "globex"} <= schemas(OF_TENANTS)


def test_all_tenants_see_one_fleet(acme: Tenant, globex: Tenant) -> None:
    tenancy.gate(acme, Head.objects.create, schema="acme", revision=3)
    tenancy.gate(globex, Head.objects.create, schema="globex", revision=5)
    heads = tenancy.gate(PUBLIC, lambda: dict(Head.objects.values_list("schema", "revision")))
    assert heads == {"acme": 3, "globex": 5}


def test_the_due_list_keeps_its_order(acme: Tenant) -> None:
    jobs = [uuid.uuid4() for _ in range(3)]
    for job in jobs:
        tenancy.gate(acme, Due.objects.create, schema="acme", job=job)
    assert tenancy.gate(PUBLIC, lambda: list(Due.objects.values_list("job", flat=True))) == jobs


def test_a_plugin_is_allowed_once(in_acme: Tenant) -> None:
    AllowedPlugin.objects.create(schema="acme", plugin="echo")
    with pytest.raises(IntegrityError, match="pluginhub_allowed_plugin"), transaction.atomic():
        AllowedPlugin.objects.create(schema="acme", plugin="echo")


def test_rows_say_what_they_are(in_acme: Tenant) -> None:
    rows = [
        Head(schema="acme", revision=3),
        Generation(number=2),
        Process(kind="web", host="here", pid=7),
        AllowedPlugin(schema="acme", plugin="echo"),
    ]
    assert list(map(str, rows)) == ["acme at 3", "generation 2", "web here:7", "echo for acme"]


def test_the_newest_numbers_are_one_query(acme: Tenant, globex: Tenant) -> None:
    for number in (1, 2, 3):
        tenancy.gate(PUBLIC, Generation.objects.create, number=number, digest="")
    tenancy.gate(
        PUBLIC, Head.objects.bulk_create, [Head(schema="acme", revision=3), Head(schema="globex", revision=5, resets=2)]
    )
    with tenancy.visit(PUBLIC):
        assert numbers(acme) == {"": (3, 0), "acme": (3, 0)}
        with CaptureQueriesContext(connection) as queries:
            assert numbers() == {"": (3, 0), "acme": (3, 0), "globex": (5, 2)}
    assert len([each for each in queries if "search_path" not in each["sql"]]) == 1
