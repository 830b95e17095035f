"""Configuration forms: what each annotation becomes, what comes back, and that secrets never leave."""

from __future__ import annotations

import datetime
import enum
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from django import forms
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, SecretStr, field_validator, model_validator

from pluginhub.admin.configforms import form_for

CANARY = "hunter2-canary"


class Unit(enum.Enum):
    KM = "km"
    MILE = "mi"


class Limits(BaseModel):
    """How much is let through."""

    soft: Annotated[int, Field(ge=1, le=10)] = 3
    hard: int | None = None


class Upstream(BaseModel):
    name: str
    token: SecretStr


def bound(model: type[BaseModel], data: dict[str, Any], **options: Any) -> Any:
    """Return the form as a browser sends it back: nothing it does not say is filled in."""
    return form_for(model)(data, **options)


def saved(model: type[BaseModel], data: dict[str, Any], **options: Any) -> dict[str, Any]:
    form = bound(model, data, **options)
    assert form.is_valid(), form.errors.as_json()
    config: dict[str, Any] = form.config
    return config


def errors(model: type[BaseModel], data: dict[str, Any], **options: Any) -> dict[str, list[str]]:
    form = bound(model, data, **options)
    assert not form.is_valid()
    return {name: list(messages) for name, messages in form.errors.items()}


class TestSimpleFields:
    def test_defaults_are_shown_and_come_back_unchanged(self) -> None:
        class Config(BaseModel):
            greeting: str = "hello"
            factor: float = 1.5
            count: int = 3
            loud: bool = True
            price: Decimal = Decimal("9.50")
            since: datetime.date = datetime.date(2026, 1, 31)
            unit: Unit = Unit.MILE
            tags: list[str] = ["a", "b"]
            made: list[int] = Field(default_factory=lambda: [1, 2])

        form = form_for(Config)()
        shown = {name: form[name].value() for name in form.fields}
        assert shown["tags"] == "a\nb"
        assert shown["made"] == "1\n2"
        assert shown["unit"] == "mi"
        assert Config.model_validate(saved(Config, shown)) == Config()

    def test_what_comes_back_is_plain_json(self) -> None:
        class Config(BaseModel):
            price: Decimal
            since: datetime.date
            unit: Unit
            size: Literal[1, 2]

        config = saved(Config, {"price": "9.50", "since": "2026-01-31", "unit": "km", "size": "2"})
        assert config == {"price": "9.50", "since": "2026-01-31", "unit": "km", "size": 2}
        assert json.loads(json.dumps(config)) == config

    def test_an_unticked_box_is_false(self) -> None:
        class Config(BaseModel):
            loud: bool = True

        assert saved(Config, {}) == {"loud": False}

    def test_an_optional_box_knows_three_answers(self) -> None:
        class Config(BaseModel):
            loud: bool | None = True

        assert saved(Config, {"loud": ""}) == {"loud": None}
        assert saved(Config, {"loud": "false"}) == {"loud": False}
        assert saved(Config, {"loud": "true"}) == {"loud": True}

    def test_an_empty_number_means_the_default_or_nothing(self) -> None:
        class Config(BaseModel):
            count: int = 3
            limit: int | None = 7

        assert saved(Config, {"count": "", "limit": ""}) == {"limit": None}

    def test_a_required_field_says_so_in_the_page_and_on_the_server(self) -> None:
        class Config(BaseModel):
            name: str
            count: int

        assert set(errors(Config, {})) == {"name", "count"}
        assert str(form_for(Config)()["name"]).count("required") == 1

    def test_empty_text_is_a_value_where_text_is_meant(self) -> None:
        class Config(BaseModel):
            prefix: str = "x"
            suffix: str | None = "y"

        assert saved(Config, {"prefix": "", "suffix": ""}) == {"prefix": "", "suffix": None}

    def test_text_keeps_the_spaces_around_it(self) -> None:
        class Config(BaseModel):
            separator: str = ", "

        assert saved(Config, {"separator": " ; "}) == {"separator": " ; "}

    def test_moments_and_urls_are_read_by_the_model(self) -> None:
        class Config(BaseModel):
            at: datetime.datetime
            url: HttpUrl | None = None

        assert saved(Config, {"at": "2026-01-31T09:00:00Z", "url": ""})["url"] is None
        wrong = errors(Config, {"at": "soon", "url": "nope"})
        assert set(wrong) == {"at", "url"}

    def test_an_alias_names_the_key(self) -> None:
        class Config(BaseModel):
            kind: str = Field("a", alias="x-kind")

        assert saved(Config, {"x-kind": "b"}) == {"x-kind": "b"}


