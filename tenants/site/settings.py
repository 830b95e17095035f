"""Settings of the reference site, for development and for tests. Reading them starts nothing."""

from __future__ import annotations

import os
from typing import Any

from tenants.site.database import database_from_url
from tenants.site.services import BASE_DIR, database_url, redis_url

DEBUG = os.environ.get("DEBUG", "0") == "1"
# Good for a checkout on one machine only; anything reachable sets its own.
SECRET_KEY = os.environ.get("SECRET_KEY", "the reference site of a checkout, not a secret")
ALLOWED_HOSTS = ["localhost", ".localhost", "127.0.0.1", *filter(None, os.environ.get("ALLOWED_HOSTS", "").split(","))]

SHARED_APPS = [
    "django_tenants",
    "tenants",
    "pluginhub.fleet",
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.admin",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "django_prometheus",
    "django_rq",
]
TENANT_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.admin",
    "django.contrib.sessions",
    "django.contrib.messages",
    "pluginhub",
]
INSTALLED_APPS = [*SHARED_APPS, *(app for app in TENANT_APPS if app not in SHARED_APPS)]
TENANT_MODEL = "tenants.Tenant"
TENANT_DOMAIN_MODEL = "tenants.Domain"

MIDDLEWARE = [
    "pluginhub.probes.ProbesMiddleware",  # first: probes answer for any Host, before the tenant is known
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "django_tenants.middleware.main.TenantMainMiddleware",
    "tenants.site.security.content_security_policy",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "pluginhub.middleware.PluginMiddleware",  # after the user is known
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]
ROOT_URLCONF = "tenants.site.urls"
PUBLIC_SCHEMA_URLCONF = "tenants.site.urls_public"
ASGI_APPLICATION = "tenants.site.asgi.application"
LOGIN_URL = "admin:login"

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {"default": database_from_url(database_url())}
DATABASE_ROUTERS = ["django_tenants.routers.TenantSyncRouter"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = redis_url()
CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}}
RQ_QUEUES = {"default": {"URL": REDIS_URL}}
RQ = {"WORKER_CLASS": "pluginhub.jobs.Worker"}  # so that plain rqworker reads our bells, too
RQ_SHOW_ADMIN_LINK = False
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        # Without the None, redis-py 8 drops an idle receive every 5 s.
        "CONFIG": {"hosts": [{"address": REDIS_URL, "socket_timeout": None}]},
    },
}

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "static/"

X_FRAME_OPTIONS = "DENY"
# A cookie for localhost would else be shared by all ports of the machine, but never by two tenants.
SESSION_COOKIE_NAME = "freight_session"
CSRF_COOKIE_NAME = "freight_csrf"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": os.environ.get("LOG_LEVEL", "WARNING")},
}

PLUGINHUB: dict[str, Any] = {"METRICS_TOKEN": os.environ.get("METRICS_TOKEN")}
