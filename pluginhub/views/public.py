"""ANY in/<target>/: a target marked public, for webhooks and other strangers.

The plugin gets the request as JSON: `{"method", "path", "query", "headers", "client", "body", "base64"}`, with the raw
body as text, or in Base64 where text cannot hold it. Cookies stay out: they are the users', and strangers' servers send
none. A result with a `status` is the response: `{"status", "headers", "body"}`; any other is answered as JSON.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from django.http import BadHeaderError, HttpRequest, HttpResponse

from pluginhub import admission, execution, payloads
from pluginhub.exceptions import HookError
from pluginhub.views.calls import Call
from pluginhub.views.endpoints import ANY, endpoint

__all__ = ["public"]

MEMBERS = {"status", "headers", "body"}

# They speak of the connection or of the body's framing, which are the server's.
_SERVERS = {"connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}


async def _call(call: Call, target: str) -> HttpResponse:
    client = call.request.META.get("REMOTE_ADDR") or ""
    call.caller = await call.either(admission.admit, admission.aadmit, target, client)
    value = _told(call.request, call.raw)
    payloads.check_strings(value)
    outcome = await call.either(execution.perform, execution.aperform, target, value, caller=call.caller)
    call.revision = outcome.revision
    if not _is_response(outcome.result):
        return call.answer(outcome.result)
    return _response(call, target, outcome.result)


def _told(request: HttpRequest, raw: bytes) -> dict[str, Any]:
    body, encoded = _text(raw)
    return {
        "method": request.method,
        "path": request.path,
        "query": dict(request.GET.lists()),
        "headers": {name.lower(): value for name, value in request.headers.items() if name != "Cookie"},
        "client": request.META.get("REMOTE_ADDR", ""),
        "body": body,
        "base64": encoded,
    }


def _text(raw: bytes) -> tuple[str, bool]:
    try:
        if b"\0" not in raw:
            return raw.decode(), False
    except UnicodeDecodeError:
        pass
    return base64.b64encode(raw).decode("ascii"), True


def _is_response(result: Any) -> bool:
    return isinstance(result, Mapping) and "status" in result and set(result) <= MEMBERS


def _response(call: Call, target: str, result: Mapping[str, Any]) -> HttpResponse:
    status, body = result["status"], result.get("body")
    if type(status) is not int or not 200 <= status <= 599:
        raise HookError(f"{target!r} answered the status {status!r}.", hint="Return one from 200 to 599.")
    headers = dict(result.get("headers") or {})
    if body is None or isinstance(body, str | bytes):
        response = HttpResponse(body or b"", status=status, content_type="text/plain; charset=utf-8")
    else:
        response = call.answer(body, status=status)
    try:
        _set(response, headers)
    except (BadHeaderError, UnicodeError, TypeError, AttributeError):
        raise HookError(f"{target!r} answered headers that are none.", hint="Names and values are one line.") from None
    return response


def _set(response: HttpResponse, headers: Mapping[str, Any]) -> None:
    for name, value in headers.items():
        if name.lower() not in _SERVERS:
            response.headers[name] = value if isinstance(value, str) else str(value)


public = endpoint(dict.fromkeys(ANY, _call), public=True)
