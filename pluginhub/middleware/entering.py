"""Django's middleware: thin, of both colours."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse

from pluginhub import crossing, tenancy
from pluginhub.exceptions import DeadlineExceeded
from pluginhub.middleware import bodies, passages, visits
from pluginhub.types import Tenant
from pluginhub.views.answers import problem

__all__ = ["PluginMiddleware"]


class PluginMiddleware:
    """Serves synchronous and asynchronous sites. A tenant without interceptors costs no query and next to no time."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        tenant = _tenant_of(request)
        if self.is_async:
            return self._aserve(request, tenant)
        if tenant is None:
            return self.get_response(request)  # type: ignore[no-any-return]
        with tenancy.enter(tenant):
            return self._serve(request, tenant)

    def process_exception(self, request: HttpRequest, exception: Exception) -> None:
        """Keep the view's error for the interceptors: Django hands a middleware its 500 only."""
        passages.note(request, exception)

    def _serve(self, request: HttpRequest, tenant: Tenant) -> HttpResponseBase:
        try:
            visit = visits.begin(tenant, request)
        except DeadlineExceeded as error:
            return problem(error, request)
        if visit is None:
            return _kept(self.get_response(request), tenant)
        with visit.inside():
            return _kept(passages.through(visit.layers, request, self.get_response), tenant, visit)

    async def _aserve(self, request: HttpRequest, tenant: Tenant | None) -> HttpResponseBase:
        if isinstance(request, ASGIRequest):  # under WSGI this loop lasts no longer than the request
            crossing.adopt(asyncio.get_running_loop())
        if tenant is None:
            return await self.get_response(request)  # type: ignore[no-any-return]
        with tenancy.enter(tenant):
            try:
                visit = await visits.abegin(tenant, request)
            except DeadlineExceeded as error:
                return problem(error, request)
            if visit is None:
                return _kept(await self.get_response(request), tenant)
            with visit.inside():
                return _kept(await passages.athrough(visit, request, self.get_response), tenant, visit)


def _kept(response: HttpResponseBase, tenant: Tenant, visit: visits.Visit | None = None) -> HttpResponseBase:
    if response.streaming:
        bodies.keep(cast(StreamingHttpResponse, response), tenant, visit.linger() if visit is not None else None)
    return response


def _tenant_of(request: HttpRequest) -> Tenant | None:
    """Return the tenant that django-tenants found, as a value."""
    row = getattr(request, "tenant", None)
    return None if row is None else tenancy.value_of(row)
