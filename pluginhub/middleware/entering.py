"""Django's middleware: thin, of both colours."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponseBase

from pluginhub import crossing, tenancy
from pluginhub.conf import settings
from pluginhub.middleware import choosing, passages
from pluginhub.registry import registry
from pluginhub.runtimes import Runtime
from pluginhub.types import PUBLIC, Tenant

__all__ = ["PluginMiddleware"]

log = logging.getLogger("pluginhub.middleware")


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
        runtime = _acquired(tenant)
        if runtime is None:
            return self.get_response(request)  # type: ignore[no-any-return]
        try:
            if not choosing.concerned(runtime, request):
                return self.get_response(request)  # type: ignore[no-any-return]
            layers = choosing.chosen(choosing.layers(runtime), request)
            if not layers:
                return self.get_response(request)  # type: ignore[no-any-return]
            return passages.through(layers, request, self.get_response)
        finally:
            runtime.release()

    async def _aserve(self, request: HttpRequest, tenant: Tenant | None) -> HttpResponseBase:
        if isinstance(request, ASGIRequest):  # under WSGI this loop lasts no longer than the request
            crossing.adopt(asyncio.get_running_loop())
        if tenant is None:
            return await self.get_response(request)  # type: ignore[no-any-return]
        with tenancy.enter(tenant):
            runtime = await _aacquired(tenant)
            if runtime is None:
                return await self.get_response(request)  # type: ignore[no-any-return]
            try:
                if not choosing.concerned(runtime, request):
                    return await self.get_response(request)  # type: ignore[no-any-return]
                layers = choosing.chosen(await choosing.alayers(runtime), request)
                if not layers:
                    return await self.get_response(request)  # type: ignore[no-any-return]
                return await passages.athrough(layers, request, self.get_response)
            finally:
                runtime.release()


def _tenant_of(request: HttpRequest) -> Tenant | None:
    """Return the tenant that django-tenants found, as a value."""
    row = getattr(request, "tenant", None)
    return None if row is None else tenancy.value_of(row)


# Tenants without a runtime (not migrated, unreadable) get the host's own response, and are not asked for at every one.
_absent: dict[str, float] = {}


def _acquired(tenant: Tenant) -> Runtime | None:
    if tenant is PUBLIC or _is_absent(tenant):
        return None
    try:
        return registry.acquire(tenant)
    except Exception as error:
        _note_absent(tenant, error)
        return None


async def _aacquired(tenant: Tenant) -> Runtime | None:
    if tenant is PUBLIC or _is_absent(tenant):
        return None
    try:
        return await registry.aacquire(tenant)
    except Exception as error:
        _note_absent(tenant, error)
        return None


def _is_absent(tenant: Tenant) -> bool:
    return bool(_absent) and _absent.get(tenant.schema, 0.0) > time.monotonic()


def _note_absent(tenant: Tenant, error: Exception) -> None:
    _absent[tenant.schema] = time.monotonic() + settings.POLL_SECONDS
    log.warning("Tenant %s is served without interceptors: %s", tenant, error)
