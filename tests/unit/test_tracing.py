"""What a trace tells of a run, in both colours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from pluginhub import CompositePlugin, Context, Plugin, Refuse, Stop
from pluginhub.chains import Chain, Step
from pluginhub.policies import Policy
from pluginhub.tracing import LONGEST, MASK, MOST, Trace, attach, trace_of

Traced = Callable[..., list[dict[str, Any]]]


class Add(Plugin):
    def process(self, value: int, context: Context) -> int:
        return value + 1


class Twice(Plugin):
    async def process(self, value: int, context: Context) -> int:
        return value * 2


class Given(Plugin):
    """Gives what it is made with; raises it if it is an error."""

    def __init__(self, result: Any) -> None:
        self.result = result

    def process(self, value: Any, context: Context) -> Any:
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def run_sync(chain: Chain, value: Any, trace: Trace) -> Any:
    return chain.execute(value, trace=trace)


def run_async(chain: Chain, value: Any, trace: Trace) -> Any:
    return asyncio.run(chain.aexecute(value, trace=trace))


@pytest.fixture(params=[run_sync, run_async], ids=["sync", "async"])
def traced(request: pytest.FixtureRequest) -> Traced:
    def run(targets: list[Any], value: Any, *, raises: type[Exception] | None = None) -> list[dict[str, Any]]:
        trace = Trace()
        if raises is None:
            request.param(Chain(targets), value, trace)
        else:
            with pytest.raises(raises):
                request.param(Chain(targets), value, trace)
        return trace.data()

    return run


def shown(spans: list[dict[str, Any]], *members: str) -> list[tuple[Any, ...]]:
    return [tuple(span[member] for member in members) for span in spans]


def test_every_step_is_told_with_what_it_took_and_gave(traced: Traced) -> None:
    spans = traced([Add(), Twice(), Add()], 1)
    assert shown(spans, "name", "input", "output", "decision", "attempts") == [
        ("Add", 1, 2, "ran", 1),
        ("Twice", 2, 4, "ran", 1),
        ("Add", 4, 5, "ran", 1),
    ]
    assert all(span["microseconds"] > 0 for span in spans)


def test_a_chain_within_a_chain_is_told_within_its_step(traced: Traced) -> None:
    [outer] = traced([Chain([Add(), Twice()], name="inner")], 1)
    assert shown(outer["steps"], "name", "output") == [("Add", 2), ("Twice", 4)]


def test_members_of_a_composition_are_told(traced: Traced) -> None:
    class Both(CompositePlugin):
        strategy = "merge"

    both = Both()
    both.add_plugin(Add(), key="more")
    both.add_plugin(Twice(), key="twice")
    [span] = traced([both], 3)
    assert sorted(shown(span["steps"], "kind", "name", "output")) == [("member", "more", 4), ("member", "twice", 6)]


def test_what_fails_is_told_with_its_problem_and_what_came_before_it(traced: Traced) -> None:
    spans = traced([Add(), Given(Refuse("Unknown airport."))], 1, raises=Refuse)
    assert shown(spans, "name", "decision") == [("Add", "ran"), ("Given", "failed")]
    assert spans[1]["problem"]["detail"] == "Unknown airport."


def test_a_stop_is_told_and_what_comes_after_it_is_not(traced: Traced) -> None:
    spans = traced([Given(Stop(7)), Add()], 1)
    assert shown(spans, "name", "output", "decision") == [("Given", 7, "stopped")]


def test_attempts_are_counted_and_the_policys_decision_is_told(traced: Traced) -> None:
    policy = Policy(attempts=3, backoff=0.001, on_failure="skip")
    [span] = traced([Step(Given(OSError("down")), policy=policy)], 1)
    assert (span["decision"], span["attempts"], span["output"]) == ("skipped", 3, 1)


def test_a_fallback_is_told_within_the_step_that_failed(traced: Traced) -> None:
    policy = Policy(on_failure="fallback", fallback=Add())
    [span] = traced([Step(Given(OSError("down")), policy=policy)], 1)
    assert (span["decision"], span["output"]) == ("fallback", 2)
    assert shown(span["steps"], "kind", "name", "output") == [("fallback", "Add", 2)]


def test_a_step_that_is_left_out_is_told(traced: Traced) -> None:
    [span] = traced([Step(Add(), policy=Policy(condition="express"))], {"express": False})
    assert span["decision"] == "left out"


def test_values_are_told_as_they_passed_whatever_becomes_of_them(traced: Traced) -> None:
    class Fill(Plugin):
        def process(self, value: dict[str, int], context: Context) -> dict[str, int]:
            value["filled"] = 1
            return value

    spans = traced([Fill(), Fill()], {})
    assert shown(spans[:1], "input", "output") == [({}, {"filled": 1})]


def test_secrets_are_masked_by_type_by_key_and_by_what_they_say(traced: Traced) -> None:
    class Key(BaseModel):
        value: SecretStr

    trace = Trace()
    Chain([Given([Key(value=SecretStr("typed")), {"api_key": "keyed"}, "Bearer said-aloud"])]).execute(1, trace=trace)
    text = repr(trace.data(mask=["said-aloud"]))
    assert MASK in text
    for secret in ("typed", "keyed", "said-aloud"):
        assert secret not in text


def test_secrets_are_masked_in_problems(traced: Traced) -> None:
    trace = Trace()
    with pytest.raises(Refuse):
        Chain([Given(Refuse("said-aloud is wrong"))]).execute(1, trace=trace)
    assert "said-aloud" not in repr(trace.data(mask=["said-aloud"]))
    assert "said-aloud" in repr(trace.data())


def test_a_short_secret_does_not_mask_half_the_text() -> None:
    trace = Trace()
    Chain([Given("banana")]).execute(1, trace=trace)
    assert trace.data(mask=["a", ""])[0]["output"] == "banana"


def test_what_is_no_json_is_told_by_its_kind(traced: Traced) -> None:
    assert traced([Given(object())], 1)[0]["output"] == "<object>"


def test_a_value_that_contains_itself_is_told_by_its_kind(traced: Traced) -> None:
    turned: list[Any] = []
    turned.append(turned)
    assert traced([Given(turned)], 1)[0]["output"] == "<list>"


def test_long_values_are_cut(traced: Traced) -> None:
    output = traced([Given("x" * 2 * LONGEST)], 1)[0]["output"]
    assert len(output) < LONGEST + 100
    assert output.endswith(f"({2 * LONGEST + 2} characters)")


def test_no_more_than_some_spans_are_kept(traced: Traced) -> None:
    assert len(traced([Add()] * (MOST + 10), 1)) == MOST


def test_two_runs_side_by_side_keep_their_spans_apart() -> None:
    async def both() -> list[Trace]:
        traces = [Trace(), Trace()]
        chain = Chain([Twice(), Chain([Twice()], name="inner")])
        await asyncio.gather(*(chain.aexecute(number, trace=trace) for number, trace in enumerate(traces, 1)))
        return traces

    for number, trace in enumerate(asyncio.run(both()), 1):
        assert shown(trace.data(), "input", "output") == [(number, number * 2), (number * 2, number * 4)]


def test_an_error_that_cannot_carry_a_trace_is_left_alone() -> None:
    class Bare(Exception):
        def __setattr__(self, name: str, value: Any) -> None:
            raise AttributeError(name)

    bare, other = Bare(), ValueError()
    attach(bare, [])
    attach(other, [{}])
    assert (trace_of(bare), trace_of(other)) == (None, [{}])