class TestChoices:
    def test_a_literal_is_a_select_and_refuses_others(self) -> None:
        class Config(BaseModel):
            mode: Literal["fast", "safe"] = "safe"

        assert isinstance(form_for(Config)().fields["mode"], forms.ChoiceField)
        assert "mode" in errors(Config, {"mode": "wild"})

    def test_a_required_choice_begins_unchosen(self) -> None:
        class Config(BaseModel):
            mode: Literal["fast", "safe"]

        assert form_for(Config)()["mode"].value() in (None, "")
        assert "mode" in errors(Config, {"mode": ""})

    def test_an_enum_shows_its_labels(self) -> None:
        class Config(BaseModel):
            unit: Unit = Unit.KM

        assert ">KM<" in str(form_for(Config)()["unit"])

    @pytest.mark.parametrize("annotation", [list[Unit], set[Literal["km", "mi"]], tuple[Literal["km", "mi"], ...]])
    def test_several_of_some_are_checkboxes(self, annotation: Any) -> None:
        config = type("Config", (BaseModel,), {"__annotations__": {"units": annotation}, "units": ["km"]})
        assert str(form_for(config)()["units"]).count('type="checkbox"') == 2
        assert saved(config, {"units": ["mi"]}) == {"units": ["mi"]}
        assert saved(config, {}) == {"units": []}


class TestLinesAndPairs:
    def test_one_a_line_without_blank_ones(self) -> None:
        class Config(BaseModel):
            codes: list[str] = []

        assert saved(Config, {"codes": "BER\r\n\r\n  LHR \n"}) == {"codes": ["BER", "LHR"]}

    def test_a_wrong_number_is_named_by_its_line(self) -> None:
        class Config(BaseModel):
            sizes: list[int] = []

        assert "Line 2" in errors(Config, {"sizes": "1\ntwo"})["sizes"][0]

    def test_an_item_the_model_refuses_is_named_by_its_number(self) -> None:
        class Config(BaseModel):
            codes: list[Annotated[str, Field(max_length=3)]] = []

        assert errors(Config, {"codes": "BER\nLONG"})["codes"][0].startswith("2: ")

    def test_pairs_of_text_and_of_numbers(self) -> None:
        class Config(BaseModel):
            names: dict[str, str] = {}
            rates: dict[str, int | float] = {}

        config = saved(Config, {"names": "a = x=y\nb=", "rates": "eu=1.5\nus=2"})
        assert config == {"names": {"a": "x=y", "b": ""}, "rates": {"eu": 1.5, "us": 2}}

    def test_a_key_twice_and_a_line_without_equals_are_refused(self) -> None:
        class Config(BaseModel):
            names: dict[str, str] = {}

        assert "twice" in errors(Config, {"names": "a=1\na=2"})["names"][0]
        assert "Line 1" in errors(Config, {"names": "nonsense"})["names"][0]

    @given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]))))
    def test_whatever_lines_cannot_say_is_shown_as_json(self, items: list[str]) -> None:
        class Config(BaseModel):
            items: list[str] = []

        shown = form_for(Config)(stored={"items": items})["items"].value()
        assert saved(Config, {"items": shown}) == {"items": items}

    @given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs", "Cc"])), st.text("ab =\n{}")))
    def test_whatever_pairs_cannot_say_is_shown_as_json(self, pairs: dict[str, str]) -> None:
        class Config(BaseModel):
            pairs: dict[str, str] = {}

        shown = form_for(Config)(stored={"pairs": pairs})["pairs"].value()
        assert saved(Config, {"pairs": shown}) == {"pairs": pairs}


