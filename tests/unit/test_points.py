"""Where the host calls its points is read from its sources."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import import_module, invalidate_caches
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from pluginhub.admin.hung import kind_of
from pluginhub.exceptions import HookError
from pluginhub.points import Call, Calls, Point, calls_of

Write = Callable[..., Any]

PLACES = """
from pluginhub.points import Point

TOTAL = Point("unit.total")
OTHER = Point(
    "unit.other",
)
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """`write(name=source, …)` makes modules of a package `shop` and imports them, in order."""
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    before = {*Point._registry}

    def make(**sources: str) -> Path:
        for name, source in sources.items():
            (package / f"{name}.py").write_text(source)
        invalidate_caches()
        for name in sources:
            import_module(f"shop.{name}")
        return package

    yield make
    for name in [name for name in sys.modules if name.split(".")[0] == "shop"]:
        del sys.modules[name]
    for name in {*Point._registry} - before:
        del Point._registry[name]


def found(name: str = "unit.total") -> Calls:
    return calls_of(Point._registry.values())[name]


def test_a_point_knows_where_it_is_declared(write: Write) -> None:
    write(places=PLACES)
    total, other = (Point._registry[f"unit.{name}"] for name in ("total", "other"))
    assert [(each.declared_in, each.declared_at) for each in (total, other)] == [("shop.places", 4), ("shop.places", 5)]


def test_a_kind_of_point_is_declared_where_it_is_made(write: Write) -> None:
    kinds = """
from pluginhub.points import Point

class Priced(Point):
    def __init__(self, name):
        super().__init__(name)
"""
    write(kinds=kinds, places="from shop.kinds import Priced\n\nTOTAL = Priced('unit.total')\n")
    total = Point._registry["unit.total"]
    assert (total.declared_in, total.declared_at) == ("shop.places", 3)


@pytest.mark.parametrize("method", ["run", "arun", "emit", "aemit", "on"])
def test_calls_are_found_by_line_and_function(write: Write, method: str) -> None:
    write(places=PLACES, uses=f"from shop.places import TOTAL\n\ndef price():\n    return TOTAL.{method}(1, data=2)\n")
    assert found() == Calls([Call("shop.uses", 4, method, "price")])


def test_names_do_not_matter(write: Write) -> None:
    write(places=PLACES, uses="from shop.places import TOTAL as sum_up, OTHER as TOTAL\nf = lambda: sum_up.run(1)\n")
    assert found() == Calls([Call("shop.uses", 2, "run")])
    assert found("unit.other") == Calls()


@pytest.mark.parametrize(
    "way",
    [
        "import shop.places\nf = lambda: shop.places.TOTAL.run(1)\n",
        "from shop import places\nf = lambda: places.TOTAL.run(1)\n",
        "import shop.places as there\nf = lambda: there.TOTAL.run(1)\n",
    ],
)
def test_calls_through_a_module_are_found(write: Write, way: str) -> None:
    write(places=PLACES, uses=way)
    assert found() == Calls([Call("shop.uses", 2, "run")])


def test_methods_and_inner_functions_say_whose_they_are(write: Write) -> None:
    source = """
from shop.places import TOTAL

class Order:
    async def total(self):
        def later():
            TOTAL.emit(self)
        return await TOTAL.arun(self)
"""
    write(places=PLACES, uses=source)
    assert found() == Calls(
        [Call("shop.uses", 7, "emit", "Order.total.later"), Call("shop.uses", 8, "arun", "Order.total")]
    )


def test_what_only_looks_like_a_call_is_none(write: Write) -> None:
    source = """
from shop.places import TOTAL

class Thing:
    TOTAL = None

thing = Thing()
handlers = [TOTAL.run]
f = lambda self: (self.TOTAL.run(1), thing.run(1), TOTAL.targets(), [TOTAL][0].run(2))
"""
    write(places=PLACES, uses=source)
    assert found() == Calls()


def test_a_module_without_source_is_named_and_others_are_read(write: Write) -> None:
    package = write(places=PLACES, uses="from shop.places import TOTAL\nf = lambda: TOTAL.run(1)\n")
    (package / "places.py").unlink()
    assert found() == Calls([Call("shop.uses", 2, "run")], ["shop.places"])


@pytest.mark.parametrize("source", [b"def (", b"\xff\xfe\x00", b"\x00"], ids=["syntax", "encoding", "null"])
def test_a_source_that_cannot_be_read_is_named(write: Write, source: bytes) -> None:
    package = write(places=PLACES)
    (package / "places.py").write_bytes(source)
    assert found() == Calls([], ["shop.places"])


def test_a_source_that_changed_is_read_again(write: Write) -> None:
    package = write(places=PLACES, uses="from shop.places import TOTAL\nf = lambda: TOTAL.run(1)\n")
    assert found().found[0].line == 2
    (package / "uses.py").write_text("from shop.places import TOTAL\n\n\n\nf = lambda: TOTAL.run(1)\n")
    assert found().found[0].line == 5


def test_a_point_is_declared_once(write: Write) -> None:
    write(places=PLACES)
    with pytest.raises(HookError, match=r"'unit\.total' is declared twice"):
        Point("unit.total")


class Parcel(BaseModel):
    weight: float
    tags: list[str] = []


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (int, "int"),
        (Parcel, "Parcel"),
        (list[Parcel], "list[Parcel]"),
        (Parcel | None, "Parcel | None"),
        (Annotated[int, "positive"], "int"),
        (dict[str, Any], "dict[str, Any]"),
    ],
    ids=str,
)
def test_types_are_told_in_words(kind: Any, name: str) -> None:
    assert kind_of(kind).name == name


def test_a_model_is_told_with_its_fields() -> None:
    assert kind_of(Parcel).fields == (("weight", "float", False), ("tags", "list[str]", True))
