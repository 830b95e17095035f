"""configuration/: GET tells a tenant's set-up and how it differs from another; PUT makes it what the body says.

Whoever writes says what he has seen: `If-Match` with the ETag of GET, which stands for the newest revision and the
draft, or `?expected=` with the revision's number. Secrets are sealed, and open in their own place only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from django.http import HttpRequest, HttpResponse
from pydantic import ValidationError

from pluginhub import configuration, execution, publishing
from pluginhub.configuration import Change, Configuration, Problem, UnreadableFormat
from pluginhub.exceptions import InvalidInput, MalformedInput, PluginHubError, PublishRefused
from pluginhub.publishing import PUBLISH, VIEW, Which
from pluginhub.views.calls import Call
from pluginhub.views.endpoints import endpoint

__all__ = ["tenant_configuration"]

NOTE_LENGTH = 500
_ETAG = re.compile(r'(?:W/)?"([^"]*)"')


class ExpectationRequired(PluginHubError):
    """A write that does not say what its author has seen (RFC 6585)."""

    status = 428
    title = "Expectation required"


async def _show(call: Call) -> HttpResponse:
    execution.require(call.caller, VIEW)
    shown = _which(call.request, "revision")
    call.revision, mark, told = await call.do(_told, shown, _which(call.request, "against"))
    return call.answer(told, headers={"ETag": f'"{mark}"'})


def _told(shown: Which | None, against: Which | None) -> tuple[int, str, dict[str, Any]]:
    """Return the newest revision's number, the mark, and the answer. By default it is of what is live and the draft."""
    newest, draft = publishing.live(), configuration.read()
    number = newest.number if newest else 0
    value = publishing.configuration_at(shown or "live")
    if shown is None and against is None:
        changes = configuration.difference(value, draft)
    else:
        changes = configuration.difference(publishing.configuration_at(against or "live"), value)
    told = {
        "revision": shown if isinstance(shown, int) else number,
        "configuration": value.data(),
        "changes": _changes(changes),
    }
    return number, publishing.mark_of(newest, draft), told


async def _replace(call: Call) -> HttpResponse:
    execution.require(call.caller, VIEW)
    execution.require(call.caller, PUBLISH)
    wanted = _configuration(call.json())
    query = call.request.GET
    is_rehearsal = _flag(query.get("dry_run", ""))
    marks, number = _marks(call.request.headers.get("If-Match")), _number(query.get("expected"))
    if marks is None and number is None and not is_rehearsal:
        raise ExpectationRequired(
            "Nobody knows what you have seen.",
            hint="Send the ETag of GET as If-Match, or the number of the newest revision as ?expected=.",
        )
    if is_rehearsal:
        call.revision, told = await call.do(_rehearsed, wanted, marks, number)
        return call.answer(told)
    note = query.get("note", "").strip()[:NOTE_LENGTH]
    call.revision, mark, told = await call.do(_written, wanted, marks, number, note, call.caller.name)
    return call.answer(told, headers={"ETag": f'"{mark}"'})


def _rehearsed(wanted: Configuration, marks: list[str] | None, number: int | None) -> tuple[int, dict[str, Any]]:
    rehearsal = publishing.rehearse(wanted, expected=_expected(marks, number))
    newest = publishing.live()
    told = {**_effects(rehearsal), "problems": _problems(rehearsal.problems)}
    return newest.number if newest else 0, {"revision": newest.number if newest else 0, **told}


def _written(
    wanted: Configuration, marks: list[str] | None, number: int | None, note: str, author: str
) -> tuple[int, str, dict[str, Any]]:
    expected = _expected(marks, number)
    rehearsal = publishing.rehearse(wanted)
    try:
        revision = publishing.apply_configuration(wanted, author=author, note=note, expected=expected)
    except PublishRefused as refused:
        refused.extra["problems"] = _problems(refused.problems)
        raise
    assert revision is not None
    return revision.number, f"{revision.number}-{revision.digest}", {"revision": revision.number, **_effects(rehearsal)}


def _effects(rehearsal: publishing.Rehearsal) -> dict[str, Any]:
    return {"changes": _changes(rehearsal.published), "discarded": _changes(rehearsal.discarded)}


def _changes(changes: Iterable[Change]) -> list[dict[str, Any]]:
    return [{"kind": one.kind, "name": one.name, "what": one.what, "fields": [*one.fields]} for one in changes]


def _problems(problems: Iterable[Problem]) -> list[dict[str, str]]:
    return [dict(zip(("kind", "name", "field", "message"), one, strict=True)) for one in problems]


# What the request says


def _configuration(data: Any) -> Configuration:
    try:
        return Configuration.model_validate(configuration.upgraded(data))
    except UnreadableFormat as error:
        raise InvalidInput(error.detail, errors={"format": error.hint}) from None
    except ValidationError as error:
        found = {".".join(map(str, each["loc"])): each["msg"] for each in error.errors(include_input=False)}
        raise InvalidInput("The body is no configuration.", errors=found) from None


def _expected(marks: list[str] | None, number: int | None) -> int | str | None:
    """Return what must still be there: of several marks the one that is."""
    if marks is None or marks == ["*"]:
        return number
    present = publishing.mark()
    return present if present in marks else marks[0]


def _marks(header: str | None) -> list[str] | None:
    """Return the ETags of `If-Match`. A proxy that compresses makes them weak; they say the same."""
    if header is None or header.strip() == "*":
        return None if header is None else ["*"]
    marks = _ETAG.findall(header)
    if not marks:
        raise MalformedInput("If-Match holds no ETag.", hint='Send what GET answered, with its quotes: "12-…".')
    return marks


def _which(request: HttpRequest, key: str) -> Which | None:
    said = request.GET.get(key)
    if said is None or said in ("draft", "live"):
        return said  # type: ignore[return-value]
    return _number(said, key, "a revision's number, draft or live")


def _number(said: str | None, key: str = "expected", what: str = "a revision's number") -> int | None:
    if said is not None and not (said.isascii() and said.isdecimal() and len(said) < 19):
        raise MalformedInput(f"?{key}= is {what}.")
    return None if said is None else int(said)


def _flag(said: str) -> bool:
    if said not in ("", "0", "1", "false", "true"):
        raise MalformedInput("?dry_run= is 1 or 0.")
    return said in ("1", "true")


tenant_configuration = endpoint({"GET": _show, "PUT": _replace})
