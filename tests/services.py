"""The test run's own PostgreSQL database and Redis database, named in the environment so that subprocesses share them.

Naming starts nothing; `start` does, when the first test asks for a service.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import psycopg
import redis
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from pluginhub.contrib import embedded
from pluginhub.contrib.embedded.places import places

RUN = "PLUGINHUB_TEST_RUN"
REDIS_DATABASE = 15


def name_databases() -> None:
    """Point DATABASE_URL and REDIS_URL at databases of this run's own. Subprocesses find that done."""
    if RUN in os.environ:
        return
    given = os.environ.get("DATABASE_URL"), os.environ.get("REDIS_URL")
    base = Path(tempfile.gettempdir()) / f"pluginhub-tests-{os.getpid()}"
    ours = embedded.addresses(base)
    os.environ[RUN] = "" if all(given) else str(base)
    os.environ["DATABASE_URL"] = _test_database(given[0] or ours.database_url)
    os.environ["REDIS_URL"] = _test_redis(given[1] or ours.redis_url)


def _test_database(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"/test_{parts.path.strip('/') or 'pluginhub'}"))


def _test_redis(url: str) -> str:
    address, _, query = url.partition("?")
    options = dict(parse_qsl(query)) | {"db": str(REDIS_DATABASE)}
    return f"{address}?{urlencode(options)}"  # urlunsplit would take the slashes from unix:///path


@contextmanager
def running() -> Iterator[None]:
    """Start the run's own pair of servers if it needs one, and begin with empty databases."""
    base = os.environ[RUN]
    if base:
        Path(base).mkdir(mode=0o755, exist_ok=True)
        embedded.urls(base)
    with _database(os.environ["DATABASE_URL"]), redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        client.flushdb()
        yield
        client.flushdb()
    if base:
        _end(base)


def _end(base: str) -> None:
    """Have the servers end before their files go."""
    embedded.leave(base)
    until = time.monotonic() + 10
    while places(base).run.exists() and time.monotonic() < until:
        time.sleep(0.05)
    shutil.rmtree(base)


@contextmanager
def _database(url: str) -> Iterator[None]:
    test_name = str(conninfo_to_dict(url)["dbname"])
    name = sql.Identifier(test_name)
    drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name)
    with psycopg.connect(url, dbname=test_name.removeprefix("test_"), autocommit=True) as connection:
        connection.execute(drop)
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(name))
        # A test may lose its last commits when the machine goes down.
        connection.execute(sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(name))
        try:
            yield
        finally:
            connection.execute(drop)
