"""Other airports one could take."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from freight_plugins.airports import by_iata, near_misses
from freight_plugins.distances import kilometres
from pluginhub import Context, Plugin, Refuse

__all__ = ["NearbyAirports"]


class NearbyAirports(Plugin):
    """List the airports near one, nearest first. Measuring all of them takes a while, so results are cached."""

    class Config(BaseModel):
        within_km: float = Field(100.0, gt=0, le=1000)
        most: int = Field(5, ge=1, le=50)
        cache_hours: float = Field(24.0, gt=0)

    config: Config

    class Input(BaseModel):
        airport: str = Field(max_length=8, description="IATA code, such as ZRH")

    class Output(BaseModel):
        airport: str
        nearby: list[dict[str, Any]]

    def process(self, value: dict[str, Any], context: Context) -> dict[str, Any]:
        code = value["airport"].strip().upper()
        if code not in by_iata():
            near = ", ".join(near_misses(code)) or "nothing alike"
            raise Refuse("There is no such airport.", errors={"airport": f"No airport has this code; there is {near}."})
        # The cache is this registration's own, but its configuration may change: what shapes the result is in the key.
        key = f"nearby:{code}:{self.config.within_km}:{self.config.most}"
        ttl = self.config.cache_hours * 3600
        return {"airport": code, "nearby": context.cache.get_or_set(key, lambda: self._nearby(code), ttl)}

    def _nearby(self, code: str) -> list[dict[str, Any]]:
        here = by_iata()[code]
        found = [
            {"iata": other, "name": airport["name"], "km": round(kilometres(here, airport), 1)}
            for other, airport in by_iata().items()
            if other != code
        ]
        near = sorted((each for each in found if each["km"] <= self.config.within_km), key=lambda each: each["km"])
        return near[: self.config.most]
