"""Steps that tell their number. A chain of them tells which configurations one run has seen."""

from __future__ import annotations

import asyncio
import time

from pydantic import BaseModel

from pluginhub import Context, Plugin
from pluginhub.models import Registration

__all__ = ["LateNumber", "Number", "RowNumbers"]

PAUSE_SECONDS = 0.005
"""How long a run takes at least, so that many are on their way when a runtime is replaced."""


class Numbered(BaseModel):
    n: int = 0


class Number(Plugin):
    """Append this step's number."""

    Config = Numbered

    def process(self, value: list[int], context: Context) -> list[int]:
        return [*value, self.config.n]


class LateNumber(Plugin):
    """Append this step's number, a moment later."""

    Config = Numbered

    async def process(self, value: list[int], context: Context) -> list[int]:
        await asyncio.sleep(PAUSE_SECONDS)
        return [*value, self.config.n]


class RowNumbers(Plugin):
    """Tell the same steps' numbers from their rows, each when its turn comes: what a site does that has no runtime."""

    def process(self, value: list[str], context: Context) -> list[int]:
        numbers = []
        for name in value:
            numbers.append(Registration.objects.get(name=name).config["n"])
            time.sleep(PAUSE_SECONDS / 2)
        return numbers
