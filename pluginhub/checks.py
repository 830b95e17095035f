"""System checks: what a host must not find out in production. `manage.py check` runs them.

| id | what is wrong |
|---|---|
| pluginhub.E001 | a key of `PLUGINHUB` does not exist, or its value does not fit |
| pluginhub.E002 | `pluginhub` is not in TENANT_APPS, or also in SHARED_APPS |
| pluginhub.E003 | `pluginhub.fleet` is not in SHARED_APPS, or also in TENANT_APPS |
| pluginhub.E004 | `PluginMiddleware` is missing |
| pluginhub.E005 | `PluginMiddleware` stands before the tenant middleware |
| pluginhub.E006 | `TENANT_LIMIT_SET_CALLS` is on |
| pluginhub.E007 | a channel layer of channels-redis drops idle sockets with redis-py 8 |
| pluginhub.E008 | a queue that `PLUGINHUB` names is not in RQ_QUEUES |
| pluginhub.E009 | a queue runs its jobs in the process that enqueues them |
| pluginhub.E010 | django-rq holds bells back until a request is finished |
| pluginhub.E011 | transactions are not READ COMMITTED |
| pluginhub.E012 | the public schema is not named `public` |
| pluginhub.E013 | `PROVIDERS` names what is no provider, or providers do not fit together |
| pluginhub.E014 | `PLUGINS` names what is no plugin |
| pluginhub.E015 | `PLUGINS_DIR` is no folder |
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import redis
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, register
from django.db.backends.postgresql.psycopg_any import IsolationLevel
from django.utils.module_loading import import_string
from django_tenants.middleware.main import TenantMainMiddleware
from django_tenants.utils import (
    get_limit_set_calls,
    get_public_schema_name,
    get_tenant_database_alias,
    get_tenant_types,
    has_multi_type_tenants,
)

from pluginhub import conf, loading, providers

__all__ = [
    "check_apps",
    "check_channel_layers",
    "check_database",
    "check_middleware",
    "check_plugins",
    "check_providers",
    "check_queues",
    "check_settings",
]

MIDDLEWARE = "pluginhub.middleware.PluginMiddleware"
SETTINGS_DOCS = "See docs/hosting.md."


@register("pluginhub")
def check_settings(app_configs: Any, **_: Any) -> list[CheckMessage]:
    given = getattr(django_settings, conf.NAME, {})
    return [
        Error(message, hint=f"{hint} {SETTINGS_DOCS}", id="pluginhub.E001") for _, message, hint in conf.problems(given)
    ]


@register("pluginhub")
def check_apps(app_configs: Any, **_: Any) -> list[CheckMessage]:
    shared, tenant = _apps()
    found: list[CheckMessage] = []
    if not _listed("pluginhub", tenant) or _listed("pluginhub", shared):
        found.append(
            Error(
                "'pluginhub' must be in TENANT_APPS, and not in SHARED_APPS.",
                hint="Each tenant has its own registrations; in the public schema, other tenants' would be found.",
                id="pluginhub.E002",
            )
        )
    if not _listed("pluginhub.fleet", shared) or _listed("pluginhub.fleet", tenant):
        found.append(
            Error(
                "'pluginhub.fleet' must be in SHARED_APPS, and not in TENANT_APPS.",
                hint="What spans tenants lives in the public schema; a tenant's own copy would hide it.",
                id="pluginhub.E003",
            )
        )
    return found


@register("pluginhub")
def check_middleware(app_configs: Any, **_: Any) -> list[CheckMessage]:
    loaded = [_imported(path) for path in django_settings.MIDDLEWARE]
    ours = [place for place, middleware in enumerate(loaded) if _is_ours(middleware)]
    tenants = [place for place, middleware in enumerate(loaded) if _is_tenant_middleware(middleware)]
    if not ours:
        return [
            Error(
                f"'{MIDDLEWARE}' is not in MIDDLEWARE.",
                hint="Add it after the tenant and authentication middlewares: it enters the tenant of each request.",
                id="pluginhub.E004",
            )
        ]
    if tenants and ours[0] < tenants[0]:
        return [
            Error(
                f"'{MIDDLEWARE}' stands before the tenant middleware in MIDDLEWARE.",
                hint="Move it behind, and behind authentication: it needs the request's tenant.",
                id="pluginhub.E005",
            )
        ]
    return []


@register("pluginhub")
def check_database(app_configs: Any, **_: Any) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    if get_limit_set_calls():
        found.append(
            Error(
                "TENANT_LIMIT_SET_CALLS is on.",
                hint="Remove it: behind PgBouncer in transaction mode it serves one tenant's rows to another.",
                id="pluginhub.E006",
            )
        )
    options = django_settings.DATABASES.get(get_tenant_database_alias(), {}).get("OPTIONS", {})
    if options.get("isolation_level", IsolationLevel.READ_COMMITTED) != IsolationLevel.READ_COMMITTED:
        found.append(
            Error(
                "The tenants' database has an isolation_level other than READ COMMITTED.",
                hint="Remove it from OPTIONS: who publishes must see what others published while he waited.",
                id="pluginhub.E011",
            )
        )
    if get_public_schema_name() != "public":
        found.append(
            Error(
                f"PUBLIC_SCHEMA_NAME is {get_public_schema_name()!r}.",
                hint="PluginHub needs what spans tenants in the schema 'public'.",
                id="pluginhub.E012",
            )
        )
    return found


@register("pluginhub")
def check_channel_layers(app_configs: Any, **_: Any) -> list[CheckMessage]:
    if redis.VERSION < (8,):
        return []
    layers: dict[str, Any] = getattr(django_settings, "CHANNEL_LAYERS", {})
    return [
        Error(
            f"The channel layer {alias!r} drops an idle socket's messages every 5 s with redis-py 8.",
            hint='Write each host as {"address": "redis://…", "socket_timeout": None} '
            "(https://github.com/django/channels_redis/issues/422).",
            id="pluginhub.E007",
        )
        for alias, layer in layers.items()
        if str(layer.get("BACKEND", "")).startswith("channels_redis.") and not _waits(layer.get("CONFIG", {}))
    ]


@register("pluginhub")
def check_queues(app_configs: Any, **_: Any) -> list[CheckMessage]:
    try:
        named = {"QUEUE": conf.settings.QUEUE, "REDIS_ALIAS": conf.settings.REDIS_ALIAS}
    except conf.SettingsError:
        return []  # E001 says so
    queues: dict[str, Any] = getattr(django_settings, "RQ_QUEUES", {})
    found = [*_missing_queues(named, queues)]
    if queues.get(named["QUEUE"], {}).get("ASYNC", True) is False:
        found.append(
            Error(
                f"The queue {named['QUEUE']!r} has ASYNC off: jobs would run inside the request that asks for them.",
                hint="Remove ASYNC from RQ_QUEUES, and run manage.py pluginhub_worker.",
                id="pluginhub.E009",
            )
        )
    rq: dict[str, Any] = getattr(django_settings, "RQ", {})
    if rq.get("COMMIT_MODE") == "request_finished" or (not rq.get("COMMIT_MODE") and rq.get("AUTOCOMMIT") is False):
        found.append(
            Error(
                "RQ holds jobs back until a request is finished.",
                hint="Set RQ = {'COMMIT_MODE': 'on_db_commit'}: commands and workers finish no request.",
                id="pluginhub.E010",
            )
        )
    return found


@register("pluginhub")
def check_providers(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """Import the host's providers and see whether they fit together. Makes no service."""
    if _is_unreadable():
        return []
    return [Error(error.detail, hint=error.hint, id="pluginhub.E013") for error in providers.host_problems()]


