"""What may be shown of a value that passed: plain JSON, as much of it as there is room for, without secrets.

Looking changes nothing: iterators are not iterated, and what an object of the author's says of itself may fail.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from urllib.parse import quote, quote_plus
from uuid import UUID

from pydantic import BaseModel, Secret, SecretBytes, SecretStr
from pydantic_core import to_jsonable_python

__all__ = ["MASK", "Secrets", "size_of", "told"]

MASK = "•••"

_SECRET = re.compile(r"pass(word|wd|phrase)|secret|token|api_?key|authorization|credential|cookie", re.IGNORECASE)
_SHORTEST_SECRET = 4
_LONGEST_KEY = 200
_DEEPEST = 200
_LONGEST_NUMBER = 1000
"""Bits: more are no number that JSON's readers know."""

_ATOMS = (date, time, timedelta, Decimal, UUID, PurePath)
_SECRETS = (SecretStr, SecretBytes, Secret)


@dataclass(frozen=True, slots=True)
class _Cut:
    """The beginning of a text: a secret may have been cut in two."""

    text: str
    length: int


def told(value: Any, room: int) -> Any:
    """Return a value as JSON for `Secrets.masked`, about `room` characters of it; what is no JSON by its kind."""
    try:
        return _Teller(room).tell(value, ())
    except Exception:  # what contains itself, or changes meanwhile, or cannot say what it is
        return _kind(value)


def size_of(told: Any) -> int:
    """Return about how many characters something that was told has."""
    if isinstance(told, dict):
        return 2 + sum(len(key) + 4 + size_of(each) for key, each in told.items())
    if isinstance(told, list):
        return 2 + sum(1 + size_of(each) for each in told)
    return len(told.text) + 20 if isinstance(told, _Cut) else len(told) + 2 if isinstance(told, str) else 8


class _Teller:
    def __init__(self, room: int) -> None:
        self._room = room

    def tell(self, value: Any, above: tuple[int, ...]) -> Any:
        if isinstance(value, Enum):
            return self.tell(value.value, above)
        if isinstance(value, str):
            return self._text(str.__str__(value))
        if value is None or isinstance(value, bool | int | float):
            return self._number(value)
        if isinstance(value, bytes | bytearray):
            return self._text(base64.b64encode(value).decode() if len(value) <= self._room else _kind(value))
        if isinstance(value, _SECRETS):
            return self._text(MASK)
        if isinstance(value, _ATOMS):
            return self._text(to_jsonable_python(value))
        return self._within(value, above)

    def _within(self, value: Any, above: tuple[int, ...]) -> Any:
        if id(value) in above:
            raise ValueError("It contains itself.")
        if len(above) >= _DEEPEST:
            return _kind(value)
        above = (*above, id(value))
        if isinstance(value, BaseModel):
            return self._mapping(value.model_dump(), above)
        if is_dataclass(value) and not isinstance(value, type):
            return self._mapping({each.name: getattr(value, each.name) for each in fields(value)}, above)
        if isinstance(value, dict):
            return self._mapping(value, above)
        if isinstance(value, list | tuple | set | frozenset):
            return self._sequence(value, above)
        return self._text(_kind(value))

    def _mapping(self, value: dict[Any, Any], above: tuple[int, ...]) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        for number, (key, each) in enumerate(dict.items(value)):
            if self._room <= 0:
                return shown | {"…": f"({len(value) - number} more)"}
            name = key if isinstance(key, str) else str(to_jsonable_python(key, fallback=_kind))
            name = _sendable(name) if len(name) <= _LONGEST_KEY else f"… ({len(name)} characters)"
            self._room -= len(name) + 4
            shown[name] = MASK if _is_secret(name, each) else self.tell(each, above)
        return shown

    def _sequence(self, value: Any, above: tuple[int, ...]) -> list[Any]:
        shown: list[Any] = []
        for number, each in enumerate(value):
            if self._room <= 0:
                return [*shown, f"… ({len(value) - number} more)"]
            self._room -= 1
            shown.append(self.tell(each, above))
        return shown

    def _text(self, text: str) -> str | _Cut:
        room, self._room = max(0, self._room), self._room - len(text) - 2
        return _sendable(text) if len(text) <= room else _Cut(_sendable(text[:room]), len(text))

    def _number(self, value: Any) -> Any:
        self._room -= 8
        if isinstance(value, int):
            return value if value.bit_length() <= _LONGEST_NUMBER else f"<int of {value.bit_length()} bits>"
        return to_jsonable_python(value, inf_nan_mode="strings")


class Secrets:
    """What must not be seen in any text: as it is, in JSON, in a URL, or in base64. Lives as long as one trace is read.

    What is shorter than 4 characters would mask half of every text, and is left.
    """

    __slots__ = ("_written",)

    def __init__(self, secrets: Iterable[str]) -> None:
        written = {way for each in secrets if len(each) >= _SHORTEST_SECRET for way in _ways_to_write(each)}
        self._written = sorted((way for way in written if len(way) >= _SHORTEST_SECRET), key=len, reverse=True)

    def masked(self, value: Any) -> Any:
        """Return something that was told without what must not be seen, also in its keys."""
        if isinstance(value, dict):
            return {self._text(key): self.masked(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self.masked(each) for each in value]
        if isinstance(value, _Cut):
            return f"{self._beginning(self._text(value.text))}… ({value.length} characters)"
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and str(value) in self._written:
            return MASK
        return value

    def _text(self, text: str) -> str:
        for way in self._written:
            text = text.replace(way, MASK)
        return text

    def _beginning(self, text: str) -> str:
        """Take away what may be the beginning of a secret from the end of a text that was cut."""
        for way in self._written:
            for length in range(min(len(way) - 1, len(text)), 0, -1):
                if text.endswith(way[:length]):
                    text = text[:-length]
                    break
        return text


def _ways_to_write(secret: str) -> set[str]:
    ways = {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    ways |= {json.dumps(way)[1:-1] for way in ways}  # JSON within a text of JSON
    raw = secret.encode(errors="surrogatepass")
    ways |= {quote(raw), quote(raw, safe=""), quote_plus(raw)}
    for before in range(3):  # wherever it stands among the bytes, as in "Basic user:secret"
        first, last = -(-before * 4 // 3), (before + len(raw)) * 4 // 3
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            ways.add(encode(bytes(before) + raw).decode()[first:last])
    return ways


def _sendable(text: str) -> str:
    return text if text.isascii() else text.encode(errors="replace").decode()


def _kind(value: Any) -> str:
    return f"<{type(value).__name__}>"


def _is_secret(key: str, value: Any) -> bool:
    return value is not None and not isinstance(value, bool) and _SECRET.search(key) is not None
