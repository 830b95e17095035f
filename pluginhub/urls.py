"""The hub's calls, to be included under a prefix of the host's: `path("hub/", include("pluginhub.urls"))`.

Whatever else is asked for under that prefix is answered 404 here, so the host's own URLs go before or elsewhere.
"""

from __future__ import annotations

from django.urls import path, re_path

from pluginhub.views.configuration import tenant_configuration
from pluginhub.views.index import index, missing
from pluginhub.views.jobs import job
from pluginhub.views.openapi import openapi
from pluginhub.views.public import public
from pluginhub.views.runs import run
from pluginhub.views.streams import stream
from pluginhub.views.tickets import ticket

__all__ = ["app_name", "urlpatterns"]

app_name = "pluginhub"

urlpatterns = [
    path("", index, name="index"),
    path("run/<str:target>/", run, name="run"),
    path("jobs/<str:name>/", job, name="job"),
    path("stream/<str:name>/", stream, name="stream"),
    path("in/<str:target>/", public, name="public"),
    path("configuration/", tenant_configuration, name="configuration"),
    path("tickets/", ticket, name="tickets"),
    path("openapi.json", openapi, name="openapi"),
    re_path(r"", missing),
]
