"""What happens to a step that is slow or fails: one value, applied around the step."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import stamina

from pluginhub.context import Run
from pluginhub.drivers import Driver, Node
from pluginhub.exceptions import Fatal, HookError, InvalidInput, RetryLater

__all__ = ["PLAIN", "OnFailure", "Policy", "guard"]

OnFailure = Literal["fail", "skip", "default", "fallback"]


@dataclass(frozen=True, slots=True)
class Policy:
    """A step's policy: `attempts` within the time limit (seconds, each), then `on_failure`.

    `skip` passes the step's input on; `default` gives `default`. Between attempts it waits `backoff` seconds,
    doubling, with jitter (stamina); `RetryLater(delay)` chooses the wait, `Fatal` and refusals end the attempts.
    """

    time_limit: float | None = None
    attempts: int = 1
    backoff: float = 0.1
    on_failure: OnFailure = "fail"
    default: Any = None

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise HookError(f"A policy needs at least 1 attempt, not {self.attempts}.")
        if self.time_limit is not None and self.time_limit <= 0:
            raise HookError(f"A time limit is a positive number of seconds, not {self.time_limit}.")
        if self.on_failure not in ("fail", "skip", "default"):
            raise HookError(f"There is no policy {self.on_failure!r}.", hint="Use fail, skip or default.")


PLAIN = Policy()


def guard(node: Node, policy: Policy) -> Node:
    """Link a node with its policy; the plain policy costs nothing."""
    return node if policy == PLAIN else _Guarded(node, policy)


class _Guarded(Node):
    __slots__ = ("_inner", "_policy")

    def __init__(self, inner: Node, policy: Policy) -> None:
        super().__init__(inner.colour)
        self._inner = inner
        self._policy = policy

    async def run(self, value: Any, run: Run, driver: Driver) -> Any:
        policy = self._policy
        try:
            return await self._attempts(value, run, driver)
        except Exception:
            remaining = run.remaining()
            if policy.on_failure == "fail" or (remaining is not None and remaining <= 0):
                raise
            return value if policy.on_failure == "skip" else copy.deepcopy(policy.default)

    async def _attempts(self, value: Any, run: Run, driver: Driver) -> Any:
        policy = self._policy
        if policy.attempts == 1:
            return await self._once(value if policy.on_failure != "skip" else copy.deepcopy(value), run, driver)
        retries = stamina.retry_context(
            on=partial(_worth_trying_again, run=run),
            attempts=policy.attempts,
            timeout=run.remaining(),
            wait_initial=policy.backoff,
        )
        async for attempt in driver.attempts(retries):
            with attempt:
                return await self._once(copy.deepcopy(value), run, driver)
        raise AssertionError("unreachable: the last attempt raises")

    async def _once(self, value: Any, run: Run, driver: Driver) -> Any:
        if self._policy.time_limit is None:
            return await driver.run(self._inner, value, run)
        return await driver.limited(self._inner, value, run, self._policy.time_limit)


def _worth_trying_again(error: Exception, run: Run) -> bool | float:
    """Say whether another attempt may help before the deadline, or how many seconds to wait for it."""
    remaining = run.remaining()
    if isinstance(error, Fatal | InvalidInput) or (remaining is not None and remaining <= 0):
        return False
    if isinstance(error, RetryLater) and error.delay is not None:
        return error.delay if remaining is None or error.delay < remaining else False
    return True
