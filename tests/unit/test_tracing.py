"""What a trace tells of a run, in both colours."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from pydantic import BaseModel, SecretStr

from pluginhub import CompositePlugin, Context, Plugin, Refuse, Stop
from pluginhub.chains import Chain, Step
from pluginhub.context import Run
from pluginhub.exceptions import Fatal
from pluginhub.policies import Policy
from pluginhub.tracing import LARGEST, LONGEST, MASK, MOST, Trace, attach, trace_of

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
    assert (span["decision"], span["output"], "problem" in span) == ("fallback", 2, False)
    assert span["answered"]["detail"].startswith("OSError")
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
    assert output.endswith(f"({2 * LONGEST} characters)")


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
    attach(bare, Run(id="1"), [])
    attach(other, Run(id="1"), [{}])
    assert (trace_of(bare), trace_of(other)) == (None, [{}])


def test_a_trace_belongs_to_the_run_that_an_error_ended_last() -> None:
    shared = Refuse("raised by everybody")
    attach(shared, Run(id="1"), [{}])
    assert trace_of(shared) == [{}]
    with pytest.raises(Refuse):
        Chain([Given(shared)]).execute(1)
    assert trace_of(shared) is None


def test_to_look_at_an_iterator_does_not_use_it_up(traced: Traced) -> None:
    class Count(Plugin):
        def process(self, value: int, context: Context) -> Iterator[int]:
            return iter(range(value))

    class Sum(Plugin):
        def process(self, value: Iterator[int], context: Context) -> int:
            return sum(value)

    assert shown(traced([Count(), Sum()], 4), "output") == [("<range_iterator>",), (6,)]


def test_what_cannot_say_what_it_is_fails_no_run(traced: Traced) -> None:
    class Odd(BaseModel):
        def model_dump(self, **options: Any) -> dict[str, Any]:
            raise KeyError("odd")

    assert traced([Given(Odd())], 1)[0]["output"] == "<Odd>"


WAYS: dict[str, Callable[[str], Any]] = {
    "as it is": lambda secret: f"Bearer {secret}",
    "in JSON": lambda secret: json.dumps({"header": secret}),
    "in JSON in JSON": lambda secret: json.dumps({"body": json.dumps({"header": secret})}),
    "in a URL": lambda secret: "https://rates.example/?key=" + quote(secret, safe=""),
    "in base64": lambda secret: "Basic " + base64.b64encode(f"user:{secret}".encode()).decode(),
    "in bytes": lambda secret: f"x{secret}".encode(),
    "as a key": lambda secret: {secret: 1},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_secret_is_masked_however_it_is_written(way: str) -> None:
    secret, trace = 'hün"ter/2000', Trace()
    Chain([Given(WAYS[way](secret))]).execute(1, trace=trace)
    text = json.dumps(trace.data([secret]), ensure_ascii=False)
    written = json.dumps(trace.data(), ensure_ascii=False)
    assert (MASK in text, MASK in written) == (True, False)
    assert "ter/2000" not in text
    assert "ter%2F2000" not in text


def test_a_secret_that_is_a_number_is_masked() -> None:
    trace = Trace()
    Chain([Given({"pin": 4711})]).execute(1, trace=trace)
    assert trace.data(["4711"])[0]["output"] == {"pin": MASK}


def test_what_is_long_is_masked_by_its_keys_too(traced: Traced) -> None:
    long = {"password": "hunter2000", "rest": "x" * LONGEST}
    assert "hunter2000" not in repr(traced([Given(long)], 1))


def test_a_secret_that_is_cut_in_two_is_masked() -> None:
    for offset in range(1, 10):
        trace = Trace()
        Chain([Given("x" * (LONGEST - offset) + "hunter2000" + "x" * LONGEST)]).execute(1, trace=trace)
        assert "h" not in trace.data(["hunter2000"])[0]["output"].partition("…")[0]


def test_a_problem_is_cut_and_is_json_whatever_a_plugin_put_there(traced: Traced) -> None:
    error = Fatal("No.", rates=object(), text="x" * 2 * LONGEST)
    [outer] = traced([Step(Chain([Given(error)]), policy=Policy(on_failure="skip"))], 1)
    [span] = outer["steps"]
    assert (span["problem"]["detail"], span["problem"]["rates"]) == ("No.", "<object>")
    assert len(json.dumps(span)) < 2 * LONGEST


def test_all_values_of_a_run_together_are_cut(traced: Traced) -> None:
    text = json.dumps(traced([Add(), *[Given("x" * LONGEST)] * (MOST - 1)], 1))
    assert LARGEST < len(text) < 1.2 * LARGEST


def test_a_long_list_is_cut_before_it_is_copied(traced: Traced) -> None:
    output = traced([Given([1] * 1_000_000)], 1)[0]["output"]
    assert output[-1] == f"… ({1_000_000 - len(output) + 1} more)"
    assert len(output) < LONGEST


def test_a_run_within_another_one_has_a_trace_of_its_own() -> None:
    inner, outer = Trace(), Trace()

    class Nest(Plugin):
        def process(self, value: int, context: Context) -> int:
            result: int = Chain([Add()]).execute(value, trace=inner)
            return result

    Chain([Nest()]).execute(1, trace=outer)
    assert shown(inner.data(), "name", "output") == [("Add", 2)]
    assert outer.data()[0]["steps"] == []


def test_what_is_outermost_is_told_to_its_end_however_many_calls_there_were(traced: Traced) -> None:
    [outer] = traced([Chain([Add()] * (MOST + 10), name="inner")], 1)
    assert outer["output"] == MOST + 11
