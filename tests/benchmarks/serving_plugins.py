"""What is served in the benchmark of `serving`: one small piece of work, of either colour."""

from __future__ import annotations

from typing import Any

from pluginhub import Context, Plugin

__all__ = ["Add", "AsyncAdd"]


class Add(Plugin):
    def process(self, value: dict[str, Any], context: Context) -> dict[str, Any]:
        return {**value, "n": value["n"] + 1}


class AsyncAdd(Plugin):
    async def process(self, value: dict[str, Any], context: Context) -> dict[str, Any]:
        return {**value, "n": value["n"] + 1}
