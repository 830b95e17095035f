"""Editing the draft: every write is one transaction of `publishing.write`, and a refusal shows the form again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from django import forms
from django.contrib import messages
from django.contrib.admin import helpers
from django.contrib.admin.utils import unquote
from django.core.exceptions import ValidationError
from django.db import IntegrityError
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from pluginhub import publishing
from pluginhub.admin.comparing import compare_url
from pluginhub.admin.conflicts import Seen, changed_since, gone_since
from pluginhub.admin.tenants import TenantAdmin
from pluginhub.configuration import Change
from pluginhub.exceptions import Conflict, PublishRefused
from pluginhub.publishing import PUBLISH
from pluginhub.templatetags.telling import tell

__all__ = ["DraftAdmin", "DraftForm", "Problem", "elsewhere", "published", "row_problems", "told"]

Problem = tuple[str, str, str, str]
"""Kind and name of a row, its field, and what is wrong: as `PublishRefused` lists them."""

_ROW = re.compile(r"^(?:steps|members)\W*(\d+)\W*(\w*)")


class DraftForm(forms.ModelForm):
    """The form of one row. `problems` are those of a refused publish: it cannot be valid while there are any."""

    problems: ClassVar[list[Problem]] = []

    gone: ClassVar[Any] = None
    """The key of the row that this form was opened for, where it has been deleted since."""

    seen = forms.CharField(required=False, widget=forms.HiddenInput)
    """What the row said when the page that is now sent back was opened."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._stale = self._look() if self.is_bound else None
        self.initial["seen"] = str(Seen.now(self.instance)) if self.instance.pk else ""

    def clean(self) -> dict[str, Any]:
        """Refuse what was typed over something else than what is there. Sent once more, it is meant."""
        cleaned = super().clean() or self.cleaned_data
        if self._stale:
            self.data = self.data.copy()  # type: ignore[attr-defined]
            self.data["seen"] = self.initial["seen"]  # type: ignore[index]
            raise ValidationError(self._stale, code="conflict")
        return cleaned

    def _look(self) -> SafeString | None:
        seen = Seen.read(self.data.get("seen", ""))
        if seen is None:
            return None
        if self.gone is not None:
            again = _("What you entered is still below: save it to add it anew.")
            return format_html("{} {}", gone_since(seen, type(self.instance), self.gone), again)
        changed = changed_since(seen, self.instance)
        if changed is None:
            return None
        again = _("What you entered is still below: save once more to put it in place of that, or")
        return format_html('{} {} <a href="">{}</a>.', changed, again, _("begin from what is stored"))

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        for problem in self.problems:
            self._lay(*problem)

    def _lay(self, kind: str, name: str, field: str, message: str) -> None:
        if (kind, name) != self.own_name():
            self.add_error(None, elsewhere(kind, name, field, message) if name else message)
        elif not _ROW.match(field):  # those of steps and members are laid by their formset
            self.lay_own(field, message)

    def lay_own(self, field: str, message: str) -> None:
        """Add a problem of this very row at its field."""
        self.add_error(field if field in self.fields else None, message)

    def own_name(self) -> tuple[str, str]:
        """Return the kind and name under which problems speak of this row."""
        return self.instance._meta.model_name or "", self.instance.name


class _ShownAgain(Exception):
    def __init__(self, response: HttpResponseBase) -> None:
        self.response = response


