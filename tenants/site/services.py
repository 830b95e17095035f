"""Which PostgreSQL and Redis the site uses: those of DATABASE_URL and REDIS_URL, else this checkout's embedded pair."""

from __future__ import annotations

import os
from pathlib import Path

from pluginhub.contrib import embedded

__all__ = ["BASE_DIR", "DATA_DIR", "database_url", "redis_url", "start"]

BASE_DIR = Path(__file__).resolve().parents[2]
DATA_DIR = Path(os.environ.get("EMBEDDED_DIR", BASE_DIR)).resolve()
"""In its `.pluginhub/` are the embedded servers' data and all logs. Another one is another installation."""


def database_url() -> str:
    """Return the address, whether or not anything answers there yet."""
    return os.environ.get("DATABASE_URL") or embedded.addresses(DATA_DIR).database_url


def redis_url() -> str:
    """Return the address, whether or not anything answers there yet."""
    return os.environ.get("REDIS_URL") or embedded.addresses(DATA_DIR).redis_url


def start() -> None:
    """Have the embedded pair up for as long as this process lives, if this process needs it."""
    if not (os.environ.get("DATABASE_URL") and os.environ.get("REDIS_URL")):
        embedded.urls(DATA_DIR)
