"""What we know besides."""

from __future__ import annotations

from typing import Any

from freight_plugins.shapes import Resolved
from pluginhub import Context, Plugin

__all__ = ["EnrichShipment"]


class EnrichShipment(Plugin):
    """Add facts about the route, and about the customer if the tenant keeps a record of him.

    The route's facts come under `route`: both cities, whether a border is crossed, how many feet one end lies above
    the other. A value with `customer` gets what the tenant's shared storage holds under `customer:<number>`.
    """

    Input = Resolved

    async def process(self, value: dict[str, Any], context: Context) -> dict[str, Any]:
        origin, destination = (value["airports"][end] for end in ("origin", "destination"))
        route = {
            "from": f"{origin['city']}, {origin['country']}",
            "to": f"{destination['city']}, {destination['country']}",
            "crosses_border": origin["country"] != destination["country"],
            "climb_ft": destination["elevation"] - origin["elevation"],
        }
        value = {**value, "route": route}
        if "customer" in value:
            value["customer_record"] = await context.storage.shared.aget(f"customer:{value['customer']}")
        return value
