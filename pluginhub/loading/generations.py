"""The plugin code that is in use: a process's current generation, and older ones as long as runtimes hold them."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Mapping

from django.conf import settings as django_settings
from django.core.signals import setting_changed

from pluginhub import forks
from pluginhub.conf import settings
from pluginhub.exceptions import NotReady
from pluginhub.loading import discovery
from pluginhub.loading.discovery import FILES
from pluginhub.loading.entries import Entry, UnknownPlugin
from pluginhub.loading.importing import Importer
from pluginhub.loading.packages import Package, pin, renew, unpin
from pluginhub.loading.snapshots import Snapshot, take
from pluginhub.loading.sources import Library
from pluginhub.plugins import Plugin

__all__ = ["Code", "become", "current", "forget", "load", "snapshot_of"]


log = logging.getLogger("pluginhub.loading")


class Code:
    """The plugins of one generation: what the catalog said of them then, and their classes, imported at first use.

    Lives as long as it is current, or a runtime holds it. `number` is the fleet's generation.
    """

    def __init__(
        self,
        number: int = 0,
        packages: Mapping[str, Package] | None = None,
        entries: Mapping[str, Entry] | None = None,
        importers: Mapping[str, Importer] | None = None,
    ) -> None:
        self.number = number
        self._packages = dict(packages or {})
        self._entries = dict(entries or {})
        self._importers = dict(importers or {"": Importer(None)})
        self._pinned: dict[str, bool] = {}
        self._digests: dict[str, str] = {}
        self.wanted: Mapping[str, str] = {}
        """The digests that the fleet's generation asks for, by package."""
        self.strays: tuple[str, ...] = ()
        """The packages that were read from disk when it had something else than the fleet wants."""
        self._lock = threading.RLock()

    @property
    def packages(self) -> Mapping[str, Package]:
        """The packages in use, by top-level name."""
        return self._packages

    def entry(self, name: str) -> Entry:
        """Return what the catalog said of a plugin when its package was first used. Raises `UnknownPlugin`."""
        found = self._entries.get(name)
        if found is None:
            found = discovery.entry(name)
            if self._is_pinned(found):
                with self._lock:
                    found = self._adopt(found)
        return found

    def known(self, name: str) -> Entry | None:
        """Return a plugin's entry, or `None` where there is none."""
        try:
            return self.entry(name)
        except UnknownPlugin:
            return None

    def load(self, name: str) -> type[Plugin]:
        """Return a plugin's class, importing its module at the first use. Threads that ask together import once.

        Raises NotReady, naming plugin, reason and way out. A failed import is not tried again before its delay has
        passed, 1 s at first and doubling to 60 s, unless the file changes.
        """
        try:
            found = self.entry(name)
        except UnknownPlugin as error:
            raise NotReady(error.detail, hint=error.hint, plugin=name, near_misses=error.extra["near_misses"]) from None
        importer = self._importer(found)
        if importer.has_failed(found) and (changed := self._changed(found)):
            found, importer = changed, self._importer(changed)
        return importer.load(found)

    def label(self, name: str) -> str:
        """Return what tells this generation of a plugin's code from others, in this process."""
        found = self.known(name)
        package = self._packages.get(self._key(found)) if found else None
        return package.label if package else ""

    def digest(self, name: str) -> str:
        """Return what tells a plugin's code from others, in all processes: its version, and a digest of its package.

        That of the host's own plugins is their module's. Ask when it was loaded: it stays as it was then, whatever
        happens to the file.
        """
        found = self.known(name)
        if found is None:
            return ""
        package = self._packages.get(self._key(found))
        if package is not None:
            return f"{found.version}:{package.snapshot.digest}"
        return self._digests.setdefault(name, f"{found.version}:{found.digest}")

    def loaded(self) -> list[str]:
        """Name the plugins whose classes were imported."""
        names = []
        for name, found in list(self._entries.items()):
            if self._importer(found).has_loaded(found):
                names.append(name)
        return names

    def pin(self) -> None:
        """Read the packages of all plugins now, so that whatever is imported later is as it is now."""
        for name in discovery.catalog():
            if self.known(name) is not None and self._packages:
                return

    def retry(self) -> None:
        """Try failed imports again at their next use: something that was published may have mended them."""
        for importer in list(self._importers.values()):
            importer.retry()

    def forget(self, name: str) -> None:
        """Ask for a plugin's module again at its next use."""
        found = self.known(name)
        if found is not None:
            self._importer(found).forget(found)

    def renewed(self, snapshots: Iterable[Snapshot], number: int) -> Code:
        """Return the code of another generation: these packages anew, from their snapshots; all else as here."""
        fresh = list(snapshots)
        tops = {snapshot.top for snapshot in fresh}
        kept = {key: package for key, package in self._packages.items() if package.top not in tops}
        packages = renew(fresh, number, {top: package for top, package in kept.items() if top == package.top})
        entries = {name: entry for name, entry in self._entries.items() if entry.top not in tops}
        entries |= {e.name: e for e in discovery.catalog().values() if e.top in tops}
        importers = {key: importer for key, importer in self._importers.items() if not key or key in kept}
        made = Code(number, {**kept, **packages}, entries, importers)
        made.wanted, made.strays = self.wanted, tuple(top for top in self.strays if top not in tops)
        made._digests = self._digests
        return made

    def numbered(self, number: int) -> Code:
        """Return the same code, of another generation of the fleet that changes nothing here."""
        made = Code(number, self._packages, self._entries, self._importers)
        made.wanted, made.strays, made._digests = self.wanted, self.strays, self._digests
        return made

    def unlock(self) -> None:
        """Free what is locked by threads that this process does not have."""
        self._lock = threading.RLock()
        for importer in self._importers.values():
            importer.unlock()

    def _importer(self, found: Entry) -> Importer:
        key = self._key(found)
        package = self._packages.get(key)
        with self._lock:
            return self._importers.setdefault(key, Importer(package)) if package else self._importers[""]

    def _key(self, found: Entry) -> str:
        alone = f"{found.top}:{found.name}"
        return alone if alone in self._packages else found.top

    def _is_pinned(self, found: Entry) -> bool:
        """Whether a plugin's package is read whole at its first use; not what the host runs as its own."""
        if found.top in self._packages:
            return True
        if found.origin == "setting" or (found.problem and not found.digest):
            return False
        pinned = self._pinned.get(found.top)
        if pinned is None:
            pinned = self._pinned[found.top] = not _is_host(found.top) and _path_of(found.top) is not None
        return pinned

    def _adopt(self, found: Entry) -> Entry:
        """Take a plugin in: with its whole package as it is now, or by itself where an older state is in use."""
        if found.name in self._entries:
            return self._entries[found.name]
        if found.top in self._packages:
            return self._take_alone(found)
        # All at once, since packages import one another.
        tops = {entry.top for entry in discovery.catalog().values() if self._is_pinned(entry)}
        for top in sorted({found.top, *tops} - self._packages.keys()):
            self._take_in(top)
        return self._entries.get(found.name, found)

    def _take_in(self, top: str) -> None:
        try:
            snapshot, entries = _at_rest(top)
        except NotReady as error:
            log.warning("A package of plugins is left out: %s", error)
            return
        versioned = {top: package for top, package in self._packages.items() if package.label != top == package.top}
        made = renew([snapshot], self.number, versioned)[top] if versioned else pin(snapshot, self.number)
        self._packages[top] = made
        self._entries |= entries
        if self.wanted.get(top, snapshot.digest) != snapshot.digest:
            self.strays += (top,)

    def _take_alone(self, found: Entry) -> Entry:
        snapshot, entries = _at_rest(found.top)
        others = {top: package for top, package in self._packages.items() if top == package.top}
        key = f"{found.top}:{found.name}"
        self._importers.pop(key, None)
        self._packages[key] = renew([snapshot], self.number, others)[found.top]
        self._entries[found.name] = entries.get(found.name, found)
        return self._entries[found.name]

    def _changed(self, found: Entry) -> Entry | None:
        """Return a plugin that failed to import as it is on disk now, if that is something else."""
        now = discovery.catalog().get(found.name)
        if now is None or now.digest == found.digest or not self._is_pinned(now):
            return None
        with self._lock:
            return self._take_alone(now)


