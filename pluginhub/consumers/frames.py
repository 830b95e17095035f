"""The words of the subprotocol `pluginhub.v1`: what a client may send, and with what codes a socket is closed."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, TypeAdapter, ValidationError

from pluginhub import payloads
from pluginhub.conf import settings
from pluginhub.exceptions import MalformedInput, TooLarge

__all__ = ["SUBPROTOCOL", "Cancel", "Code", "Frame", "Id", "Ping", "Pong", "Request", "Subscribe", "read"]

SUBPROTOCOL = "pluginhub.v1"

Id = Annotated[StrictStr, Field(min_length=1, max_length=128)] | StrictInt
"""A subscription's name, chosen by the client, unique among the socket's live ones."""


class Code(IntEnum):
    """Why the server closed a socket. Below 4000: RFC 6455 and its registry."""

    FAILED = 1011
    TRY_LATER = 1013
    PROTOCOL = 4400
    ANONYMOUS = 4401
    FOREIGN = 4403
    UNREAD = 4408


class _Sent(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class Subscribe(_Sent):
    """Open a stream and ask for its first `demand` items, after `cursor` if it is given."""

    type: Literal["subscribe"]
    id: Id
    stream: str = Field(min_length=1, max_length=200)
    params: Any = None
    cursor: Any = None
    demand: int = Field(1, ge=0)


class Request(_Sent):
    """Ask for `n` more items."""

    type: Literal["request"]
    id: Id
    n: int = Field(ge=1)


class Cancel(_Sent):
    """Close a stream; nothing more of it comes."""

    type: Literal["cancel"]
    id: Id


class Ping(_Sent):
    type: Literal["ping"]


class Pong(_Sent):
    """The answer to a ping of the server's; optional."""

    type: Literal["pong"]


Frame = Subscribe | Request | Cancel | Ping | Pong

_frames: TypeAdapter[Frame] = TypeAdapter(Annotated[Frame, Field(discriminator="type")])


def read(text: str | None) -> Frame:
    """Return what a client sent. Raises `MalformedInput` or `TooLarge`, whose detail says why, in a few words."""
    if text is None:
        raise MalformedInput("Frames are text, not binary.")
    if len(text) > settings.SOCKET_FRAME_BYTES:
        raise TooLarge(f"A frame has at most {settings.SOCKET_FRAME_BYTES:,} bytes.")
    raw = text.encode("utf-8", "surrogatepass")
    if len(raw) > settings.SOCKET_FRAME_BYTES:
        raise TooLarge(f"A frame has at most {settings.SOCKET_FRAME_BYTES:,} bytes.")
    value = payloads.parse(
        raw, max_bytes=settings.SOCKET_FRAME_BYTES, max_depth=settings.MAX_DEPTH, max_nodes=settings.MAX_NODES
    )
    try:
        return _frames.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        # The path begins with the frame's type where that was understood.
        where = ".".join(map(str, first["loc"]))
        raise MalformedInput(f"{where}: {first['msg']}" if where else first["msg"]) from None
