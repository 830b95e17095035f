"""The test run's own PostgreSQL database and Redis database, named in the environment so that subprocesses share them.

Naming starts nothing; `start` does, when the first test asks for a service.
"""

from __future__ import annotations

import os
import re
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
WORKER = "PLUGINHUB_TEST_WORKER"
"""Which of pytest-xdist's processes the names are for: each has databases of its own."""
GIVEN = {"DATABASE_URL": "PLUGINHUB_TEST_DATABASE_URL", "REDIS_URL": "PLUGINHUB_TEST_REDIS_URL"}
REDIS_DATABASE = 15


def name_databases() -> None:
    """Point DATABASE_URL and REDIS_URL at databases of this run's own. Subprocesses find that done."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if os.environ.get(WORKER) == worker:
        return
    if RUN not in os.environ:
        os.environ |= {kept: os.environ.get(name, "") for name, kept in GIVEN.items()}
    database, server = (os.environ[kept] for kept in GIVEN.values())
    base = Path(tempfile.gettempdir()) / f"pluginhub-tests-{os.getpid()}"
    ours = embedded.addresses(base)
    os.environ |= {
        RUN: "" if database and server else str(base),
        WORKER: worker,
        "DATABASE_URL": _test_database(database or ours.database_url, worker),
        "REDIS_URL": _test_redis(server or ours.redis_url, worker),
    }


def _test_database(url: str, worker: str) -> str:
    parts = urlsplit(url)
    name = "_".join(filter(None, ("test", worker, parts.path.strip("/") or "pluginhub")))
    return urlunsplit(parts._replace(path=f"/{name}"))


def _test_redis(url: str, worker: str) -> str:
    address, _, query = url.partition("?")
    number = REDIS_DATABASE - int(worker.removeprefix("gw") or 0) % REDIS_DATABASE
    options = dict(parse_qsl(query)) | {"db": str(number)}
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
    with psycopg.connect(url, dbname=re.sub(r"^test_(gw\d+_)?", "", test_name), autocommit=True) as connection:
        connection.execute(drop)
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(name))
        # A test may lose its last commits when the machine goes down.
        connection.execute(sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(name))
        try:
            yield
        finally:
            connection.execute(drop)
