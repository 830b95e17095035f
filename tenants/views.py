"""The reference site's own pages: what a product does, with two points where its customers may differ."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from pluginhub import tenancy
from pluginhub.exceptions import InvalidInput, PluginHubError, problem_of
from pluginhub.types import PUBLIC
from tenants.answers import EXAMPLE, Answer, answer, answer_as, read_shipment, without_plugins
from tenants.freight import Shipment

__all__ = ["home", "overview", "quote"]

MOST_COLUMNS = 5


def overview(request: HttpRequest) -> HttpResponse:
    """One request, as many answers as there are customers, side by side."""
    tenants = tenancy.tenants()[:MOST_COLUMNS]
    return _page(
        request,
        "freight/overview.html",
        lambda shipment: [without_plugins(shipment), *(answer_as(tenant, shipment) for tenant in tenants)],
    )


def home(request: HttpRequest) -> HttpResponse:
    """One customer's page."""
    tenant = tenancy.current_or_none() or PUBLIC
    return _page(request, "freight/home.html", lambda shipment: [answer_as(tenant, shipment)], tenant=tenant)


def quote(request: HttpRequest) -> JsonResponse:
    """Answer `/quote/?from=ZRH&to=JFK&kg=120` as JSON; what a plugin refuses, or fails at, as a problem detail."""
    try:
        shipment = read_shipment(request.GET)
        price, estimate = answer(shipment)
    except Exception as error:
        problem = problem_of(error)
        if not isinstance(error, PluginHubError) and "plugin" not in problem:
            raise
        return JsonResponse(problem, status=problem["status"], content_type="application/problem+json")
    return JsonResponse(
        {"shipment": shipment.model_dump(), "quote": price.model_dump(), "eta": estimate.model_dump()},
    )


def _page(request: HttpRequest, template: str, answers: Any, **context: Any) -> HttpResponse:
    """Show a shipment's answers, or what is wrong with the shipment, beside the form it came from."""
    given = {name: request.GET.get(name, example) for name, example in EXAMPLE.items()}
    shipment: Shipment | None = None
    found: list[Answer] = []
    errors: dict[str, str] = {}
    try:
        shipment = read_shipment(given)
        found = answers(shipment)
    except InvalidInput as error:
        errors = error.errors
    port = f":{request.get_port()}"
    context |= {"given": given, "errors": errors, "shipment": shipment, "answers": found, "port": port}
    return render(request, template, context, status=422 if errors else 200)
