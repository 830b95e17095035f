"""Which interceptors wrap a request: by path prefix and method, and never the way back in.

The admin, the login page, health and metrics are wrapped by none, unless its binding's prefix lies within that path:
so no operator locks himself out.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Sequence

from django.conf import settings as django_settings
from django.core.signals import setting_changed
from django.http import HttpRequest
from django.shortcuts import resolve_url
from django.urls import NoReverseMatch, get_resolver, reverse

from pluginhub.conf import settings
from pluginhub.exceptions import PluginHubError
from pluginhub.probes import PROBES
from pluginhub.runtimes import Runtime
from pluginhub.ways import RequestLayer

__all__ = ["alayers", "chosen", "concerned", "layers", "protected"]

log = logging.getLogger("pluginhub.middleware")


def concerned(runtime: Runtime, request: HttpRequest) -> bool:
    """Say whether any interceptor may wrap this request, told without activating one."""
    if not runtime.wrappers.wraps_requests:
        return False
    inside = _protecting(request)
    return not inside or any(prefix.startswith(inside) for prefix in runtime.wrappers.request_prefixes)


def layers(runtime: Runtime) -> Sequence[RequestLayer]:
    """Return all request interceptors of a runtime, outermost first. May activate."""
    try:
        return runtime.wrappers.request_layers()
    except PluginHubError as error:
        return _unready(runtime, error)


async def alayers(runtime: Runtime) -> Sequence[RequestLayer]:
    """The asynchronous twin of `layers`."""
    try:
        return await runtime.wrappers.arequest_layers()
    except PluginHubError as error:
        return _unready(runtime, error)


def chosen(found: Sequence[RequestLayer], request: HttpRequest) -> list[RequestLayer]:
    """Return those that wrap this request, in order: ready ones, and required ones that are not."""
    if not found or settings.SAFE_MODE:
        return []
    inside = _protecting(request)
    return [layer for layer in found if _matches(layer, request, inside) and (layer.intercept or layer.required)]


@functools.lru_cache(maxsize=64)
def protected(urlconf: str | None) -> tuple[str, ...]:
    """Return the paths that no binding wraps by accident: the admin sites, the login page and the probes."""
    return tuple(dict.fromkeys([*_admins(urlconf), *_login(), *PROBES]))


def _forget(*, setting: str, **_: object) -> None:
    if setting in ("LOGIN_URL", "ROOT_URLCONF"):
        protected.cache_clear()


setting_changed.connect(_forget, dispatch_uid="pluginhub.middleware")


def _matches(layer: RequestLayer, request: HttpRequest, inside: str) -> bool:
    if layer.methods and request.method not in layer.methods:
        return False
    return request.path.startswith(layer.path_prefix) and layer.path_prefix.startswith(inside)


def _protecting(request: HttpRequest) -> str:
    """Return the protected path this request is in; an empty one if none."""
    for path in protected(getattr(request, "urlconf", None)):
        if request.path == path or (path.endswith("/") and request.path.startswith(path)):
            return path
    return ""


def _admins(urlconf: str | None) -> Iterator[str]:
    for namespace in get_resolver(urlconf).app_dict.get("admin", ()):
        yield reverse(f"{namespace}:index", urlconf=urlconf)


def _login() -> Iterator[str]:
    try:
        yield resolve_url(django_settings.LOGIN_URL)
    except NoReverseMatch:
        return


def _unready(runtime: Runtime, error: PluginHubError) -> list[RequestLayer]:
    log.warning("The request interceptors of %s are not ready: %s", runtime.tenant, error)
    return [
        RequestLayer(each.path_prefix, each.methods, each.required, None, str(error), each.registration)
        for each in runtime.configuration.interceptors
        if each.scope == "request"
    ]
