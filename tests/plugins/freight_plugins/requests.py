"""Around the tenant's HTTP requests."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, JsonResponse
from pydantic import BaseModel, Field

from pluginhub import Plugin

__all__ = ["ServerTiming"]

# Longer or stranger ids are not repeated: a header must not carry what a client made up into logs.
REQUEST_ID = re.compile(r"[\w.-]{1,64}")


class ServerTiming(Plugin):
    """Say how long each response took, give each request an id, and turn unwelcome user agents away.

    Adds the headers `Server-Timing` (milliseconds, shown by browsers' developer tools) and `X-Request-ID`, the
    client's own if it is a sane one.
    """

    class Config(BaseModel):
        metric: str = Field("app", pattern=r"^[a-z][a-z0-9-]{0,31}$", description="name within Server-Timing")
        blocked_agents: list[str] = Field([], description="parts of User-Agent headers, upper or lower case")

    config: Config

    def intercept(self, request: HttpRequest, call_next: Callable[[HttpRequest], HttpResponse]) -> HttpResponse:
        agent = request.headers.get("User-Agent", "").lower()
        begun = time.perf_counter()
        if any(part.lower() in agent for part in self.config.blocked_agents if part):
            response: HttpResponse = _refusal()
        else:
            response = call_next(request)
        response.headers["Server-Timing"] = f"{self.config.metric};dur={(time.perf_counter() - begun) * 1000:.1f}"
        response.headers["X-Request-ID"] = _request_id(request)
        return response


def _request_id(request: HttpRequest) -> str:
    given = request.headers.get("X-Request-ID", "")
    return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _refusal() -> HttpResponse:
    problem = {"type": "about:blank", "title": "Not allowed", "status": 403, "detail": "This user agent is blocked."}
    return JsonResponse(problem, status=403, content_type="application/problem+json")
