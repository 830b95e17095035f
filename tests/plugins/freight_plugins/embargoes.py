"""Around the tenant's calls: airports that nothing goes to or comes from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, Field

from pluginhub import Plugin, Refuse
from pluginhub.interceptors import Invocation

__all__ = ["Embargo"]


class Embargo(Plugin):
    """Refuse shipments from and to some airports, whichever target is called.

    Stands inside of an audit, wherever an operator positions the two: what is refused here is counted there, too.
    """

    class Config(BaseModel):
        airports: list[str] = Field([], description="IATA codes, upper or lower case")

    config: Config

    after = ("audit-calls",)

    def intercept(self, request: Invocation, call_next: Callable[[Invocation], Any]) -> Any:
        closed = {code.upper() for code in self.config.airports}
        shipment = request.value if isinstance(request.value, dict) else {}
        named = {field: str(shipment[field]).upper() for field in ("origin", "destination") if field in shipment}
        refused = {field: f"Nothing goes by {code}." for field, code in named.items() if code in closed}
        if refused:
            raise Refuse("This shipment is under an embargo.", errors=refused)
        return call_next(request)
