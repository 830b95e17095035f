"""One request on its way through a view."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse

from pluginhub import tenancy
from pluginhub.types import ANONYMOUS, Caller, Tenant
from pluginhub.views import answers, bodies

__all__ = ["Call"]

T = TypeVar("T")


@dataclass(slots=True)
class Call:
    """A request, who asks, and which revision answered once that is known. Lives as long as its view.

    Under WSGI services work in the request's own thread, on its connection and in its transaction;
    under ASGI in the engine's pool, or on the loop.
    """

    request: HttpRequest
    tenant: Tenant
    caller: Caller = ANONYMOUS
    raw: bytes = b""
    revision: int | None = None
    trace: list[dict[str, Any]] | None = None
    """What the run did, where that was asked for and an error is the answer."""

    @property
    def is_async(self) -> bool:
        return isinstance(self.request, ASGIRequest)

    def json(self) -> Any:
        """Return the body's value. Raises `MalformedInput`."""
        return bodies.json_of(self.raw)

    async def do(self, f: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call a synchronous service in this tenant."""
        if self.is_async:
            return await tenancy.agate(self.tenant, f, *args, **kwargs)
        return await sync_to_async(f)(*args, **kwargs)

    async def either(self, f: Callable[..., T], af: Callable[..., Awaitable[T]], *args: Any, **kwargs: Any) -> T:
        """Call the one of two twins that has the server's colour."""
        if self.is_async:
            return await af(*args, **kwargs)
        return await sync_to_async(f)(*args, **kwargs)

    def answer(self, value: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> HttpResponse:
        """Return a value as JSON, with the revision that made it."""
        return answers.answer(value, status=status, revision=self.revision, headers=headers)
