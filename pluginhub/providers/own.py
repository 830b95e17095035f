"""What the hub itself has for each registration, without any provider."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pluginhub.caching import TenantCache
from pluginhub.context import Cache, Jobs, Storage
from pluginhub.metrics import Metrics
from pluginhub.storage import TenantStorage
from pluginhub.types import Tenant

__all__ = ["OWN"]

OWN: Mapping[Any, str] = MappingProxyType(
    {
        TenantStorage: "storage",
        Storage: "storage",
        TenantCache: "cache",
        Cache: "cache",
        Jobs: "jobs",
        Metrics: "metrics",
        Tenant: "tenant",
        logging.Logger: "log",
    }
)
"""The types that a constructor may take, each with the field of `Services` that holds it."""
