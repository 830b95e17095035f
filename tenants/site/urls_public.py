"""The public site: all tenants side by side, and the admin that creates them."""

from __future__ import annotations

from django.urls import path

from tenants.admin import public_site
from tenants.views import overview, quote

urlpatterns = [
    path("admin/", public_site.urls),
    path("", overview, name="overview"),
    path("quote/", quote, name="quote"),
]
