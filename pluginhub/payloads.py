"""JSON from outside and JSON to outside: what the HTTP calls, the websocket and the jobs all agree to take.

Limits are checked before anything is parsed, so that a hostile text costs no more than a scan of its bytes. What
comes in is what PostgreSQL's `jsonb` can keep and every reader understands alike: no NaN or infinities, no NUL,
no lone surrogates, no duplicate keys (RFC 8259 leaves those to each parser), no number beyond a double.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, NoReturn

import pydantic_core

from pluginhub.exceptions import HookError, MalformedInput, TooLarge

__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_NODES", "check", "check_strings", "limit", "parse", "render"]

MAX_BYTES = 262_144
MAX_DEPTH = 32
MAX_NODES = 10_000

_DIGITS = 308  # of the largest double; beyond it `float(value)` in a plugin would overflow
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)  # possessive: linear, also when it never ends
_BRACKET = re.compile(rb"[\[\]{}]")
_EMPTY = re.compile(rb"\[\s*+\]|\{\s*+\}")


def parse(raw: bytes, *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH, max_nodes: int = MAX_NODES) -> Any:
    """Return the JSON value of a body or frame; an empty one is `None`.

    Raises `TooLarge` beyond `max_bytes`, and `MalformedInput` with the reason for everything else.
    """
    limit(len(raw), max_bytes)
    _measure(raw, max_depth=max_depth, max_nodes=max_nodes)
    text = _text(raw)
    if not text or text.isspace():
        return None
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise MalformedInput(f"Not JSON: {error.msg} at line {error.lineno}, column {error.colno}.") from None
    if "\\u" in text:  # only an escape can smuggle in a NUL or half a surrogate pair
        check_strings(value)
    return value


def limit(size: int, max_bytes: int = MAX_BYTES) -> None:
    """Raise `TooLarge` when `size` bytes are more than `max_bytes`."""
    if size > max_bytes:
        raise TooLarge(
            f"The body is larger than {max_bytes:,} bytes.",
            hint="Send less, or raise PLUGINHUB['MAX_BODY_BYTES'].",
            max_bytes=max_bytes,
        )


def check(value: Any, *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH, max_nodes: int = MAX_NODES) -> Any:
    """Return a value made in Python, such as a job's data, as the plain JSON that `parse` would have let in.

    Models, dataclasses, dates and decimals become JSON as pydantic writes them. Raises as `parse` does.
    """
    try:
        raw = pydantic_core.to_json(value, inf_nan_mode="constants")
    except (ValueError, TypeError, UnicodeEncodeError, RecursionError) as error:
        raise MalformedInput(f"Not JSON: {_first_line(error)}") from None
    return parse(raw, max_bytes=max_bytes, max_depth=max_depth, max_nodes=max_nodes)


def render(value: Any) -> bytes:
    """Return a result as compact JSON in UTF-8; NaN and infinities become null, models are dumped.

    Raises `HookError` for what JSON cannot say.
    """
    try:
        return pydantic_core.to_json(value, inf_nan_mode="null")
    except (ValueError, TypeError, UnicodeEncodeError, RecursionError) as error:
        raise HookError(
            f"The result is not JSON: {_first_line(error)}",
            hint="Return plain values, pydantic models, dataclasses or dates.",
        ) from error


def check_strings(value: Any) -> None:
    """Raise `MalformedInput` where a string or key within a plain value cannot be stored or sent."""
    for text in _strings(value):
        if "\0" in text:
            raise MalformedInput("A string contains NUL (\\u0000), which cannot be stored.")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise MalformedInput("A string contains half a surrogate pair, which is no character.") from None


def _measure(raw: bytes, *, max_depth: int, max_nodes: int) -> None:
    """Refuse too deep or too many values, by counting brackets and commas outside strings."""
    opened = raw.count(b"[") + raw.count(b"{")
    if opened <= max_depth and opened + raw.count(b",") < max_nodes:
        return  # even if none of them stood inside a string
    skeleton = _STRING.sub(b"", raw)
    nodes = 1 + skeleton.count(b",") + skeleton.count(b"[") + skeleton.count(b"{") - len(_EMPTY.findall(skeleton))
    if nodes > max_nodes:
        raise MalformedInput(f"More than {max_nodes:,} values in one JSON text.", max_nodes=max_nodes)
    depth = 0
    for bracket in _BRACKET.finditer(skeleton):
        depth += 1 if bracket[0] in b"[{" else -1
        if depth > max_depth:
            raise MalformedInput(f"Nested deeper than {max_depth} levels.", max_depth=max_depth)


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise MalformedInput(f"Not UTF-8: {error.reason} at byte {error.start}.") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise MalformedInput(f"The key {twice[:100]!a} stands twice in one object.")
    return value


def _integer(digits: str) -> int:
    if (length := len(digits.lstrip("-"))) > _DIGITS:
        raise MalformedInput(f"An integer of {length:,} digits is out of range.")
    return int(digits)


def _float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise MalformedInput(f"The number {digits[:40]} is out of range.")
    return number


def _constant(name: str) -> NoReturn:
    raise MalformedInput(f"{name} is not JSON.")


def _strings(value: Any) -> Iterator[str]:
    """Yield every string and key; the depth has been checked, so recursion is safe."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, dict):
        yield from value
        for item in value.values():
            yield from _strings(item)


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:300]


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_float=_float, parse_int=_integer, parse_constant=_constant, strict=True
)
