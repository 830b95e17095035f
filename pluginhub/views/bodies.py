"""Reading request bodies: no more bytes than allowed, whatever the headers say."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from pluginhub import payloads
from pluginhub.conf import settings
from pluginhub.exceptions import MalformedInput

__all__ = ["json_of", "raw_of"]


def raw_of(request: HttpRequest) -> bytes:
    """Return the body. Raises `TooLarge` before reading when its length is announced, else after one byte too many."""
    most = settings.MAX_BODY_BYTES
    announced = request.META.get("CONTENT_LENGTH") or ""
    length = int(announced) if announced.isascii() and announced.isdigit() and len(announced) < 20 else 0
    payloads.limit(length, most)
    raw: bytes = request.read(most + 1)
    payloads.limit(len(raw), most)
    if length and not raw:
        raise MalformedInput("The body was read before it came here.", hint="A middleware takes it for a form.")
    return raw


def json_of(raw: bytes) -> Any:
    """Return the JSON value of some bytes, whatever they were called; of none, `None`."""
    return payloads.parse(
        raw, max_bytes=settings.MAX_BODY_BYTES, max_depth=settings.MAX_DEPTH, max_nodes=settings.MAX_NODES
    )
