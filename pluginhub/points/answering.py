"""How several targets on one point answer: as a chain, all of them, or the first that does.

- `chain`: each takes what the one before gave.
- `all`: each takes a copy of the value; their results, in order, are the answer. They run one after the other in the
  thread, connection and transaction of synchronous host code, and side by side in asynchronous host code, which has
  none: who calls a point inside a transaction must not wait there for somebody who waits for that transaction.
- `first`: each takes a copy, until one answers. `None` and errors are no answers. Where nobody answers, the last error
  is raised; without one, the host's default answers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Literal

from pluginhub.context import Run
from pluginhub.drivers import AsyncDriver, Colour, Driver, Node
from pluginhub.exceptions import DeadlineExceeded, Stop
from pluginhub.leaves import late
from pluginhub.pipelines import Spanned, series

__all__ = ["HOWS", "NOBODY", "Fit", "Several", "link"]

Several = Literal["chain", "all", "first"]

HOWS: tuple[Several, ...] = ("chain", "all", "first")

NOBODY: Any = object()
"""What a run gives when none of the targets has answered."""

Fit = Callable[[Any], Any]
"""Makes of a target's result what the host takes. Raises where it does not fit."""


def link(point: str, several: Several, targets: Sequence[tuple[str, Node]], fit: Fit) -> Node:
    """Link the targets that hang on a point into one."""
    if several == "chain":
        return _Chain(point, targets, fit)
    ones = [_One(point, label, node, fit) for label, node in targets]
    return _All(ones) if several == "all" else _First(ones)


class _Chain(Node):
    """Each takes what the one before gave; `Stop` ends it early."""

    __slots__ = ("_fit", "_series")

    def __init__(self, point: str, targets: Sequence[tuple[str, Node]], fit: Fit) -> None:
        self._series = series(point, targets)
        self._fit = fit
        super().__init__(self._series.colour)
        if self.colour is Colour.SYNC:
            self.call = self._call

    def _call(self, value: Any, run: Run) -> Any:
        return self._fit(self._series.call(value, run))

    async def run(self, value: Any, run: Run, driver: Driver) -> Any:
        return self._fit(await self._series.run(value, run, driver))


class _One(Spanned):
    """One target of several: its result is fitted, and what goes wrong is marked with the point and its name."""

    __slots__ = ()

    def __init__(self, point: str, label: str, inner: Node, fit: Fit) -> None:
        super().__init__("target", label, _Fitted(inner, fit), within=point)

    def late(self, run: Run) -> DeadlineExceeded:
        """Return the error of a deadline that passed while this target was asked."""
        error = late()
        self.blame(error, run)
        return error


class _Fitted(Node):
    __slots__ = ("_fit", "_inner")

    def __init__(self, inner: Node, fit: Fit) -> None:
        super().__init__(inner.colour)
        self._inner = inner
        self._fit = fit

    async def run(self, value: Any, run: Run, driver: Driver) -> Any:
        result = await driver.run(self._inner, value, run)
        return self._fit(result.value if type(result) is Stop else result)


class _All(Node):
    """Every target on its own copy of the value: a list in their order."""

    __slots__ = ("_ones",)

    def __init__(self, ones: Sequence[_One]) -> None:
        super().__init__(Colour.MIXED)
        self._ones = tuple(ones)

    async def run(self, value: Any, run: Run, driver: Driver) -> list[Any]:
        copies = [copy.deepcopy(value) for _ in self._ones]
        if not isinstance(driver, AsyncDriver) or driver.home is not None:
            return [await driver.run(one, each, run) for one, each in zip(self._ones, copies, strict=True)]
        outcomes = await driver.gather(self._ones, copies, run)
        for _, error in outcomes:
            if error is not None:
                raise error
        return [result for result, _ in outcomes]


class _First(Node):
    """The first target that answers."""

    __slots__ = ("_ones",)

    def __init__(self, ones: Sequence[_One]) -> None:
        colours = {one.colour for one in ones}
        super().__init__(colours.pop() if len(colours) == 1 else Colour.MIXED)
        self._ones = tuple(ones)

    async def run(self, value: Any, run: Run, driver: Driver) -> Any:
        failed: Exception | None = None
        for one in self._ones:
            try:
                result = await driver.run(one, copy.deepcopy(value), run)
            except Exception as error:
                failed = error
            else:
                if result is not None:
                    return result
            if (run.remaining() or 0) < 0:  # the next one would be too late, too
                raise failed or one.late(run)
        if failed is not None:
            raise failed
        return NOBODY
