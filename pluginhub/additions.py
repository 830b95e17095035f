"""What a plugin adds to its tenant in `activate`: interceptors, job handlers, services for other plugins."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from pluginhub.context import Middleware, Services

__all__ = ["Additions"]


class Additions:
    """What one call of `activate` adds. Counts once the hook has ended well, and until its plugin goes down.

    `services` are those the hook is to see: what it adds there after `close` is refused, whoever else may add by then.
    """

    __slots__ = ("_handlers", "_provided", "_whole", "services")

    def __init__(self, whole: Services) -> None:
        jobs: Any = copy.copy(whole.jobs)
        self._whole = whole
        self._handlers: dict[str, Any] = {}
        self._provided: dict[Any, Any] = {}
        self.services = replace(whole, middleware=Middleware(), jobs=jobs, provided=dict(whole.provided))
        self.services.middleware.open = True
        if jobs is not None:
            jobs.open, jobs.handlers = True, dict(jobs.handlers)

    def close(self) -> None:
        """Let the hook add nothing more."""
        self.services.middleware.open = False
        if self.services.jobs is not None:
            self.services.jobs.open = False

    def keep(self) -> None:
        """Let what was added count."""
        self._handlers = _new(_handlers(self.services), _handlers(self._whole))
        self._provided = _new(self.services.provided, self._whole.provided)
        self._whole.middleware.added += self.services.middleware.added
        _handlers(self._whole).update(self._handlers)
        self._whole.provided.update(self._provided)

    def withdraw(self) -> None:
        """Let it count no longer. What was added under a name that another has taken since stays the other's."""
        mine = set(map(id, self.services.middleware.added))
        added = self._whole.middleware.added
        added[:] = [each for each in added if id(each) not in mine]
        _remove(self._handlers, _handlers(self._whole))
        _remove(self._provided, self._whole.provided)


def _handlers(services: Services) -> dict[Any, Any]:
    handlers: dict[Any, Any] = getattr(services.jobs, "handlers", {})
    return handlers


def _new(now: dict[Any, Any], before: dict[Any, Any]) -> dict[Any, Any]:
    return {key: value for key, value in now.items() if key not in before or before[key] is not value}


def _remove(mine: dict[Any, Any], whole: dict[Any, Any]) -> None:
    for key, value in mine.items():
        if whole.get(key) is value:
            del whole[key]
