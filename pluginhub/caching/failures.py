"""Failures that are kept, where an operator asked for it: the problem without the traceback, to be raised again."""

from __future__ import annotations

import concurrent.futures
from typing import Any

from pluginhub.caching.plain import is_plain
from pluginhub.exceptions import (
    CachedFailure,
    CachedFatal,
    CachedRefusal,
    DeadlineExceeded,
    DependencyError,
    Fatal,
    InvalidInput,
    NoTenant,
    NotReady,
    PluginHubError,
    RateLimited,
    RetryLater,
    TenantMismatch,
    place_of,
    set_place,
)
from pluginhub.types import Place

__all__ = ["kept_of", "raised_from"]

_OF_THE_MOMENT = (
    DeadlineExceeded, NotReady, DependencyError, RetryLater, RateLimited, NoTenant, TenantMismatch,
    concurrent.futures.CancelledError, CachedFailure,
)  # fmt: skip
"""What the next call may well not meet; and what is kept already, whose time must not begin anew."""


def kept_of(error: Exception) -> dict[str, Any] | None:
    """Return what is kept of a failure, or `None` for one that must not be."""
    if isinstance(error, _OF_THE_MOMENT):
        return None
    place = place_of(error)
    kept = {
        "kind": type(error).__name__,
        "members": error.problem() if isinstance(error, PluginHubError) else None,
        "class": _class_of(error).__name__,
        "place": (place.steps, place.registration, place.plugin),
        "run": place.run,
    }
    return kept if is_plain(kept) else None


def raised_from(kept: dict[str, Any], run_id: str) -> CachedFailure:
    """Return the failure as an error of this run, marked with what it passed below its registration."""
    error = _CLASSES[kept["class"]](kept["kind"], kept["members"])
    steps, registration, plugin = kept["place"]
    set_place(error, Place(steps, registration, plugin, run_id))
    return error


def _class_of(error: Exception) -> type[CachedFailure]:
    """What it was to policies, to jobs and to authors, it is again."""
    if isinstance(error, InvalidInput):
        return CachedRefusal
    return CachedFatal if isinstance(error, Fatal) else CachedFailure


_CLASSES = {each.__name__: each for each in (CachedFailure, CachedRefusal, CachedFatal)}
