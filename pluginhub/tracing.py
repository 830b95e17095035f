"""What one run did, step by step, where somebody asked to see it. A run that is not traced pays one look at a field.

A span is one call of a target, step, member or fallback; spans nest as the calls do. Values are rendered as plain
JSON when they pass, so that nobody changes them afterwards; secrets are masked when the trace is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from pluginhub.context import Run
from pluginhub.exceptions import Stop, mark, place_of, problem_of
from pluginhub.masking import MASK, Secrets, size_of, told
from pluginhub.types import Json

__all__ = ["LARGEST", "LONGEST", "MASK", "MOST", "Span", "Trace", "attach", "note", "note_answered", "span", "trace_of"]

LONGEST = 10_000
"""How many characters are kept of one value."""

LARGEST = 1_000_000
"""How many characters are kept of all values of one run."""

MOST = 500
"""How many spans are kept of one run."""

_PROBLEM = 1_000

_CARRIED = "__pluginhub_trace__"


@dataclass(slots=True)
class Span:
    """One call: what went in, what came out, and what was decided. Lives as long as its trace."""

    kind: str
    name: str
    input: Json
    output: Json = None
    decision: str = "ran"
    attempts: int = 1
    microseconds: float = 0.0
    problem: dict[str, Any] | None = None
    """Why it failed."""
    answered: dict[str, Any] | None = None
    """Why its target failed, where a policy had another answer."""
    spans: list[Span] = field(default_factory=list)
    is_kept: bool = True

    def data(self, secrets: Secrets) -> dict[str, Any]:
        """Return the span as JSON, with secrets masked."""
        shown: dict[str, Any] = {
            "kind": self.kind,
            "name": self.name,
            "input": secrets.masked(self.input),
            "output": secrets.masked(self.output),
            "decision": self.decision,
            "attempts": self.attempts,
            "microseconds": round(self.microseconds, 1),
        }
        if self.problem is not None:
            shown["problem"] = secrets.masked(self.problem)
        if self.answered is not None:
            shown["answered"] = secrets.masked(self.answered)
        return shown | {"steps": [each.data(secrets) for each in self.spans]}


class Trace:
    """The spans of one run. Lives as long as the answer that shows it."""

    __slots__ = ("count", "room", "spans")

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.count = 0
        self.room = LARGEST

    def data(self, mask: Iterable[str] = ()) -> list[dict[str, Any]]:
        """Return the outermost spans as JSON; `mask` is what must not be seen in any of their texts."""
        secrets = Secrets(mask)
        return [each.data(secrets) for each in self.spans]

    def begin(self, kind: str, name: str, value: Any) -> Span:
        """Return a new span, kept where there is still room."""
        self.count += 1
        if self.count > MOST:
            return Span(kind, name, None, is_kept=False)
        span, outer = Span(kind, name, self.told(value)), _open_in(self)
        (self.spans if outer is None else outer.spans).append(span)
        return span

    def told(self, value: Any, *, least: int = 0) -> Any:
        """Return what is kept of a value: `least` characters of it even where there is no more room."""
        shown = told(value.value if type(value) is Stop else value, max(least, min(LONGEST, self.room)))
        self.room = max(0, self.room - size_of(shown))
        return shown


_open: ContextVar[tuple[Trace, Span] | None] = ContextVar("pluginhub_span", default=None)
"""The call that is going on. A run within another one's call has a trace of its own, or none."""


def _open_in(trace: Any) -> Span | None:
    found = _open.get()
    return found[1] if found is not None and found[0] is trace else None


def attach(error: BaseException, run: Run, data: list[dict[str, Any]]) -> None:
    """Let an error carry the trace of the run that it ended."""
    mark(error, run=run.id)
    try:
        setattr(error, _CARRIED, (run.id, data))
    except AttributeError:  # an exception with __slots__
        return


def trace_of(error: BaseException) -> list[dict[str, Any]] | None:
    """Return the trace that an error carries of the run that it ended last.

    Plugins may raise one instance many times, in many tenants: ask only where a trace was asked for.
    """
    run, data = getattr(error, _CARRIED, (None, None))
    return data if data is not None and run == place_of(error).run else None


def note(run: Run, **facts: Any) -> None:
    """Note what was decided of the call that is going on: `decision`, `attempts`. Does nothing without a trace."""
    if run.trace is not None and (span := _open_in(run.trace)) is not None:
        for name, fact in facts.items():
            setattr(span, name, fact)


@contextmanager
def span(run: Run, kind: str, name: str, value: Any) -> Iterator[_Ending]:
    """Trace the block as one call of `name`; set its `result`. Only where the run has a trace."""
    trace: Trace = run.trace
    one, ending = trace.begin(kind, name, value), _Ending()
    token = _open.set((trace, one))
    started = perf_counter()
    try:
        yield ending
        one.microseconds = (perf_counter() - started) * 1e6
        if type(ending.result) is Stop:
            one.decision = "stopped"
        if one.is_kept:
            one.output = trace.told(ending.result)
    except BaseException as error:
        one.microseconds = (perf_counter() - started) * 1e6
        one.problem = _problem(trace, error) if one.is_kept else None
        if one.decision == "ran":  # else it says why
            one.decision = "failed"
        raise
    finally:
        _open.reset(token)


def note_answered(run: Run, error: BaseException) -> None:
    """Note why the target of the call that is going on failed, where a policy has another answer."""
    if run.trace is not None and (span := _open_in(run.trace)) is not None and span.is_kept:
        span.answered = _problem(run.trace, error)


def _problem(trace: Trace, error: BaseException) -> dict[str, Any]:
    """Return what is kept of an error's problem: its extra members are the plugin's, and may be anything."""
    try:
        shown = trace.told(problem_of(error), least=_PROBLEM)
    except Exception:
        shown = None
    return shown if isinstance(shown, dict) else {"title": "A plugin failed", "detail": f"{type(error).__name__}."}


class _Ending:
    __slots__ = ("result",)

    def __init__(self) -> None:
        self.result: Any = None