class DraftAdmin(TenantAdmin):
    """Rows that make up the draft."""

    form = DraftForm

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        made = super().get_form(request, obj, change=change, **kwargs)
        gone = None if obj else getattr(request, "pluginhub_gone", None)
        return type(made.__name__, (made,), {"problems": _problems(request), "gone": gone})

    def changeform_view(
        self, request: HttpRequest, object_id: Any = None, form_url: str = "", extra_context: Any = None
    ) -> Any:
        show = super().changeform_view

        def shown() -> Any:
            return show(request, self._still_there(request, object_id), form_url, extra_context)

        return self._written(request, shown)

    def delete_view(self, request: HttpRequest, object_id: Any, extra_context: Any = None) -> Any:
        show = super().delete_view
        return self._written(request, lambda: show(request, object_id, extra_context))

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        show = super().changelist_view
        return self._written(request, lambda: _with_seen(show(request, extra_context)))

    def render_delete_form(self, request: HttpRequest, context: dict[str, Any]) -> Any:
        return super().render_delete_form(request, context | {"seen": str(Seen.now(context["object"]))})

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        _require_seen(request, [obj], lambda row: "seen")
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        _require_seen(request, queryset, lambda row: f"seen-{row.pk}")
        super().delete_queryset(request, queryset)

    def _still_there(self, request: HttpRequest, object_id: Any) -> Any:
        """Return the key of a row, or `None` where its form comes back after it was deleted: it can be added anew."""
        if request.method != "POST" or object_id is None or "seen" not in request.POST:
            return object_id
        if self.get_object(request, unquote(object_id)) is not None or not self.has_add_permission(request):
            return object_id
        request.pluginhub_gone = unquote(object_id)  # type: ignore[attr-defined]
        return None

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any) -> Any:
        live = publishing.live()
        context |= {"publishable": True, "publish_expected": live.number if live else 0}
        return super().render_change_form(request, context, *args, **options)

    def message_user(self, request: HttpRequest, message: Any, *args: Any, **options: Any) -> None:
        """Hold back what a write says until it is committed: a refusal must not say "was changed"."""
        said = getattr(request, "pluginhub_said", None)
        if said is None:
            super().message_user(request, message, *args, **options)
        else:
            said.append((message, args, options))

    def _written(self, request: HttpRequest, show: Callable[[], HttpResponseBase]) -> HttpResponseBase:
        if request.method != "POST":
            return show()
        try:
            response, revision = self._write(request, show)
        except _ShownAgain as again:
            return again.response
        except PublishRefused as refused:
            return self._show_again(request, show, refused.problems)
        except Conflict as conflict:
            return self._show_again(request, show, [("", "", "", told(conflict, self.admin_site.name))])
        except IntegrityError:  # of a deferred constraint, at commit
            problem = _("This collides with what somebody else has just saved. Open the page again.")
            return self._show_again(request, show, [("", "", "", problem)])
        if revision is not None:
            self.message_user(request, published(revision), messages.SUCCESS)
        return response

    def _write(self, request: HttpRequest, show: Callable[[], HttpResponseBase]) -> tuple[HttpResponseBase, Any]:
        request.pluginhub_said = []  # type: ignore[attr-defined]

        def apply() -> HttpResponseBase:
            response = show()
            if not _is_done(response):
                raise _ShownAgain(response)
            return response

        try:
            outcome = publishing.write(apply, **self._how(request))
        except _ShownAgain:
            self._say(request)
            raise
        except BaseException:
            request.pluginhub_said = None  # type: ignore[attr-defined]
            raise
        self._say(request)
        return outcome

    def _how(self, request: HttpRequest) -> dict[str, Any]:
        """With `publish=None` it is the tenant's own choice whether saves are published."""
        may = request.user.has_perm(PUBLISH)
        publish = may and "_publish" in request.POST
        expected = request.POST.get("expected", "")
        return {
            "author": request.user.get_username(),
            "publish": publish or (None if may else False),
            "expected": int(expected) if publish and expected.isdecimal() else None,
        }

    def _say(self, request: HttpRequest) -> None:
        said, request.pluginhub_said = request.pluginhub_said, None  # type: ignore[attr-defined]
        for message, args, options in said:
            self.message_user(request, message, *args, **options)

    def _show_again(
        self, request: HttpRequest, show: Callable[[], HttpResponseBase], problems: Iterable[Problem]
    ) -> HttpResponseBase:
        request.pluginhub_problems = list(problems)  # type: ignore[attr-defined]
        if helpers.ACTION_CHECKBOX_NAME in request.POST or "post" in request.POST:  # an action, or a deletion
            for _kind, name, _field, message in problems:
                self.message_user(request, f"{name}: {message}" if name else message, messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())
        return show()


def elsewhere(kind: str, name: str, field: str, message: str) -> SafeString:
    """Say what is wrong with another row, with the way to it."""
    told = tell([Change(kind, name, "changed")])[0]
    row = format_html('<a href="{}">{}</a>', told.url, name) if told.url else name
    return format_html("{} “{}”{}: {}", told.kind, row, f", {field}" if field else "", message)


def told(conflict: Conflict, site: str = "admin") -> SafeString:
    """Say what was written over, with the way to what changed."""
    if "seen" not in conflict.extra:
        return format_html("{}", conflict.detail)
    seen, newest = conflict.extra["seen"], conflict.extra["revision"]
    compare = compare_url(seen, "live", site) if seen != newest else compare_url("live", "draft", site)
    return format_html('{} <a href="{}">{}</a>', conflict, compare, _("See what changed."))


def published(revision: Any) -> str:
    """Say that a revision is out."""
    said: str = _("Revision %s is live.") % revision.number
    return said


def row_problems(request: HttpRequest, kind: str, name: str, index: int) -> list[tuple[str, str]]:
    """Return the problems of the step or member at `index` (from 0) of a chain or composition, as field and message."""
    found = []
    for of, whose, field, message in _problems(request):
        if of == kind and whose == name and (row := _ROW.match(field)) and int(row[1]) == index:
            found.append((row[2], message))
    return found


def _problems(request: HttpRequest) -> list[Problem]:
    return getattr(request, "pluginhub_problems", [])


def _with_seen(response: HttpResponseBase) -> HttpResponseBase:
    """Add to the page that asks whether rows may be deleted what they say."""
    context = getattr(response, "context_data", None) or {}
    if "deletable_objects" in context:
        context["rows"] = [(row, Seen.now(row)) for row in context["queryset"]]
    return response


def _require_seen(request: HttpRequest, rows: Iterable[Any], field: Callable[[Any], str]) -> None:
    """Refuse to delete what is not what the question was about. Raises `Conflict`."""
    for row in rows:
        seen = Seen.read(request.POST.get(field(row), ""))
        changed = changed_since(seen, row) if seen else None
        if changed:
            raise Conflict(format_html("“{}”: {} {}", str(row), changed, _("Nothing was deleted.")))


def _is_done(response: HttpResponseBase) -> bool:
    """Whether the admin has written: it answers with a redirect, or with what a pop-up takes back."""
    context = getattr(response, "context_data", None) or {}
    return response.status_code in (301, 302) or "popup_response_data" in context
