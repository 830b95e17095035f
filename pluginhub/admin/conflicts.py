"""Whether somebody has changed a row since a page was opened: what of it, who, and what it says now.

A page carries a fingerprint of what it showed, part by part: fields, settings, and the steps, members or targets that
belong to the row. It holds digests only, so that no page gives away what its reader may not see.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.admin.models import DELETION, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.db.models import CASCADE
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.dateparse import parse_datetime
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from pluginhub.admin.pretty import short
from pluginhub.configuration import redacted
from pluginhub.models import Revision, Target

__all__ = ["Part", "Seen", "changed_since", "gone_since", "parts_of"]

_UNTOLD = {"id", "target_ptr", "schema", "kind", "created", "updated"}
_NAMING = {"id", "position", "label", "key"}


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that a row says, for people: its `label`, and what it says."""

    label: str
    value: str
    digest: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What a page showed, and when. Travels through the browser as text."""

    at: datetime
    digests: dict[str, str]

    @classmethod
    def now(cls, row: Any) -> Seen:
        return cls(timezone.now(), {name: part.digest for name, part in parts_of(row).items()})

    @classmethod
    def read(cls, text: str) -> Seen | None:
        """Return what `str` wrote; `None` for anything else."""
        try:
            said = json.loads(text)
            at = parse_datetime(said["at"])
            return cls(at, {str(name): str(digest) for name, digest in said["parts"].items()}) if at else None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None

    def __str__(self) -> str:
        return json.dumps({"at": self.at.isoformat(), "parts": self.digests}, separators=(",", ":"))

    def differs(self, row: Any) -> list[Part]:
        """Return the parts of a row that are others now. One that is gone says nothing."""
        now = parts_of(row)
        gone = [Part(_label(row, name), _("nothing"), "") for name in self.digests if name not in now]
        return [part for name, part in now.items() if self.digests.get(name) != part.digest] + gone


def parts_of(row: Any) -> dict[str, Part]:
    """Return everything that a stored row says; nothing for one that is not stored."""
    return dict(_parts(row)) if row is not None and row.pk else {}


def changed_since(seen: Seen, row: Any) -> SafeString | None:
    """Say who has changed a row and what of it; `None` where it says what was seen."""
    parts = seen.differs(row)
    if not parts:
        return None
    told = format_html_join(", ", "{} {}", ((part.label, part.value) for part in parts))
    return format_html("{} {} {}.", _since(seen, row), _("It now says:"), told)


def gone_since(seen: Seen, model: type[models.Model], pk: Any) -> str:
    """Say who has deleted a row."""
    who = _logged(seen, model, pk, deleted=True) or _published(seen) or _("Somebody")
    return _("%s has deleted this since you opened the page.") % who


def _since(seen: Seen, row: Any) -> str:
    who = _logged(seen, type(row), row.pk) or _published(seen) or _("Somebody")
    return _("%s has changed this since you opened the page.") % who


def _logged(seen: Seen, model: type[models.Model], pk: Any, *, deleted: bool = False) -> str:
    """Return who changed a row in the admin, or deleted it, and when; only from a log that is the tenant's own."""
    if "django.contrib.admin" not in getattr(settings, "TENANT_APPS", ()):
        return ""
    entries = LogEntry.objects.filter(
        content_type=ContentType.objects.get_for_model(model), object_id=str(pk), action_time__gte=seen.at
    )
    # A deletion is logged before it is done, and so before it is refused.
    entries = entries.filter(action_flag=DELETION) if deleted else entries.exclude(action_flag=DELETION)
    entry = entries.select_related("user").order_by("-action_time").first()
    return _named(entry.user.get_username(), entry.action_time) if entry else ""


def _published(seen: Seen) -> str:
    """Return who has published since: a rollback or a command changes rows, too."""
    row = Revision.objects.filter(created__gte=seen.at).order_by("-number").defer("data").first()
    return _named(row.author, row.created) if row else ""


def _named(who: str, when: datetime) -> str:
    return f"{who} ({date_format(timezone.localtime(when), 'TIME_FORMAT')})"


# What a row says


def _parts(row: Any) -> Iterator[tuple[str, Part]]:
    for field in row._meta.concrete_fields:
        if field.name in _UNTOLD:
            continue
        value = getattr(row, field.attname)
        if field.name == "config":
            for key, one in sorted(value.items()):
                yield f"config.{key}", _part(_label(row, f"config.{key}"), _said(redacted(one)), one)
        else:
            yield field.name, _part(_label(row, field.name), _shown(row, field, value), value)
    yield from _belongings(row)


def _belongings(row: Any) -> Iterator[tuple[str, Part]]:
    """Yield what is part of a row in tables of its own: steps, members, and the targets of an interceptor."""
    for relation in row._meta.related_objects:
        if relation.one_to_many and relation.on_delete is CASCADE:
            found = sorted(getattr(row, relation.get_accessor_name()).all(), key=lambda part: part.position)
            fields = [field.attname for field in relation.related_model._meta.concrete_fields if not field.primary_key]
            said = [[getattr(one, field) for field in fields] for one in found]
            yield relation.name, _part(capfirst(relation.related_model._meta.verbose_name_plural), _names(found), said)
    for field in row._meta.many_to_many:
        found = sorted(getattr(row, field.name).all(), key=lambda target: target.name)
        yield field.name, _part(capfirst(field.verbose_name), _names(found), [one.pk for one in found])


def _names(rows: list[Any]) -> str:
    return ", ".join(map(_named_with_policy, rows))


def _named_with_policy(row: Any) -> str:
    """The name of a step or member, and what it does otherwise than by default."""
    if isinstance(row, Target):
        return row.name
    fields = [field for field in row._meta.concrete_fields if field.name not in _NAMING and not field.is_relation]
    told = {field: getattr(row, field.attname) for field in fields}
    policy = [_policy(field.verbose_name, value) for field, value in told.items() if value != field.get_default()]
    return f"{row} ({', '.join(policy)})" if policy else str(row)


def _policy(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return name if value else _("not %s") % name
    return f"{name} {_said(value)}"


def _part(label: str, shown: str, value: Any) -> Part:
    text = json.dumps(value, sort_keys=True, default=str)
    digest = salted_hmac("pluginhub.admin.conflicts", text).hexdigest()[:12]
    return Part(label, f"“{shown}”" if shown else _("empty"), digest)


def _said(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else short(value)


def _label(row: Any, name: str) -> str:
    if name.startswith("config."):
        return _("Setting %s") % name.removeprefix("config.")
    known = {field.name: field.verbose_name for field in row._meta.get_fields() if hasattr(field, "verbose_name")}
    return str(capfirst(known.get(name, name)))


def _shown(row: Any, field: Any, value: Any) -> str:
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if field.is_relation or field.choices:
        shown = getattr(row, field.name) if field.is_relation else getattr(row, f"get_{field.name}_display")()
        return str(shown)
    return "" if value is None else str(value)
