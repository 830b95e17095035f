"""Put the databases back as they were before a test: its rows are committed for real, and removed for real."""

from __future__ import annotations

import os
from collections.abc import Iterable

import psycopg
import redis
from psycopg import sql

__all__ = ["SPARE", "STANDING", "remove_all"]

STANDING = ("public", "acme", "globex")
SPARE = "many_"
"""Schemas with this prefix are kept for the next test that wants many; migrating one takes half a second."""

# What migrations write, and the standing tenants themselves.
KEPT = {"django_migrations", "django_content_type", "auth_permission", "tenants_tenant", "tenants_domain"}

_TABLES = """
    SELECT schemaname, tablename FROM pg_tables
    WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2
"""


def remove_all() -> None:
    """Empty every table of every schema, drop schemas that a test made, and flush the run's Redis database."""
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        # Fails rather than hangs when a test left a transaction open somewhere.
        connection.execute("SET lock_timeout = '10s'")
        _drop_tenants(connection)
        tables = [row for row in connection.execute(_TABLES).fetchall() if row[1] not in KEPT]
        _truncate(connection, tables)
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        client.flushdb()


def _drop_tenants(connection: psycopg.Connection) -> None:
    made = connection.execute(
        "DELETE FROM tenants_domain USING tenants_tenant t WHERE t.id = tenant_id AND schema_name <> ALL(%s);",
        [list(STANDING)],
    )
    made = connection.execute(
        "DELETE FROM tenants_tenant WHERE schema_name <> ALL(%s) RETURNING schema_name", [list(STANDING)]
    )
    for (schema,) in made.fetchall():
        if not schema.startswith(SPARE):
            connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))


def _truncate(connection: psycopg.Connection, tables: Iterable[tuple[str, str]]) -> None:
    """Truncate those that hold rows: asking is a hundred times cheaper than truncating."""
    ask = sql.SQL(" UNION ALL ").join(
        sql.SQL("SELECT {}, {} WHERE EXISTS (SELECT FROM {})").format(schema, table, sql.Identifier(schema, table))
        for schema, table in tables
    )
    used = [sql.Identifier(schema, table) for schema, table in connection.execute(ask).fetchall()]
    if used:
        connection.execute(sql.SQL("TRUNCATE {} CASCADE").format(sql.SQL(", ").join(used)))
