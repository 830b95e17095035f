"""Several offers, one choice."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from freight_plugins.shapes import Currency
from pluginhub import CompositePlugin, Context, Refuse

__all__ = ["CheapestOffer"]


class CheapestOffer(CompositePlugin):
    """Ask each sub-plugin for a price and give the cheapest, with all offers under `offers`.

    A sub-plugin that is not required and fails, or answers in another currency, is left out.
    """

    class Config(BaseModel):
        currency: Currency = "EUR"

    config: Config

    def process(self, value: dict[str, Any], context: Context) -> dict[str, Any]:
        answers = {key: self._ask(key, child, required, value, context) for key, child, required in self.members}
        offers = {key: answer for key, answer in answers.items() if answer is not None}
        if not offers:
            raise Refuse(f"Nobody offers this in {self.config.currency}.")
        best = min(offers, key=lambda key: (offers[key]["price"], key))
        prices = {key: offer["price"] for key, offer in offers.items()}
        return {**offers[best], "offer": best, "offers": prices}

    def _ask(self, key: str, child: Any, required: bool, value: Any, context: Context) -> dict[str, Any] | None:
        try:
            answer: dict[str, Any] = context.call(child, dict(value))
        except Exception as error:
            if required:
                raise
            context.log.warning("%s makes no offer: %s", key, error)
            return None
        return answer if answer["currency"] == self.config.currency else None
