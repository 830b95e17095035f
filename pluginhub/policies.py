"""What happens at a step besides its target: whether it runs, on what, and what if it is slow or fails.

One value, applied around the step: condition → input mapping → attempts at the target → output mapping; then, if any
of these failed, `on_failure`.
"""

from __future__ import annotations

import asyncio
import copy
from dataclasses import dataclass
from typing import Any, Literal

import stamina

from pluginhub import tracing
from pluginhub.context import Run
from pluginhub.drivers import Colour, Driver, Node
from pluginhub.exceptions import (
    CachedFailure,
    Fatal,
    HookError,
    InvalidInput,
    NotReady,
    RetryLater,
    Stop,
    mark,
)
from pluginhub.expressions import Expression
from pluginhub.pipelines import Spanned

__all__ = ["LONGEST_WAIT", "PLAIN", "OnFailure", "Policy", "guard"]

OnFailure = Literal["fail", "skip", "default", "fallback"]

LONGEST_WAIT = 60.0
"""Seconds that doubling leads to, where `backoff` is not more to begin with."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A step's policy: `attempts` within the time limit (seconds, each), then `on_failure`.

    `skip` passes the step's value on; `default` gives `default`, as it is; `fallback` calls `fallback`, another plugin
    or chain (in the hub: a target's name), once, with a time limit of its own. Between attempts it waits `backoff`
    seconds, doubling, with jitter (stamina), and never past the run's deadline; `RetryLater(delay)` chooses the wait;
    `Fatal`, refusals and what is not ready end the attempts.

    `condition`, `input` and `output` are JMESPath, where not empty. Where the condition is not true, the value goes on
    unchanged. `input` makes of the value what the target and the fallback take. `output` makes what the chain goes on
    with of `{"input": value, "result": result}`, for results of the target and of the fallback, and not for `Stop`.
    """

    time_limit: float | None = None
    attempts: int = 1
    backoff: float = 0.1
    on_failure: OnFailure = "fail"
    default: Any = None
    fallback: Any = None
    condition: str = ""
    input: str = ""
    output: str = ""

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise HookError(f"A policy needs at least 1 attempt, not {self.attempts}.")
        if self.time_limit is not None and self.time_limit <= 0:
            raise HookError(f"A time limit is a positive number of seconds, not {self.time_limit}.")
        if self.on_failure not in ("fail", "skip", "default", "fallback"):
            raise HookError(f"There is no policy {self.on_failure!r}.", hint="Use fail, skip, default or fallback.")
        if (self.on_failure == "fallback") != (self.fallback is not None):
            raise HookError("on_failure='fallback' and a fallback go together.", hint="Give both or neither.")


PLAIN = Policy()


def guard(node: Node, policy: Policy, *, step: str = "", fallback: tuple[str, Node] | None = None) -> Node:
    """Link a node with its policy; the plain policy costs nothing.

    `step` names it in logs and errors; `fallback` is the name and node of what stands in. Raises `HookError` for an
    expression that cannot be used.
    """
    return node if policy == PLAIN else _Guarded(node, policy, step, fallback)


