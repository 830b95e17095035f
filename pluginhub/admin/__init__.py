"""The admin of one tenant, and of the fleet. Importing this package registers it with Django's default admin site."""

from pluginhub.admin import (
    bindings,
    chains,
    compositions,
    fleet,
    jobs,
    points,
    registrations,
    revisions,
    tokens,
    values,
)

__all__ = [
    "bindings",
    "chains",
    "compositions",
    "fleet",
    "jobs",
    "points",
    "registrations",
    "revisions",
    "tokens",
    "values",
]
