"""The published value: what it says of itself, how two differ, and what makes one unfit to publish."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import pytest
from django.test.utils import override_settings
from pydantic import BaseModel, SecretStr, ValidationError, model_validator

from pluginhub import loading, tenancy
from pluginhub.configuration import (
    ChainSpec,
    Change,
    CompositionSpec,
    Configuration,
    InterceptorSpec,
    MemberSpec,
    PointSpec,
    Problem,
    RegistrationSpec,
    StepSpec,
    difference,
    validate,
)
from pluginhub.encryption import seal_config
from pluginhub.plugins import CompositePlugin, Plugin
from pluginhub.types import Tenant

ACME = Tenant("acme")


class Order(BaseModel):
    id: int
    total: float


class Priced(Order):
    price: float


class Weighed(BaseModel):
    id: int
    weight: float


class Tagged(BaseModel):
    id: str
    total: float


class Echo(Plugin):
    """Return the value."""

    def process(self, value: Any, context: Any) -> Any:
        return value


class Mailer(Echo):
    """Has a configuration, with a secret, and a past."""

    config_version = 2

    class Config(BaseModel):
        host: str
        port: int = 25
        password: SecretStr = SecretStr("")

        @model_validator(mode="after")
        def _no_port_without_host(self) -> Mailer.Config:
            if self.host == "nowhere":
                raise ValueError("There is no nowhere.")
            return self

    @classmethod
    def migrate_config(cls, data: dict[str, Any], from_version: int) -> dict[str, Any]:
        return {"host": data.pop("server"), **data}


class Prices(Echo):
    Output = Priced


class Takes(Echo):
    Input = Order


class TakesWeight(Echo):
    Input = Weighed


class TakesTag(Echo):
    Input = Tagged


class Guard(Plugin):
    """Only intercepts."""

    def intercept(self, request: Any, call_next: Any) -> Any:
        return call_next(request)


class Both(Guard, Echo):
    """Intercepts, and can be called."""


class Parent(CompositePlugin):
    """Runs its children."""


class Broken(Echo):
    """Is there, but its module is not importable under this name."""


HERE = __name__
PLUGINS = {
    "echo": f"{HERE}:Echo",
    "mailer": f"{HERE}:Mailer",
    "prices": f"{HERE}:Prices",
    "takes": f"{HERE}:Takes",
    "takes-weight": f"{HERE}:TakesWeight",
    "takes-tag": f"{HERE}:TakesTag",
    "guard": f"{HERE}:Guard",
    "both": f"{HERE}:Both",
    "parent": f"{HERE}:Parent",
    "gone": "no_such_distribution.module:Plugin",
}


@pytest.fixture(autouse=True)
def catalog() -> Iterator[None]:
    with override_settings(PLUGINHUB={"PLUGINS": PLUGINS}), tenancy.enter(ACME):
        loading.forget()
        yield
    loading.forget()


def registration(name: str, plugin: str = "echo", **rest: Any) -> RegistrationSpec:
    return RegistrationSpec(name=name, plugin=plugin, **rest)


def chain(name: str, *targets: str, **rest: Any) -> ChainSpec:
    return ChainSpec(name=name, steps=tuple(StepSpec(target=target) for target in targets), **rest)


def composition(name: str, *targets: str, **rest: Any) -> CompositionSpec:
    return CompositionSpec(name=name, members=tuple(MemberSpec(target=target) for target in targets), **rest)


def configuration(*specs: Any, **rest: Any) -> Configuration:
    def of(kind: type[Any]) -> dict[str, Any]:
        return {spec.name: spec for spec in specs if type(spec) is kind}

    interceptors = tuple(spec for spec in specs if isinstance(spec, InterceptorSpec))
    points = {spec.point: spec for spec in specs if isinstance(spec, PointSpec)}
    return Configuration(
        registrations=of(RegistrationSpec),
        chains=of(ChainSpec),
        compositions=of(CompositionSpec),
        interceptors=interceptors,
        points=points,
        **rest,
    )


def problems(*specs: Any, allowed: Collection[str] | None = None, live: Configuration | None = None) -> list[Problem]:
    return validate(configuration(*specs), loading.catalog(), allowed, live=live)


# The value


def test_every_name_has_a_kind_and_a_spec() -> None:
    whole = configuration(registration("a"), chain("b", "a"), composition("c", "a"))
    assert [(name, whole.kind_of(name), whole.spec(name).name) for name in whole.names()] == [
        ("a", "registration", "a"),
        ("b", "chain", "b"),
        ("c", "composition", "c"),
    ]
    assert whole.kind_of("d") is None
    with pytest.raises(KeyError):
        whole.spec("d")


def test_it_survives_being_stored_as_json() -> None:
    whole = configuration(
        registration("a", config={"x": [1, None]}),
        chain("b", "a"),
        composition("c", "a"),
        InterceptorSpec(registration="a", scope="request", methods=("GET",)),
        PointSpec(point="order.total", targets=("a",)),
    )
    again = Configuration.model_validate(whole.data())
    assert again == whole
    assert again.digest() == whole.digest()


def test_the_digest_does_not_depend_on_the_order_of_registrations() -> None:
    one, two = registration("a"), registration("b")
    assert configuration(one, two).digest() == configuration(two, one).digest()


def test_it_is_immutable() -> None:
    with pytest.raises(ValidationError):
        registration("a").plugin = "other"  # type: ignore[misc]


def test_a_member_without_a_key_has_its_target_s_name() -> None:
    assert MemberSpec(target="a").key == "a"


def test_a_name_that_is_left_out_is_the_key() -> None:
    whole = Configuration.model_validate(
        {"registrations": {"a": {"plugin": "echo"}}, "points": {"order.total": {"targets": ["a"]}}}
    )
    assert whole == configuration(registration("a"), PointSpec(point="order.total", targets=("a",)))


def test_a_name_that_is_not_its_key_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"chains\.dup\.name is 'price': write the key, or leave name out"):
        Configuration(chains={"dup": chain("price")})


def test_it_is_in_the_order_of_names() -> None:
    whole = configuration(*map(registration, ("zz", "aaaa", "b")))
    assert list(Configuration.model_validate(whole.data()).registrations) == ["aaaa", "b", "zz"]


def test_what_is_wrong_with_it_is_told_without_its_values() -> None:
    with pytest.raises(ValidationError) as caught:
        Configuration.model_validate({"registrations": {"a": {"plugin": "", "config": {"password": "hunter2"}}}})
    assert "hunter2" not in str(caught.value)


# Differences


def test_what_was_added_removed_and_changed_is_told_with_its_fields() -> None:
    old = configuration(registration("a", config={"x": 1, "y": 1}), registration("b"), chain("c", "a"))
    new = configuration(registration("a", config={"x": 2, "z": None}, title="A"), chain("c", "a", "a"), chain("d"))
    assert difference(old, new) == [
        Change("registration", "a", "changed", ("title", "config.x", "config.y", "config.z")),
        Change("registration", "b", "removed"),
        Change("chain", "c", "changed", ("steps",)),
        Change("chain", "d", "added"),
    ]


def test_interceptors_are_told_by_what_they_wrap() -> None:
    spec = InterceptorSpec(registration="a", scope="call")
    changes = difference(configuration(spec), configuration(spec, spec))
    assert list(map(str, changes)) == ["interceptor a around call 2 added"]


def test_equal_configurations_do_not_differ() -> None:
    whole = configuration(registration("a"), PointSpec(point="p", targets=("a",)))
    assert difference(whole, Configuration.model_validate(whole.data())) == []


# Validation


def test_a_sound_configuration_has_no_problems() -> None:
    assert (
        problems(
            registration("a"),
            registration("mail", "mailer", config={"host": "x"}, config_version=2),
            registration("guard", "guard"),
            chain("c", "a", "mail"),
            composition("m", "c", "a", strategy="merge"),
            composition("p", "a", strategy="parent", plugin="parent"),
            InterceptorSpec(registration="guard", scope="call", targets=("c",)),
            PointSpec(point="order.total", targets=("m",)),
        )
        == []
    )


def test_an_unknown_plugin_names_near_misses() -> None:
    assert problems(registration("a", "imailer")) == [
        ("registration", "a", "plugin", "No plugin named 'imailer' is installed. Did you mean 'mailer'?")
    ]


def test_a_plugin_that_cannot_be_imported_is_a_problem() -> None:
    ((kind, name, field, message),) = problems(registration("a", "gone"))
    assert (kind, name, field) == ("registration", "a", "plugin")
    assert "no_such_distribution" in message


@pytest.mark.parametrize("plugin", ["gone", "never-heard-of"])
def test_a_lost_plugin_does_not_stand_in_the_way_of_other_changes(plugin: str) -> None:
    live = configuration(registration("a", plugin))
    assert problems(registration("a", plugin, title="New"), registration("b"), live=live) == []


def test_a_lost_plugin_that_is_used_in_another_way_is_a_problem() -> None:
    live = configuration(registration("a", "gone"))
    assert len(problems(registration("a", "gone", config={"x": 1}), live=live)) == 1


def test_a_plugin_this_tenant_may_not_use() -> None:
    assert problems(registration("a", "mailer"), allowed={"echo"}) == [
        ("registration", "a", "plugin", "This tenant may not use the plugin 'mailer'.")
    ]


@pytest.mark.parametrize(
    ("config", "field", "message"),
    [
        ({}, "config.host", "Field required"),
        (
            {"host": "x", "port": "many"},
            "config.port",
            "Input should be a valid integer, unable to parse string as an integer",
        ),
        ({"host": "nowhere"}, "config", "Value error, There is no nowhere."),
    ],
)
def test_a_configuration_that_does_not_fit_names_its_field(config: Mapping[str, Any], field: str, message: str) -> None:
    assert problems(registration("mail", "mailer", config=config, config_version=2)) == [
        ("registration", "mail", field, message)
    ]


def test_a_problem_with_a_secret_does_not_tell_it() -> None:
    config = {"host": "x", "password": {"in": "a dict, hunter2"}}
    (problem,) = problems(registration("mail", "mailer", config=config, config_version=2))
    assert problem[2] == "config.password"
    assert "hunter2" not in str(problem)


def test_older_configuration_is_migrated_before_it_is_judged() -> None:
    assert problems(registration("mail", "mailer", config={"server": "x"}, config_version=1)) == []


def test_a_migration_that_fails_is_told() -> None:
    assert problems(registration("mail", "mailer", config={}, config_version=1)) == [
        ("registration", "mail", "config", "migrate_config of 'mailer' failed with KeyError: 'server'")
    ]


def test_sealed_secrets_are_opened_for_the_judgement() -> None:
    sealed = seal_config(Mailer.Config, {"host": "x", "password": "p"}, tenant=ACME, registration="mail")
    assert problems(registration("mail", "mailer", config=sealed, config_version=2)) == []
    ((_, _, field, message),) = problems(registration("post", "mailer", config=sealed, config_version=2))
    assert field == "config"
    assert "does not open" in message


def test_missing_and_disabled_targets_are_told_apart() -> None:
    assert problems(registration("a"), registration("off", enabled=False), chain("c", "a", "of", "off")) == [
        ("chain", "c", "steps.1.target", "There is no 'of'. Did you mean 'off'?"),
        ("chain", "c", "steps.2.target", "'off' is disabled. Enable it, or use another."),
    ]


def test_what_is_disabled_is_not_judged() -> None:
    assert problems(registration("a", "never-heard-of", enabled=False), chain("c", "nobody", enabled=False)) == []


def test_members_and_points_are_judged_like_steps() -> None:
    assert problems(composition("m", "x"), PointSpec(point="p", targets=("x",))) == [
        ("composition", "m", "members.0.target", "There is no 'x'."),
        ("point", "p", "targets", "There is no 'x'."),
    ]


def private(name: str, *targets: str, **rest: Any) -> CompositionSpec:
    return CompositionSpec(
        name=name, members=tuple(MemberSpec(target=target, private=True) for target in targets), **rest
    )


def test_a_private_member_is_its_compositions_alone() -> None:
    users = (
        chain("c", "a"),
        composition("m", "a"),
        InterceptorSpec(registration="g", scope="call", targets=("a",)),
        InterceptorSpec(registration="h", scope="call"),
        PointSpec(point="p", targets=("a",)),
    )
    whole = (registration("a"), registration("g", "guard"), registration("h", "guard"), private("y", "a"), *users)
    why = "'a' is private to the composition 'y'."
    assert problems(*whole) == [
        ("chain", "c", "steps.0.target", why),
        ("composition", "m", "members.0.target", why),
        ("interceptor", "g", "targets", why),
        ("point", "p", "targets", why),
    ]


def test_only_one_composition_can_have_a_private_member() -> None:
    assert problems(registration("a"), private("x", "a"), private("y", "a")) == [
        ("composition", "x", "members.0.target", "'a' is private to the composition 'y'."),
        ("composition", "y", "members.0.target", "'a' is private to the composition 'x'."),
    ]


def test_a_private_member_is_no_interceptor_and_not_public() -> None:
    opened = registration("a", "both", public=True, rate_limit="60/m")
    assert problems(opened, private("y", "a"), InterceptorSpec(registration="a", scope="call")) == [
        ("registration", "a", "public", "'a' is private to the composition 'y'. Strangers cannot call it."),
        ("interceptor", "a", "registration", "'a' is private to the composition 'y'."),
    ]


def test_what_is_switched_off_uses_no_private_member() -> None:
    assert problems(registration("a"), private("y", "a"), chain("c", "a", enabled=False)) == []


def test_a_configuration_knows_its_private_members() -> None:
    y = CompositionSpec(name="y", members=(MemberSpec(target="a", private=True), MemberSpec(target="b")))
    assert Configuration(compositions={"y": y}).private() == {"a"}


def test_a_plugin_without_a_process_hook_cannot_be_called() -> None:
    assert problems(registration("g", "guard"), chain("c", "g")) == [
        ("chain", "c", "steps.0.target", "'g' cannot be called: the plugin 'guard' has no process hook.")
    ]


def test_an_interceptor_needs_the_hook() -> None:
    assert problems(registration("a"), InterceptorSpec(registration="a", scope="call")) == [
        ("interceptor", "a", "registration", "The plugin 'echo' has no intercept hook.")
    ]


def test_an_interceptor_of_a_target_that_is_not_there() -> None:
    assert problems(registration("g", "guard"), InterceptorSpec(registration="g", scope="call", targets=("x",))) == [
        ("interceptor", "g", "targets", "There is no 'x'.")
    ]


def test_two_members_with_one_key() -> None:
    twice = MemberSpec(target="a"), MemberSpec(target="b", key="a")
    spec = CompositionSpec(name="m", strategy="merge", members=twice)
    assert problems(registration("a"), registration("b"), spec) == [
        ("composition", "m", "members.1.key", "Another member has the key 'a'.")
    ]


def test_a_parent_must_be_a_composite() -> None:
    assert problems(composition("p", strategy="parent", plugin="echo")) == [
        ("composition", "p", "plugin", "The plugin 'echo' is no CompositePlugin and cannot be a parent.")
    ]


def test_a_parent_by_strategy_and_by_plugin_go_together() -> None:
    for spec in (composition("p", strategy="parent"), composition("p", plugin="parent")):
        assert problems(spec) == [
            (
                "composition",
                "p",
                "plugin",
                "Only the strategy “as the parent plugin says” has a plugin, and it needs one.",
            )
        ]


def test_a_public_target_needs_a_rate_limit() -> None:
    assert problems(registration("a", public=True)) == [
        ("registration", "a", "rate_limit", "A public target needs a rate limit, such as 60/m.")
    ]


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (
            registration("A b"),
            (
                "registration",
                "A b",
                "name",
                "A name is at most 63 lower case letters, digits, - and _, and begins with a letter.",
            ),
        ),
        (
            registration("a", rate_limit="60/w"),
            (
                "registration",
                "a",
                "rate_limit",
                "'60/w' is no rate limit: write calls per s, m, h or d, such as 60/m.",
            ),
        ),
        (
            PointSpec(point="1 point"),
            ("point", "1 point", "point", "A point's name is letters, digits and . : _ -, and begins with a letter."),
        ),
    ],
)
def test_what_no_row_could_hold(spec: Any, problem: Problem) -> None:
    assert problems(spec) == [problem]


@pytest.mark.parametrize(
    ("rest", "field"),
    [
        ({"scope": "request", "path_prefix": "shop"}, "path_prefix"),
        ({"scope": "request", "methods": ("get",)}, "methods"),
        ({"scope": "call", "methods": ("GET",)}, "scope"),
    ],
)
def test_what_no_row_of_an_interceptor_could_hold(rest: dict[str, Any], field: str) -> None:
    ((kind, name, where, _),) = problems(registration("g", "guard"), InterceptorSpec(registration="g", **rest))
    assert (kind, name, where) == ("interceptor", "g", field)


def test_a_key_that_the_model_does_not_know_names_near_misses() -> None:
    config = {"host": "x", "prot": 26}
    (problem,) = problems(registration("mail", "mailer", config=config, config_version=2))
    assert problem == ("registration", "mail", "config.prot", "There is no field 'prot'. Did you mean 'port'?")


def test_a_key_that_a_release_took_away_does_not_stand_in_the_way_of_other_changes() -> None:
    spec = registration("mail", "mailer", config={"host": "x", "prot": 26}, config_version=2)
    assert problems(spec, registration("b"), live=configuration(spec)) == []


@pytest.mark.parametrize(
    ("specs", "path"),
    [
        ((chain("a", "a"),), "a → a"),
        ((chain("a", "b"), composition("b", "c"), chain("c", "a")), "a → b → c → a"),
        ((chain("a", "b"), chain("b", "c"), chain("c", "b")), "b → c → b"),
    ],
)
def test_a_cycle_is_told_once_with_its_path(specs: tuple[Any, ...], path: str) -> None:
    ((_, name, _, message),) = problems(*specs)
    assert message == f"This calls itself: {path}."
    assert path.startswith(name)


def test_using_a_target_twice_is_no_cycle() -> None:
    assert problems(registration("r"), chain("a", "b", "b", "r"), chain("b", "r"), composition("m", "a", "b")) == []


def test_a_very_long_chain_of_chains_is_judged_without_recursion() -> None:
    chains = [chain(f"c{number}", f"c{number + 1}") for number in range(5_000)]
    assert problems(*chains, registration("c5000")) == []


def test_one_name_for_two_targets() -> None:
    assert problems(registration("a"), chain("a")) == [
        ("registration", "a", "name", "Another target has this name."),
        ("chain", "a", "name", "Another target has this name."),
    ]


def test_types_that_fit_along_a_chain() -> None:
    assert problems(registration("p", "prices"), registration("t", "takes"), chain("c", "p", "t")) == []


@pytest.mark.parametrize(
    ("plugin", "reason"),
    [("takes-weight", "the field 'weight' is missing."), ("takes-tag", "the field 'id' is integer, not string.")],
)
def test_types_that_do_not_fit_along_a_chain(plugin: str, reason: str) -> None:
    specs = registration("p", "prices"), registration("t", plugin), chain("inner", "p"), chain("c", "inner", "t")
    assert problems(*specs) == [("chain", "c", "steps.1.target", f"'t' does not take what 'inner' returns: {reason}")]


@pytest.mark.parametrize(
    "unsure",
    [{"on_failure": "skip"}, {"on_failure": "default"}, {"condition": "price"}, {"output": "result"}],
    ids=lambda step: next(iter(step.values())),
)
def test_types_are_not_judged_after_what_may_give_anything(unsure: dict[str, Any]) -> None:
    spec = ChainSpec(name="c", steps=(StepSpec(target="p", **unsure), StepSpec(target="t")))
    assert problems(registration("p", "prices"), registration("t", "takes-weight"), spec) == []
    outer = chain("outer", "c", "t")
    inner = ChainSpec(name="c", steps=(StepSpec(target="p", **unsure),))
    assert problems(registration("p", "prices"), registration("t", "takes-weight"), inner, outer) == []


@pytest.mark.parametrize(
    "unsure",
    [{"on_failure": "skip"}, {"on_failure": "default"}, {"condition": "price"}, {"input": "@"}],
    ids=lambda step: next(iter(step.values())),
)
def test_types_are_not_judged_before_what_may_take_anything(unsure: dict[str, Any]) -> None:
    spec = ChainSpec(name="c", steps=(StepSpec(target="p"), StepSpec(target="t", **unsure)))
    assert problems(registration("p", "prices"), registration("t", "takes-weight"), spec) == []


def test_types_are_judged_elsewhere_in_a_chain_with_a_step_that_may_be_skipped() -> None:
    steps = StepSpec(target="p", on_failure="skip"), StepSpec(target="p"), StepSpec(target="t")
    found = problems(registration("p", "prices"), registration("t", "takes-weight"), ChainSpec(name="c", steps=steps))
    assert [(kind, name, field) for kind, name, field, _ in found] == [("chain", "c", "steps.2.target")]


def test_types_of_fallbacks_are_judged_like_those_of_targets() -> None:
    fits, wrong = registration("t", "takes"), registration("w", "takes-weight")
    steps = StepSpec(target="p"), StepSpec(target="t", on_failure="fallback", fallback="w")
    message = "'w' does not take what 'p' returns: the field 'weight' is missing."
    found = problems(registration("p", "prices"), fits, wrong, ChainSpec(name="c", steps=steps))
    assert found == [("chain", "c", "steps.1.fallback", message)]
    steps = StepSpec(target="t", on_failure="fallback", fallback="p"), StepSpec(target="w")
    found = problems(registration("p", "prices"), fits, wrong, ChainSpec(name="c", steps=steps))
    assert found == [("chain", "c", "steps.1.target", message)]
