"""The same thing once."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any, Literal

from pydantic import BaseModel, Field

from pluginhub import Context, Plugin, Refuse

__all__ = ["Deduplicate"]


class Deduplicate(Plugin):
    """Let each value pass once within a window of time.

    A value is known again by the SHA-256 of its content. Two runs with the same value at the same moment, in whatever
    processes, cannot both pass: the mark is set by compare-and-set.
    """

    class Config(BaseModel):
        fields: list[str] = Field([], description="what makes two values the same; none: everything in them")
        window_hours: float = Field(24.0, gt=0)
        on_duplicate: Literal["refuse", "mark"] = Field("refuse", description="mark: pass it on with duplicate = true")

    config: Config

    async def process(self, value: Any, context: Context) -> Any:
        if await self._is_first(f"seen:{self._digest(value)}", context):
            return value
        if self.config.on_duplicate == "refuse":
            raise Refuse("This has been sent before.", errors={"": f"Sent within {self.config.window_hours:g} hours."})
        return {**value, "duplicate": True} if isinstance(value, dict) else value

    async def _is_first(self, key: str, context: Context) -> bool:
        now = time.time()
        seen = await context.storage.aget(key)
        if seen is not None and now - seen["at"] < self.config.window_hours * 3600:
            return False
        return await context.storage.acompare_and_set(key, seen, {"at": now, "run": context.run_id})

    def _digest(self, value: Any) -> str:
        if self.config.fields and isinstance(value, dict):
            value = {field: value.get(field) for field in self.config.fields}
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