class TestConstraints:
    def test_limits_stand_in_the_widget_and_in_words(self) -> None:
        class Config(BaseModel):
            count: int = Field(3, ge=1, lt=10, description="How <many>.")
            code: str = Field("ABC", min_length=3, max_length=4, pattern=r"^[A-Z-]+$")

        form = form_for(Config)()
        count, code = str(form["count"]), str(form["code"])
        assert 'min="1"' in count
        assert 'max="9"' in count
        assert 'minlength="3"' in code
        assert 'maxlength="4"' in code
        assert 'pattern="[A-Z\\-]+"' in code
        assert form.fields["count"].help_text == "How &lt;many&gt;. At least 1. Less than 10."
        assert "<code>^[A-Z-]+$</code>" in str(form.fields["code"].help_text)

    def test_the_model_has_the_last_word(self) -> None:
        class Config(BaseModel):
            ratio: float = Field(1.0, gt=0)

        assert "greater than 0" in errors(Config, {"ratio": "0"})["ratio"][0]

    def test_a_validator_speaks_at_its_field(self) -> None:
        class Config(BaseModel):
            code: str = "ABC"

            @field_validator("code")
            @classmethod
            def known(cls, code: str) -> str:
                if code != "ABC":
                    raise ValueError("no such airport")
                return code

        assert errors(Config, {"code": "XXX"}) == {"code": ["no such airport"]}

    def test_what_concerns_several_fields_is_said_of_the_form(self) -> None:
        class Config(BaseModel):
            low: int = 1
            high: int = 2

            @model_validator(mode="after")
            def ordered(self) -> Config:
                if self.low > self.high:
                    raise ValueError("low is above high")
                return self

        assert errors(Config, {"low": "3", "high": "2"}) == {"__all__": ["low is above high"]}

    def test_a_validator_that_breaks_is_an_error_of_the_form(self) -> None:
        class Config(BaseModel):
            code: str = "ABC"

            @field_validator("code")
            @classmethod
            def broken(cls, code: str) -> str:
                raise KeyError(code)

        assert "KeyError" in errors(Config, {"code": "XXX"})["__all__"][0]


class TestNestedModels:
    class Config(BaseModel):
        name: str = "x"
        limits: Limits = Limits()

    class Maybe(BaseModel):
        limits: Limits | None = None

    def test_a_nested_model_is_a_group_with_its_own_words(self) -> None:
        (_, top), (title, group) = form_for(self.Config)().fieldsets()
        assert top["fields"] == ["name"]
        assert title == "Limits"
        assert group["fields"] == ["limits.soft", "limits.hard"]
        assert group["description"] == "How much is let through."

    def test_its_values_and_errors_have_their_places(self) -> None:
        assert saved(self.Config, {"name": "y", "limits.soft": "4", "limits.hard": ""}) == {
            "name": "y",
            "limits": {"soft": 4, "hard": None},
        }
        assert set(errors(self.Config, {"limits.soft": "11"})) == {"limits.soft"}

    def test_a_group_that_is_off_is_none_and_its_fields_are_not_judged(self) -> None:
        assert saved(self.Maybe, {"limits.soft": "nonsense"}) == {"limits": None}
        assert saved(self.Maybe, {"limits": "on", "limits.soft": "5"}) == {"limits": {"soft": 5, "hard": None}}
        assert "limits.soft" in errors(self.Maybe, {"limits": "on", "limits.soft": "nonsense"})

    def test_a_field_in_an_optional_group_does_not_hold_up_the_browser(self) -> None:
        class Config(BaseModel):
            upstream: Upstream | None = None

        assert "required" not in str(form_for(Config)()["upstream.name"])

    def test_defaults_of_the_outer_model_count_inside(self) -> None:
        class Config(BaseModel):
            limits: Limits = Limits(soft=9)

        assert form_for(Config)()["limits.soft"].value() == 9

    def test_a_model_that_contains_itself_ends_in_json(self) -> None:
        form = form_for(Tree)()
        assert "children" in form.fields
        assert saved(Tree, {"label": "a", "children": '[{"label": "b"}]'})["children"] == [{"label": "b"}]


class Tree(BaseModel):
    label: str
    children: list[Tree] = []


class TestJson:
    class Config(BaseModel):
        limits: list[Limits] = []
        either: int | str | None = None
        anything: Any = None
        call: Callable[[int], int] | None = None

    def test_anything_else_is_json(self) -> None:
        config = saved(self.Config, {"limits": '[{"soft": 2}]', "either": '"x"', "anything": "{}", "call": ""})
        assert config == {"limits": [{"soft": 2}], "either": "x", "anything": {}, "call": None}

    def test_an_error_inside_says_where(self) -> None:
        assert errors(self.Config, {"limits": '[{"soft": 2}, {"soft": 99}]'})["limits"][0].startswith("2 › soft: ")

    def test_what_was_typed_is_shown_again(self) -> None:
        form = bound(self.Config, {"limits": "[1,"})
        assert not form.is_valid()
        assert form["limits"].value() == "[1,"

    @pytest.mark.parametrize(
        "text",
        [
            "{",
            "NaN",
            "[Infinity]",
            '{"a": 1, "a": 2}',
            r'"\u0000"',
            r'"\ud800"',
            "[" * 40 + "]" * 40,
            "[" * 100_000,
            "1e999",
        ],
    )
    def test_what_cannot_be_stored_is_refused_at_the_field(self, text: str) -> None:
        assert set(errors(self.Config, {"anything": text})) == {"anything"}

    def test_a_backslash_before_u0000_is_no_null(self) -> None:
        assert saved(self.Config, {"anything": r'"\\u0000"'})["anything"] == "\\u0000"


