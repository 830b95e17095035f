"""Eight tenants, a thousand interleaved reads and writes in each colour: nobody sees or writes another's rows."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from pluginhub.types import Tenant
from tests.storms.tenancy import Colour, Guard, Ledger, storm

Storm = Callable[..., Ledger]

pytestmark = [pytest.mark.storm, pytest.mark.parametrize("colour", ["sync", "async"])]


@pytest.fixture
def rage(many_tenants: Callable[[int], list[Tenant]]) -> Storm:
    tenants = many_tenants(8)

    def rage(operations: int, colour: Colour, guard: Guard) -> Ledger:
        return storm(tenants, os.environ["DATABASE_URL"], operations=operations, colour=colour, guard=guard)

    return rage


def test_the_gate_lets_nothing_cross(rage: Storm, colour: Colour) -> None:
    ledger = rage(1_000, colour, "gate")
    assert ledger.operations >= 1_000
    assert (ledger.crossings, ledger.unaccounted, ledger.refused) == (0, 0, 0)


def test_without_gate_and_fence_the_same_storm_crosses(rage: Storm, colour: Colour) -> None:
    """Set the tenant in one thread hop, query in the next: what this code base must never do."""
    ledger = rage(300, colour, "none")
    assert ledger.crossings > 0
    assert ledger.refused == 0


def test_the_fence_alone_refuses_what_would_cross(rage: Storm, colour: Colour) -> None:
    ledger = rage(300, colour, "fence")
    assert (ledger.crossings, ledger.unaccounted) == (0, 0)
    assert ledger.refused > 0
