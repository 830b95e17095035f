"""The websocket URLs, for Channels' `URLRouter`: no session or authentication middleware belongs around them."""

from __future__ import annotations

from typing import Any

from django.urls import path

from pluginhub.consumers import HubConsumer

__all__ = ["websocket_urlpatterns"]

consumer: Any = HubConsumer.as_asgi()

websocket_urlpatterns = [path("ws/hub/", consumer)]
