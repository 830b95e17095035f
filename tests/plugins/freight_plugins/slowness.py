"""Calls that took too long, remembered and reported."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, Field

from pluginhub import Context, Plugin
from pluginhub.interceptors import Invocation

__all__ = ["SlowCalls"]


class SlowCalls(Plugin):
    """Watch the tenant's calls while it is active, and report the slowest: run it, or let the job `report` store them.

    It registers its interceptor and its job handler in `activate`, so no operator has to bind anything.
    """

    class Config(BaseModel):
        from_ms: float = Field(200.0, ge=0)
        keep: int = Field(20, ge=1, le=1000)

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._slow: deque[dict[str, Any]] = deque(maxlen=config.keep)

    def activate(self, context: Context) -> None:
        context.middleware.use(self.watch, scope="call")
        context.jobs.process("report", self.report)

    def watch(self, request: Invocation, call_next: Callable[[Invocation], Any]) -> Any:
        begun = time.perf_counter()
        try:
            return call_next(request)
        finally:
            milliseconds = round((time.perf_counter() - begun) * 1000, 1)
            if milliseconds >= self.config.from_ms:
                self._slow.append({"target": request.target, "run": request.run_id, "ms": milliseconds})

    def report(self, data: Any, context: Context) -> list[Any]:
        slowest = self._slowest()
        context.storage.set("slowest", slowest)
        return slowest

    def process(self, value: Any, context: Context) -> list[Any]:
        return self._slowest()

    def _slowest(self) -> list[Any]:
        return sorted(self._slow.copy(), key=lambda call: -call["ms"])
