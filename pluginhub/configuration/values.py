"""The published value: what one revision holds, as JSON in the database. Immutable, and checked when it is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pluginhub.types import Scope

__all__ = [
    "FORMAT",
    "ChainSpec",
    "CompositionSpec",
    "Configuration",
    "InterceptorSpec",
    "MemberSpec",
    "PointSpec",
    "RegistrationSpec",
    "StepSpec",
    "TargetSpec",
]

FORMAT = 1
"""Counts up when the meaning of a stored configuration changes."""


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TargetSpec(_Spec):
    """What all targets share."""

    name: str
    title: str = ""
    enabled: bool = True
    public: bool = False
    rate_limit: str = ""


class RegistrationSpec(TargetSpec):
    plugin: str
    config: dict[str, Any] = {}
    config_version: int = 1


class StepSpec(_Spec):
    """Times are in seconds."""

    target: str
    label: str = ""
    time_limit: float | None = Field(None, gt=0)
    attempts: int = Field(1, ge=1)
    backoff: float = Field(0.1, ge=0)
    on_failure: Literal["fail", "skip", "default"] = "fail"
    default: Any = None


class ChainSpec(TargetSpec):
    steps: tuple[StepSpec, ...] = ()


class MemberSpec(_Spec):
    """`key` names the member's result; it is never empty, but the target's name by default."""

    target: str
    key: str = ""
    required: bool = True

    @model_validator(mode="before")
    @classmethod
    def _name_after_target(cls, data: Any) -> Any:
        return {**data, "key": data.get("key") or data.get("target", "")} if isinstance(data, dict) else data


class CompositionSpec(TargetSpec):
    strategy: Literal["sequence", "parallel", "first", "merge", "parent"] = "sequence"
    plugin: str = ""
    config: dict[str, Any] = {}
    config_version: int = 1
    members: tuple[MemberSpec, ...] = ()


class InterceptorSpec(_Spec):
    registration: str
    scope: Scope
    path_prefix: str = ""
    methods: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    position: int = 0
    required: bool = False


class PointSpec(_Spec):
    point: str
    targets: tuple[str, ...] = ()


class Configuration(_Spec):
    """Everything a tenant has set up."""

    format: int = FORMAT
    registrations: dict[str, RegistrationSpec] = {}
    chains: dict[str, ChainSpec] = {}
    compositions: dict[str, CompositionSpec] = {}
    interceptors: tuple[InterceptorSpec, ...] = ()
    points: dict[str, PointSpec] = {}

    def kind_of(self, name: str) -> str | None:
        """Return `registration`, `chain` or `composition`, or `None` where nothing has this name."""
        if name in self.registrations:
            return "registration"
        if name in self.chains:
            return "chain"
        return "composition" if name in self.compositions else None

    def spec(self, name: str) -> RegistrationSpec | ChainSpec | CompositionSpec:
        """Return a target. Raises `KeyError` where nothing has this name."""
        found = self.registrations.get(name) or self.chains.get(name) or self.compositions.get(name)
        if found is None:
            raise KeyError(name)
        return found

    def names(self) -> list[str]:
        """Return the names of all targets, in order."""
        return sorted([*self.registrations, *self.chains, *self.compositions])

    def targets(self) -> Iterator[tuple[str, RegistrationSpec | ChainSpec | CompositionSpec]]:
        """Yield every target as `(kind, spec)`."""
        yield from (("registration", spec) for spec in self.registrations.values())
        yield from (("chain", spec) for spec in self.chains.values())
        yield from (("composition", spec) for spec in self.compositions.values())

    def data(self) -> dict[str, Any]:
        """Return the value as plain JSON, as a revision keeps it."""
        return self.model_dump(mode="json")

    def digest(self) -> str:
        """Return the SHA-256 of the value, in hex: equal for equal configurations, wherever they were read."""
        text = json.dumps(self.data(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()
