"""Which targets take one another's results, as far as a configuration tells. Looks at no plugin."""

from __future__ import annotations

from dataclasses import dataclass

from pluginhub.configuration.values import (
    ChainSpec,
    CompositionSpec,
    Configuration,
    MemberSpec,
    RegistrationSpec,
    StepSpec,
    TargetSpec,
)

__all__ = ["Stage", "end", "stages"]


@dataclass(frozen=True, slots=True)
class Stage:
    """One step or member among its neighbours.

    `takes` are the targets that surely get what the one before gives, by their field; `gives` those whose result
    surely is what the next one gets. What a condition or a mapping stands before, or skip or a default may answer for,
    says nothing of its neighbours.
    """

    takes: dict[str, str]
    gives: tuple[str, ...]


def stages(spec: TargetSpec) -> list[Stage]:
    """Return the stages of a chain or a sequence, in order; none where members run otherwise."""
    if isinstance(spec, ChainSpec):
        return [_step(step) for step in spec.steps]
    if isinstance(spec, CompositionSpec) and spec.strategy == "sequence":
        return [_member(member) for member in spec.members]
    return []


def end(configuration: Configuration, name: str, index: int) -> RegistrationSpec | None:
    """Return what a target hands its value to (0), or takes its result from (-1); `None` where that is not sure."""
    spec: TargetSpec = configuration.spec(name)
    while not isinstance(spec, RegistrationSpec):
        passed = stages(spec)
        found = [] if not passed else [*passed[0].takes.values()] if index == 0 else [*passed[-1].gives]
        if len(found) != 1:
            return None
        spec = configuration.spec(found[0])
    return spec


def _step(step: StepSpec) -> Stage:
    is_sure = not step.condition and step.on_failure in ("fail", "fallback")
    called = {"target": step.target} | ({"fallback": step.fallback} if step.fallback else {})
    return Stage(
        called if is_sure and not step.input else {}, tuple(called.values()) if is_sure and not step.output else ()
    )


def _member(member: MemberSpec) -> Stage:
    return Stage({"target": member.target}, (member.target,)) if member.required else Stage({}, ())
