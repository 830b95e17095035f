"""How long it takes."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from freight_plugins.shapes import Measured
from pluginhub import Context, Plugin

__all__ = ["TransportHours"]


class TransportHours(Plugin):
    """Estimate the hours from door to door: handling at both ends, flight, and a stop on long ways. Adds `hours`."""

    class Config(BaseModel):
        cruise_kmh: float = Field(840.0, gt=0)
        handling_hours: float = Field(5.0, ge=0, description="at each end")
        range_km: float = Field(9000.0, gt=0, description="how far an aircraft flies without a stop")
        stop_hours: float = Field(2.5, ge=0)

    config: Config

    Input = Measured

    class Output(Measured):
        hours: float

    def process(self, value: dict[str, Any], context: Context) -> dict[str, Any]:
        config, distance = self.config, value["distance_km"]
        stops = int(distance // config.range_km)
        hours = distance / config.cruise_kmh + 2 * config.handling_hours + stops * config.stop_hours
        return {**value, "hours": round(hours, 1)}
