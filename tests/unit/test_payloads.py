"""What JSON the hub takes, what it refuses and in which words, and that refusing is cheap."""

from __future__ import annotations

import datetime
import decimal
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from pluginhub import payloads
from pluginhub.exceptions import HookError, MalformedInput, TooLarge

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**300), 10**300)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(JSON)
def test_any_storable_value_survives_the_way_in(value: Any) -> None:
    assert payloads.parse(json.dumps(value).encode()) == value
    assert payloads.parse(json.dumps(value, ensure_ascii=False, indent=1).encode()) == value


@pytest.mark.parametrize("raw", [b"", b" ", b"\n\t \r\n"])
def test_an_empty_body_is_null(raw: bytes) -> None:
    assert payloads.parse(raw) is None


HOSTILE = {
    "not json": (b"{oops}", "Not JSON: Expecting property name"),
    "trailing": (b"1 2", "Not JSON: Extra data"),
    "single quotes": (b"{'a': 1}", "Not JSON"),
    "trailing comma": (b"[1,]", "Not JSON"),
    "byte order mark": (b"\xef\xbb\xbf1", "Not JSON"),
    "utf-16": ("[1]".encode("utf-16"), "Not UTF-8"),
    "bad utf-8": (b'"\xff"', "Not UTF-8: invalid start byte at byte 1"),
    "overlong utf-8": (b'"\xc0\x80"', "Not UTF-8"),
    "surrogate as utf-8": (b'"\xed\xa0\x80"', "Not UTF-8"),
    "nan": (b'{"a": NaN}', "NaN is not JSON"),
    "infinity": (b"[Infinity]", "Infinity is not JSON"),
    "minus infinity": (b"-Infinity", "-Infinity is not JSON"),
    "beyond a double": (b"1e400", "The number 1e400 is out of range"),
    "beyond a double, negative": (b"-1e400", "out of range"),
    "a huge integer": (b"9" * 309, "An integer of 309 digits is out of range"),
    "a huger integer": (b"[" + b"9" * 200_000 + b"]", "An integer of 200,000 digits is out of range"),
    "nul raw": (b'"a\0b"', "Not JSON: Invalid control character"),
    "nul escaped": (b'"a\\u0000b"', "NUL"),
    "nul in a key": (b'{"a\\u0000": 1}', "NUL"),
    "nul after backslashes": (b'"\\\\\\u0000"', "NUL"),
    "lone high surrogate": (b'["\\ud800"]', "half a surrogate pair"),
    "lone low surrogate in a key": (b'{"\\udc00": {}}', "half a surrogate pair"),
    "duplicate keys": (b'{"a": 1, "b": 2, "a": 3}', "The key 'a' stands twice"),
    "duplicate keys, escaped": (b'{"a": 1, "\\u0061": 3}', "The key 'a' stands twice"),
    "duplicate keys, deep": (b'[{"x": {"k": 1, "k": 1}}]', "The key 'k' stands twice"),
    "33 levels": (b"[" * 33 + b"]" * 33, "Nested deeper than 32 levels"),
    "33 levels of objects": (b'{"a":' * 33 + b"1" + b"}" * 33, "Nested deeper than 32 levels"),
    "100,000 brackets": (b"[" * 100_000, "More than 10,000 values"),
    "deep but unbalanced": (b"[" * 9_000, "Nested deeper than 32 levels"),
    "too many values": (b"[" + b"0," * 10_000 + b"0]", "More than 10,000 values"),
    "too many empty lists": (b"[" + b"[]," * 10_000 + b"[]]", "More than 10,000 values"),
    "unterminated string of quotes": (b'"' + b'\\"' * 100_000, "Not JSON: Unterminated string"),
    "many keys, the last twice": (
        b"{" + b",".join(b'"%d":0' % n for n in range(9_000)) + b',"8999":0}', "The key '8999' stands twice",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("raw", "reason"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_is_refused_with_the_reason_and_quickly(raw: bytes, reason: str) -> None:
    harmless = b"[" + b'"",' * 100_000 + b'""]'
    began = time.perf_counter()
    json.loads(harmless)
    honest = time.perf_counter() - began
    began = time.perf_counter()
    with pytest.raises(MalformedInput) as caught:
        payloads.parse(raw)
    assert time.perf_counter() - began < 20 * honest
    assert reason in str(caught.value)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b'"\\ud83d\\ude00"', "😀"),
        (b'"\\\\u0000"', "\\u0000"),
        (b"9" * 308, int("9" * 308)),
        (b"-" + b"9" * 308, -int("9" * 308)),
        (b'"' + b"[" * 500 + b'"', "[" * 500),
        (b'"' + b"\\\"[," * 9_000 + b'"', '"[,' * 9_000),
        (b"[" * 32 + b"]" * 32, json.loads("[" * 32 + "]" * 32)),
        (b"[" + b"[]," * 9_998 + b"[]]", [[]] * 9_999),
        (b"[" + b"{ \n}," * 4 + b"0]", [{}, {}, {}, {}, 0]),
    ],
)  # fmt: skip
def test_what_only_looks_hostile_is_taken(raw: bytes, value: Any) -> None:
    assert payloads.parse(raw) == value


