"""How many runtimes a process keeps, and who goes first."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections

from pluginhub import execution, tenancy
from pluginhub.configuration import RegistrationSpec
from pluginhub.registry import lease, registry
from pluginhub.types import Tenant
from tests.integration.hub import publish
from tests.integration.jobs.steps import wait_for
from tests.integration.samples import PLUGINS, Counting


@pytest.fixture
def tenants(many_tenants: Callable[[int], list[Tenant]], settings: Any) -> Iterator[list[Tenant]]:
    """Four tenants with a plugin that counts its lives and one that counts calls; and room for two."""
    settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": PLUGINS, "RUNTIMES": 2}
    made = many_tenants(4)
    for tenant in made:
        with tenancy.visit(tenant):
            counting = RegistrationSpec(name="counting", plugin="counting", config={"label": tenant.schema})
            publish(counting, keeper="keeper")
    registry.clear()
    Counting.lives.clear()
    yield made
    Counting.lives.clear()


def call(tenant: Tenant, target: str = "counting") -> Any:
    with tenancy.visit(tenant):
        return execution.run(target)


def loaded() -> set[str]:
    return set(registry.running())


def test_the_least_recently_used_goes_first_and_comes_back_when_it_is_called(tenants: list[Tenant]) -> None:
    a, b, c, _ = tenants
    for tenant in (a, b, a, c):
        assert call(tenant) == tenant.schema
    assert loaded() == {a.schema, c.schema}
    wait_for(lambda: f"down {b.schema} {b.schema}" in Counting.lives)
    assert call(b) == b.schema
    assert loaded() == {b.schema, c.schema}


def test_one_that_is_in_use_stays_though_it_is_the_oldest(tenants: list[Tenant]) -> None:
    a, b, c, d = tenants
    with lease(a):
        for tenant in (b, c, d):
            call(tenant)
        assert loaded() == {a.schema, d.schema}
    call(b)
    assert loaded() == {b.schema, d.schema}


def test_no_call_is_lost_and_no_instance_left_when_tenants_push_each_other_out(tenants: list[Tenant]) -> None:
    order = [tenant for tenant in tenants for _ in range(50)]
    random.Random(7).shuffle(order)

    def both(tenant: Tenant) -> tuple[str, Any]:
        try:
            call(tenant, "keeper")
            return tenant.schema, call(tenant)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        answers = Counter(pool.map(both, order))
    assert answers == {(tenant.schema, tenant.schema): 50 for tenant in tenants}
    assert [call(tenant, "keeper") for tenant in tenants] == [51] * 4
    registry.clear()
    lives = Counting.lives
    wait_for(lambda: sum(each.startswith("up") for each in lives) * 2 == len(lives))
    for tenant in tenants:
        its = [each.split()[0] for each in lives if tenant.schema in each]
        assert its.count("up") == its.count("down")
