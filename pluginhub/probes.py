"""`/healthz`, `/readyz` and `/metrics`: answered before the tenant is known, for any Host, by the first middleware.

`/healthz` says that the process serves. `/readyz` says that it can work: without the database it answers 503; without
Redis it is degraded and answers 200. `/metrics` is Prometheus', for `METRICS_TOKEN` or from `METRICS_ADDRESSES`.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.db import DatabaseError, InterfaceError, connections
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django_tenants.utils import get_tenant_database_alias
from prometheus_client import REGISTRY, CollectorRegistry, exposition, multiprocess

from pluginhub import crossing, loading, metrics, tenancy, valkey
from pluginhub.conf import settings
from pluginhub.presence import presence
from pluginhub.registry import registry
from pluginhub.types import PUBLIC

__all__ = ["HEALTH", "METRICS", "READY", "ProbesMiddleware"]

HEALTH = "/healthz"
READY = "/readyz"
METRICS = "/metrics"

_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-Ip")


class ProbesMiddleware:
    """Put it first in MIDDLEWARE. Serves synchronous and asynchronous sites."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)
        metrics.register()

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        probe = PROBES.get(request.path_info)
        if probe is None:
            return self.get_response(request)  # type: ignore[no-any-return]
        return crossing.in_thread(_answer, probe, request) if self.is_async else _answer(probe, request)


def _answer(probe: Callable[[HttpRequest], HttpResponse], request: HttpRequest) -> HttpResponse:
    if request.method not in ("GET", "HEAD"):
        return HttpResponse(status=405, headers={"Allow": "GET, HEAD"})
    response = probe(request)
    response.headers["Cache-Control"] = "no-store"
    return response


def _health(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"status": "ok"})


def _ready(request: HttpRequest) -> HttpResponse:
    database, redis = _database_answers(), _redis_answers()
    behind = presence.problems
    able = "ready" if redis and not behind and not presence.generation_problem else "degraded"
    said = {
        "status": able if database else "unavailable",
        "database": "ok" if database else "down",
        "redis": "ok" if redis else "down",
        "tenants": len(registry.running()),
        "behind": len(behind),
        "generation": loading.current().number,
    }
    return JsonResponse(said, status=200 if database else 503)


def _metrics(request: HttpRequest) -> HttpResponse:
    if not _may_scrape(request):
        return HttpResponse(
            "Metrics need the token of PLUGINHUB['METRICS_TOKEN'], or an address of METRICS_ADDRESSES.\n",
            status=401,
            content_type="text/plain; charset=utf-8",
            headers={"WWW-Authenticate": 'Bearer realm="metrics"'},
        )
    encode, content_type = exposition.choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(_gathered()), content_type=content_type)


def _gathered() -> CollectorRegistry:
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    gathered = CollectorRegistry()
    multiprocess.MultiProcessCollector(gathered)  # type: ignore[no-untyped-call]
    metrics.register(gathered)
    return gathered


def _may_scrape(request: HttpRequest) -> bool:
    token = settings.METRICS_TOKEN
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if token and scheme.lower() == "bearer" and secrets.compare_digest(given.strip().encode(), token.encode()):
        return True
    # Behind a proxy on this machine everybody comes from 127.0.0.1; a proxy says that it is one.
    if any(header in request.headers for header in _FORWARDED):
        return False
    return _is_allowed(request.META.get("REMOTE_ADDR") or "", tuple(settings.METRICS_ADDRESSES))


@functools.lru_cache(maxsize=1024)
def _is_allowed(address: str, allowed: tuple[str, ...]) -> bool:
    try:
        client = ipaddress.ip_address(address)
    except ValueError:
        return False  # a Unix socket has none
    client = getattr(client, "ipv4_mapped", None) or client
    return any(client in ipaddress.ip_network(network, strict=False) for network in allowed)


def _database_answers() -> bool:
    try:
        with tenancy.visit(PUBLIC), connections[get_tenant_database_alias()].cursor() as cursor:
            cursor.execute("SELECT 1")
    except (DatabaseError, InterfaceError):
        return False
    return True


def _redis_answers() -> bool:
    try:
        return bool(valkey.client().ping())
    except valkey.Unreachable:
        return False


PROBES = {HEALTH: _health, READY: _ready, METRICS: _metrics}
