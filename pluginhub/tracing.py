"""What one run did, step by step, where somebody asked to see it. A run that is not traced pays one look at a field.

A span is one call of a target, step, member or fallback; spans nest as the calls do. Values are rendered as plain
JSON when they pass, so that nobody changes them afterwards; secrets are masked when the trace is read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from pydantic_core import to_jsonable_python

from pluginhub.context import Run
from pluginhub.exceptions import Stop, problem_of
from pluginhub.types import Json

__all__ = ["LONGEST", "MASK", "MOST", "Span", "Trace", "attach", "note", "span", "trace_of"]

LONGEST = 10_000
"""How many characters of JSON are kept of one value."""

MOST = 500
"""How many spans are kept of one run."""

MASK = "•••"

_SECRET = re.compile(r"pass(word|wd|phrase)|secret|token|api_?key|authorization|credential|cookie", re.IGNORECASE)
_SHORTEST_SECRET = 4
_CARRIED = "__pluginhub_trace__"

_open: ContextVar[Span | None] = ContextVar("pluginhub_span", default=None)


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
    spans: list[Span] = field(default_factory=list)

    def data(self, mask: Iterable[str] = ()) -> dict[str, Any]:
        """Return the span as JSON, with secrets masked."""
        secrets = sorted((each for each in mask if len(each) >= _SHORTEST_SECRET), key=len, reverse=True)
        return self._data(secrets)

    def _data(self, secrets: list[str]) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "kind": self.kind,
            "name": self.name,
            "input": _masked(self.input, secrets),
            "output": _masked(self.output, secrets),
            "decision": self.decision,
            "attempts": self.attempts,
            "microseconds": round(self.microseconds, 1),
        }
        if self.problem is not None:
            shown["problem"] = _masked(self.problem, secrets)
        return shown | {"steps": [each._data(secrets) for each in self.spans]}


class Trace:
    """The spans of one run. Lives as long as the answer that shows it."""

    __slots__ = ("count", "spans")

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.count = 0

    def data(self, mask: Iterable[str] = ()) -> list[dict[str, Any]]:
        """Return the outermost spans as JSON; `mask` is what must not be seen in any of their texts."""
        secrets = list(mask)
        return [each.data(secrets) for each in self.spans]

    def begin(self, kind: str, name: str, value: Any) -> Span:
        """Return a new span, kept where there is still room."""
        span, outer = Span(kind, name, _plain(value)), _open.get()
        self.count += 1
        if self.count <= MOST:
            (self.spans if outer is None else outer.spans).append(span)
        return span


def attach(error: BaseException, data: list[dict[str, Any]]) -> None:
    """Let an error carry the trace of the run that it ended."""
    try:
        setattr(error, _CARRIED, data)
    except AttributeError:  # an exception with __slots__
        return


def trace_of(error: BaseException) -> list[dict[str, Any]] | None:
    """Return the trace that an error carries."""
    return getattr(error, _CARRIED, None)


def note(run: Run, **facts: Any) -> None:
    """Note what was decided of the call that is going on: `decision`, `attempts`. Does nothing without a trace."""
    if run.trace is not None and (span := _open.get()) is not None:
        for name, fact in facts.items():
            setattr(span, name, fact)


@contextmanager
def span(run: Run, kind: str, name: str, value: Any) -> Iterator[_Ending]:
    """Trace the block as one call of `name`; set its `result`. Only where the run has a trace."""
    trace: Trace = run.trace
    one, ending = trace.begin(kind, name, value), _Ending()
    token = _open.set(one)
    started = perf_counter()
    try:
        yield ending
        one.output = _plain(ending.result)
        if type(ending.result) is Stop:
            one.decision = "stopped"
    except BaseException as error:
        one.problem = problem_of(error)
        if one.decision == "ran":  # else it says why
            one.decision = "failed"
        raise
    finally:
        one.microseconds = (perf_counter() - started) * 1e6
        _open.reset(token)


class _Ending:
    __slots__ = ("result",)

    def __init__(self) -> None:
        self.result: Any = None


def _plain(value: Any) -> Json:
    """Return a value as JSON, as far as it is any; what is too long is cut, as text."""
    value = value.value if type(value) is Stop else value
    try:
        plain: Json = to_jsonable_python(value, fallback=_kind, bytes_mode="base64", inf_nan_mode="strings")
        text = json.dumps(plain, ensure_ascii=False)
    except (ValueError, TypeError, RecursionError):
        return _kind(value)
    return plain if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"


def _kind(value: Any) -> str:
    return f"<{type(value).__name__}>"


def _masked(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, dict):
        return {key: MASK if _is_secret(key, each) else _masked(each, secrets) for key, each in value.items()}
    if isinstance(value, list):
        return [_masked(each, secrets) for each in value]
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, MASK)
    return value


def _is_secret(key: str, value: Any) -> bool:
    return value is not None and not isinstance(value, bool) and _SECRET.search(key) is not None
