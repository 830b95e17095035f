"""From a catalog name to a class: imported at first use, once, whoever asks."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
import traceback
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from time import monotonic
from types import ModuleType

from pluginhub.conf import settings
from pluginhub.exceptions import NotReady
from pluginhub.loading.discovery import FILES, entry, rediscover
from pluginhub.loading.entries import Entry, UnknownPlugin
from pluginhub.plugins import Plugin

__all__ = ["forget", "load"]

FIRST_DELAY = 1.0
LONGEST_DELAY = 60.0

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


_SLOTS: dict[tuple[str, str], _Slot] = {}


def load(name: str) -> type[Plugin]:
    """Return a plugin's class, importing its module at the first use. Threads that ask together import once.

    Raises NotReady, naming plugin, reason and way out. A failed import is not tried again before its delay has
    passed, 1 s at first and doubling to 60 s, unless the file changes.
    """
    try:
        found = entry(name)
    except UnknownPlugin as error:
        raise NotReady(error.detail, hint=error.hint, plugin=name, near_misses=error.extra["near_misses"]) from None
    if found.problem:
        raise NotReady(f"Plugin {name!r} cannot be loaded: {found.problem}", plugin=name)
    slot = _SLOTS.setdefault((found.dotted, found.path), _Slot())
    plugin = slot.plugin
    if plugin is None:
        with slot.lock:
            plugin = slot.plugin or _fill(slot, found)
    return plugin


def forget(name: str | None = None) -> None:
    """Forget remembered failures and loaded classes: of one plugin, or of all, and then look at the catalog anew.

    Modules stay imported, so a class that did load is the same when it is asked for again.
    """
    if name is None:
        rediscover()
        _SLOTS.clear()
    else:
        found = entry(name)
        _SLOTS.pop((found.dotted, found.path), None)


def _fill(slot: _Slot, found: Entry) -> type[Plugin]:
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
        plugin = _class_in(_module(found), found)
    except (Exception, SystemExit) as error:  # a module that calls sys.exit() must not end the process
        slot.failure = _remember(error, found, failure)
        log.warning("Plugin %r cannot be loaded.", found.name, exc_info=error)
        raise _not_ready(found, slot.failure, now) from error
    slot.plugin, slot.failure = plugin, None
    return plugin


def _module(found: Entry) -> ModuleType:
    """Import the module of an entry. The one place where plugin code enters the process."""
    if found.origin == "file":
        _make_package(os.path.dirname(found.path))
    return importlib.import_module(found.module)


def _make_package(folder: str) -> None:
    """Give the files of `PLUGINS_DIR` a package to live in, without putting the folder on `sys.path`."""
    package = sys.modules.get(FILES)
    if package is not None and list(package.__path__) == [folder]:
        return
    for name in [name for name in sys.modules if name.startswith(f"{FILES}.")]:
        del sys.modules[name]
    package = ModuleType(FILES, "Files of PLUGINHUB['PLUGINS_DIR'].")
    package.__spec__ = ModuleSpec(FILES, None, is_package=True)
    package.__path__ = [folder]
    sys.modules[FILES] = package


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
    text = " ".join(str(error).split())[:300].rstrip(".")
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
