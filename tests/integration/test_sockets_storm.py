"""Eight tenants' sockets and runs side by side: no item and no result comes from another tenant."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pytest_django import Settings

from pluginhub import tenancy
from pluginhub.types import Tenant
from tests import streamers
from tests.integration.sockets import publish
from tests.storms.sockets import Ledger, storm

pytestmark = pytest.mark.storm

Storm = Callable[..., Ledger]


@pytest.fixture
def tenants(many_tenants: Callable[[int], list[Tenant]], settings: Settings) -> list[Tenant]:
    settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": streamers.PLUGINS}
    made = many_tenants(8)
    for tenant in made:
        tenancy.gate(tenant, publish)
    return made


def test_nothing_crosses(tenants: list[Tenant]) -> None:
    ledger = storm(tenants, items=1_000)
    assert ledger.items >= 1_000
    assert (ledger.crossings, ledger.failed) == (0, 0)


def test_without_gate_and_fence_the_same_storm_crosses(tenants: list[Tenant]) -> None:
    """Set the tenant in one thread hop, query in the next, as over Channels: what this code base must never do."""
    assert storm(tenants, items=1_000, guarded=False).crossings > 0
