"""The hub, and views that do its work by hand: who asks, may he, what does he send, five steps, an answer."""

from __future__ import annotations

import json
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt

from pluginhub import access
from pluginhub.runs import RUN
from tests.benchmarks.serving import STEPS

__all__ = ["urlpatterns"]


def _add(value: dict[str, Any]) -> dict[str, Any]:
    return {**value, "n": value["n"] + 1}


async def _aadd(value: dict[str, Any]) -> dict[str, Any]:
    return {**value, "n": value["n"] + 1}


def _steps(value: dict[str, Any]) -> dict[str, Any]:
    for _ in range(STEPS):
        value = _add(value)
    return value


async def _value(request: HttpRequest) -> Any:
    caller = await access.aauthenticate_bearer(request.headers["Authorization"].removeprefix("Bearer "))
    return json.loads(request.body) if caller is not None and caller.may(RUN) else None


@csrf_exempt
async def by_hand_sync(request: HttpRequest) -> HttpResponse:
    """The steps may block, so they run in a thread."""
    value = await _value(request)
    return HttpResponse(status=403) if value is None else JsonResponse({"result": await sync_to_async(_steps)(value)})


@csrf_exempt
async def by_hand_async(request: HttpRequest) -> HttpResponse:
    value = await _value(request)
    for _ in range(STEPS):
        value = await _aadd(value)
    return JsonResponse({"result": value})


urlpatterns = [
    path("hub/", include("pluginhub.urls")),
    path("by-hand/sync/", by_hand_sync),
    path("by-hand/async/", by_hand_async),
]
