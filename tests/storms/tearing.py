"""The same runs without generations: what they see when modules are replaced in the ways that Python itself offers."""

from __future__ import annotations

import importlib
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

from tests.storms.packages import Distributions, unimport

__all__ = ["reloaded", "swapped", "torn"]


def torn(distributions: Distributions, renew: Callable[[], Any], *, reloads: int = 30) -> tuple[int, int]:
    """Reload by `renew`, which returns the newest `stormy.telling`, under four busy threads.

    Returns how many runs saw two versions, or failed, and how many there were.
    """
    newest, over, seen = [renew()], threading.Event(), list[frozenset[int]]()
    threads = [threading.Thread(target=_tell, args=(newest, over, seen)) for _ in range(4)]
    for thread in threads:
        thread.start()
    # Without bytecode, to which two sources of one size within a second look the same.
    with patch.object(sys, "dont_write_bytecode", True):
        for version in range(2, reloads + 2):
            distributions.write(version)
            newest[0] = renew()
            time.sleep(0.01)
    over.set()
    for thread in threads:
        thread.join()
    return sum(len(versions) != 1 for versions in seen), len(seen)


def reloaded() -> Any:
    """Load the package's modules anew in their places, as `importlib.reload` does."""
    from stormy import telling  # type: ignore[import-not-found]

    importlib.invalidate_caches()
    for name in sorted(name for name in sys.modules if name.partition(".")[0] == "stormy"):
        importlib.reload(sys.modules[name])
    return telling


def swapped() -> Any:
    """Import the package anew, and put the new modules where the old ones were."""
    unimport()
    importlib.invalidate_caches()
    return importlib.import_module("stormy.telling")


def _tell(newest: Sequence[Any], over: threading.Event, seen: list[frozenset[int]]) -> None:
    while not over.is_set():
        telling = newest[0]
        try:
            versions = telling.before()
            time.sleep(0.002)
            seen.append(frozenset(versions + telling.after()))
        except Exception:  # half of a module, or a class that is not the same any more
            seen.append(frozenset())
