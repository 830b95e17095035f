"""The points' page: each point, what it takes and gives, what hangs there, and where the host calls it.

Two queries, however many points and rows there are. Sources are read, and nothing here is remembered but what they say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, get_args, get_origin

from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from pydantic import BaseModel

from pluginhub import points, publishing
from pluginhub.admin.choosing import State
from pluginhub.configuration import Configuration
from pluginhub.exceptions import PluginHubError
from pluginhub.models import PointBinding
from pluginhub.points import Calls, Point

__all__ = ["HOWS", "Kind", "Row", "Shown", "kind_of", "shown_points"]

HOWS: dict[str, str | Promise] = {
    "chain": gettext_lazy("One after the other: each takes what the one before gave."),
    "all": gettext_lazy("All of them: each takes the value, and the host gets the list of their results."),
    "first": gettext_lazy("The first that answers: nothing and errors are no answers."),
}


@dataclass(frozen=True, slots=True)
class Kind:
    """A type in words: its name, and the fields of a model as `(name, type, whether it may be left out)`."""

    name: str
    fields: tuple[tuple[str, str, bool], ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One target that hangs on a point, in the draft or only in what is live; that has no key."""

    target: str
    title: str
    state: State
    pk: int | None = None
    url: str = ""
    target_url: str = ""
    is_first: bool = True
    is_last: bool = True


@dataclass(frozen=True, slots=True)
class Shown:
    """One point. `point` is absent where this process knows none of that name; `near` are those it might be."""

    name: str
    point: Point | None
    how: str
    takes: Kind | None
    gives: Kind | None
    rows: tuple[Row, ...]
    calls: Calls
    near: tuple[str, ...] = ()
    add_url: str = ""


def shown_points(request: HttpRequest, site: str = "admin") -> list[Shown]:
    """Return all points that the host declares, and all on which anything hangs, in the draft or live."""
    declared, live = dict(points.declared()), _live()
    hung: dict[str, list[PointBinding]] = {}
    for row in PointBinding.objects.select_related("target").order_by("point", "position"):
        hung.setdefault(row.point, []).append(row)
    calls = points.calls_of(declared.values())
    links = _Links(request, site)
    found = []
    for name in sorted({*declared, *hung, *live.points}):
        point = declared.get(name)
        spec = live.points.get(name)
        found.append(
            Shown(
                name=name,
                point=point,
                how=str(HOWS[point.several]) if point else "",
                takes=kind_of(point.input) if point and point.input is not None else None,
                gives=kind_of(point.output) if point and point.output is not None else None,
                rows=(*_rows(hung.get(name, []), spec.targets if spec else (), links),),
                calls=calls.get(name, Calls()),
                near=() if point else tuple(get_close_matches(name, declared, n=3, cutoff=0.6)),
                add_url=links.add(name),
            )
        )
    return found


class _Links:
    """The ways that this user may go."""

    def __init__(self, request: HttpRequest, site: str) -> None:
        self._user: Any = request.user
        self._site = site

    def add(self, point: str) -> str:
        if not self._user.has_perm("pluginhub.add_pointbinding"):
            return ""
        return f"{reverse('admin:pluginhub_pointbinding_add', current_app=self._site)}?point={point}"

    def change(self, kind: str, pk: int) -> str:
        if not any(self._user.has_perm(f"pluginhub.{action}_{kind}") for action in ("view", "change")):
            return ""
        return reverse(f"admin:pluginhub_{kind}_change", args=[pk], current_app=self._site)


def _rows(hung: list[PointBinding], live: Iterable[str], links: _Links) -> Iterable[Row]:
    names = set(live)
    for index, row in enumerate(hung):
        yield Row(
            target=row.target.name,
            title=row.target.title,
            state=_state(row, names),
            pk=row.pk,
            url=links.change("pointbinding", row.pk),
            target_url=links.change(row.target.kind, row.target_id),
            is_first=index == 0,
            is_last=index == len(hung) - 1,
        )
    there = {row.target.name for row in hung}
    for name in live:
        if name not in there:
            yield Row(name, "", State("missing", _("Live"), _("It was taken down in the draft.")))


def _state(row: PointBinding, live: set[str]) -> State:
    if not row.enabled:
        reason = _("It hangs there until this is published.") if row.target.name in live else ""
        return State("off", _("Off"), reason)
    if not row.target.enabled:
        return State(
            "broken", _("Target is off"), _("Switch it on, or take it down here: else nothing can be published.")
        )
    return State("active", _("Live")) if row.target.name in live else State("new", _("Not published"))


def _live() -> Configuration:
    try:
        return publishing.configuration_of(publishing.live())
    except PluginHubError:  # of a newer format, as the page says above
        return Configuration()


# Types in words


def kind_of(annotation: Any) -> Kind:
    """Return a type in words."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields.items()
        return Kind(
            annotation.__name__,
            tuple((field.alias or name, _word(field.annotation), not field.is_required()) for name, field in fields),
        )
    return Kind(_word(annotation))


def _word(annotation: Any) -> str:
    if get_origin(annotation) is Annotated:
        return _word(get_args(annotation)[0])
    if annotation is None or annotation is type(None):
        return "None"
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__name__
    return re.sub(r"(?:\w+\.|<locals>\.)+(?=\w)", "", str(annotation))
