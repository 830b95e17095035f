"""The database connections of this process: a forked child must neither use nor close them, and opens its own."""

from __future__ import annotations

import os
import weakref
from typing import Any

import psycopg
from django.db import connections

from pluginhub import forks

__all__ = ["remember"]

_known: weakref.WeakSet[Any] = weakref.WeakSet()
"""Those of all threads: `django.db.connections` shows a thread its own only."""


def remember(connection: Any) -> None:
    """Remember a connection of the django-tenants backend, for children to let go of."""
    _known.add(connection)


def _let_go() -> None:
    """Close the child's ends of the sockets, without a word to the server, and stay in the tenant that was visited.

    A socket that stays open here keeps the parent's session alive after the parent's death, with its locks.
    """
    inherited: list[Any] = list(_known)
    _known.clear()
    mine: list[Any] = [each for each in connections.all(initialized_only=True) if each in inherited]
    for wrapper in mine:
        del connections[wrapper.alias]
        own: Any = connections[wrapper.alias]
        own.set_tenant(wrapper.tenant, wrapper.include_public_schema)
    for wrapper in inherited:
        forks.keep(wrapper, wrapper.connection)
        _close_socket(wrapper.connection)


def _close_socket(connection: Any) -> None:
    try:
        if connection is not None:
            os.close(connection.pgconn.socket)
    except (psycopg.Error, OSError):
        pass  # closed already


forks.in_child(_let_go, "connections to the database")
