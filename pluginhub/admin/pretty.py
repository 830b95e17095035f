"""JSON for people to read."""

from __future__ import annotations

import json
from typing import Any

from django.utils.html import format_html
from django.utils.safestring import SafeString

__all__ = ["pretty", "short"]


def pretty(value: Any) -> SafeString:
    """A block of indented JSON."""
    if value is None:
        return format_html("{}", "–")
    return format_html('<pre class="pluginhub-code">{}</pre>', json.dumps(value, indent=2, ensure_ascii=False))


def short(value: Any, length: int = 80) -> str:
    """One line of JSON, cut off."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= length else f"{text[: length - 1]}…"
