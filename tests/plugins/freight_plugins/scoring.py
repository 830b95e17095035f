"""How risky a shipment is."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from freight_plugins.shapes import Resolved
from pluginhub import Context, Plugin

__all__ = ["RiskScore"]


class Rule(BaseModel):
    """Adds points where a fact is above a limit."""

    fact: Literal["weight_kg", "distance_km", "declared_value", "elevation_ft", "borders"]
    above: float
    points: int = Field(ge=-100, le=100)


class RiskScore(Plugin):
    """Score a shipment by rules and say which of them hold.

    Adds `risk`: the points (0 to 100), whether a person must look at it, and the reasons. A fact that the value does
    not have counts as 0.
    """

    class Config(BaseModel):
        rules: list[Rule] = [
            Rule(fact="borders", above=0, points=10),
            Rule(fact="weight_kg", above=1000, points=20),
            Rule(fact="distance_km", above=8000, points=15),
            Rule(fact="declared_value", above=50_000, points=40),
            Rule(fact="elevation_ft", above=8000, points=15),
        ]
        review_from: int = Field(50, ge=0, le=100, description="points from which a person must look at it")

    config: Config

    Input = Resolved

    def process(self, value: dict[str, Any], context: Context) -> dict[str, Any]:
        facts = _facts(value)
        holding = [rule for rule in self.config.rules if facts[rule.fact] > rule.above]
        points = max(0, min(100, sum(rule.points for rule in holding)))
        reasons = [f"{rule.fact} is {facts[rule.fact]:g}, above {rule.above:g}: {rule.points:+d}" for rule in holding]
        risk = {"points": points, "review": points >= self.config.review_from, "reasons": reasons}
        return {**value, "risk": risk}


def _facts(value: dict[str, Any]) -> dict[str, float]:
    origin, destination = (value["airports"][end] for end in ("origin", "destination"))
    return {
        "weight_kg": value["weight_kg"],
        "distance_km": value.get("distance_km", 0),
        "declared_value": value.get("declared_value", 0),
        "elevation_ft": max(origin["elevation"], destination["elevation"]),
        "borders": int(origin["country"] != destination["country"]),
    }
