"""The value that travels along a chain of freight plugins: a dict that each step adds keys to.

The models say what a step relies on and what it leaves behind. They are strict, so that "120" is refused where a
number is meant, and let further keys pass, so that steps which know nothing of each other can stand in one chain.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Airport", "Currency", "Line", "Measured", "Priced", "Resolved", "Route", "Shipment", "charged"]

Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class Shipment(_Shape):
    """What a customer asks for."""

    origin: str = Field(max_length=8, description="IATA code of the airport of departure, such as ZRH")
    destination: str = Field(max_length=8, description="IATA code of the airport of arrival, such as JFK")
    weight_kg: float = Field(gt=0, le=500_000)


class Airport(_Shape):
    iata: str
    name: str
    city: str
    country: str
    lat: float
    lon: float
    elevation: float = Field(description="feet above mean sea level")
    tz: str


class Route(_Shape):
    origin: Airport
    destination: Airport


class Resolved(Shipment):
    """A shipment whose airports are known."""

    airports: Route


class Measured(Resolved):
    """A resolved shipment whose way is measured."""

    distance_km: float = Field(ge=0)


class Line(_Shape):
    text: str
    amount: float


class Priced(Resolved):
    """A shipment with a price, and the lines it is the sum of."""

    price: float
    currency: str
    lines: list[Line]


def charged(value: dict[str, Any], text: str, amount: float, currency: str | None = None) -> dict[str, Any]:
    """Return the value with one more line, to the cent, and the price as the sum of all lines."""
    lines = [*value.get("lines", ()), {"text": text, "amount": round(amount, 2)}]
    price = round(sum(line["amount"] for line in lines), 2)
    return {**value, "lines": lines, "price": price, "currency": currency or value["currency"]}
