"""GET stream/<name>/: a stream as server-sent events, resumed by `Last-Event-ID` or `?cursor=`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse

from pluginhub import execution, payloads, streaming
from pluginhub.exceptions import MalformedInput, problem_of
from pluginhub.streaming.events import event
from pluginhub.types import Item
from pluginhub.views import bodies
from pluginhub.views.calls import Call
from pluginhub.views.endpoints import endpoint

__all__ = ["stream"]

END: Any = object()


async def _stream(call: Call, name: str) -> HttpResponseBase:
    params = _of_query(call, "params")
    cursor = _cursor(call)
    if call.request.method == "HEAD":
        return HttpResponse(content_type="text/event-stream")
    if call.is_async:
        body: Any = streaming.sse(await streaming.open(name, params, cursor=cursor, caller=call.caller))
    else:
        body = await sync_to_async(_opened)(execution.stream(name, params, cursor=cursor, caller=call.caller))
    # The proxies' own buffering would hold small items back (X-Accel-Buffering: nginx's).
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingHttpResponse(body, content_type="text/event-stream", headers=headers)


def _cursor(call: Call) -> Any:
    """What the browser says when it reconnects goes before what the page's address said at first."""
    resumed = streaming.resumed_from(call.request.headers.get("Last-Event-ID"))
    return resumed if resumed is not None else _of_query(call, "cursor")


def _of_query(call: Call, key: str) -> Any:
    try:
        return bodies.json_of(call.request.GET.get(key, "").encode())
    except (MalformedInput, UnicodeEncodeError) as error:
        raise MalformedInput(f"?{key}= is not JSON: {error}") from None


def _opened(stream: streaming.Stream) -> Iterator[bytes]:
    """Pull the first item, so that a stream which cannot be opened answers its status; then the events."""
    first = next(stream, END)
    return _events(stream, first)


def _events(stream: streaming.Stream, data: Any) -> Iterator[bytes]:
    with stream:
        seq = 0
        try:
            while data is not END:
                seq += 1
                yield event(Item(data, cursor=stream.cursor), seq)
                data = next(stream, END)
            yield b"event: complete\ndata: {}\n\n"
        except Exception as error:
            yield b"event: error\ndata: %b\n\n" % payloads.render(problem_of(error))


stream = endpoint({"GET": _stream}, tickets=True)
