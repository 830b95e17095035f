"""The published value: what one revision holds, as JSON in the database. Immutable, and checked when it is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

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

FORMAT = 2
"""Counts up when what is stored changes its shape or meaning; `formats` then gets a migration."""

LARGEST = 2**31 - 1
"""What an integer column holds."""


T = TypeVar("T")


def _storable(value: T) -> T:
    """Refuse what PostgreSQL's `jsonb` cannot keep, such as the dates and NaN of YAML."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise PydanticCustomError("json", "This is no JSON: {reason}.", {"reason": str(error).rstrip(".")}) from None
    if "\\u0000" in text.replace("\\\\", ""):
        raise PydanticCustomError("json", "A string contains NUL (U+0000), which cannot be stored.")
    return value


def _sorted(value: dict[str, T]) -> dict[str, T]:
    return dict(sorted(value.items()))


Json = Annotated[T, AfterValidator(_storable)]
ByName = Annotated[dict[str, T], AfterValidator(_sorted)]
"""In order of names, so that what is exported differs in what was changed: `jsonb` orders keys by their length."""


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class TargetSpec(_Spec):
    """What all targets share."""

    name: str
    title: Json[str] = Field("", max_length=200)
    enabled: bool = True
    public: bool = False
    rate_limit: str = ""


class RegistrationSpec(TargetSpec):
    """A configured plugin. Its breaker opens when `breaker_rate` of its last `breaker_calls` calls failed, for
    `breaker_seconds`; results are kept for `cache_seconds`, and failures for as long as `cache_failures` says.
    """

    plugin: Json[str] = Field(min_length=1, max_length=200)
    config: Json[dict[str, Any]] = {}
    config_version: int = Field(1, ge=1, le=LARGEST)
    breaker_rate: float | None = Field(None, gt=0, le=1)
    breaker_calls: int = Field(20, ge=1, le=1000)
    breaker_seconds: float = Field(30, gt=0, allow_inf_nan=False)
    cache_seconds: float | None = Field(None, gt=0, allow_inf_nan=False)
    cache_failures: float | None = Field(None, gt=0, allow_inf_nan=False)


class StepSpec(_Spec):
    """Times are in seconds.

    `condition`, `input` and `output` are JMESPath: whether the step runs, what of the value it takes, and what is made
    of its result.
    """

    target: str
    label: Json[str] = Field("", max_length=100)
    time_limit: float | None = Field(None, gt=0, allow_inf_nan=False)
    attempts: int = Field(1, ge=1, le=LARGEST)
    backoff: float = Field(0.1, ge=0, allow_inf_nan=False)
    on_failure: Literal["fail", "skip", "default", "fallback"] = "fail"
    default: Json[Any] = None
    fallback: str = ""
    condition: Json[str] = Field("", max_length=1000)
    input: Json[str] = Field("", max_length=1000)
    output: Json[str] = Field("", max_length=1000)


class ChainSpec(TargetSpec):
    steps: tuple[StepSpec, ...] = ()


class MemberSpec(_Spec):
    """`key` names the member's result; it is never empty, but the target's name by default.

    A private member is its composition's alone: nothing else may name it, and nobody outside knows it.
    """

    target: str
    key: Json[str] = Field("", max_length=100)
    required: bool = True
    private: bool = False

    @model_validator(mode="before")
    @classmethod
    def _name_after_target(cls, data: Any) -> Any:
        return {**data, "key": data.get("key") or data.get("target", "")} if isinstance(data, dict) else data


class CompositionSpec(TargetSpec):
    strategy: Literal["sequence", "parallel", "first", "merge", "parent"] = "sequence"
    plugin: Json[str] = Field("", max_length=200)
    config: Json[dict[str, Any]] = {}
    config_version: int = Field(1, ge=1, le=LARGEST)
    members: tuple[MemberSpec, ...] = ()


class InterceptorSpec(_Spec):
    registration: str
    scope: Scope
    path_prefix: Json[str] = Field("", max_length=200)
    methods: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    position: int = Field(0, ge=0, le=LARGEST)
    required: bool = False


class PointSpec(_Spec):
    point: str = Field(max_length=100)
    targets: tuple[str, ...] = ()


class Configuration(_Spec):
    """Everything a tenant has set up. A key is the name of what it stands for, which may leave its own out."""

    format: int = Field(FORMAT, ge=FORMAT, le=FORMAT)
    registrations: ByName[RegistrationSpec] = {}
    chains: ByName[ChainSpec] = {}
    compositions: ByName[CompositionSpec] = {}
    interceptors: tuple[InterceptorSpec, ...] = ()
    points: ByName[PointSpec] = {}

    @model_validator(mode="before")
    @classmethod
    def _name_after_key(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        return {section: _named(value, _NAMED.get(section)) for section, value in data.items()}

    @model_validator(mode="after")
    def _keys_are_names(self) -> Configuration:
        for section, field in _NAMED.items():
            for key, spec in getattr(self, section).items():
                if getattr(spec, field) != key:
                    known = {"where": f"{section}.{key}.{field}", "name": repr(getattr(spec, field)), "field": field}
                    raise PydanticCustomError("key", "{where} is {name}: write the key, or leave {field} out.", known)
        return self

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

    def private(self) -> frozenset[str]:
        """Return the targets that belong to one composition alone: nobody else may call them."""
        members = (member for spec in self.compositions.values() for member in spec.members)
        return frozenset(member.target for member in members if member.private)

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


_NAMED = {"registrations": "name", "chains": "name", "compositions": "name", "points": "point"}
"""The fields that repeat their keys."""


def _named(specs: Any, field: str | None) -> Any:
    """Fill in the field that repeats the key, where it was left out."""
    if field is None or not isinstance(specs, Mapping):
        return specs
    return {
        key: {field: key, **spec} if isinstance(spec, Mapping) and isinstance(key, str) else spec
        for key, spec in specs.items()
    }
