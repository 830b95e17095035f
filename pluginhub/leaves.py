"""Where linked pipelines end: plugins' own functions, timed, with their errors counted and marked.

Synchronous neighbours share one loop, one reading of the clock between two of them, and one look for the thread's
cells: what is spent around a plugin's function is less than the function itself costs, so it is written for speed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from pluginhub.context import Context, Run, Services
from pluginhub.drivers import Colour, Driver, Node, colour_of
from pluginhub.exceptions import DeadlineExceeded, InvalidInput, Stop, mark, survivable
from pluginhub.metrics import BUCKETS, SUM, here, timings

__all__ = ["Leaf", "Leaves", "late"]


class Leaf(Node):
    """One function `(value, context)` of a plugin, of either colour. Returns what it returns or raises, also `Stop`.

    It does not begin after the run's deadline, and is late when it returns after it: then the error names it.
    """

    __slots__ = ("function", "services", "timing")

    def __init__(self, function: Callable[[Any, Context], Any], services: Services) -> None:
        super().__init__(colour_of(function))
        self.function = function
        self.services = services
        self.timing = timings(services.plugin, services.tenant.schema if services.tenant else "")
        if self.colour is Colour.SYNC:
            self.call = Leaves("", [("", self)], inner=True).call

    async def run(self, value: Any, run: Run, driver: Driver) -> Any:
        started = monotonic()
        if run.deadline is not None and started > run.deadline:
            raise self.failed(late(), run)
        try:
            result = await self.function(value, Context((run, self.services)))
        except Stop as stop:
            result = stop
        except BaseException as error:
            raise self.failed(error, run, started)  # noqa: B904 - it is the error itself, or has it as its cause
        ended = monotonic()
        self.timing.observe(ended - started)
        if run.deadline is not None and ended > run.deadline:
            raise self.failed(late(), run)
        return result

    def failed(self, raised: BaseException, run: Run, started: float | None = None) -> BaseException:
        """Count and mark what was raised; return what to raise in its place. `started` is on `time.monotonic`."""
        if started is not None:
            self.timing.observe(monotonic() - started)
        error = survivable(raised)
        mark(error, registration=self.services.name or None, plugin=self.services.plugin, run=run.id)
        if not isinstance(error, InvalidInput):
            self.timing.failed()
        return error


class Leaves:
    """Synchronous leaves, one after the other; each takes what the one before gave. `Stop` ends them early.

    Errors name the chain and the leaf's label, where there are any. `inner` ones tell who called them of the `Stop`.
    Runs with a trace go by `traced`, if it is given.
    """

    __slots__ = ("_inner", "_leaves", "_name", "_traced")

    def __init__(
        self,
        name: str,
        leaves: Sequence[tuple[str, Leaf]],
        *,
        inner: bool = False,
        traced: Callable[[Any, Run], Any] | None = None,
    ) -> None:
        self._name = name
        self._inner = inner
        self._traced = traced
        self._leaves = tuple((leaf.function, leaf.services, leaf.timing, leaf, label) for label, leaf in leaves)

    def call(self, value: Any, run: Run) -> Any:
        if run.trace is not None and self._traced is not None:
            return self._traced(value, run)
        cells, deadline = here(), run.deadline
        _, _, _, leaf, label = self._leaves[0]
        now, is_late = monotonic(), False
        try:
            if deadline is not None and now > deadline:
                is_late = True
                raise late()
            for function, services, timing, leaf, label in self._leaves:  # noqa: B007 - what failed is told by them
                try:
                    value = function(value, Context((run, services)))
                except Stop as stop:
                    value = stop
                seconds = monotonic() - now
                now += seconds
                try:
                    counts = cells[timing]
                except KeyError:
                    counts = timing.join()
                counts[bisect_left(BUCKETS, seconds)] += 1
                counts[SUM] += seconds
                if deadline is not None and now > deadline:
                    is_late = True
                    raise late()
                if type(value) is Stop:
                    return value if self._inner else value.value
        except BaseException as raised:
            error = leaf.failed(raised, run, None if is_late else now)
            if label:
                mark(error, chain=self._name, step=label, run=run.id)
            raise error  # noqa: B904 - it is the error itself, or has it as its cause
        return value


def late() -> DeadlineExceeded:
    return DeadlineExceeded("The run's deadline passed.", hint="Allow more time, or make what is named faster.")
