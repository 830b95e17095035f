"""Values that may vanish, in Django's `default` cache: what registrations returned, and `context.cache`."""

from __future__ import annotations

from pluginhub.caching.asking import PAUSE_SECONDS
from pluginhub.caching.results import Terms, kept
from pluginhub.caching.tenant import TenantCache

__all__ = ["PAUSE_SECONDS", "TenantCache", "Terms", "kept"]
