"""GET /: what this tenant has enabled; and what is not there."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse

from pluginhub import execution
from pluginhub.exceptions import NotFound
from pluginhub.views.answers import problem
from pluginhub.views.calls import Call
from pluginhub.views.endpoints import endpoint

__all__ = ["index", "missing"]


async def _list(call: Call) -> HttpResponse:
    listing = await call.do(execution.listing, caller=call.caller)
    call.revision = listing["revision"]
    return call.answer(listing)


index = endpoint({"GET": _list})


def missing(request: HttpRequest, **_: Any) -> HttpResponse:
    """Answer 404 for every other URL under the host's prefix."""
    slash = "" if request.path.endswith("/") else "Paths end with a slash."
    return problem(NotFound(f"There is no {request.path!r}.", hint=slash), request)


missing.csrf_exempt = True  # type: ignore[attr-defined]
