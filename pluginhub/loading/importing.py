"""From a catalog entry to a class: imported at first use, once, whoever asks."""

from __future__ import annotations

import importlib
import logging
import os
import re
import sys
import threading
import traceback
from dataclasses import dataclass
from time import monotonic
from types import ModuleType

from pluginhub import forks
from pluginhub.conf import settings
from pluginhub.exceptions import NotReady
from pluginhub.loading.entries import Entry
from pluginhub.loading.packages import SEPARATOR, Package, adopt_loggers
from pluginhub.plugins import Plugin

__all__ = ["Importer"]

FIRST_DELAY = 1.0
LONGEST_DELAY = 60.0

_ORDINAL = re.compile(rf"(?<=\w){SEPARATOR}\d+\b")
"""What a generation adds to the names of its modules."""

log = logging.getLogger("pluginhub.loading")


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why an import failed, in words only: the exception would keep the frames of the failed module alive."""

    digest: str
    detail: str
    hint: str
    delay: float
    until: float


class _Slot:
    """One plugin class being loaded, loaded, or failed. Lives until it is forgotten."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.plugin: type[Plugin] | None = None
        self.failure: _Failure | None = None


class Importer:
    """Imports the plugins of one package, each once, and remembers those that failed. Lives as long as the package.

    Without a package it imports whatever Python finds.
    """

    def __init__(self, package: Package | None) -> None:
        self.package = package
        self._slots: dict[str, _Slot] = {}

    def load(self, found: Entry) -> type[Plugin]:
        """Return a plugin's class. Raises `NotReady`."""
        slot = self._slots.get(found.dotted)
        plugin = slot.plugin if slot is not None else None
        if plugin is None:
            slot = self._slots.setdefault(found.dotted, _Slot())
            with slot.lock:
                plugin = slot.plugin or self._fill(slot, found)
        return plugin

    def has_failed(self, found: Entry) -> bool:
        slot = self._slots.get(found.dotted)
        return bool(found.problem) or (slot is not None and slot.failure is not None)

    def has_loaded(self, found: Entry) -> bool:
        slot = self._slots.get(found.dotted)
        return slot is not None and slot.plugin is not None

    def retry(self) -> None:
        """Let failed imports be tried again at once."""
        for slot in list(self._slots.values()):
            slot.failure = None

    def forget(self, found: Entry) -> None:
        self._slots.pop(found.dotted, None)

    def unlock(self) -> None:
        """Free what is locked by threads that this process does not have."""
        for slot in self._slots.values():
            slot.lock = threading.RLock()

    def _fill(self, slot: _Slot, found: Entry) -> type[Plugin]:
        if found.problem:
            raise NotReady(f"Plugin {found.name!r} cannot be loaded: {found.problem}", plugin=found.name)
        if settings.SAFE_MODE:
            raise NotReady(
                f"Plugin {found.name!r} is not imported: PluginHub runs in safe mode.",
                hint="Unset PLUGINHUB_SAFE_MODE.",
                plugin=found.name,
            )
        now, failure = monotonic(), slot.failure
        if failure is not None and failure.digest == found.digest and now < failure.until:
            raise _not_ready(found, failure, now)
        if failure is not None:
            importlib.invalidate_caches()  # what was missing may have been installed since
        try:
            plugin = _class_in(self._module(found), found)
        except (Exception, SystemExit) as error:  # a module that calls sys.exit() must not end the process
            slot.failure = _remember(error, found, failure)
            log.warning("Plugin %r cannot be loaded.", found.name, exc_info=error)
            raise _not_ready(found, slot.failure, now) from error
        slot.plugin, slot.failure = plugin, None
        return plugin

    def _module(self, found: Entry) -> ModuleType:
        """Import the module of an entry. The one place where plugin code enters the process."""
        package = self.package
        if package is None:
            return importlib.import_module(found.module)
        try:
            return package.import_module(found.module)
        finally:
            adopt_loggers(package)


def _forget_half_imports() -> None:
    """Import in a forked child anew what other threads of its parent were importing: nobody would ever finish it."""
    locks = importlib._bootstrap._module_locks  # type: ignore[attr-defined]
    for name, reference in list(locks.items()):
        lock = reference()
        if lock is not None and lock.owner not in (None, threading.get_ident()):
            del locks[name]
            if getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False):
                del sys.modules[name]


forks.in_child(_forget_half_imports, "imports that were under way")


def _class_in(module: ModuleType, found: Entry) -> type[Plugin]:
    value: object = module
    for part in found.qualname.split("."):
        value = getattr(value, part)
    if not (isinstance(value, type) and issubclass(value, Plugin)):
        raise TypeError(f"{found.dotted} is no subclass of pluginhub.Plugin")
    return value


def _remember(error: BaseException, found: Entry, before: _Failure | None) -> _Failure:
    again = before is not None and before.digest == found.digest
    delay = min(before.delay * 2, LONGEST_DELAY) if again and before else FIRST_DELAY
    return _Failure(
        digest=found.digest,
        detail=f"Plugin {found.name!r} cannot be loaded: {_reason(error)}.",
        hint=_way_out(error),
        delay=delay,
        until=monotonic() + delay,
    )


def _reason(error: BaseException) -> str:
    text = _ORDINAL.sub("", " ".join(str(error).split())[:300].rstrip("."))
    reason = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if isinstance(error, SyntaxError):  # says itself where
        return reason
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_machinery(frame.filename)]
    return f"{reason} ({os.path.basename(frames[-1].filename)}, line {frames[-1].lineno})" if frames else reason


def _is_machinery(filename: str) -> bool:
    return filename.startswith("<frozen") or filename in (__file__, importlib.__file__)


def _way_out(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"Install the distribution that provides {error.name!r}."
    return "Correct the module; a changed file is tried at once."


def _not_ready(found: Entry, failure: _Failure, now: float) -> NotReady:
    seconds = max(failure.until - now, 0.0)
    return NotReady(
        failure.detail,
        hint=f"{failure.hint} The next attempt is {seconds:.0f} s away.",
        plugin=found.name,
        retry_after=round(seconds, 3),
    )
