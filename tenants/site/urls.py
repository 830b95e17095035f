"""A tenant's site: its pages, its admin, its hub."""

from __future__ import annotations

from importlib.util import find_spec

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    *([path("hub/", include("pluginhub.urls"))] if find_spec("pluginhub.urls") else []),
    path("", include("tenants.urls")),
]
