"""The admin of one tenant. Importing this package registers it with Django's default admin site."""

from pluginhub.admin import bindings, chains, compositions, jobs, registrations, revisions, tokens, values

__all__ = ["bindings", "chains", "compositions", "jobs", "registrations", "revisions", "tokens", "values"]
