"""A package's source at one moment: what a generation is loaded from, whatever happens to the files afterwards."""

from __future__ import annotations

import ast
import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pluginhub.exceptions import NotReady

__all__ = ["Snapshot", "Source", "take"]

TRIES = 20
PAUSE_SECONDS = 0.05
"""How often, and how far apart, a folder is read that somebody is writing to."""

_BINARIES = (".so", ".pyd", ".dylib")

_Stamp = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Source:
    """One module's file."""

    path: str
    data: bytes
    stamp: _Stamp
    """The file's time in nanoseconds and its size."""

    @property
    def is_package(self) -> bool:
        return os.path.basename(self.path) == "__init__.py"

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True)
class Snapshot:
    """All Python source below one top-level name. `folder` is where it was, `digest` the SHA-256 of all of it."""

    top: str
    folder: str
    sources: Mapping[str, Source]
    binaries: tuple[str, ...] = ()
    digest: str = field(default="", compare=False)

    def folder_of(self, module: str) -> str | None:
        """Return the folder of a package without a file of its own, or `None` where nothing lies below that name."""
        if not any(name.startswith(f"{module}.") for name in self.sources):
            return None
        return os.path.join(self.folder, *module.split(".")[1:])

    def trees(self) -> Iterator[tuple[str, ast.Module]]:
        """Yield each module that can be parsed, as `(name, tree)`."""
        for name, source in self.sources.items():
            try:
                yield name, ast.parse(source.data)
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                continue


def take(top: str, path: str) -> Snapshot:
    """Read the package whose `__init__.py`, single file, or folder of files is at `path`.

    A folder that changes while it is read is read again, for a second. Raises `NotReady` when it does not come to rest.
    """
    for _ in range(TRIES):
        before = _stamps(path)
        try:
            sources = dict(_read(top, path, before))
        except OSError:  # replaced at this very moment
            sources = {}
        if sources and _stamps(path) == before:
            return _snapshot(top, path, sources)
        time.sleep(PAUSE_SECONDS)
    raise NotReady(f"The files of {top!r} keep changing, or are gone: {path}.", hint="Reload when they are in place.")


def _snapshot(top: str, path: str, sources: dict[str, Source]) -> Snapshot:
    total = hashlib.sha256()
    for name in sorted(sources):
        total.update(f"{name}:{sources[name].digest}\n".encode())
    folder = _folder(path)
    binaries = (
        () if folder is None else tuple(each.name for each in Path(folder).rglob("*") if each.suffix in _BINARIES)
    )
    return Snapshot(top, folder or os.path.dirname(path), sources, binaries, total.hexdigest())


def _folder(path: str) -> str | None:
    """Return the package's folder; `None` for a module that is a single file."""
    if os.path.isdir(path):
        return path
    return os.path.dirname(path) if os.path.basename(path) == "__init__.py" else None


def _stamps(path: str) -> dict[str, _Stamp]:
    folder = _folder(path)
    files = [Path(path)] if folder is None else sorted(Path(folder).rglob("*.py"))
    stamps = {}
    for file in files:
        try:
            status = file.stat()
        except OSError:
            continue
        stamps[str(file)] = (status.st_mtime_ns, status.st_size)
    return stamps


def _read(top: str, path: str, stamps: Mapping[str, _Stamp]) -> Iterator[tuple[str, Source]]:
    folder = _folder(path)
    for file, stamp in stamps.items():
        parts = [] if folder is None else list(Path(file).relative_to(folder).with_suffix("").parts)
        if parts and parts[-1] == "__init__":
            parts.pop()
        if not any("." in part for part in parts):
            yield ".".join([top, *parts]), Source(file, Path(file).read_bytes(), stamp)
