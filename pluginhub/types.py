"""The plain values that every layer passes along."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

__all__ = ["ANONYMOUS", "HOST", "PUBLIC", "Caller", "Edge", "Item", "Json", "Place", "Scope", "Tenant"]

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

Edge: TypeAlias = Literal["host", "http", "websocket", "job", "command", "admin", "public"]
"""Where a call came in. `host` is the product's own Python code."""

Scope: TypeAlias = Literal["request", "call", "job", "stream"]
"""What an interceptor wraps."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """One customer, as a value. Lives as long as anyone holds it; says nothing about any connection."""

    schema: str
    name: str = ""

    def __str__(self) -> str:
        return self.name or self.schema


PUBLIC = Tenant("public", "public")
"""The schema that spans tenants; what `pluginhub.fleet` keeps lives here."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and by which edge.

    `permissions` holds full names such as `pluginhub.run_target`; a trusted caller (the host's own code,
    a superuser) may do everything.
    """

    name: str
    edge: Edge
    user_id: str | None = None
    permissions: frozenset[str] = field(default_factory=frozenset)
    trusted: bool = False

    def may(self, permission: str) -> bool:
        return self.trusted or permission in self.permissions


HOST = Caller("host", "host", trusted=True)
ANONYMOUS = Caller("anonymous", "public")


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a stream, with the cursor from which a client may resume after it."""

    data: Any
    cursor: Any = field(default=None, kw_only=True)

    @classmethod
    def of(cls, yielded: Any) -> Item:
        """Return what a stream yielded as an item: plain data is one without a cursor."""
        return yielded if isinstance(yielded, cls) else cls(yielded)


@dataclass(frozen=True, slots=True)
class Place:
    """Where something happened: the steps on the way in, outermost first, each as `(chain or composition, step)`."""

    steps: tuple[tuple[str, str], ...] = ()
    registration: str | None = None
    plugin: str | None = None
    run: str = ""

    def __str__(self) -> str:
        path = [f"{chain!r} step {step!r}" for chain, step in self.steps]
        inner = [f"plugin {self.plugin!r}"] if self.plugin else []
        return " › ".join([*path, *inner])
