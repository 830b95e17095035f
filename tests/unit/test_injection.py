"""Constructors filled in by type; plugins that provide what others require."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from pluginhub import Context, Plugin
from pluginhub.building import check_provided, offering
from pluginhub.configuration import ChainSpec, CompositionSpec, Configuration, RegistrationSpec, StepSpec
from pluginhub.context import Cache, Services, Storage
from pluginhub.exceptions import DependencyError, HookError, NotReady, Refuse
from pluginhub.injection import Missing, RunOnly, SeveralSuppliers, Suppliers, build, problems, requirements
from pluginhub.loading import Entry
from pluginhub.testing import MemoryStorage, active, context
from pluginhub.testing import build as build_for_test
from pluginhub.types import Tenant


class Scrubber:
    pass


SCRUBBER = Scrubber()


def provide(wanted: Any) -> Any:
    if wanted is Scrubber:
        return SCRUBBER
    raise Missing(wanted)


class Redact(Plugin):
    class Config(BaseModel):
        kinds: list[str] = ["email"]

    def __init__(self, config: Config, scrubber: Scrubber, storage: Storage) -> None:
        self.config, self.scrubber, self.storage = config, scrubber, storage


class Inheriting(Redact):
    """Has its constructor, and the Config that names, from its base."""


def test_parameters_are_found_by_type() -> None:
    storage = MemoryStorage()
    made = build(Redact, config=Redact.Config(kinds=["card"]), services={Storage: storage}, provide=provide)
    assert made.config.kinds == ["card"]
    assert made.scrubber is SCRUBBER
    assert made.storage is storage


def test_a_constructor_may_be_inherited() -> None:
    made = build(Inheriting, config=Redact.Config(), services={Storage: MemoryStorage()}, provide=provide)
    assert made.scrubber is SCRUBBER


def test_a_configuration_may_extend_the_one_its_constructor_names() -> None:
    class Extended(Redact):
        class Config(Redact.Config):
            size: int = 1

    class Named(Plugin):
        Config = Extended.Config

        def __init__(self, mine: Redact.Config) -> None:
            self.mine = mine

    assert build(Named, config=Extended.Config(size=5)).mine == Extended.Config(size=5)


def test_a_plugin_without_constructor_keeps_its_configuration() -> None:
    class Plain(Plugin):
        class Config(BaseModel):
            size: int = 3

    assert build(Plain, config=Plain.Config(size=5)).config.size == 5
    assert Plain().config.size == 3


class TestConfigurations:
    """None is lost, whatever a constructor forgets."""

    class Sized(Plugin):
        class Config(BaseModel):
            size: int = 3

    def test_a_constructor_that_does_not_hand_it_on(self) -> None:
        class Forgetful(self.Sized):  # type: ignore[name-defined,misc]
            def __init__(self, scrubber: Scrubber) -> None:
                super().__init__()
                self.size = self.config.size

        made = build(Forgetful, config=self.Sized.Config(size=5), provide=provide)
        assert (made.config.size, made.size) == (5, 5)

    def test_a_constructor_that_does_not_call_ours(self) -> None:
        class Alone(self.Sized):  # type: ignore[name-defined,misc]
            def __init__(self) -> None:
                self.own = 1

        assert build(Alone, config=self.Sized.Config(size=5)).config.size == 5

    def test_a_constructor_that_keeps_something_else_has_its_way(self) -> None:
        class Doubling(self.Sized):  # type: ignore[name-defined,misc]
            def __init__(self, config: Any) -> None:
                super().__init__(self.Config(size=config.size * 2))

        assert build(Doubling, config=self.Sized.Config(size=5)).config.size == 10

    def test_a_class_that_makes_its_instances_itself_is_called(self) -> None:
        class Counted(self.Sized):  # type: ignore[name-defined,misc]
            made = 0

            def __new__(cls, config: Any) -> Any:
                cls.made += 1
                return super().__new__(cls)

        assert build(Counted, config=self.Sized.Config(size=5)).config.size == 5
        assert Counted.made == 1

    def test_a_dataclass_is_a_plugin_too(self) -> None:
        @dataclass
        class Declared(self.Sized):  # type: ignore[name-defined,misc]
            scrubber: Scrubber

        made = build(Declared, config=self.Sized.Config(size=5), provide=provide)
        assert (made.config.size, made.scrubber) == (5, SCRUBBER)


def test_what_nobody_provides_is_named_with_plugin_parameter_and_type() -> None:
    with pytest.raises(DependencyError) as caught:
        build(Redact, config=Redact.Config(), services={Storage: MemoryStorage()})
    assert str(caught.value) == (
        "Redact needs 'scrubber' of type Scrubber, and nobody provides it. "
        "Add a provider of Scrubber to PLUGINHUB['PROVIDERS']."
    )


def test_why_something_is_missing_is_said_where_it_is_known() -> None:
    def missing(wanted: Any) -> Any:
        raise Missing(wanted, "The provider 'scrub' cannot be loaded.")

    with pytest.raises(DependencyError, match=r"nobody provides it\. The provider 'scrub' cannot be loaded\. Add"):
        build(Redact, config=Redact.Config(), services={Storage: MemoryStorage()}, provide=missing)


def test_defaults_and_optionals_stand_in() -> None:
    class Choosy(Plugin):
        def __init__(self, cache: Cache | None, scrubber: Scrubber | None = None, size: int = 3) -> None:
            self.made = (cache, scrubber, size)

    assert build(Choosy).made == (None, None, 3)
    assert build(Choosy, provide=provide).made == (None, SCRUBBER, 3)


def test_what_lives_as_long_as_a_run_is_refused_even_where_there_is_a_default() -> None:
    class Leaking(Plugin):
        def __init__(self, scrubber: Scrubber | None = None) -> None:
            self.scrubber = scrubber

    def only_in_runs(wanted: Any) -> Any:
        raise RunOnly(wanted)

    with pytest.raises(DependencyError) as caught:
        build(Leaking, provide=only_in_runs)
    assert str(caught.value) == (
        "Leaking needs 'scrubber' of type Scrubber, which lives as long as one run. "
        "Take it by context.get(Scrubber) where it is used."
    )


def test_a_factory_that_fails_is_named_and_its_words_are_not(caplog: pytest.LogCaptureFixture) -> None:
    def failing(wanted: Any) -> Any:
        raise RuntimeError("password=hunter2")

    with pytest.raises(DependencyError, match=r"'scrubber' of type Scrubber, and making it failed: RuntimeError") as e:
        build(Redact, config=Redact.Config(), services={Storage: MemoryStorage()}, provide=failing)
    assert "hunter2" not in str(e.value)
    assert "hunter2" in caplog.text


def test_a_factory_may_refuse_in_its_own_words() -> None:
    def refusing(wanted: Any) -> Any:
        raise Refuse("No scrubber for this tenant.")

    with pytest.raises(Refuse, match="No scrubber"):
        build(Redact, config=Redact.Config(), services={Storage: MemoryStorage()}, provide=refusing)


def test_a_parameter_without_annotation_is_refused() -> None:
    class Bare(Plugin):
        def __init__(self, thing) -> None:  # type: ignore[no-untyped-def]
            self.thing = thing

    with pytest.raises(DependencyError, match="no annotation"):
        build(Bare)


def test_an_annotation_that_exists_only_for_type_checkers_is_explained() -> None:
    class Lost(Plugin):
        def __init__(self, thing: Ghost) -> None:  # type: ignore[name-defined]  # noqa: F821
            self.thing = thing

    with pytest.raises(DependencyError, match="TYPE_CHECKING"):
        build(Lost)


def test_set_dependencies_takes_services_by_type_or_all_by_name() -> None:
    class Typed(Plugin):
        def set_dependencies(self, scrubber: Scrubber, tenant: Tenant) -> None:
            self.got = (scrubber, tenant)

    class Everything(Plugin):
        def set_dependencies(self, **services: Any) -> None:
            self.got = services

    class Both(Plugin):
        def set_dependencies(self, scrubber: Scrubber, **services: Any) -> None:
            self.got = {"scrubber": scrubber, **services}

    acme = Tenant("acme")
    assert build(Typed, services={Tenant: acme}, provide=provide).got == (SCRUBBER, acme)
    known = {Tenant: acme, Storage: MemoryStorage(), logging.Logger: logging.getLogger("x")}
    assert set(build(Everything, services=known).got) == {"tenant", "storage", "logger"}
    assert set(build(Both, services=known, provide=provide).got) == {"scrubber", "tenant", "storage", "logger"}


def test_requirements_lists_what_must_be_provided() -> None:
    assert requirements(Redact) == {"scrubber": Scrubber, "storage": Storage}


def test_callables_are_not_services() -> None:
    class Odd(Plugin):
        def __init__(self, make: Callable[[], int]) -> None:
            self.make = make

    with pytest.raises(DependencyError):
        build(Odd, provide=provide)


class TestProblems:
    def test_nothing_is_wrong_where_all_is_there_and_nothing_is_made(self) -> None:
        asked = []

        def note(wanted: Any) -> None:
            asked.append(wanted)

        assert problems(Redact, [Storage], note) == []
        assert asked == [Scrubber]

    def test_each_missing_type_is_a_problem_and_what_is_optional_is_none(self) -> None:
        class Needy(Plugin):
            def __init__(self, scrubber: Scrubber, cache: Cache, log: logging.Logger | None = None) -> None: ...

            def set_dependencies(self, storage: Storage) -> None: ...

        found = [error.detail for error in problems(Needy, [Cache], _nobody)]
        assert found == [
            "Needy needs 'scrubber' of type Scrubber, and nobody provides it.",
            "Needy needs 'storage' of type Storage, and nobody provides it.",
        ]

    def test_an_annotation_that_cannot_be_read_is_one(self) -> None:
        class Lost(Plugin):
            def __init__(self, thing: Ghost) -> None: ...  # type: ignore[name-defined]  # noqa: F821

        assert ["TYPE_CHECKING" in str(error) for error in problems(Lost, [], _nobody)] == [True]


def _nobody(wanted: Any) -> Any:
    raise Missing(wanted)


class Rates:
    pass


class Fees:
    pass


class GivesRates(Plugin):
    provides = (Rates,)


class GivesFeesForRates(Plugin):
    provides = (Fees,)

    def __init__(self, rates: Rates) -> None: ...


class TakesFees(Plugin):
    def set_dependencies(self, fees: Fees | None = None) -> None: ...


def suppliers(uses: dict[str, list[str]] | None = None, **classes: type[Plugin]) -> Suppliers:
    return Suppliers(lambda name: classes, classes.get, lambda name: (uses or {}).get(name, ()))


class TestSuppliers:
    def test_who_provides_a_type_is_told_by_the_type_itself(self) -> None:
        class Other(Plugin):
            provides = (type("Rates", (), {}),)

        assert suppliers(other=Other, rates=GivesRates).of(Rates, "fees") == "rates"

    def test_what_nobody_provides_is_missing(self) -> None:
        with pytest.raises(Missing):
            suppliers(rates=GivesRates).of(Fees, "convert")

    def test_nobody_provides_to_itself(self) -> None:
        with pytest.raises(Missing):
            suppliers(rates=GivesRates).of(Rates, "rates")

    def test_two_are_named(self) -> None:
        with pytest.raises(SeveralSuppliers) as caught:
            suppliers(one=GivesRates, two=GivesRates).of(Rates, "fees")
        assert str(caught.value) == (
            "'fees' needs Rates, and 'one' and 'two' both provide it. Disable all of them but one."
        )

    def test_a_plugin_that_cannot_be_loaded_is_named_where_nobody_else_provides_the_type(self) -> None:
        def class_of(name: str) -> type[Plugin]:
            raise NotReady("No module named 'regex'.")

        with pytest.raises(Missing) as caught:
            Suppliers(lambda name: ["broken"], class_of).of(Rates, "fees")
        assert caught.value.why == "'broken' might provide it, but is not ready: No module named 'regex'."

    def test_what_comes_first_is_what_provides_and_what_is_used(self) -> None:
        found = suppliers({"tree": ["convert"]}, tree=GivesFeesForRates, rates=GivesRates)
        assert found.before("tree") == ["rates", "convert"]

    def test_one_after_the_other_is_no_circle(self) -> None:
        found = suppliers(a=TakesFees, b=GivesFeesForRates, c=GivesRates)
        assert [found.cycle(name) for name in "abc"] == [[], [], []]
        found.check("a")

    def test_a_circle_is_refused_with_its_path(self) -> None:
        class GivesRatesForFees(GivesRates):
            def __init__(self, fees: Fees) -> None: ...

        found = suppliers(rates=GivesRatesForFees, fees=GivesFeesForRates)
        with pytest.raises(DependencyError) as caught:
            found.check("rates")
        assert str(caught.value) == (
            "'rates' needs itself: rates → fees → rates. Let one of them take what it needs elsewhere, or disable it."
        )

    def test_a_circle_may_go_through_what_a_chain_uses(self) -> None:
        found = suppliers({"chain": ["fees"], "rates": ["chain"]}, rates=GivesRates, fees=GivesFeesForRates)
        assert found.cycle("rates") == ["rates", "chain", "fees", "rates"]

    def test_a_long_row_needs_no_recursion(self) -> None:
        many = {f"t{n}": [f"t{n + 1}"] for n in range(5000)}
        assert suppliers(many).cycle("t0") == []


def test_candidates_are_found_by_the_names_in_their_source() -> None:
    configuration = Configuration(
        registrations={
            "rates": RegistrationSpec(name="rates", plugin="own"),
            "off": RegistrationSpec(name="off", plugin="own", enabled=False),
            "gone": RegistrationSpec(name="gone", plugin="no-such"),
        },
        chains={"chain": ChainSpec(name="chain", steps=(StepSpec(target="rates"),))},
        compositions={"parent": CompositionSpec(name="parent", plugin="own", strategy="parent")},
    )
    entry = Entry(name="own", dotted="own:Own", origin="setting", provides=("freight.Rates", "Fees"))
    names = offering(configuration, {"own": entry}.get)
    assert [names("Rates"), names("Fees"), names("Other")] == [["rates", "parent"], ["rates", "parent"], ()]


class TestProviding:
    """`context.provide`, and what must come of it."""

    @pytest.fixture
    def within(self) -> Context:
        return context(name="giver")

    def test_what_activate_provides_is_kept(self, within: Context) -> None:
        rates = Rates()

        class Giver(GivesRates):
            async def activate(self, context: Context) -> None:
                context.provide(Rates, rates)

        with active(Giver(), within) as plugin:
            check_provided(plugin, within._services)
            assert within._services.provided == {Rates: rates}

    def test_what_was_provided_is_gone_with_the_plugin(self, within: Context) -> None:
        class Giver(GivesRates):
            def activate(self, context: Context) -> None:
                context.provide(Rates, Rates())

        for _ in range(2):
            with active(Giver(), within):
                assert list(within._services.provided) == [Rates]
            assert within._services.provided == {}

    def test_an_activation_that_fails_provides_nothing(self, within: Context) -> None:
        class Failing(GivesRates):
            def activate(self, context: Context) -> None:
                context.provide(Rates, Rates())
                raise RuntimeError

        with pytest.raises(RuntimeError), active(Failing(), within):
            pass
        assert within._services.provided == {}

    def test_a_plugin_may_be_what_it_provides(self) -> None:
        class RatesPlugin(Plugin, Rates):
            provides = (Rates,)

        services, plugin = Services(name="rates"), RatesPlugin()
        check_provided(plugin, services)
        assert services.provided == {Rates: plugin}

    def test_one_type_needs_no_tuple(self) -> None:
        class One(Plugin, Rates):
            provides = Rates  # type: ignore[assignment]

        services, plugin = Services(name="rates"), One()
        check_provided(plugin, services)
        assert services.provided == {Rates: plugin}

    def test_what_was_listed_and_not_provided_is_named(self) -> None:
        with pytest.raises(NotReady) as caught:
            check_provided(GivesRates(), Services(name="giver"))
        assert str(caught.value) == (
            "'giver' lists Rates in provides, and provided none. "
            "Call context.provide(Type, instance) in activate, for each type listed and no other."
        )

    def test_what_was_provided_and_not_listed_is_named(self) -> None:
        with pytest.raises(NotReady, match="'giver' provided Fees, which its provides does not list"):
            check_provided(Plugin(), Services(name="giver", provided={Fees: Fees()}))

    def test_it_is_for_activate_only(self, within: Context) -> None:
        with pytest.raises(HookError, match="in activate only"):
            within.provide(Rates, Rates())

    def test_a_type_is_provided_once(self, within: Context) -> None:
        within.middleware.open = True
        within.provide(Rates, Rates())
        with pytest.raises(HookError, match="Rates is provided twice"):
            within.provide(Rates, Rates())


def test_a_test_hands_services_to_contexts_and_constructors() -> None:
    class Both(Plugin):
        def __init__(self, rates: Rates) -> None:
            self.rates = rates

        def process(self, value: Any, context: Context) -> Any:
            return [self.rates, context.get(Fees)]

    rates, fees = Rates(), Fees()
    plugin = build_for_test(Both, provide={Rates: rates})
    assert plugin.process(None, context(services={Fees: fees})) == [rates, fees]
    with pytest.raises(DependencyError) as caught:
        plugin.process(None, context())
    assert str(caught.value).startswith("Nobody provides Fees to this run. Pass it to pluginhub.testing.context")
