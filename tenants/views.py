"""The reference site's own pages."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse


def overview(request: HttpRequest) -> HttpResponse:
    return HttpResponse("overview")


def home(request: HttpRequest) -> HttpResponse:
    return HttpResponse("home")
