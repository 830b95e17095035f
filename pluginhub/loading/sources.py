"""Where modules are, found without executing anything, and what they say."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import BuiltinImporter, FrozenImporter, ModuleSpec, PathFinder, SourceFileLoader
from typing import Any

from pluginhub.loading.outlines import Outline, outline

__all__ = ["Library"]

_Stamp = tuple[int, int]


class Library:
    """Outlines of modules, each kept while its file's path, time and size stay the same.

    Lives as long as the process. `roots` gives packages that no finder knows: name → folders. Every folder and file is
    looked at once, until `look_again`. Not thread-safe by itself; the catalog reads it under its lock.
    """

    def __init__(self, roots: Mapping[str, Sequence[str]]) -> None:
        self._roots = roots
        self._outlines: dict[str, tuple[str, _Stamp, Outline]] = {}
        self.look_again()

    def look_again(self) -> None:
        """Look at the disk anew from here on."""
        self._specs: dict[str, ModuleSpec | None] = {}
        self._seen: dict[str, _Stamp | None] = {}
        for folders in self._roots.values():
            self._see(*folders)

    def is_unchanged(self) -> bool:
        """Say whether every folder and file is as it was seen; `sys.path` and what is installed there aside."""
        return all(_stamp(path) == seen for path, seen in self._seen.items())

    def outline(self, module: str) -> Outline | None:
        """Return what `module` says, or `None` where there is no such module or it has no source file."""
        path = self.locate(module)
        return None if path is None else self.read(module, path)

    def read(self, module: str, path: str) -> Outline:
        """Return what the file at `path`, known as `module`, says."""
        self._see(path)
        stamp, known = self._seen[path], self._outlines.get(module)
        if known is not None and known[:2] == (path, stamp):
            return known[2]
        try:
            with open(path, "rb") as file:
                found = outline(module, path, file.read())
        except OSError as error:
            return Outline(module, path, problem=f"{path} cannot be read: {error.strerror}.")
        if stamp is not None:
            self._outlines[module] = (path, stamp, found)
        return found

    def locate(self, module: str) -> str | None:
        """Return the path of a module's source file.

        `importlib.util.find_spec("a.b")` imports `a`, so the path is walked here, one name at a time.
        """
        return _source_of(self._spec(module))

    def _spec(self, name: str) -> ModuleSpec | None:
        if name not in self._specs:
            self._specs[name] = None if name in self._roots else self._search(name)
        return self._specs[name]

    def _search(self, name: str) -> ModuleSpec | None:
        package = name.rpartition(".")[0]
        if not package:
            return _find(name, None)
        folders = self._folders(package)
        self._see(*folders)
        return _find(name, folders) if folders else None

    def _folders(self, package: str) -> Sequence[str]:
        if package in self._roots:
            return self._roots[package]
        spec = self._spec(package)
        return list(spec.submodule_search_locations or ()) if spec is not None else []

    def _see(self, *paths: str) -> None:
        for path in paths:
            if path not in self._seen:
                self._seen[path] = _stamp(path)


def _stamp(path: str) -> _Stamp | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _find(name: str, search: Sequence[str] | None) -> ModuleSpec | None:
    # The last part alone is enough to look in folders, and a full name makes a namespace package inside a package
    # ask `sys.modules` for its parent, which has not been imported.
    spec = PathFinder.find_spec(name.rpartition(".")[2], search)
    return spec or _find_by_hooks(name, search)


def _find_by_hooks(name: str, search: Sequence[str] | None) -> ModuleSpec | None:
    """Ask the finders that editable installs add to `sys.meta_path`: setuptools maps names there, not by a path."""
    standard: tuple[Any, ...] = (BuiltinImporter, FrozenImporter, PathFinder)
    for finder in sys.meta_path:
        if finder not in standard and hasattr(finder, "find_spec"):
            spec = finder.find_spec(name, search)
            if spec is not None:
                return spec
    return None


def _source_of(spec: ModuleSpec | None) -> str | None:
    if spec is None or not isinstance(spec.loader, SourceFileLoader):
        return None
    return spec.origin
