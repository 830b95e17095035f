"""POST run/<target>/: one run, and its result."""

from __future__ import annotations

from django.http import HttpResponse

from pluginhub import execution
from pluginhub.tracing import trace_of
from pluginhub.views.calls import Call
from pluginhub.views.endpoints import endpoint

__all__ = ["run"]

TRACE = "X-PluginHub-Trace"
"""The request header that asks for a trace: 1."""


async def _run(call: Call, target: str) -> HttpResponse:
    trace = call.request.headers.get(TRACE, "0") == "1"
    try:
        outcome = await call.either(
            execution.perform, execution.aperform, target, call.json(), caller=call.caller, trace=trace
        )
    except Exception as error:
        call.trace = trace_of(error) if trace else None
        raise
    call.revision = outcome.revision
    said = {
        "result": outcome.result,
        "run": outcome.run,
        "revision": outcome.revision,
        "duration_ms": outcome.duration_ms,
    }
    return call.answer(said if outcome.trace is None else said | {"trace": outcome.trace})


run = endpoint({"POST": _run})
