"""What may go into a cache: values that mean the same to every process, whatever code it runs."""

from __future__ import annotations

import datetime
import decimal
import json
import uuid
from typing import Any

__all__ = ["is_plain", "text_of"]

_JSON = frozenset({type(None), bool, int, float, str})
_JSON_CONTAINERS = frozenset({dict, list})
_PLAIN = _JSON | {
    bytes, datetime.date, datetime.datetime, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID,
}  # fmt: skip
_PLAIN_CONTAINERS = _JSON_CONTAINERS | {tuple, set, frozenset}

_KEYS = frozenset({str})
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def text_of(value: Any) -> str | None:
    """Return a value as canonical JSON, or `None` for what is no JSON: then it cannot be told from another.

    1, 1.0, true and "1" are different texts; mappings are the same in whatever order. Tuples, keys that are no strings,
    NaN, and instances of subclasses, such as members of an `IntEnum`, are no JSON.
    """
    try:
        if not _is_made_of(value, _JSON, _JSON_CONTAINERS, _KEYS):
            return None
        return _ENCODER.encode(value)
    except (ValueError, RecursionError):
        return None


def is_plain(value: Any) -> bool:
    """Say whether a value is made of Python's own types: what is pickled here, any process can read.

    Instances of plugins' classes are not. Their modules have names of their own in each generation and process.
    """
    try:
        return _is_made_of(value, _PLAIN, _PLAIN_CONTAINERS, _PLAIN)
    except RecursionError:
        return False


def _is_made_of(value: Any, scalars: frozenset[type], containers: frozenset[type], keys: frozenset[type]) -> bool:
    kind = type(value)
    if kind in scalars:
        return True
    if kind not in containers:
        return False
    if kind is dict:
        for key in value:
            if type(key) not in keys:
                return False
        value = value.values()
    for each in value:  # noqa: SIM110 - a generator costs more, and most are scalars
        if type(each) not in scalars and not _is_made_of(each, scalars, containers, keys):
            return False
    return True
