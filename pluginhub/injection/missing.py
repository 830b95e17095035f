"""What is raised for types that cannot be had."""

from __future__ import annotations

from typing import Any

__all__ = ["Missing", "RunOnly"]


class Missing(LookupError):
    """Nobody provides a type. `why` says more, where more is known."""

    def __init__(self, wanted: Any, why: str = "") -> None:
        super().__init__(wanted)
        self.wanted = wanted
        self.why = why


class RunOnly(Missing):
    """A type whose services live as long as one run was asked for outside of any."""
