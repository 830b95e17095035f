"""The ledger of swaps: one file, to which every process of a storm appends a line for each runtime it swaps in."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pluginhub.types import Tenant
from tests.watching import LEDGER

__all__ = ["Ledger", "Swap", "note"]


@dataclass(frozen=True, slots=True)
class Swap:
    """A process serves this revision by this generation of code from `at` on, a time of the day in seconds."""

    pid: int
    schema: str
    revision: int
    generation: int
    at: float


def note(*, tenant: Tenant, revision: int, generation: int, **_: Any) -> None:
    """Append a line at once: lines of that size are never torn."""
    swap = Swap(os.getpid(), tenant.schema, revision, generation, time.time())
    with open(os.environ[LEDGER], "a", encoding="ascii") as file:
        file.write(json.dumps(asdict(swap)) + "\n")


class Ledger:
    """The file, for whoever looks at it again and again. Lives as long as the storm."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0
        self._swaps: list[Swap] = []

    def swaps(self) -> list[Swap]:
        """Return all that was noted, in the order in which it was. Reads what is new."""
        if self.path.exists():
            with self.path.open("rb") as file:
                file.seek(self._read)
                new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._read += len(whole)
            self._swaps += [Swap(**json.loads(line)) for line in whole.splitlines()]
        return self._swaps