class _Guarded(Node):
    __slots__ = ("_condition", "_fallback", "_inner", "_input", "_keeps", "_output", "_policy", "_step")

    def __init__(self, inner: Node, policy: Policy, step: str, fallback: tuple[str, Node] | None) -> None:
        colours = {inner.colour, *([fallback[1].colour] if fallback else [])}
        super().__init__(inner.colour if len(colours) == 1 else Colour.MIXED)
        self._inner = inner
        self._policy = policy
        self._step = step
        self._fallback = (fallback[0], Spanned("fallback", *fallback)) if fallback else None
        self._condition = _expression(policy.condition, "condition")
        self._input = _expression(policy.input, "input mapping")
        self._output = _expression(policy.output, "output mapping")
        # What is called gets a copy wherever the value is looked at again: nobody sees what it did to it.
        self._keeps = policy.attempts > 1 or policy.on_failure in ("skip", "fallback") or self._output is not None

    async def run(self, value: Any, run: Run, driver: Driver) -> Any:
        before = _cancellations()
        try:
            if self._condition is not None and not self._condition.holds(value):
                tracing.note(run, decision="left out")
                return value
            return self._given(value, await self._attempts(self._taken(value), run, driver, before))
        except Exception as error:
            # What a deadline or a cancellation ended stays ended, whatever a plugin made of it.
            if self._policy.on_failure == "fail" or _is_late(run) or _cancellations() > before:
                raise
            tracing.note_answered(run, error)
            return await self._instead(value, run, driver)

    async def _instead(self, value: Any, run: Run, driver: Driver) -> Any:
        policy = self._policy
        if self._fallback is None:
            tracing.note(run, decision="skipped" if policy.on_failure == "skip" else "default")
            return value if policy.on_failure == "skip" else copy.deepcopy(policy.default)
        name, node = self._fallback
        tracing.note(run, decision="fallback")
        given = self._own(self._taken(value))
        try:
            return self._given(value, await self._once(node, given, run, driver))
        except BaseException as error:
            mark(error, chain=self._step, step=f"fallback {name}", run=run.id)
            raise

    async def _attempts(self, taken: Any, run: Run, driver: Driver, cancellations: int) -> Any:
        if self._policy.attempts == 1:
            return await self._once(self._inner, self._own(taken), run, driver)
        trying = _Trying(self._policy, run, cancellations)
        try:
            async for attempt in driver.attempts(trying.retries(self._step)):
                own = self._own(taken)
                with attempt:
                    trying.tried = attempt.num
                    return await self._once(self._inner, own, run, driver)
        finally:
            tracing.note(run, attempts=trying.tried)
        raise AssertionError("unreachable: the last attempt raises")

    async def _once(self, node: Node, given: Any, run: Run, driver: Driver) -> Any:
        if self._policy.time_limit is None:
            return await driver.run(node, given, run)
        return await driver.limited(node, given, run, self._policy.time_limit)

    def _taken(self, value: Any) -> Any:
        return value if self._input is None else self._input.of(value)

    def _own(self, taken: Any) -> Any:
        return copy.deepcopy(taken) if self._keeps else taken

    def _given(self, value: Any, result: Any) -> Any:
        if self._output is None or type(result) is Stop:
            return result
        return self._output.of({"input": value, "result": result})


class _Trying:
    """The attempts of one step in one run."""

    __slots__ = ("_cancellations", "_policy", "_run", "tried")

    def __init__(self, policy: Policy, run: Run, cancellations: int) -> None:
        self._policy = policy
        self._run = run
        self._cancellations = cancellations
        self.tried = 0

    def retries(self, step: str) -> Any:
        """Return stamina's attempts. Its log names the step; its metrics do not: each name makes a series."""
        backoff = self._policy.backoff
        retries = stamina.retry_context(
            on=self._is_worth_another,
            attempts=self._policy.attempts,
            timeout=None,  # the deadline is looked at below, together with the wait
            wait_initial=backoff,
            wait_jitter=backoff,
            wait_max=max(backoff, LONGEST_WAIT),
        )
        return retries.with_name("pluginhub.step", (step,), {})

    def _is_worth_another(self, error: BaseException) -> bool | float:
        """Say whether another attempt may help before the deadline, or how many seconds to wait for it."""
        if not isinstance(error, Exception) or isinstance(error, Fatal | InvalidInput | NotReady | CachedFailure):
            return False
        if _cancellations() > self._cancellations:
            return False
        asked = error.delay if isinstance(error, RetryLater) else None
        wait = self._longest_wait() if asked is None else max(0.0, float(asked))
        remaining = self._run.remaining()
        if remaining is not None and wait >= remaining:
            return False
        return True if asked is None else wait

    def _longest_wait(self) -> float:
        backoff = self._policy.backoff
        try:
            return min(max(backoff, LONGEST_WAIT), backoff * 2.0 ** (self.tried - 1) + backoff)
        except OverflowError:
            return max(backoff, LONGEST_WAIT)


def _expression(text: str, what: str) -> Expression | None:
    return Expression(text, what=what) if text else None


def _is_late(run: Run) -> bool:
    remaining = run.remaining()
    return remaining is not None and remaining <= 0


def _cancellations() -> int:
    """Count the cancellations asked of this task: a plugin may have raised something else for one."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop runs here
        return 0
    return task.cancelling() if task is not None else 0
