"""What a forked child must not inherit, and how it gets its own.

The child of `os.fork` has its parent's memory, and one of its threads. Modules, classes, the catalog, settings and keys
serve it as they are. Threads, loops, connections, live plugins, and locks that another thread held at that moment do
not: whoever keeps such a thing says so here, with words for the documentation. Nothing inherited is ever closed or
deactivated by a child, since closing speaks to the other side in the parent's name.
"""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Rule", "here", "in_child", "keep", "rules"]

log = logging.getLogger("pluginhub.forks")


@dataclass(frozen=True, slots=True)
class Rule:
    """Something that each process makes for itself: in words, the module that keeps it, and how it is made anew."""

    what: str
    module: str
    reset: Callable[[], object]


def in_child(reset: Callable[[], object], what: str) -> None:
    """Have `reset` called in every forked child, before any of its code runs; first registered, first called.

    It must neither wait nor take a lock: whoever holds that lock does not exist in the child.
    """
    _rules.append(Rule(what, reset.__module__, reset))


def rules() -> tuple[Rule, ...]:
    """Return what children make anew, in order."""
    return tuple(_rules)


def here() -> object:
    """Return the mark of this process, to be compared by identity: a child's is another."""
    return _here


def keep(*inherited: object) -> None:
    """Keep what was inherited from being collected: a finalizer would end in the child what the parent still uses."""
    _kept.extend(inherited)
    for each in inherited:  # with a reference that nobody gives up: at its end, an interpreter collects all there is
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(each))


_rules: list[Rule] = []
_kept: list[object] = []
_here = object()


def _begin() -> None:
    global _here
    _here = object()
    for rule in _rules:
        try:
            rule.reset()
        except Exception:  # the others must still be called, and who forked cannot be told otherwise
            log.exception("A forked child could not be given its own: %s (%s)", rule.what, rule.module)


os.register_at_fork(after_in_child=_begin)
