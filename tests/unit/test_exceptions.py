"""Errors say what was wrong, where, and what to do."""

from __future__ import annotations

import pytest

from pluginhub import exceptions
from pluginhub.exceptions import PluginHubError, PublishRefused, RateLimited, UnknownTarget, mark, place_of, problem_of


def test_an_unknown_name_lists_near_misses() -> None:
    problem = UnknownTarget("qoute", ["quote", "rate"]).problem()
    assert problem["status"] == 404
    assert problem["near_misses"] == ["quote"]
    assert "Did you mean 'quote'?" in problem["hint"]


def test_steps_are_noted_from_the_inside_out() -> None:
    error = ValueError("x")
    mark(error, plugin="p", registration="r")
    mark(error, chain="inner", step="b")
    mark(error, chain="outer", step="a")
    mark(error, plugin="q")
    assert str(place_of(error)) == "'outer' step 'a' › 'inner' step 'b' › plugin 'p'"
    assert problem_of(error)["path"] == ["outer › a", "inner › b"]


def test_an_error_with_slots_loses_its_place_but_not_itself() -> None:
    class Slotted(Exception):
        __slots__ = ()

        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(name)

    error = Slotted()
    mark(error, chain="c", step="s")
    assert problem_of(error)["status"] == 500


def test_an_unforeseen_error_gives_nothing_of_its_text_away() -> None:
    assert "hunter2" not in str(problem_of(RuntimeError("password=hunter2")))


def test_a_refused_draft_lists_its_rows() -> None:
    refused = PublishRefused([("chain", "quote", "steps", "goes in a circle: quote → quote")])
    assert refused.problem()["errors"] == {"chain.quote.steps": "goes in a circle: quote → quote"}
    assert "chain 'quote', steps" in str(refused)


def test_retry_after_is_told() -> None:
    assert RateLimited("slow down", retry_after=1.23456).problem()["retry_after"] == 1.235


@pytest.mark.parametrize("name", exceptions.__all__)
def test_every_error_has_one_root_and_a_status(name: str) -> None:
    kind = getattr(exceptions, name)
    if isinstance(kind, type) and kind is not exceptions.Stop:
        assert issubclass(kind, PluginHubError)
        assert 400 <= kind.status < 600
