"""Reloading files of `PLUGINS_DIR` as they are saved: in `DEBUG`, and in this process alone.

What counts is how the disk differs from what was loaded, not what happened to it: a file that was saved, added or
removed makes the package of all files load anew, as a reload does. One that does not work leaves the older code serving
until the next save.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import Any

from django.conf import settings as django_settings
from django.db import connections
from django.utils.autoreload import file_changed

from pluginhub import loading, reloading
from pluginhub.background import Background
from pluginhub.conf import SettingsError, settings
from pluginhub.exceptions import PluginHubError
from pluginhub.loading.discovery import FILES
from pluginhub.presence import reason
from pluginhub.registry import registry

__all__ = ["LOOK_SECONDS", "begin", "look"]

log = logging.getLogger("pluginhub.watching")

LOOK_SECONDS = 0.3
"""How often the folder is compared with what was loaded."""
REST_SECONDS = 0.1
"""How long files must stay as they are before they are read: a `git checkout` writes many."""
LONGEST_SECONDS = 10.0

_Stamps = dict[str, tuple[int, int]]


class _Tried:
    """The files, and the revisions that ran, when a reload was last tried."""

    def __init__(self) -> None:
        self.stamps: _Stamps = {}
        self.revisions: dict[str, int] = {}


_tried = _Tried()


def begin(background: Background, stop: threading.Event) -> None:
    """Look every `LOOK_SECONDS`, in a thread, until `stop` is set. Does nothing without `DEBUG` and `PLUGINS_DIR`."""
    if _folder() is not None:
        background.run("watch files", _watch, stop)


def look() -> None:
    """Reload the files if they are not what was loaded; what failed is tried again after a save, or a publishing."""
    folder = _folder()
    loaded = None if folder is None else _loaded()
    if folder is None or loaded is None:
        return  # what nobody uses is read at its first use
    found = _stamps(folder)
    was_tried = found == _tried.stamps and registry.running() == _tried.revisions
    if found != loaded and not was_tried:
        _reload(_at_rest(folder, found))


def _watch(stop: threading.Event) -> None:
    while not stop.wait(LOOK_SECONDS):
        try:
            look()
        except Exception:  # the thread must outlive whatever a file may do
            log.exception("The files of plugins could not be looked at")
        finally:
            connections.close_all()


def _reload(found: _Stamps) -> None:
    _tried.stamps, _tried.revisions = found, registry.running()
    try:
        reloading.reload_here([FILES])
        log.info("The files of plugins were reloaded")
    except PluginHubError as error:
        log.warning("The older code serves on, since the saved files do not work: %s", reason(error))


def _folder() -> Path | None:
    """Return the folder that is watched, if one is."""
    if not django_settings.DEBUG or settings.PLUGINS_DIR is None or settings.SAFE_MODE:
        return None
    return Path(settings.PLUGINS_DIR)


def _loaded() -> _Stamps | None:
    """Return the files as they were loaded, or `None` where none was yet."""
    package = loading.current().packages.get(FILES)
    if package is None:
        return None
    return {source.path: source.stamp for source in package.snapshot.sources.values()}


def _stamps(folder: Path) -> _Stamps:
    found = {}
    for file in folder.rglob("*.py"):
        if any("." in part for part in file.relative_to(folder).with_suffix("").parts):
            continue  # an editor's, and no module's name
        try:
            status = file.stat()
        except OSError:
            continue
        found[str(file)] = (status.st_mtime_ns, status.st_size)
    return found


def _at_rest(folder: Path, found: _Stamps) -> _Stamps:
    until = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < until:
        time.sleep(REST_SECONDS)
        before, found = found, _stamps(folder)
        if before == found:
            break
    return found


def _is_ours(sender: object, file_path: Path, **_: Any) -> bool | None:
    """Tell Django's autoreloader that a file below the folder needs no restart of the server."""
    try:
        folder = _folder()
    except SettingsError:
        return None  # it is being mended, and the server waits for that
    is_ours = folder is not None and Path(file_path).resolve().is_relative_to(folder.resolve())
    return is_ours or None


file_changed.connect(_is_ours, dispatch_uid="pluginhub.watching")
