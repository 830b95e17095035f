"""A tenant's site: its pages, its admin, its hub."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("hub/", include("pluginhub.urls")),
    path("", include("tenants.urls")),
]
