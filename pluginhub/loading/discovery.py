"""Which plugins there are: entry points, the `PLUGINS` setting, files in `PLUGINS_DIR`.

A name in the setting wins. Any other name claimed twice is a problem of its entry, not a silent choice.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from time import monotonic
from types import MappingProxyType

from pluginhub import forks
from pluginhub.conf import settings
from pluginhub.loading.entries import Entry, UnknownPlugin
from pluginhub.loading.reading import describe, plugin_classes
from pluginhub.loading.sources import Library

__all__ = ["CHECK_SECONDS", "FILES", "GROUP", "catalog", "entry", "rediscover"]

GROUP = "pluginhub.plugins"
"""The entry point group of plugin distributions."""

FILES = "pluginhub_files"
"""The package under whose name files of `PLUGINS_DIR` are imported, so that they may import each other relatively."""

CHECK_SECONDS = 1.0
"""How long a catalog is believed before files and installed distributions are looked at again."""


def catalog() -> Mapping[str, Entry]:
    """Return every plugin this installation can load, by name, in order of names. Imports none of them.

    Looks at the disk at most once in `CHECK_SECONDS`, and reads only what changed. While nothing changes it is the
    same object. While one thread looks, the others go by what is known.
    """
    now, lock = _STATE.current, _STATE.lock
    if now.is_fresh() or not lock.acquire(blocking=not now.fits()):
        return now.entries
    try:
        if not _STATE.current.is_fresh():
            _STATE.current = _look(_STATE.current)
        return _STATE.current.entries
    finally:
        lock.release()


def entry(name: str) -> Entry:
    """Return one plugin's entry. Raises UnknownPlugin, which names near misses."""
    entries = catalog()
    try:
        return entries[name]
    except KeyError:
        raise UnknownPlugin(name, entries) from None


def rediscover() -> None:
    """Look at everything anew at the next use."""
    importlib.invalidate_caches()
    with _STATE.lock:
        _STATE.current = _Discovery()


@dataclass(frozen=True, slots=True)
class _Discovery:
    """One look at the installation: what was found, and what it was found from."""

    entries: Mapping[str, Entry] = field(default_factory=lambda: MappingProxyType({}))
    library: Library = field(default_factory=lambda: Library({}))
    installed: tuple[Entry, ...] = ()
    path_stamp: tuple[tuple[str, int], ...] = ()
    plugins: Mapping[str, str] | None = None
    folder: str | os.PathLike[str] | None = None
    until: float = 0.0

    def fits(self) -> bool:
        """Say whether this was found by the settings of now."""
        # By identity: a setting that is read anew is a new object.
        return settings.PLUGINS is self.plugins and settings.PLUGINS_DIR is self.folder

    def is_fresh(self) -> bool:
        return monotonic() < self.until and self.fits()


class _State:
    def __init__(self) -> None:
        self.current = _Discovery()
        self.unlock()

    def unlock(self) -> None:
        self.lock = threading.RLock()


_STATE = _State()
forks.in_child(_STATE.unlock, "the lock of the catalog")


def _look(before: _Discovery) -> _Discovery:
    plugins, folder, stamp = settings.PLUGINS, settings.PLUGINS_DIR, _path_stamp()
    same_folder = before.plugins is not None and folder == before.folder
    if same_folder and plugins == before.plugins and stamp == before.path_stamp and before.library.is_unchanged():
        return replace(before, plugins=plugins, folder=folder, until=monotonic() + CHECK_SECONDS)
    library = before.library if same_folder else Library({} if folder is None else {FILES: [os.fspath(folder)]})
    library.look_again()
    installed = before.installed if stamp == before.path_stamp else tuple(_installed())
    claims = [*installed, *_in_folder(folder, library), *_named(plugins)]
    found = {e.name: e if e.problem else describe(e, library) for e in _settle(claims)}
    return _Discovery(
        entries=before.entries if found == before.entries else MappingProxyType(dict(sorted(found.items()))),
        library=library,
        installed=installed,
        path_stamp=stamp,
        plugins=plugins,
        folder=folder,
        until=monotonic() + CHECK_SECONDS,
    )


def _path_stamp() -> tuple[tuple[str, int], ...]:
    """Changes when a distribution is installed, upgraded or removed: each is an entry in a folder of `sys.path`."""
    stamps = []
    for path in sys.path:
        try:
            stamps.append((path, os.stat(path or ".").st_mtime_ns))
        except OSError:
            stamps.append((path, 0))
    return tuple(stamps)


def _installed() -> Iterator[Entry]:
    known: dict[int, tuple[str, str]] = {}  # a distribution parses its metadata each time it is asked
    for point in metadata.entry_points(group=GROUP):
        dist = point.dist
        if dist is not None and id(dist) not in known:
            known[id(dist)] = (dist.name, dist.version)
        name, version = known[id(dist)] if dist is not None else ("", "")
        dotted = point.value.partition("[")[0].replace(" ", "")
        yield _checked(Entry(name=point.name, dotted=dotted, origin="entry point", distribution=name, version=version))


def _named(plugins: Mapping[str, str]) -> Iterator[Entry]:
    for name, path in plugins.items():
        dotted = path if ":" in path else ":".join(path.rpartition(".")[::2])
        yield _checked(Entry(name=name, dotted=dotted, origin="setting"))


def _checked(claim: Entry) -> Entry:
    if all(part.isidentifier() for part in re.split(r"[.:]", claim.dotted)) and claim.dotted.count(":") == 1:
        return claim
    return replace(claim, problem=f"{claim.dotted!r} names no class. Write 'package.module:Class'.")


def _in_folder(folder: str | os.PathLike[str] | None, library: Library) -> Iterator[Entry]:
    for path in sorted(Path(folder).glob("*.py")) if folder is not None else ():
        if not path.name.startswith("_"):
            yield from _in_file(path, library)


def _in_file(path: Path, library: Library) -> Iterator[Entry]:
    """A file's only plugin bears the file's name, and so does the one called like it; others are `<file>_<class>`."""
    stem = path.stem
    claim = Entry(name=stem, dotted=f"{FILES}.{stem}:", origin="file", path=str(path))
    if "." in stem:
        yield replace(claim, problem=f"{path.name} cannot be imported: its name has a dot. Rename the file.")
        return
    source = library.read(f"{FILES}.{stem}", str(path))
    names = plugin_classes(source, library)
    if not names:
        nothing = f"{path.name} defines no plugin. A file that only helps others begins with an underscore."
        yield replace(claim, problem=source.problem or nothing)
    for name in names:
        own = len(names) == 1 or _snake(name) == stem.replace("-", "_")
        yield replace(claim, name=stem if own else f"{stem}_{_snake(name)}", dotted=f"{FILES}.{stem}:{name}")


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _settle(claims: Iterable[Entry]) -> Iterator[Entry]:
    by_name: dict[str, list[Entry]] = {}
    for claim in claims:
        by_name.setdefault(claim.name, []).append(claim)
    for name, rivals in by_name.items():
        chosen = sorted(rivals, key=lambda claim: (claim.origin != "setting", claim.distribution, claim.dotted))[0]
        others = sorted({claim.dotted for claim in rivals} - {chosen.dotted})
        if others and chosen.origin != "setting":
            way_out = f"Choose one in PLUGINHUB['PLUGINS'] = {{{name!r}: …}}."
            chosen = replace(chosen, problem=f"{name!r} is {chosen.dotted} and {' and '.join(others)}. {way_out}")
        yield chosen
