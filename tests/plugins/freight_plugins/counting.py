"""Which routes are asked for."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

from freight_plugins.shapes import Shipment
from pluginhub import Context, Plugin

__all__ = ["CountQuotes"]


class CountQuotes(Plugin):
    """Count in memory how often each route is asked for, and pass the value on with `asked`, its count so far.

    The counts are handed to the next instance when configuration or code changes; they end with the process. What
    must outlive it belongs in `context.storage`.
    """

    Input = Shipment
    state_version = 2

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self._lock = threading.Lock()  # one instance serves many runs at once
        self._counts: Counter[str] = Counter()

    def process(self, value: dict[str, Any], context: Context) -> dict[str, Any]:
        route = f"{value['origin']}-{value['destination']}"
        with self._lock:
            self._counts[route] += 1
            return {**value, "asked": self._counts[route]}

    def get_state(self) -> dict[str, Any]:
        with self._lock:
            return {"counts": dict(self._counts)}

    def restore_state(self, state: dict[str, Any]) -> None:
        with self._lock:
            self._counts.update(state["counts"])

    @classmethod
    def migrate_state(cls, state: dict[str, Any], from_version: int) -> dict[str, Any]:
        return {"counts": state} if from_version < 2 else state  # the first version handed over the bare counts

    def health(self) -> bool:
        """Do not take over with counts that cannot be."""
        with self._lock:
            return all(count > 0 for count in self._counts.values())
