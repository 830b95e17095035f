"""Where the host calls its points: found by reading the sources of loaded modules, at nobody's cost but the reader's.

A call is found where a module holds the point, or a module in which it is, under a name at its top: `TOTAL.run(…)`,
`orders.TOTAL.emit(…)`. Names that only a function knows are not followed.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from os import stat
from types import ModuleType

from pluginhub.points.declaring import Point

__all__ = ["METHODS", "Call", "Calls", "calls_of"]

METHODS = frozenset({"run", "arun", "emit", "aemit", "on"})
"""What calls a point."""


@dataclass(frozen=True, slots=True, order=True)
class Call:
    """One place in the host's code. `function` is empty at a module's top."""

    module: str
    line: int
    method: str
    function: str = ""


@dataclass(slots=True)
class Calls:
    """The calls of one point that were found, in order, and the modules that hold it but have no source to read."""

    found: list[Call] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Mention:
    """A method called on something that is named by a path: `orders.TOTAL` and `run`."""

    path: tuple[str, ...]
    line: int
    method: str
    function: str


def calls_of(points: Iterable[Point]) -> Mapping[str, Calls]:
    """Return where each point is called, by its name. Never fails: what cannot be read is named."""
    wanted = {id(point): point for point in points}
    calls: dict[str, Calls] = {point.name: Calls() for point in wanted.values()}
    modules = _modules()
    for module in _holding(modules, wanted):
        mentions = _mentions_in(module)
        for point in {id(each): each for each in _points_in(module, wanted)}.values() if mentions is None else ():
            calls[point.name].unread.append(module.__name__)
        for mention in mentions or ():
            found = _named(module, mention.path)
            if id(found) in wanted:
                call = Call(module.__name__, mention.line, mention.method, mention.function)
                calls[wanted[id(found)].name].found.append(call)
    for each in calls.values():
        each.found.sort()
        each.unread.sort()
    return calls


def _modules() -> list[ModuleType]:
    """Return the loaded modules, each once: one may be there under several names."""
    return list({id(module): module for module in list(sys.modules.values()) if type(module) is ModuleType}.values())


def _holding(modules: Iterable[ModuleType], wanted: Mapping[int, Point]) -> Iterator[ModuleType]:
    """Yield the modules that hold a point, or a module or package in which there is one."""
    modules = list(modules)
    names = {module.__name__ for module in modules if any(_points_in(module, wanted))}
    packages = {name.rsplit(".", depth)[0] for name in names for depth in range(name.count(".") + 1)}
    for module in modules:
        held = list(vars(module).values())
        if module.__name__ in names or any(type(each) is ModuleType and each.__name__ in packages for each in held):
            yield module


def _points_in(module: ModuleType, wanted: Mapping[int, Point]) -> Iterator[Point]:
    return (wanted[id(each)] for each in list(vars(module).values()) if id(each) in wanted)


def _named(module: ModuleType, path: tuple[str, ...]) -> object:
    found: object = module
    for name in path:
        if type(found) is not ModuleType:
            return None
        found = vars(found).get(name)
    return found


def _mentions_in(module: ModuleType) -> tuple[_Mention, ...] | None:
    """Return what a module's source calls, `None` where there is no source."""
    try:
        file = str(module.__file__)
        return _read(file, stat(file).st_mtime_ns)
    except (AttributeError, OSError, SyntaxError, ValueError, RecursionError):
        return None


@lru_cache(maxsize=512)
def _read(file: str, changed: int) -> tuple[_Mention, ...]:
    with open(file, "rb") as source:
        return tuple(_mentions(ast.parse(source.read()), ""))


def _mentions(node: ast.AST, function: str) -> Iterator[_Mention]:
    for child in ast.iter_child_nodes(node):
        inner = function
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = f"{function}.{child.name}".lstrip(".")
        elif isinstance(child, ast.Call) and isinstance(child.func, ast.Attribute) and child.func.attr in METHODS:
            path = _path(child.func.value)
            if path:
                yield _Mention(path, child.lineno, child.func.attr, function)
        yield from _mentions(child, inner)


def _path(node: ast.expr) -> tuple[str, ...]:
    """Return the names of a dotted path; nothing for what is none."""
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Attribute) and (path := _path(node.value)):
        return (*path, node.attr)
    return ()
