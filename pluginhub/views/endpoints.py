"""What all calls have in common: their methods, tenant, caller, body, and errors of one shape."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from django.db.transaction import non_atomic_requests
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

from pluginhub import tenancy
from pluginhub.exceptions import NotFound
from pluginhub.registry import registry
from pluginhub.types import PUBLIC, Tenant
from pluginhub.views import answers, bodies
from pluginhub.views.callers import identify
from pluginhub.views.calls import Call

__all__ = ["ANY", "Handler", "endpoint"]

ANY = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

NAME_LENGTH = 200
"""Of what is named in a URL: longer than any that exists."""

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
            response = await handler(call, **arguments)
        except Exception as error:
            response = answers.problem(error, request)
        return _stamped(response, call)

    # The CSRF token is asked of sessions only, by `identify`. A view that is asynchronous cannot be atomic.
    return csrf_exempt(non_atomic_requests(view))


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
