"""POST tickets/: log in once more, where no header can be set."""

from __future__ import annotations

from django.http import HttpResponse

from pluginhub import access, execution
from pluginhub.conf import settings
from pluginhub.views.calls import Call
from pluginhub.views.endpoints import endpoint

__all__ = ["ticket"]


async def _issue(call: Call) -> HttpResponse:
    execution.require(call.caller, execution.RUN)
    issued = await call.either(access.issue_ticket, access.aissue_ticket, call.caller)
    return call.answer({"ticket": issued, "expires_in": settings.TICKET_SECONDS}, status=201)


ticket = endpoint({"POST": _issue})
