"""Around the tenant's calls: who called what."""

from __future__ import annotations

import time
from collections.abc import Callable
from logging import Logger
from typing import Any

from pydantic import BaseModel, Field

from pluginhub import Plugin
from pluginhub.context import Storage
from pluginhub.interceptors import Invocation
from pluginhub.metrics import Metrics

__all__ = ["AuditCalls"]


class AuditCalls(Plugin):
    """Count and time each call, log it with its caller, and, if asked to, keep a durable count.

    An interceptor gets no context: what it works with is named in its constructor. The durable count is the stored
    value `calls:<target>`.
    """

    class Config(BaseModel):
        durable: bool = Field(False, description="also count in storage: one write a call")

    config: Config

    def __init__(self, config: Config, metrics: Metrics, log: Logger, storage: Storage) -> None:
        super().__init__(config)
        self._log = log
        self._storage = storage
        self._calls = metrics.counter("audited_calls", "Calls that an audit saw")
        self._seconds = metrics.histogram("audited_call_seconds", "How long they took, failures included")

    def intercept(self, request: Invocation, call_next: Callable[[Invocation], Any]) -> Any:
        begun = time.perf_counter()
        outcome = "failed"
        try:
            result = call_next(request)
            outcome = "succeeded"
            return result
        finally:
            seconds = time.perf_counter() - begun
            self._calls.inc()
            self._seconds.observe(seconds)
            who = f"{request.caller.name} by {request.caller.edge}"
            self._log.info("%s called %s in %.1f ms: %s", who, request.target, seconds * 1000, outcome)
            if self.config.durable:
                self._storage.increment(f"calls:{request.target}")
