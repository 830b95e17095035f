"""Which PostgreSQL and Redis the site uses: those of DATABASE_URL and REDIS_URL, else this checkout's embedded pair."""

from __future__ import annotations

import os
from pathlib import Path

from pluginhub.contrib import embedded

__all__ = ["BASE_DIR", "database_url", "redis_url", "start"]

BASE_DIR = Path(__file__).resolve().parents[2]


def database_url() -> str:
    """Return the address, whether or not anything answers there yet."""
    return os.environ.get("DATABASE_URL") or embedded.addresses(BASE_DIR).database_url


def redis_url() -> str:
    """Return the address, whether or not anything answers there yet."""
    return os.environ.get("REDIS_URL") or embedded.addresses(BASE_DIR).redis_url


def start() -> None:
    """Have the embedded pair up for as long as this process lives, if this process needs it."""
    if not (os.environ.get("DATABASE_URL") and os.environ.get("REDIS_URL")):
        embedded.urls(BASE_DIR)
