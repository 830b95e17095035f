"""What the catalog says of one plugin."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from pluginhub.exceptions import NotFound

__all__ = ["Colour", "Entry", "Origin", "UnknownPlugin"]

Origin = Literal["entry point", "setting", "file"]
Colour = Literal["sync", "async"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One plugin, as its source says; none of its code has run.

    `requires` holds the types its constructor asks for, as written, its own Config aside; `provides` what a class
    attribute of that name lists. `before` and `after` name plugins whose interceptors this one's stand outside of, and
    inside of. `jobs` are the names of its `@job` methods, `adds_handlers` those it passes to
    `context.jobs.process` in `activate`. `digest` is the SHA-256 of its module's file. Where `problem` is not empty,
    the plugin cannot be loaded, for the reason it gives, and the other facts may be missing.
    """

    name: str
    dotted: str
    origin: Origin
    distribution: str = ""
    version: str = ""
    title: str = ""
    doc: str = ""
    hooks: frozenset[str] = frozenset()
    colours: Mapping[str, Colour] = field(default_factory=lambda: MappingProxyType({}))
    jobs: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    is_composite: bool = False
    has: frozenset[str] = frozenset()
    adds_middleware: bool = False
    adds_handlers: tuple[str, ...] = ()
    path: str = ""
    digest: str = ""
    problem: str = ""

    @property
    def module(self) -> str:
        return self.dotted.partition(":")[0]

    @property
    def top(self) -> str:
        """The top-level package that its module is in."""
        return self.dotted.partition(":")[0].partition(".")[0]

    @property
    def qualname(self) -> str:
        return self.dotted.partition(":")[2]


class UnknownPlugin(NotFound):
    """The catalog has no plugin of this name. Names near misses."""

    title = "Unknown plugin"

    def __init__(self, name: str, known: Iterable[str]) -> None:
        near = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.5)
        guess = f"Did you mean {', '.join(map(repr, near))}? Else install" if near else "Install"
        super().__init__(
            f"No plugin named {name!r} is installed.",
            hint=f"{guess} the distribution that brings it, or name it in PLUGINHUB['PLUGINS'].",
            near_misses=near,
        )
        self.name = name
