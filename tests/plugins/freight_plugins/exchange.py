"""Other currencies, by a service that the host provides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from dishka import Provider, Scope, provide
from pydantic import BaseModel

from freight_plugins.shapes import Currency, Priced
from pluginhub import Context, Fatal, Plugin

__all__ = ["ConvertCurrency", "ExampleRates", "ExchangeRates"]


@dataclass(frozen=True, slots=True)
class ExchangeRates:
    """What one euro is worth. A host provides its own; this one holds what it is given, for as long as it lives."""

    per_euro: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({"EUR": 1.0}))

    def convert(self, amount: float, source: str, target: str) -> float:
        """Raises KeyError, with the currency, where there is no rate."""
        return amount / self.per_euro[source] * self.per_euro[target]


class ExampleRates(Provider):
    """For trying out: `PLUGINHUB = {"PROVIDERS": ["freight_plugins.exchange.ExampleRates"]}`. The rates are made up."""

    scope = Scope.APP

    @provide
    def rates(self) -> ExchangeRates:
        return ExchangeRates({"EUR": 1.0, "USD": 1.10, "CHF": 0.95, "GBP": 0.85, "JPY": 160.0})


class ConvertCurrency(Plugin):
    """Convert a price and its lines into another currency, by the host's rates."""

    class Config(BaseModel):
        currency: Currency = "CHF"

    config: Config

    Input = Priced
    Output = Priced

    def __init__(self, config: Config, rates: ExchangeRates) -> None:
        super().__init__(config)
        self._rates = rates

    def process(self, value: dict[str, Any], context: Context) -> dict[str, Any]:
        lines = [{**line, "amount": self._convert(line["amount"], value["currency"])} for line in value["lines"]]
        price = round(sum(line["amount"] for line in lines), 2)
        return {**value, "lines": lines, "price": price, "currency": self.config.currency}

    def _convert(self, amount: float, currency: str) -> float:
        try:
            return round(self._rates.convert(amount, currency, self.config.currency), 2)
        except KeyError as error:
            raise Fatal(f"There is no exchange rate for {error.args[0]}.", hint="Add it to ExchangeRates.") from None
