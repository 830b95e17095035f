"""The catalog: every plugin this installation can load, known without importing any; and loading, on first use."""

from pluginhub.loading.discovery import catalog, entry, rediscover
from pluginhub.loading.entries import Entry, UnknownPlugin
from pluginhub.loading.generations import Code, become, current, forget, load, snapshot_of

__all__ = [
    "Code",
    "Entry",
    "UnknownPlugin",
    "become",
    "catalog",
    "current",
    "entry",
    "forget",
    "load",
    "rediscover",
    "snapshot_of",
]
