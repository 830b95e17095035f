"""Any chain, with faults injected at random, does what a short reference interpreter does, in both colours."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pluginhub import Context, Fatal, Plugin, Refuse, RetryLater, Stop
from pluginhub.chains import Chain, Step
from pluginhub.exceptions import place_of
from pluginhub.policies import Policy
from tests.unit.engine import run_async, run_sync

Value = Any

# What is generated: chains as plain data. Expressions come with what they mean in Python.


def log_of(value: Value) -> Any:
    return value.get("log") if isinstance(value, dict) else None


def n_of(value: Value) -> Any:
    return value.get("n") if isinstance(value, dict) else None


class Wrong(Exception):
    """An expression does not fit the value."""


def wrong(value: Value) -> Any:
    raise Wrong


def merged(value: Value) -> Any:
    if not isinstance(value["input"], dict):
        raise Wrong
    return {**value["input"], "got": value["result"]}


Meaning = Callable[[Value], Any]
CONDITIONS: dict[str, Meaning] = {
    "": lambda value: True,
    "n > `1`": lambda value: n_of(value) is not None and n_of(value) > 1,
    "log": lambda value: log_of(value) not in (None, []),
    "`0`": lambda value: True,
    "length(`1`)": wrong,
}
INPUTS: dict[str, Meaning] = {
    "": lambda value: value,
    "{log: log, n: `3`}": lambda value: None if value is None else {"log": log_of(value), "n": 3},
    "log": log_of,
    "length(`1`)": wrong,
}
OUTPUTS: dict[str, Meaning] = {
    "": lambda value: value["result"],
    "merge(input, {got: result})": merged,
    "{log: input.log, n: result.n}": lambda value: {"log": log_of(value["input"]), "n": n_of(value["result"])},
    "length(`1`)": wrong,
}


@dataclass
class ALeaf:
    """A plugin: what it does at its first call, its second, and so on; the last goes on."""

    name: str
    is_async: bool
    script: list[str]


@dataclass
class AStep:
    label: str
    target: ALeaf | AChain
    attempts: int = 1
    on_failure: Any = "fail"
    fallback: ALeaf | AChain | None = None
    condition: str = ""
    input: str = ""
    output: str = ""


@dataclass
class AChain:
    name: str
    steps: list[AStep] = field(default_factory=list)


DEFAULT = {"log": ["default"], "n": 5}
ACTIONS = ["log", "log", "log", "mutate", "spoil", "raise", "later", "fatal", "refuse", "stop", "raise stop", "junk"]
FINAL = ("Fatal", "Refuse", "ExpressionError")

leaves = st.builds(ALeaf, st.just("plugin"), st.booleans(), st.lists(st.sampled_from(ACTIONS), min_size=1, max_size=4))


def step_of(targets: st.SearchStrategy[Any]) -> st.SearchStrategy[AStep]:
    plain = st.builds(AStep, st.just("step"), targets)
    rarely = {
        "condition": st.sampled_from([*[""] * 2, *CONDITIONS]),
        "input": st.sampled_from([*[""] * 2, *INPUTS]),
        "output": st.sampled_from([*[""] * 2, *OUTPUTS]),
    }
    kinds = st.sampled_from(["fail", "skip", "default"])
    guarded = st.builds(AStep, st.just("step"), targets, st.integers(1, 3), kinds, **rarely)
    doubled = st.builds(AStep, st.just("step"), targets, st.integers(1, 3), st.just("fallback"), targets, **rarely)
    return st.one_of(plain, guarded, doubled)


def chain_of(targets: st.SearchStrategy[Any]) -> st.SearchStrategy[AChain]:
    return st.builds(AChain, st.just("chain"), st.lists(step_of(targets), max_size=4))


some_chains = chain_of(st.recursive(leaves, lambda inner: st.one_of(inner, chain_of(inner)), max_leaves=8))


def named(chain: AChain, path: str = "c") -> AChain:
    """Give every chain, step and plugin a name of its own."""
    chain.name = path
    for number, step in enumerate(chain.steps):
        step.label = f"{path}.{number}"
        for part, mark in ((step.target, "t"), (step.fallback, "f")):
            if isinstance(part, AChain):
                named(part, step.label + mark)
            elif part is not None:
                part.name = step.label + mark
    return chain


# What a plugin does, and how often it was asked and on what


class Fault(Exception):
    pass


class Calls:
    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []

    def do(self, leaf: ALeaf, value: Value) -> Any:
        """Do what the script says of this call."""
        count = sum(name == leaf.name for name, _ in self.seen)
        self.seen.append((leaf.name, copy.deepcopy(value)))
        action, text = leaf.script[min(count, len(leaf.script) - 1)], f"{leaf.name} {count}"
        if action in ("mutate", "spoil") and isinstance(value, dict):
            value["log"] = [*(value.get("log") or []), f"mutated by {leaf.name}"]
            value["n"] = 9
        errors = {"spoil": Fault, "raise": Fault, "fatal": Fatal, "refuse": Refuse}
        if action in errors:
            raise errors[action](text)
        if action == "later":
            raise RetryLater(text, delay=0)
        if action == "raise stop":
            raise Stop(text)
        if action == "log" and isinstance(value, dict):
            return {**value, "log": [*(value.get("log") or []), leaf.name]}
        return {"mutate": value, "stop": Stop(text), "junk": None}.get(action, text)


# The reference: no engine, no colours, no copies saved


class Failed(Exception):
    def __init__(self, error: str, text: str) -> None:
        self.error, self.text, self.steps = error, text, list[tuple[str, str]]()


def refer(target: ALeaf | AChain, value: Value, calls: Calls) -> Any:
    if isinstance(target, AChain):
        for step in target.steps:
            value = at((target.name, step.label), refer_step, step, value, calls)
            if isinstance(value, Stop):
                return value.value
        return value
    try:
        return calls.do(target, value)
    except Stop as stop:
        return stop
    except Exception as error:
        raise Failed(type(error).__name__, str(error)) from None


def refer_step(step: AStep, value: Value, calls: Calls) -> Any:
    try:
        if not fit(CONDITIONS[step.condition], value):
            return value
        given = fit(INPUTS[step.input], value)
        for attempt in range(1, step.attempts + 1):
            try:
                return finish(step, value, refer(step.target, copy.deepcopy(given), calls))
            except Failed as failed:
                if attempt == step.attempts or failed.error in FINAL:
                    raise
    except Failed:
        if step.on_failure == "fallback":
            given = fit(INPUTS[step.input], value)
            return at((step.label, f"fallback {step.fallback.name}"), stand_in, step, value, given, calls)  # type: ignore[union-attr]
        if step.on_failure == "fail":
            raise
    return value if step.on_failure == "skip" else copy.deepcopy(DEFAULT)


def stand_in(step: AStep, value: Value, given: Any, calls: Calls) -> Any:
    return finish(step, value, refer(step.fallback, copy.deepcopy(given), calls))  # type: ignore[arg-type]


def finish(step: AStep, value: Value, result: Any) -> Any:
    return result if isinstance(result, Stop) else fit(OUTPUTS[step.output], {"input": value, "result": result})


def fit(meaning: Meaning, value: Value) -> Any:
    try:
        return meaning(value)
    except Wrong:
        raise Failed("ExpressionError", "") from None


def at(place: tuple[str, str], f: Callable[..., Any], *args: Any) -> Any:
    try:
        return f(*args)
    except Failed as failed:
        failed.steps.insert(0, place)
        raise


# The same chain for the engine


class Scripted(Plugin):
    def __init__(self, leaf: ALeaf, calls: Calls) -> None:
        self.leaf, self.calls = leaf, calls

    def process(self, value: Value, context: Context) -> Any:
        return self.calls.do(self.leaf, value)


class AsyncScripted(Scripted):
    async def process(self, value: Value, context: Context) -> Any:
        await asyncio.sleep(0)
        return self.calls.do(self.leaf, value)


def build(target: ALeaf | AChain, calls: Calls) -> Plugin | Chain:
    if isinstance(target, AChain):
        return Chain([build_step(step, calls) for step in target.steps], name=target.name)
    kind = AsyncScripted if target.is_async else Scripted
    plugin: Plugin = type(target.name, (kind,), {})(target, calls)
    return plugin


def build_step(step: AStep, calls: Calls) -> Step:
    policy = Policy(
        attempts=step.attempts,
        backoff=0,
        on_failure=step.on_failure,
        default=DEFAULT,
        fallback=None if step.fallback is None else build(step.fallback, calls),
        condition=step.condition,
        input=step.input,
        output=step.output,
    )
    return Step(build(step.target, calls), label=step.label, policy=policy)


def outcome(run: Callable[[Calls], Any]) -> tuple[Any, ...]:
    calls = Calls()
    try:
        result: tuple[Any, ...] = ("result", run(calls))
    except Failed as failed:
        result = (failed.error, failed.text, failed.steps)
    except Exception as error:
        name = type(error).__name__
        result = (name, "" if name == "ExpressionError" else str(error), list(place_of(error).steps))
    return (*result, calls.seen)


VALUE = {"log": ["begin"], "n": 1}


@settings(max_examples=400, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(some_chains)
def test_any_chain_does_what_the_reference_does(generated: AChain) -> None:
    chain = named(copy.deepcopy(generated))
    wanted = outcome(lambda calls: refer(chain, copy.deepcopy(VALUE), calls))
    for execute in (run_sync, run_async):
        got = outcome(lambda calls: execute([build(chain, calls)], copy.deepcopy(VALUE)))  # noqa: B023
        assert unwrapped(got) == wanted


def unwrapped(got: tuple[Any, ...]) -> tuple[Any, ...]:
    """Leave out the outermost place: the nameless chain that `execute` makes of a list."""
    return got if got[0] == "result" else (got[0], got[1], got[2][1:], got[3])


def test_chains_are_generated_with_every_fault_and_policy() -> None:
    """The property says nothing of what is never generated."""
    seen: set[str] = set()

    @settings(max_examples=400, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(some_chains)
    def look(generated: AChain) -> None:
        got = outcome(lambda calls: refer(named(copy.deepcopy(generated)), copy.deepcopy(VALUE), calls))
        seen.add(got[0])
        for step in generated.steps:
            seen.update({step.on_failure, f"{step.attempts} attempts", type(step.target).__name__})

    look()
    assert seen >= {"result", "Fault", "Fatal", "Refuse", "RetryLater", "ExpressionError", "ALeaf", "AChain"}
    assert seen >= {"fail", "skip", "default", "fallback", "1 attempts", "2 attempts", "3 attempts"}
