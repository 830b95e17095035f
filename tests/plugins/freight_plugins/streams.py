"""The world's airports, as streams."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Iterator
from typing import Any

from pydantic import BaseModel, Field

from freight_plugins.airports import by_icao
from pluginhub import Context, Item, Plugin, Refuse

__all__ = ["AirportPages", "Airports"]


class Airports(Plugin):
    """Stream the airports of the world, or of one country, in order of ICAO codes.

    The code of each is its cursor: a client that lost its connection goes on after the last one it has.
    """

    class Params(BaseModel):
        country: str | None = Field(None, pattern=r"^[A-Z]{2}$", description="ISO 3166-1 code, such as CH")

    def stream(self, params: Params, context: Context) -> Iterator[Item]:
        for code, airport in _after(context.cursor, params.country):
            yield Item(airport, cursor=code)


class AirportPages(Plugin):
    """Stream the airports page by page: lists of `size`, each with the cursor of its last airport."""

    class Params(BaseModel):
        country: str | None = Field(None, pattern=r"^[A-Z]{2}$", description="ISO 3166-1 code, such as CH")
        size: int = Field(50, ge=1, le=1000)

    async def activate(self, context: Context) -> None:
        await asyncio.to_thread(by_icao)  # reading the file must not hold up the loop

    async def stream(self, params: Params, context: Context) -> AsyncIterator[Item]:
        page: list[dict[str, Any]] = []
        for code, airport in _after(context.cursor, params.country):
            page.append(airport)
            if len(page) == params.size:
                yield Item(page, cursor=code)
                page = []
        if page:
            yield Item(page, cursor=page[-1]["icao"])


def _after(cursor: Any, country: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    if not isinstance(cursor, str | None):
        raise Refuse("This is no cursor of this stream.", errors={"cursor": "It is the ICAO code of an airport."})
    codes = list(by_icao())
    for code in codes[bisect_right(codes, cursor) if cursor else 0 :]:
        airport = by_icao()[code]
        if country in (None, airport["country"]):
            yield code, airport
