"""The catalog: every plugin this installation can load, known without importing any; and loading, on first use."""

from pluginhub.loading.discovery import catalog, entry
from pluginhub.loading.entries import Entry, UnknownPlugin
from pluginhub.loading.importing import forget, load

__all__ = ["Entry", "UnknownPlugin", "catalog", "entry", "forget", "load"]
