"""The tests' own ground: two tenants, empty at each test's start."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User

from pluginhub import tenancy
from pluginhub.types import Tenant


@pytest.mark.parametrize("attempt", [1, 2])
def test_rows_of_a_test_are_gone_at_the_next(in_acme: Tenant, attempt: int) -> None:
    assert User.objects.count() == 0
    User.objects.create(username="left behind")


def test_tenants_do_not_share_rows(acme: Tenant, globex: Tenant) -> None:
    tenancy.gate(acme, User.objects.create, username="somebody")
    assert tenancy.gate(acme, User.objects.count) == 1
    assert tenancy.gate(globex, User.objects.count) == 0


@pytest.mark.parametrize("n", [2, 3])
def test_many_tenants_are_all_there_is_besides_the_standing_ones(
    many_tenants: Callable[[int], list[Tenant]], n: int
) -> None:
    made = many_tenants(n)
    assert {tenant.schema for tenant in tenancy.tenants()} == {"acme", "globex", *(tenant.schema for tenant in made)}
