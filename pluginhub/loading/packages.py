"""Packages as generations load them: under names of their own, from a snapshot, whole.

A generation's modules are called `freight@3.rates` where the first ones are called `freight.rates`, and are found in
`sys.modules` under that name, so that dataclasses and pydantic find them too. Every import made by their code, at the
top or inside functions, stays inside the generation: its modules have an `__import__` of their own among their
builtins. `importlib.import_module` with an absolute name is not theirs, and gets the first generation.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import itertools
import logging
import os
import sys
import typing
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any

from pluginhub.loading.snapshots import Snapshot, Source

__all__ = ["SEPARATOR", "Package", "adopt_loggers", "pin", "renew", "unpin"]

SEPARATOR = "@"

_ordinals = itertools.count(1)


@dataclass(frozen=True, slots=True)
class _Home:
    """Where modules of one label come from. `inner` are the builtins of its modules; none for the first generation."""

    snapshot: Snapshot
    inner: dict[str, Any] | None

    def spec(self, name: str) -> ModuleSpec | None:
        _, dot, rest = name.partition(".")
        real = f"{self.snapshot.top}{dot}{rest}"
        source = self.snapshot.sources.get(real)
        if source is not None:
            loader = _Loader(name, source, self.inner)
            inside = [source.path.removesuffix("/__init__.py")] if source.is_package else None
            return importlib.util.spec_from_file_location(
                name, source.path, loader=loader, submodule_search_locations=inside
            )
        folder = self.snapshot.folder_of(real)
        if folder is None:
            return None
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [folder]
        return spec


_HOMES: dict[str, _Home] = {}


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        home = _HOMES.get(fullname.partition(".")[0])
        return None if home is None else home.spec(fullname)


sys.meta_path.insert(0, _Finder())


class _Loader(SourceFileLoader):
    """Runs a module from its snapshot. The first generation may use bytecode, if it is of that very source."""

    def __init__(self, name: str, source: Source, inner: dict[str, Any] | None) -> None:
        super().__init__(name, source.path)
        self._source = source
        self._inner = inner

    def get_data(self, path: str) -> bytes:
        return self._source.data if path == self._source.path else super().get_data(path)

    def path_stats(self, path: str) -> Mapping[str, Any]:
        nanoseconds, size = self._source.stamp
        return {"mtime": nanoseconds / 1e9, "size": size}

    def set_data(self, path: str, data: Any, *, _mode: int = 0o666) -> None:
        """Write no bytecode: the file may say something else by now."""

    def get_code(self, fullname: str) -> CodeType | None:
        if self._inner is None:
            return super().get_code(fullname)
        # Two sources of one size within a second look the same to bytecode.
        return self.source_to_code(self._source.data, self._source.path)

    def exec_module(self, module: ModuleType) -> None:
        if self._inner is not None:
            module.__dict__["__builtins__"] = self._inner
        super().exec_module(module)


class Package:
    """One top-level package in one generation. Lives as long as somebody's `Code` holds it; then its modules go.

    `label` is its name among modules. `number` is the generation of the fleet that asked for it; 0 for what was there
    when the process began.
    """

    def __init__(self, snapshot: Snapshot, number: int, label: str) -> None:
        self.top = snapshot.top
        self.snapshot = snapshot
        self.number = number
        self.label = label

    def import_module(self, real: str) -> ModuleType:
        """Import a module by its real name, and return this generation's."""
        return importlib.import_module(self.label + real.removeprefix(self.top))


def pin(snapshot: Snapshot, number: int = 0) -> Package:
    """Have a package's modules imported under their real names from `snapshot`, from now on."""
    top = snapshot.top
    here = sys.modules.get(top)
    if here is not None and snapshot.folder not in (*getattr(here, "__path__", ()), os.path.dirname(_file_of(here))):
        _drop(sys.modules, top)  # another folder of that name was used before
    home = _HOMES.get(top)
    if home is None or home.snapshot.folder != snapshot.folder:
        home = _HOMES[top] = _Home(snapshot, None)
    return Package(home.snapshot, number, top)


def _file_of(module: ModuleType) -> str:
    return getattr(module, "__file__", None) or ""


def unpin() -> None:
    """Leave all real names to Python again."""
    for label in [label for label in _HOMES if SEPARATOR not in label]:
        del _HOMES[label]


def renew(snapshots: Sequence[Snapshot], number: int, others: Mapping[str, Package]) -> dict[str, Package]:
    """Make packages that import one another, and `others`, in the generation of their own. Imports nothing yet."""
    labels = {top: other.label for top, other in others.items()}
    labels |= {each.top: f"{each.top}{SEPARATOR}{next(_ordinals)}" for each in snapshots}
    inner = dict(vars(builtins))
    inner["__import__"] = _importing({top: label for top, label in labels.items() if label != top})
    made = {}
    for each in snapshots:
        label = labels[each.top]
        _HOMES[label] = _Home(each, inner)
        made[each.top] = package = Package(each, number, label)
        weakref.finalize(package, _forget, label).atexit = False
    return made


def _importing(labels: Mapping[str, str]) -> Any:
    """Return an `__import__` that finds packages under their labels."""

    def import_(
        name: str,
        globals: Any = None,  # noqa: A002
        locals: Any = None,  # noqa: A002
        fromlist: Any = (),
        level: int = 0,
    ) -> ModuleType:
        if level == 0:
            top, dot, rest = name.partition(".")
            label = labels.get(top)
            if label is not None:
                name = f"{label}{dot}{rest}"
        module: ModuleType = builtins.__import__(name, globals, locals, fromlist, level)
        return module

    return import_


def adopt_loggers(package: Package) -> None:
    """Put a generation's loggers below those of the real name, whose settings the host made."""
    label, top = package.label, package.top
    if label == top:
        return
    for name, logger in list(logging.Logger.manager.loggerDict.items()):
        if _is_in(name, label) and isinstance(logger, logging.Logger):
            logger.parent = logging.getLogger(top + name.removeprefix(label))


def _forget(label: str) -> None:
    """Forget a generation's modules. May run at any moment: it is called when the last reference goes."""
    _HOMES.pop(label, None)
    _drop(sys.modules, label)
    _drop(logging.Logger.manager.loggerDict, label)
    for clear in getattr(typing, "_cleanups", ()):  # `Optional[Class]` is remembered there
        clear()


def _drop(known: dict[str, Any], label: str) -> None:
    for name in [name for name in list(known) if _is_in(name, label)]:
        known.pop(name, None)


def _is_in(name: str, label: str) -> bool:
    return name == label or name.startswith(f"{label}.")
