"""What comes on top of a price."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from freight_plugins.rates import zone_of
from freight_plugins.shapes import Priced, charged
from pluginhub import Context, Plugin

__all__ = ["ElevationSurcharge", "TimeZoneSurcharge"]


class ElevationSurcharge(Plugin):
    """Charge for airports high up, where thin air lets aircraft take off with less.

    Each end above `above_ft` adds `percent` of the price so far.
    """

    class Config(BaseModel):
        above_ft: float = Field(5000.0, description="feet above mean sea level")
        percent: float = Field(12.5, ge=0, le=100)

    config: Config

    Input = Priced
    Output = Priced

    def process(self, value: dict[str, Any], context: Context) -> dict[str, Any]:
        base = value["price"]
        for end in value["airports"].values():
            if end["elevation"] > self.config.above_ft:
                text = f"{end['iata']} lies {end['elevation']:,.0f} ft high"
                value = charged(value, text, base * self.config.percent / 100)
        return value


class TimeZoneSurcharge(Plugin):
    """Charge for crews that work while the other end sleeps: a fee between time zones, a higher one between regions."""

    class Config(BaseModel):
        regional: float = Field(15.0, ge=0)
        intercontinental: float = Field(55.0, ge=0)

    config: Config

    Input = Priced
    Output = Priced

    def process(self, value: dict[str, Any], context: Context) -> dict[str, Any]:
        origin, destination = (value["airports"][end]["tz"] for end in ("origin", "destination"))
        zone = zone_of(origin, destination)
        if zone == "local":
            return value
        return charged(value, f"{origin} to {destination}", getattr(self.config, zone))
