"""The format of stored configurations: what an older PluginHub wrote is brought up to date when it is read.

Revisions are kept for ever and never rewritten, and files live in other people's repositories. So a change of the
format comes with a migration, which stays: a pure function from the data of one format to that of the next.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from pydantic import ValidationError

from pluginhub.configuration.values import FORMAT, Configuration
from pluginhub.exceptions import NotReady

__all__ = ["MIGRATIONS", "Migration", "UnreadableFormat", "stored", "upgraded"]

Migration = Callable[[dict[str, Any]], dict[str, Any]]
"""From one format to the next. Takes and returns plain JSON; must not look at anything else."""

MIGRATIONS: dict[int, Migration] = {
    # 2 says more of steps and registrations, and nothing else.
    1: lambda data: data,
}
"""By the format they start from. There is one for every format before `FORMAT`, the first of which was 1."""


class UnreadableFormat(NotReady):
    """A configuration was written by a PluginHub that is too new, or too old, for this one to read it."""

    title = "Unreadable configuration"


def stored(data: Any) -> Configuration:
    """Return what a revision holds, of whatever format. Raises `UnreadableFormat`."""
    try:
        return Configuration.model_validate(upgraded(data))
    except ValidationError as error:
        places = {".".join(map(str, each["loc"])): each["msg"] for each in error.errors(include_input=False)}
        raise UnreadableFormat(
            f"A stored configuration cannot be read: {'; '.join(f'{at}: {why}' for at, why in places.items())}.",
            hint="Publish anew, or go back to another revision.",
            errors=places,
        ) from error


def upgraded(data: Any) -> Any:
    """Return a configuration's data in today's format; what names no format has it. Changes nothing in place.

    Raises `UnreadableFormat` for one that is newer. What is no configuration at all is left to its model.
    """
    version = data.get("format", FORMAT) if isinstance(data, dict) else FORMAT
    if isinstance(version, bool) or not isinstance(version, int):
        return data
    if version > FORMAT:
        raise UnreadableFormat(
            f"This configuration has the format {version}: it was written by a newer PluginHub. This one reads formats"
            f" up to {FORMAT}.",
            hint="Install that version here, or publish anew with this one.",
            format=version,
        )
    while version < FORMAT:
        data, version = {**_step(version)(deepcopy(data)), "format": version + 1}, version + 1
    return data


def _step(version: int) -> Migration:
    if version not in MIGRATIONS:
        raise UnreadableFormat(f"There is no format {version} of configurations.", hint=f"Today's is {FORMAT}.")
    return MIGRATIONS[version]
