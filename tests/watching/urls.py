"""The site's addresses, and one at which a process tells what it holds."""

from __future__ import annotations

from django.urls import include, path

from tests.watching.views import watch

urlpatterns = [path("watch/", watch), path("", include("tenants.site.urls"))]
