"""Values and docstrings, for people to read."""

from __future__ import annotations

import json
import re
from typing import Any

from django.utils.html import escape, format_html
from django.utils.safestring import SafeString, mark_safe

__all__ = ["paragraphs", "pill", "pretty", "prose", "short"]


def pretty(value: Any) -> SafeString:
    """A block of indented JSON; a dash for nothing."""
    if value is None:
        return format_html("{}", "–")
    return format_html('<pre class="pluginhub-code">{}</pre>', json.dumps(value, indent=2, ensure_ascii=False))


def short(value: Any, length: int = 80) -> str:
    """One line of JSON, cut off."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= length else f"{text[: length - 1]}…"


def prose(text: str) -> SafeString:
    """Text of a docstring or description, without its line breaks; what stands in `backticks` as code."""
    return mark_safe(re.sub(r"`+([^`]+)`+", r"<code>\1</code>", escape(" ".join(text.split()))))


def paragraphs(text: str) -> list[SafeString]:
    """The paragraphs of a docstring."""
    return [prose(part) for part in re.split(r"\n\s*\n", text) if part.strip()]


def pill(code: str, label: Any) -> SafeString:
    """A word in a coloured frame; it says the same without its colour."""
    return format_html('<span class="pluginhub-state {}">{}</span>', code, label)
