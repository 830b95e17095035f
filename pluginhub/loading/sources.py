"""Where modules are, found without executing anything, and what they say."""

from __future__ import annotations

import importlib.machinery
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from pluginhub.loading.outlines import Outline, outline

__all__ = ["Library"]

_Stamp = tuple[str, int, int]


class Library:
    """Outlines of modules, each kept while its file's path, time and size stay the same.

    Lives as long as the process. `roots` gives packages that no finder knows: name → folders. Not thread-safe by
    itself; the catalog reads it under its lock.
    """

    def __init__(self, roots: Mapping[str, Sequence[str]]) -> None:
        self._roots = roots
        self._outlines: dict[str, tuple[_Stamp, Outline]] = {}

    def outline(self, module: str) -> Outline | None:
        """Return what `module` says, or `None` where there is no such module or it has no source file."""
        path = self.locate(module)
        return None if path is None else self.read(module, path)

    def read(self, module: str, path: str) -> Outline:
        """Return what the file at `path`, known as `module`, says."""
        try:
            status = os.stat(path)
            stamp = (path, status.st_mtime_ns, status.st_size)
            known = self._outlines.get(module)
            if known is not None and known[0] == stamp:
                return known[1]
            with open(path, "rb") as file:
                found = outline(module, path, file.read())
        except OSError as error:
            return Outline(module, path, problem=f"{path} cannot be read: {error.strerror}.")
        self._outlines[module] = (stamp, found)
        return found

    def locate(self, module: str) -> str | None:
        """Return the path of a module's source file.

        `importlib.util.find_spec("a.b")` imports `a`, so the path is walked here, one name at a time.
        """
        top, *rest = module.split(".")
        search: Sequence[str] | None = None
        spec: importlib.machinery.ModuleSpec | None = None
        if top in self._roots:
            search = self._roots[top]
        else:
            rest = [top, *rest]
        name = "" if search is None else top
        for part in rest:
            name = f"{name}.{part}".lstrip(".")
            spec = _find(name, search)
            if spec is None:
                return None
            search = list(spec.submodule_search_locations or ())
        return _source_of(spec)


def _find(name: str, search: Sequence[str] | None) -> importlib.machinery.ModuleSpec | None:
    # The last part alone is enough to look in folders, and a full name makes a namespace package inside a package
    # ask `sys.modules` for its parent, which has not been imported.
    spec = importlib.machinery.PathFinder.find_spec(name.rpartition(".")[2], search)
    return spec or _find_by_hooks(name, search)


def _find_by_hooks(name: str, search: Sequence[str] | None) -> importlib.machinery.ModuleSpec | None:
    """Ask the finders that editable installs add to `sys.meta_path`: setuptools maps names there, not by a path."""
    standard: tuple[Any, ...] = (
        importlib.machinery.BuiltinImporter,
        importlib.machinery.FrozenImporter,
        importlib.machinery.PathFinder,
    )
    for finder in sys.meta_path:
        if finder not in standard and hasattr(finder, "find_spec"):
            spec = finder.find_spec(name, search)
            if spec is not None:
                return spec
    return None


def _source_of(spec: importlib.machinery.ModuleSpec | None) -> str | None:
    if spec is None or not isinstance(spec.loader, importlib.machinery.SourceFileLoader):
        return None
    return spec.origin
