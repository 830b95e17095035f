"""JMESPath over values of runs: in words where it is wrong, bounded in what it costs."""

from __future__ import annotations

import datetime as dt
import time
from collections import UserDict
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from pluginhub.exceptions import Fatal, HookError, problem_of
from pluginhub.expressions import Expression, ExpressionError, problem_with


class Quote(BaseModel):
    price: float
    tags: tuple[str, ...] = ()


@dataclass
class Order:
    quote: Quote
    when: dt.date


@pytest.mark.parametrize("value", [None, False, "", [], {}])
def test_what_jmespath_calls_false_does_not_hold(value: Any) -> None:
    assert not Expression("it").holds({"it": value})


@pytest.mark.parametrize("value", [True, 0, 0.0, "no", [None], {"a": None}])
def test_all_else_holds_zero_too(value: Any) -> None:
    assert Expression("it").holds({"it": value})


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("a..b", "Unexpected '.' at character 3."),
        ("price >", "It ends too early, after character 7."),
        ("'abc", "Unclosed ' delimiter at character 1."),
        ("a # b", "Unknown token # at character 3."),
        ("", "It is empty."),
        ("lenght(a)", "There is no function lenght(). Did you mean length()?"),
        ("length()", "length() takes 1 argument, not 0."),
        ("[].{n: merge()}", "merge() takes at least 1 argument, not 0."),
        ("sum(a, b)", "sum() takes 1 argument, not 2."),
    ],
)
def test_a_wrong_expression_is_refused_in_words_with_its_position(text: str, wrong: str) -> None:
    assert problem_with(text) == wrong
    with pytest.raises(HookError, match="condition") as refused:
        Expression(text, what="condition")
    assert wrong in refused.value.detail
    assert repr(text) in refused.value.detail


@pytest.mark.parametrize(
    "text", ["a.b[0].c", "[?price > `10`].name | [0]", "merge(input, {price: result})", "*.a", "a[1:2]", "!a && b || c"]
)
def test_a_usable_expression_has_no_problem(text: str) -> None:
    assert problem_with(text) == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("length(n)", "length() takes string or array or object, not number."),
        ("sum([n, o])", "sum() takes array-number, not object."),
        ("n < s", "'<' not supported between instances of 'int' and 'str'."),
        ("[n, n][::0]", "ValueError."),
    ],
)
def test_a_value_that_does_not_fit_is_an_error_without_the_value(text: str, reason: str) -> None:
    with pytest.raises(ExpressionError) as failed:
        Expression(text, what="input mapping").of({"n": 987654, "s": "a secret", "o": {"a secret": 987654}})
    assert failed.value.detail == f"The input mapping {text!r} failed: {reason}"
    assert isinstance(failed.value, Fatal)
    problem = problem_of(failed.value)
    assert (problem["status"], problem["title"]) == (500, "Expression failed")
    assert "987654" not in str(problem)
    assert "a secret" not in str(problem)


# What is not JSON


def test_models_dataclasses_and_tuples_read_like_json() -> None:
    order = Order(Quote(price=3, tags=("a", "b")), dt.date(2026, 1, 2))
    assert Expression("quote.price").of(order) == 3
    assert Expression("quote.tags[1]").of(order) == "b"
    assert Expression("orders[*].quote.tags[]").of({"orders": (order, order)}) == ["a", "b", "a", "b"]
    assert Expression("length(quote.tags)").of(order) == 2
    assert Expression("keys(quote)").of(order) == ["price", "tags"]
    assert Expression("quote.*").of(order) == [3.0, ["a", "b"]]
    assert Expression("a.b").of(UserDict(a=UserDict(b=1))) == 1


def test_a_model_that_is_passed_on_comes_out_as_an_object() -> None:
    assert Expression("{q: quote}").of(Order(Quote(price=3), dt.date.min)) == {"q": {"price": 3.0, "tags": ()}}


def test_what_else_there_is_passes_through_and_compares_by_equality_alone() -> None:
    day = dt.date(2026, 1, 2)
    assert Expression("when").of({"when": day}) is day
    assert Expression("when.year").of({"when": day}) is None
    assert Expression("when == other").holds({"when": day, "other": dt.date(2026, 1, 2)})
    assert not Expression("when > '2025-01-01'").holds({"when": day})


def test_an_object_is_not_called_for_having_a_method_get() -> None:
    class Remote:
        def get(self, name: str) -> Any:
            pytest.fail("the expression called it")

        values = get

    assert Expression("a").of(Remote()) is None
    assert Expression("*.b").of(Remote()) is None


def test_a_literal_is_given_away_as_a_copy() -> None:
    expression = Expression('`{"seen": []}`')
    expression.of(None)["seen"].append("mine")
    assert expression.of(None) == {"seen": []}
    assert Expression('`{"seen": []}`').of(None) == {"seen": []}


# What it may cost


@pytest.mark.parametrize(
    "repeated", ["[@,@]", "[@,@][]", "{a:@,b:@}", "join('',[@,@])", "map(&[@,@],@)[]", "to_string(@)"]
)
def test_an_expression_that_doubles_at_each_pipe_is_refused(repeated: str) -> None:
    text = "|".join([repeated] * 40)
    assert "may repeat its value more than 200 times over" in problem_with(text)


def test_an_expression_may_repeat_what_it_is_given_some_times() -> None:
    assert problem_with("{" + ",".join(f"f{n}:a" for n in range(100)) + "} | [@, @]") == ""


@pytest.mark.parametrize(
    "text", ["(" * 500 + "a" + ")" * 500, "!" * 999 + "a", "||".join("a" * 300), "[" * 499 + "a" + "]" * 499]
)
def test_an_expression_that_nests_too_deeply_is_refused(text: str) -> None:
    assert "too deeply" in problem_with(text) or "levels deep" in problem_with(text)


@pytest.mark.parametrize(
    "text",
    [
        "[@,@,@,@,@,@,@,@,@,@][].[a,b,c,d,e,f]",
        "[@,@,@,@,@,@,@,@,@,@][*].sort(@)[]",
        "map(&map(&[@.a,@.b,@.c], [@,@,@,@,@,@]), @)",
    ],
)
def test_one_evaluation_takes_a_bounded_number_of_steps(text: str) -> None:
    value = [*range(100_000)]
    started = time.process_time()
    with pytest.raises(ExpressionError, match="takes more than 250000 steps"):
        Expression(text).of(value)
    assert time.process_time() - started < 10


@pytest.mark.parametrize(
    "text",
    ["[*].[`[" + ",".join("1" * 450) + "]`]", "[*].['" + "x" * 900 + "']", "[*].{" + "x" * 900 + ": @}"],
    ids=["an array", "a string", "a key"],
)
def test_what_an_expression_writes_itself_is_not_repeated_without_bounds(text: str) -> None:
    assert Expression(text).of([1, 2])
    with pytest.raises(ExpressionError, match="steps"):
        Expression(text).of([0] * 10_000)


def test_a_number_of_too_many_digits_is_refused_in_words() -> None:
    assert "digits" in problem_with(f"a[{'9' * 5000}]")


def test_a_large_value_may_be_filtered() -> None:
    rows = [{"price": n, "name": "x"} for n in range(20_000)]
    assert len(Expression("[?price > `10`].name").of(rows)) == 19_989
