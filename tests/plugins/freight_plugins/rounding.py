"""Prices as people write them."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, ROUND_UP, Decimal
from typing import Any, Literal

from pydantic import BaseModel, Field

from freight_plugins.shapes import Priced, charged
from pluginhub import Context, Plugin

__all__ = ["RoundPrice"]

MODES = {"half up": ROUND_HALF_UP, "half even": ROUND_HALF_EVEN, "up": ROUND_UP}


class RoundPrice(Plugin):
    """Round the price to a multiple of `to`, such as 0.05 in Switzerland; the difference becomes a line."""

    class Config(BaseModel):
        to: Decimal = Field(Decimal("0.05"), gt=0)
        mode: Literal["half up", "half even", "up"] = "half up"

    config: Config

    Input = Priced
    Output = Priced

    def process(self, value: dict[str, Any], context: Context) -> dict[str, Any]:
        price = Decimal(str(value["price"]))
        rounded = (price / self.config.to).quantize(Decimal(1), rounding=MODES[self.config.mode]) * self.config.to
        if rounded == price:
            return value
        return {**charged(value, "Rounding", float(rounded - price)), "price": float(rounded)}
