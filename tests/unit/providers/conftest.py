"""A host with providers of a test's choice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pluginhub import providers
from pluginhub.providers import TenantServices
from tests.unit.providers.services import ACME, LEDGER, Ledgered


@pytest.fixture(autouse=True)
def _begin() -> Iterator[None]:
    providers.close()
    LEDGER.clear()
    yield
    providers.close()


@pytest.fixture
def hosts(settings: Any) -> Callable[..., None]:
    def use(*given: Any) -> None:
        settings.PLUGINHUB = {**settings.PLUGINHUB, "PROVIDERS": list(given)}

    return use


@pytest.fixture
def acme(hosts: Callable[..., None]) -> Iterator[TenantServices]:
    """What acme gets of `Ledgered`, held."""
    hosts(Ledgered)
    services = TenantServices(ACME).hold()
    yield services
    services.release()
