"""A trace as a page shows it: a line a call, indented as they nest, each with its time on one scale."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from django.template.loader import render_to_string
from django.utils.safestring import SafeString

__all__ = ["shown_trace"]

WIDTH = 100
"""Of the bar of the longest call, in the units of the picture."""


def shown_trace(trace: list[dict[str, Any]] | None) -> SafeString:
    """Return a trace as HTML; nothing where there is none."""
    if not trace:
        return SafeString("")
    longest = max(span["microseconds"] for span in trace) or 1.0
    lines = [line for span in trace for line in _lines(span, 0, longest)]
    return render_to_string("admin/pluginhub/trace.html", {"lines": lines, "width": WIDTH})


def _lines(span: dict[str, Any], depth: int, longest: float) -> Iterator[dict[str, Any]]:
    yield {
        **span,
        "depth": min(depth, 8),
        "input": _text(span["input"]),
        "output": _text(span["output"]),
        "same": span["input"] == span["output"],
        "milliseconds": span["microseconds"] / 1000,
        "bar": max(0.5, WIDTH * span["microseconds"] / longest),
    }
    for each in span["steps"]:
        yield from _lines(each, depth + 1, longest)


def _text(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