@register("pluginhub")
def check_plugins(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """Look for the plugins that settings name, without importing any."""
    if _is_unreadable() or conf.settings.SAFE_MODE:  # no plugin may keep a process in safe mode from starting
        return []
    folder = conf.settings.PLUGINS_DIR
    if folder is not None and not os.path.isdir(folder):
        return [
            Error(
                f"PLUGINHUB['PLUGINS_DIR'] is {os.fspath(folder)!r}, which is no folder.",
                hint="Create it, or remove the setting.",
                id="pluginhub.E015",
            )
        ]
    entries = loading.catalog()
    return [
        Error(
            f"PLUGINHUB['PLUGINS'][{name!r}] cannot be loaded: {entries[name].problem}",
            hint="Correct or remove it; PLUGINHUB_SAFE_MODE=1 starts without plugins.",
            id="pluginhub.E014",
        )
        for name in sorted(conf.settings.PLUGINS)
        if entries[name].problem
    ]


def _is_unreadable() -> bool:
    """Say whether the settings cannot be read at all, as E001 tells."""
    return bool(conf.problems(getattr(django_settings, conf.NAME, {})))


def _missing_queues(named: dict[str, str], queues: dict[str, Any]) -> Iterator[CheckMessage]:
    for key, queue in named.items():
        if queue not in queues:
            yield Error(
                f"PLUGINHUB[{key!r}] names the queue {queue!r}, which is not in RQ_QUEUES.",
                hint=f"RQ_QUEUES has: {', '.join(sorted(queues)) or 'none'}.",
                id="pluginhub.E008",
            )


def _apps() -> tuple[list[str], list[str]]:
    """Return the apps of the public schema, and those of tenants of any type."""
    if not has_multi_type_tenants():
        return list(getattr(django_settings, "SHARED_APPS", ())), list(getattr(django_settings, "TENANT_APPS", ()))
    kinds = dict(get_tenant_types())
    shared = kinds.pop(get_public_schema_name(), {}).get("APPS", ())
    return list(shared), [app for kind in kinds.values() for app in kind.get("APPS", ())]


def _listed(name: str, apps: Iterable[str]) -> bool:
    return any(app == name or app.startswith(f"{name}.apps.") for app in apps)


def _imported(path: str) -> Any:
    try:
        return import_string(path)
    except ImportError:
        return path  # Django itself says so, with a traceback


def _is_ours(middleware: Any) -> bool:
    ours = _imported(MIDDLEWARE)
    return middleware is ours or (
        isinstance(middleware, type) and isinstance(ours, type) and issubclass(middleware, ours)
    )


def _is_tenant_middleware(middleware: Any) -> bool:
    return isinstance(middleware, type) and issubclass(middleware, TenantMainMiddleware)


def _waits(config: dict[str, Any]) -> bool:
    """Say whether every host of a channel layer may keep a receive open for as long as it takes."""
    hosts = config.get("hosts") or ["redis://localhost:6379"]
    return all(isinstance(host, dict) and host.get("socket_timeout", 5) is None for host in hosts)
