"""What the layers of one stream share."""

from __future__ import annotations

from dataclasses import dataclass

from pluginhub.breakers import Breaker, Ticket, admit, judge
from pluginhub.context import Run, Services
from pluginhub.exceptions import InvalidInput, mark, survivable
from pluginhub.metrics import timings

__all__ = ["Course"]


@dataclass(slots=True)
class Course:
    """How one stream goes: what it is asked for, and what went wrong. Lives as long as it is open."""

    run: Run
    asked: int = 1
    """How many items the consumer waits for: what is fetched ahead between two layers is never more."""
    _noted: BaseException | None = None
    _source: tuple[Services, Ticket] | None = None
    """Whose breaker let the stream through, until it is told how the stream went."""

    def enter(self, breaker: Breaker | None, services: Services) -> None:
        """Let the stream through its plugin's breaker. Raises `BreakerOpen`."""
        if breaker is not None:
            self._source = services, admit(breaker, self.run, services.name, services.plugin)

    def noted(self, raised: BaseException, services: Services | None) -> BaseException:
        """Mark and count what plugin code raised, and return what to raise in its place.

        Each error counts once, for the innermost plugin that it leaves; what outer layers let pass is not theirs.
        """
        error = survivable(raised)
        if not isinstance(error, Exception) or error is self._noted:
            return error
        self._noted = error
        if services is not None:
            mark(error, registration=services.name, plugin=services.plugin, run=self.run.id)
            if self._source is not None and self._source[0] is services:
                judge(self._source[1], error, self.run)
                self._source = None
            if not isinstance(error, InvalidInput):
                timings(services.plugin, services.tenant.schema if services.tenant else "").failed()
        return error

    def end(self) -> None:
        """Count a stream that did not fail; forget the error, which holds the frames it passed, and they this."""
        self._noted = None
        if self._source is not None:
            self._source[1].succeeded()
            self._source = None