def test_too_many_bytes_are_another_error() -> None:
    payloads.parse(b'"' + b"x" * 262_142 + b'"')
    with pytest.raises(TooLarge, match=r"larger than 262,144 bytes") as caught:
        payloads.parse(b'"' + b"x" * 262_143 + b'"')
    assert caught.value.status == 413


def test_limits_can_be_narrower() -> None:
    with pytest.raises(TooLarge):
        payloads.parse(b"[1]", max_bytes=2)
    with pytest.raises(MalformedInput, match="Nested deeper than 1 levels"):
        payloads.parse(b"[[]]", max_depth=1)
    with pytest.raises(MalformedInput, match="More than 2 values"):
        payloads.parse(b"[1,2]", max_nodes=2)


def test_numbers_and_constants_keep_their_kind() -> None:
    assert payloads.parse(b'[1, 1.0, true, null, "1"]') == [1, 1.0, True, None, "1"]
    assert [type(item) for item in payloads.parse(b"[1, 1.0, true]")] == [int, float, bool]


class Parcel(BaseModel):
    weight: decimal.Decimal
    due: datetime.date


PARCEL = Parcel(weight=decimal.Decimal("1.50"), due=datetime.date(2026, 1, 2))


def test_check_turns_what_python_made_into_plain_json() -> None:
    assert payloads.check({"parcel": PARCEL, 1: (2, 3)}) == {
        "parcel": {"weight": "1.50", "due": "2026-01-02"},
        "1": [2, 3],
    }


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (float("nan"), "NaN is not JSON"),
        (float("inf"), "Infinity is not JSON"),
        (10**400, "401 digits"),
        ("a\0", "NUL"),
        ("\ud800", "Not JSON"),
        (b"\xff", "Not JSON"),
        (object(), "Unable to serialize unknown type"),
        ({"a": {"b": object}}, "Not JSON"),
    ],
)
def test_check_refuses_as_parse_does(value: Any, reason: str) -> None:
    with pytest.raises(MalformedInput, match=reason):
        payloads.check(value)


def test_check_refuses_circles_and_depth() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(MalformedInput, match="Circular"):
        payloads.check(circle)
    deep: list[Any] = []
    for _ in range(100):
        deep = [deep]
    with pytest.raises(MalformedInput, match="Nested deeper"):
        payloads.check(deep)


def test_render_is_compact_and_always_json() -> None:
    assert payloads.render({"a": [1, 2.5, None], "é": PARCEL}) == (
        '{"a":[1,2.5,null],"é":{"weight":"1.50","due":"2026-01-02"}}'.encode()
    )
    assert payloads.render([float("nan"), float("inf")]) == b"[null,null]"
    assert json.loads(payloads.render(10**400)) == 10**400


@pytest.mark.parametrize("value", [object(), "\ud800", b"\xff"])
def test_render_names_what_json_cannot_say(value: Any) -> None:
    with pytest.raises(HookError, match="The result is not JSON"):
        payloads.render(value)