class _Process:
    """Which generation is the current one of this process."""

    def __init__(self) -> None:
        self.code = Code()


_process = _Process()
forks.in_child(lambda: current().unlock(), "locks of imports")


def current() -> Code:
    """Return the code that new runtimes are built with."""
    return _process.code


def become(code: Code) -> None:
    """Make a generation the current one."""
    _process.code = code


def load(name: str) -> type[Plugin]:
    """Return a plugin's class of the current generation. Raises NotReady as `Code.load` does."""
    return current().load(name)


def forget(name: str | None = None) -> None:
    """Forget remembered failures and loaded classes: of one plugin, or of all, and then look at the catalog anew.

    Modules stay imported, so a class that did load is the same when it is asked for again.
    """
    if name is not None:
        discovery.entry(name)
        current().forget(name)
        return
    discovery.rediscover()
    unpin()
    _process.code = Code()


def snapshot_of(top: str) -> Snapshot:
    """Read a package as it is on disk now. Raises `NotReady` where it cannot be read."""
    path = _path_of(top)
    if path is None:
        raise NotReady(f"The package {top!r} has no Python source that could be read.")
    return take(top, path)


def _path_of(top: str) -> str | None:
    if top == FILES:
        return None if settings.PLUGINS_DIR is None else os.fspath(settings.PLUGINS_DIR)
    return Library({}).locate(top)


def _is_host(top: str) -> bool:
    return top in {app.partition(".")[0] for app in django_settings.INSTALLED_APPS}


def _at_rest(top: str) -> tuple[Snapshot, dict[str, Entry]]:
    """Return a package's snapshot, and the catalog's entries of that very source."""
    for _ in range(5):
        snapshot = snapshot_of(top)
        entries = {e.name: e for e in discovery.catalog().values() if e.top == top}
        if all(_agrees(entry, snapshot) for entry in entries.values()):
            break
        discovery.rediscover()
    return snapshot, entries


def _agrees(entry: Entry, snapshot: Snapshot) -> bool:
    source = snapshot.sources.get(entry.module)
    return not entry.digest or (source is not None and source.digest == entry.digest)


def _on_setting_changed(*, setting: str, **_: object) -> None:
    if setting == "PLUGINHUB":
        forget()


setting_changed.connect(_on_setting_changed, dispatch_uid="pluginhub.loading")
