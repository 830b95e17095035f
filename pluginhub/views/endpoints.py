"""What all calls have in common: their methods, tenant, caller, body, and errors of one shape."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import Any

from django.db.transaction import non_atomic_requests
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

from pluginhub import tenancy
from pluginhub.exceptions import MalformedInput, NotFound, NotReady
from pluginhub.presence import presence
from pluginhub.publishing import VIEW
from pluginhub.registry import lease, registry
from pluginhub.types import PUBLIC, Tenant
from pluginhub.views import answers, bodies
from pluginhub.views.callers import identify
from pluginhub.views.calls import Call

__all__ = ["ANY", "Handler", "endpoint"]

ANY = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

NAME_LENGTH = 200
"""Of what is named in a URL: longer than any that exists."""

FRESHNESS = "HTTP_PLUGINHUB_REVISION"
"""The request header by which a client that has published says which revision is to answer, at least."""

Handler = Callable[..., Awaitable[HttpResponseBase]]


def endpoint(methods: Mapping[str, Handler], *, public: bool = False, tickets: bool = False) -> Callable[..., Any]:
    """Return one URL's view from its handlers: `endpoint({"GET": look, "DELETE": cancel})`.

    A handler is called as `await handler(call, **arguments of the URL)`; what it raises becomes a problem detail.
    A `public` endpoint asks for no login; one with `tickets` also takes `?ticket=`.
    """
    handlers = {**methods, **({"HEAD": methods["GET"]} if "GET" in methods and "HEAD" not in methods else {})}
    allowed = tuple(method for method in ANY if method in handlers or method == "OPTIONS")

    async def view(request: HttpRequest, **arguments: Any) -> HttpResponseBase:
        call: Call | None = None
        try:
            handler = handlers.get(request.method or "")
            if handler is None:
                return _without(request, allowed)
            call = Call(request, _tenant())
            _check_lengths(arguments)
            call.raw = bodies.raw_of(request)
            if not public:
                call.caller = await identify(call, tickets=tickets)
            if FRESHNESS in request.META:
                await _serve_at_least(call, request.META[FRESHNESS])
            response = await handler(call, **arguments)
        except Exception as error:
            response = answers.problem(error, request, trace=call.trace if call is not None else None)
        return _stamped(response, call)

    # The CSRF token is asked of sessions only, by `identify`. A view that is asynchronous cannot be atomic.
    return csrf_exempt(non_atomic_requests(view))


async def _serve_at_least(call: Call, said: str) -> None:
    """Let this process follow to a revision that the client knows of. Raises `NotReady` where it cannot, yet."""
    if not (said.isascii() and said.isdecimal() and len(said) < 19):
        raise MalformedInput(f"The header {answers.REVISION} is a revision's number.")
    wanted, serving = int(said), registry.running().get(call.tenant.schema)
    if serving is None or serving < wanted:
        serving = await call.do(_follow, call.tenant, wanted)
    if serving >= wanted:
        return
    problem = presence.problems.get(call.tenant.schema)
    if problem is None:
        reason = "None that is newer has been published."
    else:
        reason = problem.why if call.caller.may(VIEW) else "The newer one could not be brought up here."
    raise NotReady(
        f"This process serves revision {serving} of {call.tenant}, and not {wanted}. {reason}",
        hint="Ask again in a moment.",
        revision=serving,
        retry_after=1,
    )


def _follow(tenant: Tenant, wanted: int) -> int:
    """Return the revision that serves after looking for a newer one; one that failed is left alone for its time."""
    with lease(tenant) as runtime:
        serving = runtime.revision
    problem = presence.problems.get(tenant.schema)
    if serving < wanted and (problem is None or problem.until < monotonic()):
        registry.refresh(tenant)
    return registry.running().get(tenant.schema, serving)


def _without(request: HttpRequest, allowed: tuple[str, ...]) -> HttpResponse:
    if request.method == "OPTIONS":
        return HttpResponse(status=204, headers={"Allow": ", ".join(allowed)})
    raise answers.MethodNotAllowed(request.method, allowed)


def _check_lengths(arguments: dict[str, str]) -> None:
    for name, value in arguments.items():
        if len(value) > NAME_LENGTH:
            raise NotFound(f"No {name} has a name of {len(value):,} characters.")


def _tenant() -> Tenant:
    tenant = tenancy.current_or_none()
    if tenant is None or tenant == PUBLIC:
        raise NotFound("No tenant lives under this host.", hint="Use a tenant's own host name.")
    return tenant


def _stamped(response: HttpResponseBase, call: Call | None) -> HttpResponseBase:
    """Add the revision that answered: the handler's, else the one that runs here, if any does."""
    if call is not None and answers.REVISION not in response.headers:
        revision = registry.running().get(call.tenant.schema) if call.revision is None else call.revision
        if revision is not None:
            response.headers[answers.REVISION] = str(revision)
    return response
