"""What the product does for all of its customers, and the two places where a customer may have it differently."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field
from pydantic_core import PydanticCustomError

from pluginhub.points import Point

__all__ = ["ETA", "QUOTE", "Estimate", "Line", "Quote", "Shipment", "default_estimate", "default_quote"]


def _code(text: str) -> str:
    code = text.strip().upper()
    if len(code) != 3 or not (code.isascii() and code.isalpha()):
        raise PydanticCustomError("airport_code", "An airport has a code of three letters, such as ZRH.")
    return code


Code = Annotated[str, Field(max_length=100), AfterValidator(_code)]


class Shipment(BaseModel):
    """What a customer wants to send: IATA codes of two airports, and kilograms."""

    origin: Code
    destination: Code
    weight_kg: float = Field(gt=0, le=100_000, allow_inf_nan=False)


class Line(BaseModel):
    text: str
    amount: float


class Quote(BaseModel):
    """A price and the lines that make it up."""

    price: float
    currency: str
    lines: list[Line] = []
    distance_km: float | None = None


class Estimate(BaseModel):
    """How long it takes from door to door."""

    hours: float


QUOTE = Point(
    "freight.quote",
    input=Shipment,
    output=Quote,
    title="Price of a shipment",
    description="Asked for every quote; without plugins the price is by weight alone.",
)
ETA = Point(
    "freight.eta",
    input=Shipment,
    output=Estimate,
    title="Hours from door to door",
    description="Asked with every quote; without plugins it is what holds for every route.",
)

BOOKING_FEE = 25.0
PER_KG = 4.2
PROMISE_HOURS = 96.0


def default_quote(shipment: Shipment) -> Quote:
    """Price by weight alone: without plugins the product knows no airports, so it knows no distances."""
    freight = round(shipment.weight_kg * PER_KG, 2)
    lines = [Line(text="Booking fee", amount=BOOKING_FEE)]
    lines.append(Line(text=f"{shipment.weight_kg:g} kg at {PER_KG:g} EUR, wherever it goes", amount=freight))
    return Quote(price=round(BOOKING_FEE + freight, 2), currency="EUR", lines=lines)


def default_estimate(shipment: Shipment) -> Estimate:
    """Promise what holds for every route."""
    return Estimate(hours=PROMISE_HOURS)
