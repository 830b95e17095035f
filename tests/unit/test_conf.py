"""The PLUGINHUB setting: typed, lazy, and loud about what it does not know."""

from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test.utils import override_settings

from pluginhub import conf
from pluginhub.conf import Settings, SettingsError, settings


def test_defaults_hold_where_the_host_says_nothing() -> None:
    with override_settings(PLUGINHUB={}):
        assert settings.MAX_BODY_BYTES == 262_144
        assert settings.FENCE == "runs"
        assert settings.METRICS_ADDRESSES == ["127.0.0.1", "::1"]


def test_an_overridden_setting_is_read_anew_and_the_old_one_after_it() -> None:
    with override_settings(PLUGINHUB={"RUN_SECONDS": 5}):
        assert settings.RUN_SECONDS == 5.0
    assert settings.RUN_SECONDS == 30.0


def test_an_unknown_key_names_near_misses() -> None:
    with (
        override_settings(PLUGINHUB={"RUN_SECOND": 5}),
        pytest.raises(SettingsError, match=r"PLUGINHUB\['RUN_SECOND'\] is no setting. Did you mean 'RUN_SECONDS'"),
    ):
        _ = settings.FENCE


def test_a_settings_error_is_what_django_expects() -> None:
    assert issubclass(SettingsError, ImproperlyConfigured)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"POLL_SECONDS": 3}, "PLUGINHUB['POLL_SECONDS'] does not fit: Input should be less than or equal to 2."),
        ({"FENCE": "off"}, "PLUGINHUB['FENCE'] does not fit: Input should be 'runs', 'report' or 'everywhere'."),
        (["PLUGINS"], "PLUGINHUB must be a dict, not list."),
    ],
)
def test_a_value_that_does_not_fit_is_named(given: object, message: str) -> None:
    assert [problem[1] for problem in conf.problems(given)] == [message]


def test_a_wrong_value_is_not_repeated_since_it_may_be_a_secret() -> None:
    (problem,) = conf.problems({"METRICS_TOKEN": ["s3cret"]})
    assert "s3cret" not in str(problem)


def test_all_problems_are_told_at_once() -> None:
    assert len(conf.problems({"QUEU": "a", "JOB_ATTEMPTS": 0})) == 2


@pytest.mark.parametrize(("value", "safe"), [("1", True), ("true", True), ("0", False), ("", False)])
def test_safe_mode_is_set_by_the_environment(monkeypatch: pytest.MonkeyPatch, value: str, safe: bool) -> None:
    monkeypatch.setenv(Settings.SAFE_MODE_VARIABLE, value)
    assert settings.SAFE_MODE is safe
