"""What an older PluginHub stored is brought up to date when it is read; what a newer one stored is refused in words."""

from __future__ import annotations

from typing import Any

import pytest

from pluginhub.configuration import FORMAT, Configuration, UnreadableFormat, stored, upgraded
from pluginhub.configuration.formats import MIGRATIONS

OLD = {
    "format": -1,
    "plugins": {"rate": {"plugin": "flat-rate", "settings": {"per_kg": 2}}},
    "lists": {"quote": ["rate", "rate"]},
}
"""A made-up format before the first: registrations were called plugins, and chains were lists."""


@pytest.fixture(autouse=True)
def migrations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MIGRATIONS, -1, _name_registrations)
    monkeypatch.setitem(MIGRATIONS, 0, _give_steps_policies)


def _name_registrations(data: dict[str, Any]) -> dict[str, Any]:
    plugins = data.pop("plugins")
    for spec in plugins.values():
        spec["config"] = spec.pop("settings")
    return {**data, "registrations": plugins}


def _give_steps_policies(data: dict[str, Any]) -> dict[str, Any]:
    lists = data.pop("lists")
    return {**data, "chains": {name: {"steps": [{"target": one} for one in names]} for name, names in lists.items()}}


def test_it_passes_every_format_in_between() -> None:
    value = stored(OLD)
    assert value.registrations["rate"].config == {"per_kg": 2}
    assert [step.target for step in value.chains["quote"].steps] == ["rate", "rate"]
    assert value.format == FORMAT


def test_it_begins_where_the_data_is() -> None:
    assert stored({"format": 0, "lists": {"empty": []}}).names() == ["empty"]


def test_what_is_stored_stays_as_it_is() -> None:
    upgraded(OLD)
    assert OLD["format"] == -1
    assert OLD["plugins"] == {"rate": {"plugin": "flat-rate", "settings": {"per_kg": 2}}}


def test_todays_format_is_taken_as_it_is() -> None:
    data = Configuration().data()
    assert upgraded(data) is data
    assert stored(data) == Configuration()


def test_a_file_that_names_no_format_has_todays() -> None:
    assert upgraded({"chains": {}}) == {"chains": {}}


def test_one_from_the_future_is_refused_in_words() -> None:
    with pytest.raises(UnreadableFormat) as caught:
        stored({"format": FORMAT + 1, "registrations": {}})
    assert str(caught.value) == (
        f"This configuration has the format {FORMAT + 1}: it was written by a newer PluginHub. This one reads formats"
        f" up to {FORMAT}. Install that version here, or publish anew with this one."
    )


def test_one_that_never_was_is_refused() -> None:
    with pytest.raises(UnreadableFormat, match="There is no format -2 of configurations"):
        stored({"format": -2})


@pytest.mark.parametrize("data", [None, [], "x", {"format": "one"}, {"format": None}, {"format": 1.5}, {"more": 1}])
def test_what_is_no_configuration_says_where(data: Any) -> None:
    with pytest.raises(UnreadableFormat, match="A stored configuration cannot be read: "):
        stored(data)


def test_there_is_a_migration_for_every_format_there_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(MIGRATIONS, -1)
    monkeypatch.delitem(MIGRATIONS, 0)
    assert sorted(MIGRATIONS) == list(range(1, FORMAT))


def test_a_value_of_another_format_cannot_be_made() -> None:
    for other in (0, FORMAT + 1):
        with pytest.raises(ValueError, match="format"):
            Configuration(format=other)
