"""Two configurations side by side: revisions, what is live, and the draft. The draft's page is one of these."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.urls import reverse
from django.utils.translation import gettext as _

from pluginhub.configuration import Configuration, Detail, details, difference
from pluginhub.models import Revision
from pluginhub.publishing import Which
from pluginhub.templatetags.telling import Told, tell, told_field

__all__ = ["Compared", "choices", "compare_url", "compared", "which"]

OFFERED = 100
"""How many revisions a page offers to choose from: the newest."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One change, and what it consists of, as `(field, before, after)`."""

    told: Told
    fields: list[tuple[str, str, str]]


def which(text: str, otherwise: Which) -> Which:
    """Return the configuration that a page names."""
    if text in ("draft", "live"):
        return text  # type: ignore[return-value]
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else otherwise


def choices(*chosen: Which) -> list[tuple[str, str]]:
    """Return what may be compared, newest first, and what is chosen in any case."""
    rows = {row.number: row for row in Revision.objects.order_by("-number").defer("data")[:OFFERED]}
    for row in Revision.objects.filter(number__in=[one for one in chosen if isinstance(one, int)]).defer("data"):
        rows.setdefault(row.number, row)
    newest = next(iter(rows), 0)
    live = _("What is live (revision %s)") % newest if newest else _("What is live (nothing yet)")
    return [("draft", _("The draft")), ("live", live), *((str(number), _titled(row)) for number, row in rows.items())]


def compared(old: Configuration, new: Configuration, site: str) -> list[Compared]:
    """Return the changes from one configuration to another, with what was and what is."""
    changes = difference(old, new)
    return [
        Compared(told, [_field(detail) for detail in details(old, new, change)])
        for change, told in zip(changes, tell(changes, site), strict=True)
    ]


def compare_url(old: Which, new: Which, site: str) -> str:
    """Return the way to the page that shows two configurations."""
    between = {"from": str(old), "to": str(new)}
    return reverse("admin:pluginhub_revision_compare", current_app=site, query=between)


def _titled(row: Revision) -> str:
    told = _("Revision %(number)s, by %(author)s") % {"number": row.number, "author": row.author}
    return f"{told} – {row.note[:60]}" if row.note else told


def _field(detail: Detail) -> tuple[str, str, str]:
    return told_field(detail.field), _shown(detail.before), _shown(detail.after)


def _shown(value: Any) -> str:
    """A value as people read it: steps and members one a line."""
    if value in (None, "", [], {}):
        return "–"
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, list):
        return "\n".join(_item(number, one) for number, one in enumerate(value, 1))
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


def _item(number: int, value: Any) -> str:
    if isinstance(value, dict) and "target" in value:
        return f"{number}. {', '.join([value['target'], *_policy(value)])}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _policy(value: dict[str, Any]) -> Iterator[str]:
    for key, one in value.items():
        if key != "target" and not (key == "key" and one == value["target"]):
            yield f"{key.replace('_', ' ')} {one if isinstance(one, str) else json.dumps(one, ensure_ascii=False)}"
