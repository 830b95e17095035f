"""Timing things side by side, so that a noisy machine disturbs them alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from time import perf_counter

__all__ = ["side_by_side"]


def side_by_side(
    cases: Mapping[str, Callable[[], object]], *, calls: int = 20_000, rounds: int = 15
) -> dict[str, float]:
    """Return the median microseconds a call of each case; the cases take turns, round by round."""
    rates: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, call in cases.items():
            started = perf_counter()
            for _ in range(calls):
                call()
            rates[name].append((perf_counter() - started) / calls * 1e6)
    return {name: statistics.median(times) for name, times in rates.items()}
