"""What uvicorn serves: Django for HTTP, the hub for websockets, static files for any host."""

from __future__ import annotations

import os

from channels.routing import ProtocolTypeRouter, URLRouter
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application

from tenants.site import services

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tenants.site.settings")
services.start()
http = get_asgi_application()

from pluginhub.routing import websocket_urlpatterns  # noqa: E402 - it imports models, which need the apps

application = ProtocolTypeRouter(
    {
        "http": ASGIStaticFilesHandler(http),
        "websocket": URLRouter(websocket_urlpatterns),
    }
)
