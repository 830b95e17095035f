"""A host's own pages, for the interceptors to wrap."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import include, path

from pluginhub import tenancy


def page(request: HttpRequest) -> HttpResponse:
    """Tell which tenant the view is in, and what came in on the way."""
    tenant = tenancy.current_or_none()
    return HttpResponse(f"{tenant.schema if tenant else None} {request.META.get('HTTP_X_IN', '')}".strip())


async def apage(request: HttpRequest) -> HttpResponse:
    return page(request)


def broken(request: HttpRequest) -> HttpResponse:
    return HttpResponse(1 / 0)


async def abroken(request: HttpRequest) -> HttpResponse:
    return HttpResponse(1 / 0)


def refused(request: HttpRequest) -> HttpResponse:
    raise Http404 if "missing" in request.GET else PermissionDenied


urlpatterns: list[Any] = [
    path("admin/", admin.site.urls),
    path("hub/", include("pluginhub.urls")),
    path("page/", page),
    path("apage/", apage),
    path("broken/", broken),
    path("abroken/", abroken),
    path("refused/", refused),
    path("login/", page),
]
