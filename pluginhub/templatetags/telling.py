"""The draft in words: what changed, with the way to each row.

Apart from the admin, which uses it: templates are loaded while a host's theme is still being imported.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from pluginhub import tenancy
from pluginhub.configuration import Change
from pluginhub.models import Target
from pluginhub.types import PUBLIC

__all__ = ["Told", "in_tenant", "tell", "told_field"]

_KINDS: dict[str, str | Promise] = {
    "registration": gettext_lazy("registration"),
    "chain": gettext_lazy("chain"),
    "composition": gettext_lazy("composition"),
    "interceptor": gettext_lazy("interceptor"),
    "point": gettext_lazy("point"),
}
_WHATS: dict[str, str | Promise] = {
    "added": gettext_lazy("added"),
    "removed": gettext_lazy("removed"),
    "changed": gettext_lazy("changed"),
}
_LISTS = {"interceptor": "interceptorbinding", "point": "pointbinding"}


@dataclass(frozen=True, slots=True)
class Told:
    """One change, ready for a page."""

    code: str
    what: str
    kind: str
    name: str
    fields: str
    url: str


def in_tenant() -> bool:
    """Whether a tenant is entered: the public schema has none of our tables."""
    tenant = tenancy.current_or_none()
    return tenant is not None and tenant.schema != PUBLIC.schema


def tell(changes: Iterable[Change], site: str = "admin") -> list[Told]:
    """Return changes in words; one query finds the rows they speak of. `site` is the admin site's name."""
    listed = list(changes)
    rows = dict(Target.objects.filter(name__in=[one.name for one in listed]).values_list("name", "pk"))
    return [
        Told(
            code=one.what,
            what=str(_WHATS.get(one.what, one.what)),
            kind=str(_KINDS.get(one.kind, one.kind)),
            name=one.name,
            fields=", ".join(map(told_field, one.fields)),
            url=_url(one, rows.get(one.name), site),
        )
        for one in listed
    ]


def _url(change: Change, pk: int | None, site: str) -> str:
    if change.kind in _LISTS:
        return reverse(f"admin:pluginhub_{_LISTS[change.kind]}_changelist", current_app=site)
    if pk is None:
        return ""
    return reverse(f"admin:pluginhub_{change.kind}_change", args=[pk], current_app=site)


def told_field(name: str) -> str:
    """Return the name of a field, or of a setting, as people read it."""
    return _("setting %s") % name.removeprefix("config.") if name.startswith("config.") else name.replace("_", " ")
