"""Turn a database URL into Django's settings."""

from __future__ import annotations

from typing import Any

from psycopg.conninfo import conninfo_to_dict

_NAMES = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}


def database_from_url(url: str) -> dict[str, Any]:
    """Read a libpq URL, such as `postgresql://user:secret@host:5432/name?sslmode=require`; the rest becomes OPTIONS."""
    given = conninfo_to_dict(url)
    named = {_NAMES[key]: str(value) for key, value in given.items() if key in _NAMES}
    options = {key: value for key, value in given.items() if key not in _NAMES}
    return {"ENGINE": "django_tenants.postgresql_backend", **named, "OPTIONS": options}
