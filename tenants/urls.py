"""The reference site's own pages for one tenant."""

from __future__ import annotations

from django.urls import path

from tenants import views

urlpatterns = [
    path("", views.home, name="home"),
    path("quote/", views.quote, name="quote"),
]
