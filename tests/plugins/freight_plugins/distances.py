"""How far it is."""

from __future__ import annotations

from math import asin, cos, radians, sin, sqrt
from typing import Any

from freight_plugins.shapes import Measured, Resolved
from pluginhub import Context, Plugin

__all__ = ["GreatCircle", "kilometres"]

EARTH_RADIUS_KM = 6371.0088
"""The mean radius, as the International Union of Geodesy and Geophysics defines it."""


class GreatCircle(Plugin):
    """Measure the great circle between the two airports of a shipment. Adds `distance_km`."""

    title = "Great-circle distance"

    Input = Resolved
    Output = Measured

    def process(self, value: dict[str, Any], context: Context) -> dict[str, Any]:
        ends = value["airports"]
        return {**value, "distance_km": round(kilometres(ends["origin"], ends["destination"]), 1)}


def kilometres(a: dict[str, Any], b: dict[str, Any]) -> float:
    """The haversine formula, exact to about 0.5 % on the ellipsoid."""
    lat_a, lat_b = radians(a["lat"]), radians(b["lat"])
    across = sin((lat_b - lat_a) / 2) ** 2 + cos(lat_a) * cos(lat_b) * sin(radians(b["lon"] - a["lon"]) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * asin(sqrt(min(1.0, across)))
