"""The order of interceptors: positions, and what plugins say of one another."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluginhub import configuration
from pluginhub.configuration import Configuration, InterceptorSpec, RegistrationSpec
from pluginhub.ordering import Constraint, Contradiction, Layer, constraints, contradictions, decided, ordered

Said = dict[str, tuple[tuple[str, ...], tuple[str, ...]]]
"""What plugins declare: `before` and `after`."""

PLUGINS = "abcdef"
OWN = "(its plugin says so)"


def layers(*plugins: str, **said: dict[str, str]) -> list[Layer[int]]:
    """One layer a plugin, called like it in upper case; `a={"before": "bc"}` is what the plugin a declares."""
    return [
        Layer(place, plugin.upper(), plugin, **{side: tuple(names) for side, names in said.get(plugin, {}).items()})
        for place, plugin in enumerate(plugins)
    ]


def names(found: Sequence[Layer[int]]) -> str:
    return "".join(layer.plugin for layer in found)


class TestTheOrder:
    def test_without_constraints_it_is_that_of_positions(self) -> None:
        assert names(ordered(layers("c", "a", "b"))) == "cab"

    def test_before_is_further_out(self) -> None:
        assert names(ordered(layers("a", "b", "c", c={"before": "a"}))) == "bca"

    def test_after_is_further_in(self) -> None:
        assert names(ordered(layers("a", "b", "c", a={"after": "b"}))) == "bac"

    def test_what_positions_say_already_changes_nothing(self) -> None:
        assert names(ordered(layers("a", "b", "c", a={"before": "bc"}, c={"after": "ab"}))) == "abc"

    def test_who_is_not_bound_does_not_count(self) -> None:
        found = layers("a", "b", a={"after": "x"}, b={"before": "y", "after": "x"})
        assert names(ordered(found)) == "ab"
        assert constraints(found) == []

    def test_it_holds_for_every_interceptor_of_a_plugin(self) -> None:
        found = ordered(layers("a", "b", "a", "b", b={"before": "a"}))
        assert [layer.binding for layer in found] == [1, 3, 0, 2]

    def test_it_leads_through_others(self) -> None:
        assert names(ordered(layers("a", "b", "c", c={"before": "b"}, b={"before": "a"}))) == "cba"

    def test_two_that_say_the_same_are_one_constraint(self) -> None:
        found = layers("a", "b", a={"after": "b"}, b={"before": "a"})
        assert constraints(found) == [Constraint("b", "a", by="a")]

    def test_nothing_is_in_order(self) -> None:
        assert ordered([]) == []


class TestAConfigurations:
    """What a revision holds, with nothing installed."""

    def found(self, *bindings: InterceptorSpec, registered: str = "abc") -> str:
        specs = {name: RegistrationSpec(name=name, plugin=name) for name in registered}
        value = Configuration(registrations=specs, interceptors=bindings)
        return "".join(layer.name for layer in configuration.layers(value, "call", lambda plugin: None))

    def test_positions_count_wherever_they_are_written(self) -> None:
        bindings = [
            InterceptorSpec(registration=name, scope="call", position=at)
            for name, at in zip("abc", (2, 3, 1), strict=True)
        ]
        assert self.found(*bindings) == "cab"

    def test_equal_positions_are_in_the_order_they_are_written_in(self) -> None:
        assert self.found(*[InterceptorSpec(registration=name, scope="call") for name in "bca"]) == "bca"

    def test_other_scopes_are_left_out(self) -> None:
        assert self.found(InterceptorSpec(registration="a", scope="job")) == ""

    def test_one_of_a_registration_that_is_gone_stays_in_its_place(self) -> None:
        assert self.found(*[InterceptorSpec(registration=name, scope="call") for name in "ab"], registered="b") == "ab"


class TestWhatConstraintsDecide:
    def test_who_is_moved_is_told_with_the_reason(self) -> None:
        found = layers("a", "b", "c", c={"before": "ab"})
        assert decided(found) == {found[2]: [Constraint("c", "a", by="c"), Constraint("c", "b", by="c")]}

    def test_who_is_moved_by_another_is_told_too(self) -> None:
        found = layers("a", "b", "c", c={"before": "a"})
        assert decided(found) == {found[0]: [Constraint("c", "a", by="c")]}

    def test_of_two_that_changed_places_it_is_the_one_that_says_so(self) -> None:
        for said in ({"a": {"after": "b"}}, {"b": {"before": "a"}}):
            (moved,) = decided(layers("a", "b", **said))
            assert [moved.plugin] == [*said]

    def test_who_was_taken_along_is_told_by_whom(self) -> None:
        found = layers("a", "b", "c", "d", d={"before": "a"}, a={"before": "b"})
        assert names(ordered(found)) == "cdab"
        assert all(decided(found).values())

    def test_who_is_not_spoken_of_stays(self) -> None:
        found = layers("a", "b", "c", "d", d={"before": "ab"})
        assert names(ordered(found)) == "cdab"
        assert names([*decided(found)]) == "ab"

    def test_what_positions_say_already_is_not(self) -> None:
        assert decided(layers("a", "b", a={"before": "b"})) == {}


class TestContradictions:
    @pytest.mark.parametrize(
        ("said", "words"),
        [
            (
                {"a": {"before": "b"}, "b": {"before": "a"}},
                f"'A' stands outside 'B' {OWN}, 'B' outside 'A' {OWN}.",
            ),
            (
                {"b": {"before": "a", "after": "a"}},
                f"'A' stands outside 'B' (the plugin of 'B' says so), 'B' outside 'A' {OWN}.",
            ),
            ({"b": {"before": "b"}}, "'B' would stand outside itself: its plugin 'b' names itself."),
            ({"b": {"after": "b"}}, "'B' would stand outside itself: its plugin 'b' names itself."),
            (
                {"a": {"before": "c"}, "c": {"before": "b"}, "b": {"before": "a"}},
                f"'A' stands outside 'C' {OWN}, 'C' outside 'B' {OWN}, 'B' outside 'A' {OWN}.",
            ),
        ],
        ids=["two", "alone", "before itself", "after itself", "three"],
    )
    def test_they_are_said_in_words(self, said: dict[str, dict[str, str]], words: str) -> None:
        with pytest.raises(Contradiction) as raised:
            ordered(layers("a", "b", "c", **said))
        assert raised.value.detail == words

    def test_a_plugin_that_names_itself_contradicts_itself_with_one_interceptor_or_several(self) -> None:
        for bound in (("a",), ("a", "a")):
            with pytest.raises(Contradiction, match="'A' would stand outside itself"):
                ordered(layers(*bound, a={"before": "a"}))

    def test_each_is_found(self) -> None:
        found = contradictions(layers(*"abcd", a={"before": "b", "after": "b"}, d={"before": "cd", "after": "c"}))
        assert sorted("".join(sorted(each.outer for each in one.cycle)) for one in found) == ["ab", "cd", "d"]

    def test_those_that_take_part_are_named_in_the_order_of_the_words(self) -> None:
        (found,) = contradictions(layers("x", "a", "b", a={"before": "b", "after": "b"}))
        assert names(found.layers) == "ab"


# Against any constraints

DECLARED = st.dictionaries(
    st.sampled_from(PLUGINS),
    st.tuples(*[st.lists(st.sampled_from(PLUGINS + "xy"), max_size=3).map(tuple)] * 2),
)
BOUND = st.lists(st.sampled_from(PLUGINS), max_size=9)


def declaring(bound: Sequence[str], said: Said) -> list[Layer[int]]:
    return [Layer(place, plugin.upper(), plugin, *said.get(plugin, ((), ()))) for place, plugin in enumerate(bound)]


def pairs(bound: Sequence[str], said: Said) -> set[tuple[str, str]]:
    """Who stands outside of whom, as plainly as it can be written."""
    told = {(plugin, name) for plugin, (before, _) in said.items() for name in before}
    told |= {(name, plugin) for plugin, (_, after) in said.items() for name in after}
    return {(outer, inner) for outer, inner in told if outer in bound and inner in bound}


def is_kept(order: Sequence[str], wanted: set[tuple[str, str]]) -> bool:
    return all((inner, outer) not in wanted for at, outer in enumerate(order) for inner in order[at:]) and not any(
        outer == inner for outer, inner in wanted
    )


@given(BOUND, DECLARED)
def test_an_order_keeps_what_is_declared_and_else_a_cycle_is_named(bound: list[str], said: Said) -> None:
    found, wanted = declaring(bound, said), pairs(bound, said)
    refused = contradictions(found)
    if not refused:
        order = ordered(found)
        assert sorted(each.binding for each in order) == list(range(len(bound)))
        assert is_kept([each.plugin for each in order], wanted)
        moved = decided(found)
        assert [each for each in order if each not in moved] == [each for each in found if each not in moved]
        assert all(moved.values())
        assert bool(moved) == (order != found)
        assert wanted or order == found
        return
    with pytest.raises(Contradiction) as raised:
        ordered(found)
    assert not any(is_kept(candidate, wanted) for candidate in permutations(sorted(set(bound))))
    for error in (raised.value, *refused):
        outer, inner = [each.outer for each in error.cycle], [each.inner for each in error.cycle]
        assert set(zip(outer, inner, strict=True)) <= wanted
        assert [*outer[1:], outer[0]] == inner  # each leads to the next, the last to the first
        assert all(repr(plugin.upper()) in error.detail for plugin in outer)
        assert all(name in said for name in {each.by for each in error.cycle})


@given(BOUND, DECLARED)
def test_of_all_orders_that_keep_it_the_first_by_position_is_taken(bound: list[str], said: Said) -> None:
    bound = bound[:5]
    found, wanted = declaring(bound, said), pairs(bound, said)
    kept = [order for order in permutations(range(len(bound))) if is_kept([bound[at] for at in order], wanted)]
    if kept:
        assert tuple(each.binding for each in ordered(found)) == min(kept)
    else:
        assert contradictions(found)
