"""From airport codes to airports."""

from __future__ import annotations

from typing import Any

from freight_plugins.airports import by_iata, near_misses
from freight_plugins.shapes import Airport, Resolved, Shipment
from pluginhub import Context, Plugin, Refuse

__all__ = ["ResolveAirports"]


class ResolveAirports(Plugin):
    """Look up both airports of a shipment, or refuse, naming codes that look alike.

    Adds `airports`, with name, city, country, position, elevation (feet) and time zone of either end.
    """

    Input = Shipment
    Output = Resolved

    def process(self, value: dict[str, Any], context: Context) -> dict[str, Any]:
        codes = {end: value[end].strip().upper() for end in ("origin", "destination")}
        errors = {end: _unknown(code) for end, code in codes.items() if code not in by_iata()}
        if errors:
            raise Refuse("There is no such airport.", errors=errors)
        airports = {end: {key: by_iata()[code][key] for key in Airport.model_fields} for end, code in codes.items()}
        return {**value, **codes, "airports": airports}


def _unknown(code: str) -> str:
    near = near_misses(code)
    return f"No airport has the code {code!r}." + (f" Did you mean {', '.join(near)}?" if near else "")
