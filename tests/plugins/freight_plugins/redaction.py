"""Personal data in free text."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, Field

from pluginhub import Context, Plugin

__all__ = ["Redact"]

# Every repetition is bounded or ends at a character it cannot contain, so that no text takes long.
EMAIL = re.compile(r"[\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
CARD = re.compile(r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)")


class Redact(Plugin):
    """Mask e-mail addresses and payment card numbers in texts, wherever in the value they stand.

    A run of digits counts as a card number if its check digit fits (ISO/IEC 7812-1), so order numbers stay.
    """

    class Config(BaseModel):
        kinds: list[Literal["email", "card"]] = ["email", "card"]
        mask: str = Field("***", max_length=32)

    config: Config

    def process(self, value: Any, context: Context) -> Any:
        masked = 0

        def clean(text: str) -> str:
            nonlocal masked
            for kind in self.config.kinds:
                text, count = _mask(kind, text, self.config.mask)
                masked += count
            return text

        result = _texts(value, clean)
        if masked:
            context.log.info("masked %d places", masked)
        return result


def _mask(kind: str, text: str, mask: str) -> tuple[str, int]:
    if kind == "email":
        return EMAIL.subn(lambda _: mask, text)
    found = [match for match in CARD.finditer(text) if _check_digit_fits(match[0])]
    for match in reversed(found):
        text = text[: match.start()] + mask + text[match.end() :]
    return text, len(found)


def _check_digit_fits(number: str) -> bool:
    digits = [int(c) for c in number if c.isdigit()][::-1]
    return sum(digits[0::2]) % 10 == -sum(sum(divmod(2 * d, 10)) for d in digits[1::2]) % 10


def _texts(value: Any, clean: Callable[[str], str]) -> Any:
    """Rebuild JSON with each string cleaned; keys stay."""
    match value:
        case str():
            return clean(value)
        case list():
            return [_texts(each, clean) for each in value]
        case dict():
            return {key: _texts(each, clean) for key, each in value.items()}
    return value
