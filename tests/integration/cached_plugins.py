"""Plugins whose results are kept, and the ledger in Valkey that counts what was really computed."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from pydantic import BaseModel

from pluginhub import Context, Plugin, Refuse, valkey

__all__ = ["PLUGINS", "computed", "forget"]

LEDGER = "tests:computed"
SECONDS = 0.3


def computed() -> int:
    """Return how often any of the plugins computed, in whatever process."""
    return int(valkey.client().get(LEDGER) or 0)


def forget() -> None:
    valkey.client().delete(LEDGER)


class Costly(Plugin):
    """Count in the ledger, and say for whom."""

    class Config(BaseModel):
        factor: int = 1
        seconds: float = 0.0

    config: Config

    def process(self, value: Any, context: Context) -> Any:
        number = valkey.client().incr(LEDGER)
        time.sleep(self.config.seconds)
        if value == "refused":
            raise Refuse("No.", errors={"": "Not this."})
        return [context.tenant.schema, value * self.config.factor, number]


class AsyncCostly(Costly):
    """Count asynchronously."""

    async def process(self, value: Any, context: Context) -> Any:
        number = await asyncio.to_thread(valkey.client().incr, LEDGER)
        await asyncio.sleep(self.config.seconds)
        return [context.tenant.schema, value * self.config.factor, number]


PLUGINS = {"costly": f"{__name__}:Costly", "asynccostly": f"{__name__}:AsyncCostly"}
