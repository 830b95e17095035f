"""What the product answers to one shipment: one customer's answer, or several side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from pluginhub import tenancy
from pluginhub.exceptions import InvalidInput, problem_of
from pluginhub.points import Point
from pluginhub.registry import lease
from pluginhub.types import Tenant
from tenants.freight import ETA, QUOTE, Estimate, Quote, Shipment, default_estimate, default_quote

__all__ = ["EXAMPLE", "Answer", "answer", "answer_as", "read_shipment", "without_plugins"]

EXAMPLE = {"from": "ZRH", "to": "LPB", "kg": "120"}
"""Zurich to La Paz, the highest of the world's international airports."""

FIELDS = {"origin": "from", "destination": "to", "weight_kg": "kg"}


@dataclass(frozen=True, slots=True)
class Answer:
    """One customer's price and time for a shipment, or the problem there was; and what made them."""

    who: str
    schema: str = ""
    quote: Quote | None = None
    estimate: Estimate | None = None
    problem: Mapping[str, Any] | None = None
    hung: tuple[tuple[str, tuple[str, ...]], ...] = ()


def read_shipment(given: Mapping[str, str]) -> Shipment:
    """Read a shipment from a query string. Raises `InvalidInput` that names the fields as the query does."""
    try:
        return Shipment.model_validate({field: given.get(name, "") for field, name in FIELDS.items()})
    except ValidationError as error:
        errors = {FIELDS[str(each["loc"][0])]: each["msg"] for each in error.errors()}
        raise InvalidInput("This is no shipment.", errors=errors) from None


def answer(shipment: Shipment) -> tuple[Quote, Estimate]:
    """Ask both points, for whoever the current tenant is."""
    quote: Quote = QUOTE.run(shipment, default=default_quote)
    estimate: Estimate = ETA.run(shipment, default=default_estimate)
    return quote, estimate


def without_plugins(shipment: Shipment) -> Answer:
    """What a customer gets who has hung nothing."""
    return Answer("Without plugins", quote=default_quote(shipment), estimate=default_estimate(shipment))


def answer_as(tenant: Tenant, shipment: Shipment) -> Answer:
    """What one tenant's customer gets; a problem is part of the answer."""
    with tenancy.visit(tenant):
        try:
            quote, estimate = answer(shipment)
        except Exception as error:
            return Answer(str(tenant), tenant.schema, problem=problem_of(error))
        hung = tuple((point.title, _hung(tenant, point)) for point in (QUOTE, ETA))
    return Answer(str(tenant), tenant.schema, quote, estimate, hung=hung)


def _hung(tenant: Tenant, point: Point) -> tuple[str, ...]:
    """Return the steps of what the tenant hung on a point, for people to read; nothing: the product's default."""
    with lease(tenant) as runtime:
        spec = runtime.configuration.points.get(point.name)
        names: list[str] = []
        for target in spec.targets if spec else ():
            chain = runtime.configuration.chains.get(target)
            names += [step.target for step in chain.steps] if chain else [target]
        return tuple(names)
