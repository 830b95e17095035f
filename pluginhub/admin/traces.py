"""A trace as a page shows it: a line a call, indented as they nest, each with its time on one scale."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from django.template.loader import render_to_string
from django.utils.functional import Promise
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy

__all__ = ["shown_trace"]

WIDTH = 100
"""Of the bar of the longest call, in the units of the picture."""

_DECISIONS: dict[str, str | Promise] = {
    "ran": gettext_lazy("ran"),
    "cached": gettext_lazy("cached"),
    "left out": gettext_lazy("left out"),
    "skipped": gettext_lazy("skipped"),
    "default": gettext_lazy("default"),
    "fallback": gettext_lazy("fallback"),
    "stopped": gettext_lazy("stopped"),
    "failed": gettext_lazy("failed"),
    "refused by an open breaker": gettext_lazy("breaker open"),
}
_KINDS: dict[str, str | Promise] = {
    "target": gettext_lazy("target"),
    "step": gettext_lazy("step"),
    "member": gettext_lazy("member"),
    "fallback": gettext_lazy("fallback"),
    "call": gettext_lazy("call"),
}


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
        "kind": _KINDS.get(span["kind"], span["kind"]),
        "said": _DECISIONS.get(span["decision"], span["decision"]),
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
