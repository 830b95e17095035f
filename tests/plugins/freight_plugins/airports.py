"""The world's airports, from the CSV file inside the `airportsdata` package. No plugin: what the plugins share."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, cast

import airportsdata

__all__ = ["DATASET", "by_iata", "by_icao", "near_misses"]

DATASET = f"airportsdata {airportsdata.__version__}"


@cache
def by_icao() -> Mapping[str, dict[str, Any]]:
    """Return all 28,298 airports by ICAO code, in order of codes. The first call reads the file, in about 0.2 s."""
    return dict(sorted(_load("ICAO").items()))


@cache
def by_iata() -> Mapping[str, dict[str, Any]]:
    """Return the airports that have an IATA code, the three letters on baggage tags, by that code."""
    return dict(sorted(_load("IATA").items()))


def near_misses(code: str) -> list[str]:
    """Return up to three IATA codes that may have been meant by `code`, which may be the name of a city."""
    there = [each for each, airport in by_iata().items() if airport["city"].casefold() == code.casefold()]
    return there[:3] or difflib.get_close_matches(code, by_iata(), n=3, cutoff=0.6)


def _load(key: Literal["IATA", "ICAO"]) -> dict[str, dict[str, Any]]:
    return cast(dict[str, dict[str, Any]], airportsdata.load(key))
