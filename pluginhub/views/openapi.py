"""GET openapi.json: what this tenant's calls take and give, as OpenAPI 3.1: a path a target."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.http import HttpResponse

from pluginhub import execution, registry, tenancy
from pluginhub.runtimes import Runtime
from pluginhub.types import Caller
from pluginhub.views.answers import JSON, PROBLEM, REVISION
from pluginhub.views.calls import Call
from pluginhub.views.endpoints import endpoint
from pluginhub.views.runs import TRACE
from pluginhub.views.schemas import Schemas

__all__ = ["openapi"]

PROBLEM_SCHEMA = {
    "type": "object",
    "description": "RFC 9457",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "hint": {"type": "string", "description": "The way out."},
        "errors": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "What is wrong, by dotted field path.",
        },
    },
}

JOB_SCHEMA = {
    "type": "object",
    "required": ["id", "status", "url"],
    "properties": {
        "id": {"type": "string", "format": "uuid"},
        "url": {"type": "string"},
        "status": {"enum": ["queued", "running", "succeeded", "failed", "cancelled", "dead"]},
        "progress": {
            "type": "object",
            "properties": {
                "done": {"type": "integer"},
                "total": {"type": ["integer", "null"]},
                "note": {"type": "string"},
            },
        },
        "result": {},
        "problem": {"anyOf": [{"$ref": "#/components/schemas/Problem"}, {"type": "null"}]},
    },
}

SPAN_SCHEMA = {
    "type": "object",
    "description": "One call of a run that was traced.",
    "required": ["kind", "name", "input", "output", "decision", "attempts", "microseconds", "steps"],
    "properties": {
        "kind": {"type": "string"},
        "name": {"type": "string"},
        "input": {},
        "output": {},
        "decision": {"type": "string"},
        "attempts": {"type": "integer"},
        "microseconds": {"type": "number"},
        "problem": {"$ref": "#/components/schemas/Problem"},
        "answered": {"$ref": "#/components/schemas/Problem"},
        "steps": {"type": "array", "items": {"$ref": "#/components/schemas/Span"}},
    },
}

_TRACE = {"type": "array", "items": {"$ref": "#/components/schemas/Span"}}
_ERRORS = {
    "default": {
        "description": "A problem: 400, 401, 403, 404, 405, 409, 413, 422, 428, 429, 500, 503 or 504",
        "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
}
_REVISION = {REVISION: {"schema": {"type": "integer"}, "description": "The revision that answered."}}


async def _describe(call: Call) -> HttpResponse:
    prefix = call.request.path.removesuffix("openapi.json")
    call.revision, document = await call.do(_document, prefix, call.caller)
    return call.answer(document)


openapi = endpoint({"GET": _describe})


def _document(prefix: str, caller: Caller) -> tuple[int, dict[str, Any]]:
    execution.require(caller, execution.RUN)
    with registry.lease(tenancy.current()) as runtime:
        schemas = Schemas(runtime.configuration)
        paths = dict(_fixed())
        for each in (_runs, _jobs, _streams, _public):
            paths.update(each(runtime, schemas))
        return runtime.revision, {
            "openapi": "3.1.0",
            "info": {"title": f"PluginHub of {runtime.tenant}", "version": str(runtime.revision)},
            "servers": [{"url": prefix}],
            "security": [{"token": []}, {"session": []}],
            "paths": dict(sorted(paths.items())),
            "components": {
                "schemas": {
                    "Problem": PROBLEM_SCHEMA,
                    "Job": JOB_SCHEMA,
                    "Span": SPAN_SCHEMA,
                    **schemas.components,
                },
                "securitySchemes": {
                    "token": {"type": "http", "scheme": "bearer"},
                    "session": {
                        "type": "apiKey",
                        "in": "header",
                        "name": "X-CSRFToken",
                        "description": "With the session cookie.",
                    },
                },
            },
        }


def _runs(runtime: Runtime, schemas: Schemas) -> Iterator[tuple[str, Any]]:
    asks = _parameter(TRACE, "header", {"enum": ["0", "1"], "description": "1 answers with the run's trace, too."})
    for name, (kind, title) in runtime.offers.targets().items():
        result = {
            "type": "object",
            "required": ["result", "run", "revision", "duration_ms"],
            "properties": {
                "result": schemas.of(name, "Output"),
                "run": {"type": "string"},
                "revision": {"type": "integer"},
                "duration_ms": {"type": "number"},
                "trace": _TRACE,
            },
        }
        said = f"Run the {kind} {title}"
        takes = _takes(schemas.of(name, "Input")) | {"parameters": [asks]}
        yield f"/run/{name}/", {"post": _operation(f"run-{name}", said, takes, result)}


def _jobs(runtime: Runtime, schemas: Schemas) -> Iterator[tuple[str, Any]]:
    key = _parameter("Idempotency-Key", "header", {"type": "string", "maxLength": 255})
    titles = {name: title for name, (_, title) in runtime.offers.targets().items()} | runtime.offers.handlers()
    for name, title in titles.items():
        takes = _takes({} if "." in name else schemas.of(name, "Input")) | {"parameters": [key]}
        job = {"$ref": "#/components/schemas/Job"}
        yield f"/jobs/{name}/", {"post": _operation(f"job-{name}", f"Enqueue {title}", takes, job, status="202")}


def _streams(runtime: Runtime, schemas: Schemas) -> Iterator[tuple[str, Any]]:
    for name, title in runtime.offers.streams().items():
        parameters = [
            {"name": "params", "in": "query", "content": {JSON: {"schema": schemas.of(name, "Params")}}},
            {"name": "cursor", "in": "query", "content": {JSON: {"schema": {}}}},
            _parameter("Last-Event-ID", "header", {"type": "string"}),
            _parameter("ticket", "query", {"type": "string"}),
        ]
        events = {"200": {"description": "Server-sent events", "content": {"text/event-stream": {}}}}
        operation = {"operationId": f"stream-{name}", "summary": title, "parameters": parameters}
        yield f"/stream/{name}/", {"get": operation | {"responses": events | _ERRORS}}


def _public(runtime: Runtime, _: Schemas) -> Iterator[tuple[str, Any]]:
    for _kind, spec in runtime.configuration.targets():
        if spec.public and spec.enabled:
            answers = {"200": {"description": "What the plugin answers"}}
            said = f"Open to strangers, {spec.rate_limit} each"
            operation = {"operationId": f"in-{spec.name}", "summary": said, "responses": answers | _ERRORS}
            yield f"/in/{spec.name}/", {"post": operation | {"security": []}}


def _fixed() -> Iterator[tuple[str, Any]]:
    job = {"$ref": "#/components/schemas/Job"}
    id_ = _parameter("id", "path", {"type": "string", "format": "uuid"}) | {"required": True}
    ticket = {"type": "object", "properties": {"ticket": {"type": "string"}, "expires_in": {"type": "integer"}}}
    yield "/", {"get": _operation("list", "What is enabled", {}, {"type": "object"})}
    yield (
        "/jobs/{id}/",
        {
            "parameters": [id_],
            "get": _operation("job", "How far a job is", {}, job),
            "delete": _operation("cancel", "Cancel a job", {}, job),
        },
    )
    yield "/configuration/", _configuration()
    yield "/tickets/", {"post": _operation("ticket", "A one-use ticket", {}, ticket, status="201")}


def _configuration() -> dict[str, Any]:
    which = {"anyOf": [{"type": "integer"}, {"enum": ["draft", "live"]}]}
    change = {
        "type": "object",
        "required": ["kind", "name", "what", "fields"],
        "properties": {
            "kind": {"enum": ["registration", "chain", "composition", "interceptor", "point"]},
            "name": {"type": "string"},
            "what": {"enum": ["added", "removed", "changed"]},
            "fields": {"type": "array", "items": {"type": "string"}},
        },
    }
    changes = {"type": "array", "items": change}
    problem = {"type": "object", "additionalProperties": {"type": "string"}}
    shown = {"revision": {"type": "integer"}, "configuration": {"type": "object"}, "changes": changes}
    written = {"revision": {"type": "integer"}, "changes": changes, "discarded": changes}
    rehearsed = {"problems": {"type": "array", "items": problem, "description": "Of a dry run."}}
    get = _operation("configuration", "The set-up, secrets sealed", {}, {"type": "object", "properties": shown})
    put = _operation(
        "configure",
        "Make the set-up what the body says, and publish it",
        _takes({"type": "object"}),
        {"type": "object", "properties": written | rehearsed},
    )
    tag = {"ETag": {"schema": {"type": "string"}, "description": "Stands for the newest revision and the draft."}}
    for operation in (get, put):
        operation["responses"]["200"]["headers"] = _REVISION | tag
    asked = [_parameter("revision", "query", which), _parameter("against", "query", which)]
    expected = [
        _parameter("If-Match", "header", {"type": "string"}),
        _parameter("expected", "query", {"type": "integer"}),
        _parameter("dry_run", "query", {"enum": ["0", "1"]}),
        _parameter("note", "query", {"type": "string", "maxLength": 500}),
    ]
    return {"get": get | {"parameters": asked}, "put": put | {"parameters": expected}}


def _operation(id_: str, summary: str, takes: dict[str, Any], gives: dict[str, Any], *, status: str = "200") -> Any:
    answer = {"description": "Done", "headers": _REVISION, "content": {JSON: {"schema": gives}}}
    return {"operationId": id_, "summary": summary, **takes, "responses": {status: answer, **_ERRORS}}


def _takes(schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"content": {JSON: {"schema": schema}}}}


def _parameter(name: str, place: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": place, "schema": schema}