class TestSecrets:
    class Config(BaseModel):
        url: str = "u"
        token: SecretStr
        spare: SecretStr | None = None

    stored = {"url": "u", "token": CANARY, "spare": CANARY}

    def test_the_page_never_holds_a_secret(self) -> None:
        form = form_for(self.Config)(stored=self.stored)
        assert CANARY not in form.as_div()
        again = bound(self.Config, {"url": "", "token": CANARY, "spare": ""}, stored=self.stored)
        again.is_valid()
        assert CANARY not in again.as_div()

    def test_empty_keeps_what_is_stored(self) -> None:
        assert saved(self.Config, {"url": "v", "token": "", "spare": ""}, stored=self.stored) == {
            "url": "v",
            "token": CANARY,
            "spare": CANARY,
        }

    def test_a_new_one_replaces_it(self) -> None:
        assert saved(self.Config, {"url": "v", "token": "new"}, stored=self.stored)["token"] == "new"

    def test_only_an_optional_one_can_be_cleared(self) -> None:
        form = form_for(self.Config)(stored=self.stored)
        assert "Clear" in str(form["spare"])
        assert "Clear" not in str(form["token"])
        config = saved(self.Config, {"url": "v", "token": "", "spare_clear": "on"}, stored=self.stored)
        assert config["spare"] is None

    def test_a_required_one_must_be_given_once(self) -> None:
        assert set(errors(self.Config, {"url": "v", "token": ""})) == {"token"}

    def test_errors_do_not_repeat_it(self) -> None:
        class Config(BaseModel):
            token: SecretStr = Field(min_length=50)

        assert CANARY not in str(errors(Config, {"token": CANARY}))

    def test_inside_json_a_sign_stands_for_it(self) -> None:
        class Config(BaseModel):
            upstreams: list[Upstream] = []

        stored = {"upstreams": [{"name": "a", "token": CANARY}, {"name": "b", "token": "other"}]}
        form = form_for(Config)(stored=stored)
        shown = form["upstreams"].value()
        assert CANARY not in shown
        assert saved(Config, {"upstreams": shown}, stored=stored) == stored
        reordered = json.dumps(json.loads(shown)[::-1])
        assert saved(Config, {"upstreams": reordered}, stored=stored) == {"upstreams": stored["upstreams"][::-1]}

    def test_a_sign_outside_a_secret_reveals_nothing(self) -> None:
        class Config(BaseModel):
            upstreams: list[Upstream] = []

        stored = {"upstreams": [{"name": "a", "token": CANARY}]}
        stolen = json.dumps([{"name": "(kept secret upstreams/0/token)", "token": "x"}])
        form = bound(Config, {"upstreams": stolen}, stored=stored)
        assert not form.is_valid()
        assert CANARY not in form.as_div()

    def test_stored_json_that_no_longer_fits_is_not_shown_where_it_may_hold_secrets(self) -> None:
        class Config(BaseModel):
            upstreams: list[Upstream] = []

        stored = {"upstreams": [{"nom": "a", "jeton": CANARY}]}
        assert CANARY not in form_for(Config)(stored=stored).as_div()


class TestKeysTheModelDoesNotName:
    def test_they_go_unless_the_model_allows_them(self) -> None:
        class Strict(BaseModel):
            a: int = 1

        class Open(BaseModel):
            model_config = ConfigDict(extra="allow")
            a: int = 1

        assert saved(Strict, {"a": "2"}, stored={"a": 1, "b": 3}) == {"a": 2}
        assert saved(Open, {"a": "2"}, stored={"a": 1, "b": 3}) == {"a": 2, "b": 3}


class TestAuthorsOwnForm:
    class Config(BaseModel):
        code: str = Field("ABC", max_length=3)
        token: SecretStr | None = None

    class Form(forms.Form):
        code = forms.CharField(help_text="Three letters.")
        token = forms.CharField(required=False, widget=forms.PasswordInput(render_value=True))

    def test_its_values_are_checked_by_the_model(self) -> None:
        form = form_for(self.Config, own=self.Form)({"code": "LONG"})
        assert not form.is_valid()
        assert set(form.errors) == {"code"}

    def test_empty_secrets_keep_and_are_not_shown(self) -> None:
        stored = {"code": "ABC", "token": CANARY}
        made = form_for(self.Config, own=self.Form)
        assert CANARY not in made(stored=stored).as_div()
        form = made({"code": "XYZ", "token": ""}, stored=stored)
        assert form.is_valid()
        assert form.config == {"code": "XYZ", "token": CANARY}
