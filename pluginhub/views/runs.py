"""POST run/<target>/: one run, and its result."""

from __future__ import annotations

from django.http import HttpResponse

from pluginhub import execution
from pluginhub.views.calls import Call
from pluginhub.views.endpoints import endpoint

__all__ = ["run"]


async def _run(call: Call, target: str) -> HttpResponse:
    outcome = await call.either(execution.perform, execution.aperform, target, call.json(), caller=call.caller)
    call.revision = outcome.revision
    return call.answer(
        {
            "result": outcome.result,
            "run": outcome.run,
            "revision": outcome.revision,
            "duration_ms": outcome.duration_ms,
        }
    )


run = endpoint({"POST": _run})
