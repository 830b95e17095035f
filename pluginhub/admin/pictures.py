"""Pictures drawn on the server: SVG of a page's own colours, without a script or a style of its own.

Whatever is drawn is one image with a title and a description; a page says the same in words beside it, with the links.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

__all__ = ["MOST_RINGS", "WIDTH", "Ring", "element", "fitted", "line", "onion", "picture"]

WIDTH = 448
"""What a picture's units are counted in; pixels where the page has room."""

MOST_RINGS = 16
"""How many are drawn around one another; more become a list of bars, each further in than the one above."""

LINE = 17
_HEAD, _PAD, _CORE, _STEP, _NARROWEST = 30, 12, 40, 10, 300


@dataclass(frozen=True, slots=True)
class Ring:
    """What stands around something: a title that is a link, a tag at its side, and lines of text below it.

    `reasons` are lines that stand out.
    """

    title: str
    url: str
    lines: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    tag: str = ""

    @property
    def height(self) -> int:
        return _HEAD + LINE * (len(self.lines) + len(self.reasons))


@dataclass(frozen=True, slots=True)
class Box:
    """A place in a picture."""

    x: float
    y: float
    width: float
    height: float


def onion(rings: Sequence[Ring], core: str, *, key: str, title: str, description: str) -> SafeString:
    """Draw rings around a core, the first one outermost. It grows downwards with each of them.

    `key` is an id that no other picture of the page has.
    """
    *around, inmost = _nested(rings) if len(rings) <= MOST_RINGS else _staggered(rings)
    parts = [_ring(ring, box) for ring, box in zip(rings, around, strict=True)]
    height = max(box.y + box.height for box in (*around, inmost))
    return picture(height, *parts, _core(core, inmost), key=key, title=title, description=description)


def picture(height: float, *parts: SafeString, key: str, title: str, description: str) -> SafeString:
    """Return parts as one image, `WIDTH` wide."""
    told = [element("title", title, id=f"{key}-title"), element("desc", description, id=f"{key}-desc")]
    return element(
        "svg",
        *told,
        *parts,
        class_="pluginhub-picture",
        viewBox=f"-1 -1 {WIDTH + 2} {_number(height + 2)}",
        width=WIDTH + 2,
        height=height + 2,
        role="img",
        aria_labelledby=f"{key}-title {key}-desc",
    )


def element(name: str, *children: object, **attributes: object) -> SafeString:
    """Return an element, escaped; `class_` and `aria_label` are written `class` and `aria-label`."""
    written = ((key.strip("_").replace("_", "-"), _number(value)) for key, value in attributes.items())
    inside = format_html_join("", "{}", ((child,) for child in children))
    return format_html("<{0}{1}>{2}</{0}>", SafeString(name), format_html_join("", ' {}="{}"', written), inside)


def line(text: str, x: float, y: float, *, width: float, size: float = 12, class_: str = "") -> SafeString:
    """Return a line of text that begins at `x`, or ends there where its class says so, cut to a width."""
    return element(
        "text", fitted(text, width, size), x=x, y=y, font_size=size, class_=f"pluginhub-line {class_}".strip()
    )


def fitted(text: str, width: float, size: float = 12) -> str:
    """Return as much of a text as surely fits, with a sign where some is left out."""
    if _wide(text, size) <= width:
        return text
    while text and _wide(f"{text}…", size) > width:
        text = text[:-1]
    return f"{text.rstrip()}…" if text else ""


def _wide(text: str, size: float) -> float:
    """How much room a text takes at most in a usual sans-serif, which the server cannot measure."""
    return sum(size * (1.05 if unicodedata.east_asian_width(sign) in "WF" else 0.58) for sign in text)


def _nested(rings: Sequence[Ring]) -> Iterator[Box]:
    """Yield where each ring is, and then the core."""
    step = min(_STEP, (WIDTH - _NARROWEST) / 2 / max(len(rings), 1))
    below = _CORE + len(rings) * step
    y = 0.0
    for depth, ring in enumerate(rings):
        rest = sum(each.height for each in rings[depth:]) + below - depth * step
        yield Box(depth * step, y, WIDTH - 2 * depth * step, rest)
        y += ring.height
    depth = len(rings)
    yield Box(depth * step, y, WIDTH - 2 * depth * step, _CORE)


def _staggered(rings: Sequence[Ring]) -> Iterator[Box]:
    """Yield a bar for each ring, and then one for the core."""
    step, y = (WIDTH - _NARROWEST) / len(rings), 0.0
    for depth, ring in enumerate(rings):
        yield Box(depth * step, y, WIDTH - depth * step, ring.height)
        y += ring.height + 4
    yield Box(len(rings) * step, y, WIDTH - len(rings) * step, _CORE)


def _ring(ring: Ring, box: Box) -> SafeString:
    """The whole of it leads to its page, by mouse: who goes by keyboard or ear takes the list beside the picture."""
    room, x, y = box.width - 2 * _PAD, box.x + _PAD, box.y + 20
    tag = fitted(ring.tag, room / 2, 11)
    taken = _wide(tag, 11) + _PAD if tag else 0
    texts = [line(ring.title, x, y, width=room - taken, size=14, class_="pluginhub-strong")]
    if tag:
        texts.append(line(tag, x + room, y, width=room, size=11, class_="pluginhub-end"))
    below = [*((each, "quiet") for each in ring.lines), *((each, "pluginhub-reason") for each in ring.reasons)]
    texts += [line(text, x, y + LINE * at, width=room, class_=kind) for at, (text, kind) in enumerate(below, 1)]
    whole = " – ".join(filter(None, [ring.title, ring.tag, *ring.lines, *ring.reasons]))
    return element("a", element("title", whole), _frame(box, "pluginhub-ring"), *texts, href=ring.url, tabindex=-1)


def _core(text: str, box: Box) -> SafeString:
    middle = line(text, box.x + box.width / 2, box.y + 25, width=box.width, size=14, class_="pluginhub-middle")
    return element("g", _frame(box, "pluginhub-core"), middle)


def _frame(box: Box, class_: str) -> SafeString:
    return element("rect", x=box.x, y=box.y, width=box.width, height=box.height, rx=8, class_=class_)


def _number(value: object) -> object:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
