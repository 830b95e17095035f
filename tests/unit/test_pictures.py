"""Pictures drawn on the server."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree

import pytest

from pluginhub.admin.pictures import MOST_RINGS, WIDTH, Ring, element, fitted, onion


def drawn(*rings: Ring, core: str = "the view") -> ElementTree.Element:
    return ElementTree.fromstring(onion(rings, core, key="k", title="Around", description="From the outside in"))


def several(number: int) -> list[Ring]:
    return [Ring(f"ring {at}", f"/{at}/", ("all",)) for at in range(number)]


def box(shape: ElementTree.Element) -> tuple[float, float, float, float]:
    """The left, top, right and bottom of a shape's frame."""
    frame = shape.find("rect")
    assert frame is not None
    x, y, width, height = (float(frame.attrib[each]) for each in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


@pytest.mark.parametrize("number", [0, 1, 2, 12, MOST_RINGS])
def test_each_ring_is_around_the_next_and_the_core(number: int) -> None:
    picture = drawn(*several(number))
    boxes = [box(shape) for shape in (*picture.findall("a"), *picture.findall("g"))]
    assert len(boxes) == number + 1
    for outer, inner in itertools.pairwise(boxes):
        assert outer[0] < inner[0]
        assert outer[1] + 40 < inner[1]  # room for what is written on it
        assert inner[2] < outer[2]
        assert inner[3] < outer[3]
    assert boxes[-1][2] - boxes[-1][0] >= 300


def test_too_many_are_bars_below_one_another() -> None:
    picture = drawn(*several(MOST_RINGS + 10))
    boxes = [box(shape) for shape in (*picture.findall("a"), *picture.findall("g"))]
    for upper, lower in itertools.pairwise(boxes):
        assert upper[3] < lower[1]
        assert upper[0] < lower[0]
        assert upper[2] == lower[2] == WIDTH


@pytest.mark.parametrize("number", [1, MOST_RINGS, MOST_RINGS + 1])
def test_all_of_it_is_within_the_picture(number: int) -> None:
    picture = drawn(*several(number))
    left, top, width, height = map(float, picture.attrib["viewBox"].split())
    for shape in (*picture.findall("a"), *picture.findall("g")):
        x, y, right, bottom = box(shape)
        assert left <= x < right <= left + width
        assert top <= y < bottom <= top + height


def test_a_ring_leads_to_its_page_and_says_everything_in_its_title() -> None:
    (ring,) = drawn(Ring("audit", "/a/?x=1&y=2", ("GET /shop/",), ("its plugin puts it outside",), "required")).findall(
        "a"
    )
    assert ring.attrib["href"] == "/a/?x=1&y=2"
    assert ring.findtext("title") == "audit – required – GET /shop/ – its plugin puts it outside"
    assert [text.text for text in ring.findall("text")] == [
        "audit",
        "required",
        "GET /shop/",
        "its plugin puts it outside",
    ]


def test_a_reason_makes_a_ring_higher() -> None:
    plain, reasoned = drawn(Ring("a", "/")), drawn(Ring("a", "/", (), ("because",)))
    assert float(plain.attrib["height"]) < float(reasoned.attrib["height"])


def test_it_is_one_image_with_words() -> None:
    picture = drawn(Ring("a", "/"))
    assert picture.attrib["role"] == "img"
    told = {each.attrib["id"]: each.text for each in picture if "id" in each.attrib}
    assert [told[each] for each in picture.attrib["aria-labelledby"].split()] == ["Around", "From the outside in"]
    assert all(link.attrib["tabindex"] == "-1" for link in picture.findall("a"))


def test_what_is_written_on_it_is_escaped() -> None:
    hostile = "<script>alert('\"')</script>&amp;"
    text = onion(
        [Ring(hostile, "javascript:'\"><b>", (hostile,), (hostile,), hostile)],
        hostile,
        key="k",
        title=hostile,
        description=hostile,
    )
    assert "<script" not in text
    assert "<b>" not in text
    assert ElementTree.fromstring(text).findtext("title") == hostile


def test_it_has_no_style_and_no_script_of_its_own() -> None:
    text = onion(several(3), "the view", key="k", title="t", description="d")
    assert not re.search(r"<style|<script|\bstyle=|\bon\w+=", text)


def test_an_element_s_attributes_may_be_words_of_python() -> None:
    assert element("text", "a & b", class_="x", aria_label='"', x=1.50) == (
        '<text class="x" aria-label="&quot;" x="1.5">a &amp; b</text>'
    )


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("short", 100, "short"),
        ("quite a long one", 60, "quite a…"),
        ("長い名前です", 50, "長い名…"),
        ("anything", 3, ""),
        ("", 0, ""),
    ],
)
def test_text_is_cut_to_its_room(text: str, width: float, shown: str) -> None:
    assert fitted(text, width) == shown
