"""jobs/<name>/: POST enqueues; jobs/<id>/: GET tells how far a job is, DELETE cancels it."""

from __future__ import annotations

import uuid

from django.http import HttpResponse
from django.urls import reverse

from pluginhub import jobs
from pluginhub.exceptions import NotFound
from pluginhub.views.calls import Call
from pluginhub.views.endpoints import endpoint

__all__ = ["job"]


async def _enqueue(call: Call, name: str) -> HttpResponse:
    key = call.request.headers.get("Idempotency-Key")
    id_ = await call.do(jobs.enqueue, name, call.json(), idempotency_key=key, caller=call.caller)
    status = await call.do(jobs.status, id_, caller=call.caller)
    url = _url(call, id_)
    return call.answer({"id": id_, "status": status["status"], "url": url}, status=202, headers={"Location": url})


async def _look(call: Call, name: str) -> HttpResponse:
    return await _status(call, _id(name))


async def _cancel(call: Call, name: str) -> HttpResponse:
    await call.do(jobs.cancel, _id(name), caller=call.caller)
    return await _status(call, _id(name))


async def _status(call: Call, id_: str) -> HttpResponse:
    status = await call.do(jobs.status, id_, caller=call.caller)
    return call.answer({**status, "url": _url(call, id_)})


def _id(name: str) -> str:
    try:
        return str(uuid.UUID(name))
    except ValueError:
        raise NotFound(f"{name!r} is no job's id.", hint="Use the id that POST answered.") from None


def _url(call: Call, id_: str) -> str:
    match = call.request.resolver_match
    return reverse("pluginhub:job", kwargs={"name": id_}, current_app=match.namespace if match else None)


job = endpoint(POST=_enqueue, GET=_look, DELETE=_cancel)
