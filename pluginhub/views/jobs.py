"""jobs/<name>/: POST enqueues; jobs/<id>/: GET tells how far a job is, DELETE cancels it."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.urls import reverse

from pluginhub import jobs
from pluginhub.types import Caller
from pluginhub.views.calls import Call
from pluginhub.views.endpoints import endpoint

__all__ = ["job"]


async def _enqueue(call: Call, name: str) -> HttpResponse:
    key = call.request.headers.get("Idempotency-Key")
    status = await call.do(_enqueued, name, call.json(), key, call.caller)
    url = _url(call, status["id"])
    told = {"id": status["id"], "status": status["status"], "url": url}
    return call.answer(told, status=202, headers={"Location": url})


def _enqueued(name: str, data: Any, key: str | None, caller: Caller) -> dict[str, Any]:
    return jobs.status(jobs.enqueue(name, data, idempotency_key=key, caller=caller), caller)


async def _look(call: Call, name: str) -> HttpResponse:
    return _told(call, await call.do(jobs.status, name, call.caller))


async def _cancel(call: Call, name: str) -> HttpResponse:
    return _told(call, await call.do(jobs.cancel, name, call.caller))


def _told(call: Call, status: dict[str, Any]) -> HttpResponse:
    return call.answer({**status, "url": _url(call, status["id"])})


def _url(call: Call, id_: str) -> str:
    match = call.request.resolver_match
    return reverse("pluginhub:job", kwargs={"name": id_}, current_app=match.namespace if match else None)


job = endpoint({"POST": _enqueue, "GET": _look, "DELETE": _cancel})
