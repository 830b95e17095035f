"""Two ways to a first price: by weight and distance, or by zone."""

from __future__ import annotations

from math import ceil
from typing import Any

from pydantic import BaseModel, Field, model_validator

from freight_plugins.shapes import Currency, Measured, Priced, Resolved, charged
from pluginhub import Context, Plugin

__all__ = ["FlatZones", "RateByWeight"]


class Tier(BaseModel):
    from_kg: float = Field(ge=0)
    per_kg: float = Field(ge=0, description="price per kilogram")


class RateByWeight(Plugin):
    """Price a shipment by weight and distance.

    The tier is chosen by weight: that with the greatest `from_kg` the shipment reaches. Needs `distance_km`; adds
    `price`, `currency` and `lines`.
    """

    class Config(BaseModel):
        currency: Currency = "EUR"
        tiers: list[Tier] = Field(
            default=[Tier(from_kg=0, per_kg=2.4), Tier(from_kg=100, per_kg=1.9), Tier(from_kg=500, per_kg=1.5)],
            min_length=1,
        )
        per_1000_km: float = Field(0.35, ge=0, description="price per kilogram and 1,000 km")
        minimum: float = Field(45.0, ge=0)

        @model_validator(mode="after")
        def _covers_every_weight(self) -> RateByWeight.Config:
            if min(tier.from_kg for tier in self.tiers) > 0:
                raise ValueError("one tier must begin at 0 kg")
            return self

    config: Config

    Input = Measured
    Output = Priced

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._tiers = sorted(config.tiers, key=lambda tier: tier.from_kg, reverse=True)

    def process(self, value: dict[str, Any], context: Context) -> dict[str, Any]:
        config, weight, distance = self.config, value["weight_kg"], value["distance_km"]
        tier = next(tier for tier in self._tiers if weight >= tier.from_kg)
        text = f"{weight:g} kg at {tier.per_kg:g} {config.currency}"
        value = charged(value, text, weight * tier.per_kg, config.currency)
        value = charged(value, f"{distance:,.0f} km", weight * distance / 1000 * config.per_1000_km)
        if value["price"] < config.minimum:
            value = charged(value, "Up to the minimum charge", config.minimum - value["price"])
        return value


class FlatZones(Plugin):
    """Price a shipment by zone and parcels begun, whatever the distance.

    The zone follows from the airports' time zones: the same one (`Europe/Zurich` twice), the same region
    (`Europe/…`), or a region each. Adds `zone`, `price`, `currency` and `lines`.
    """

    class Config(BaseModel):
        currency: Currency = "USD"
        local: float = Field(60.0, ge=0, description="within one time zone, per parcel")
        regional: float = Field(140.0, ge=0, description="within one region, per parcel")
        intercontinental: float = Field(290.0, ge=0, description="between regions, per parcel")
        parcel_kg: float = Field(50.0, gt=0)

    config: Config

    Input = Resolved
    Output = Priced

    def process(self, value: dict[str, Any], context: Context) -> dict[str, Any]:
        ends = value["airports"]
        zone = zone_of(ends["origin"]["tz"], ends["destination"]["tz"])
        parcels = ceil(value["weight_kg"] / self.config.parcel_kg)
        each = getattr(self.config, zone)
        text = f"{parcels} × {self.config.parcel_kg:g} kg, {zone}"
        return charged({**value, "zone": zone}, text, parcels * each, self.config.currency)


def zone_of(a: str, b: str) -> str:
    """Compare two time zones by name: `local`, `regional` or `intercontinental`."""
    if a == b:
        return "local"
    return "regional" if a.partition("/")[0] == b.partition("/")[0] else "intercontinental"
