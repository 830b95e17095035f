"""Constructors filled in by type."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from pluginhub import Plugin
from pluginhub.context import Cache, Storage
from pluginhub.exceptions import DependencyError
from pluginhub.injection import Missing, build, requirements
from pluginhub.testing import MemoryStorage
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


def test_parameters_are_found_by_type() -> None:
    storage = MemoryStorage()
    made = build(Redact, config=Redact.Config(kinds=["card"]), services={Storage: storage}, provide=provide)
    assert made.config.kinds == ["card"]
    assert made.scrubber is SCRUBBER
    assert made.storage is storage


def test_a_plugin_without_constructor_keeps_its_configuration() -> None:
    class Plain(Plugin):
        class Config(BaseModel):
            size: int = 3

    assert build(Plain, config=Plain.Config(size=5)).config.size == 5
    assert Plain().config.size == 3


def test_what_nobody_provides_is_named_with_plugin_parameter_and_type() -> None:
    with pytest.raises(DependencyError, match=r"Redact needs 'scrubber' of type Scrubber.*PROVIDERS"):
        build(Redact, config=Redact.Config(), services={Storage: MemoryStorage()})


def test_defaults_and_optionals_stand_in() -> None:
    class Choosy(Plugin):
        def __init__(self, cache: Cache | None, scrubber: Scrubber | None = None, size: int = 3) -> None:
            self.made = (cache, scrubber, size)

    assert build(Choosy).made == (None, None, 3)
    assert build(Choosy, provide=provide).made == (None, SCRUBBER, 3)


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

    acme = Tenant("acme")
    assert build(Typed, services={Tenant: acme}, provide=provide).got == (SCRUBBER, acme)
    known = {Tenant: acme, Storage: MemoryStorage(), logging.Logger: logging.getLogger("x")}
    assert set(build(Everything, services=known).got) == {"tenant", "storage", "logger"}


def test_requirements_lists_what_must_be_provided() -> None:
    assert requirements(Redact) == {"scrubber": Scrubber, "storage": Storage}


def test_callables_are_not_services() -> None:
    class Odd(Plugin):
        def __init__(self, make: Callable[[], int]) -> None:
            self.make = make

    with pytest.raises(DependencyError):
        build(Odd, provide=provide)
