"""What a module's source says, read by `ast` and never executed.

An outline keeps facts only and lets the syntax tree go: a tree takes some hundred times the memory of its source.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

__all__ = ["ClassOutline", "Member", "Outline", "outline"]

_JOB = frozenset({"pluginhub.job", "pluginhub.plugins.job"})
_CONSTRUCTORS = frozenset({"__init__", "set_dependencies"})

_Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Member:
    """One name in a class body. `text` is a value as written; the rest speaks of methods."""

    kind: Literal["def", "async def", "class", "value", "none"]
    text: str = ""
    job: str = ""
    types: tuple[str, ...] = ()
    handlers: tuple[str, ...] = ()
    adds_middleware: bool = False
    calls_super: bool = False


@dataclass(frozen=True, slots=True)
class ClassOutline:
    """One class: its bases as written, and the names its body binds."""

    name: str
    module: str
    bases: tuple[str, ...]
    doc: str
    members: Mapping[str, Member]


@dataclass(frozen=True, slots=True)
class Outline:
    """One module. `names` maps what it imports to absolute dotted paths; `stars` are modules imported with `*`."""

    module: str
    path: str
    digest: str = ""
    problem: str = ""
    classes: Mapping[str, ClassOutline] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    stars: tuple[str, ...] = ()


def outline(module: str, path: str, data: bytes) -> Outline:
    """Read the source `data` of `module`. Source that Python cannot parse gives an outline with a `problem`."""
    digest, name = hashlib.sha256(data).hexdigest(), os.path.basename(path)
    try:
        tree = ast.parse(data, filename=path)
    except SyntaxError as error:
        return Outline(module, path, digest, problem=f"{name}, line {error.lineno}: {error.msg}.")
    except (ValueError, RecursionError, MemoryError) as error:  # NUL bytes; nesting beyond the parser's stack
        return Outline(module, path, digest, problem=f"{name} cannot be parsed: {str(error) or type(error).__name__}.")
    reader = _Reader(module, is_package=path.endswith("__init__.py"))
    reader.read(tree.body)
    return Outline(module, path, digest, "", reader.classes, reader.names, tuple(reader.stars))


class _Reader:
    """Gathers one module's facts, top to bottom. Lives as long as the reading of one file."""

    def __init__(self, module: str, *, is_package: bool) -> None:
        self.module = module
        self.package = module if is_package else module.rpartition(".")[0]
        self.classes: dict[str, ClassOutline] = {}
        self.names: dict[str, str] = {}
        self.stars: list[str] = []
        self.constants: dict[str, str] = {}

    def read(self, body: Sequence[ast.stmt]) -> None:
        for node in _statements(body):
            match node:
                case ast.Import(names=aliases):
                    for alias in aliases:
                        top = alias.name.partition(".")[0]
                        self.names[alias.asname or top] = alias.name if alias.asname else top
                case ast.ImportFrom(names=aliases):
                    self._import_from(self._absolute(node), aliases)
                case ast.ClassDef():
                    self._class(node, "")
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(text))):
                    self.constants[name] = text

    def _import_from(self, origin: str, aliases: Sequence[ast.alias]) -> None:
        for alias in aliases:
            if alias.name == "*":
                self.stars.append(origin)
            else:
                self.names[alias.asname or alias.name] = f"{origin}.{alias.name}"

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.package.split(".")
        return ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [node.module])])

    def _class(self, node: ast.ClassDef, prefix: str) -> None:
        name = prefix + node.name
        members: dict[str, Member] = {}
        for statement in _statements(node.body):
            match statement:
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    members[statement.name] = self._method(statement)
                case ast.ClassDef():
                    members[statement.name] = Member("class")
                    self._class(statement, f"{name}.")
                case ast.Assign(targets=targets, value=value):
                    members.update({t.id: _value(value) for t in targets if isinstance(t, ast.Name)})
                case ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value):
                    members[target] = _value(value)
        bases = tuple(filter(None, map(_base, node.bases)))
        doc = inspect.cleandoc(ast.get_docstring(node) or "")
        self.classes[name] = ClassOutline(name, self.module, bases, doc, members)

    def _method(self, node: _Function) -> Member:
        kind: Literal["def", "async def"] = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
        if node.name in _CONSTRUCTORS:
            climbs = any(_is_super(call, node.name) for call in _calls(node))
            return Member(kind, types=_types(node), calls_super=climbs)
        if node.name == "activate":
            return self._activate(kind, node)
        return Member(kind, job=self._job(node))

    def _activate(self, kind: Literal["def", "async def"], node: _Function) -> Member:
        calls = _calls(node)
        handlers = [self._name(call) for call in calls if _is_method(call, "jobs", "process")]
        return Member(
            kind,
            handlers=tuple(filter(None, handlers)),
            adds_middleware=any(_is_method(call, "middleware", "use") for call in calls),
            calls_super=any(_is_super(call, node.name) for call in calls),
        )

    def _job(self, node: _Function) -> str:
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call):
                head, dot, rest = (_dotted(decorator.func) or "").partition(".")
                if self.names.get(head, head) + dot + rest in _JOB:
                    return self._name(decorator)
        return ""

    def _name(self, call: ast.Call) -> str:
        """The call's first argument, where it is a string or a constant of this module; else nothing is known."""
        arguments = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "name")]
        match arguments:
            case [ast.Constant(value=str(text)), *_]:
                return text
            case [ast.Name(id=name), *_]:
                return self.constants.get(name, "")
        return ""


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a body, those inside `if`, `try` and `with` included: any of them may bind a name."""
    for node in body:
        match node:
            case ast.If(body=inner, orelse=other):
                yield from _statements([*inner, *other])
            case ast.Try(body=inner, handlers=handlers, orelse=other, finalbody=final):
                yield from _statements([*inner, *(s for h in handlers for s in h.body), *other, *final])
            case ast.With(body=inner):
                yield from _statements(inner)
            case _:
                yield node


def _value(node: ast.expr) -> Member:
    if isinstance(node, ast.Constant) and node.value is None:
        return Member("none")
    readable = isinstance(node, ast.Constant | ast.Name | ast.Attribute | ast.Tuple | ast.List | ast.Set)
    return Member("value", text=ast.unparse(node) if readable else "")


def _base(node: ast.expr) -> str:
    return _dotted(node.value if isinstance(node, ast.Subscript) else node) or ""


def _dotted(node: ast.expr) -> str | None:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attr):
            head = _dotted(value)
            return head and f"{head}.{attr}"
    return None


def _types(node: _Function) -> tuple[str, ...]:
    """The annotations of a constructor's parameters, its own configuration aside."""
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    written = {each.arg: _annotation(each.annotation) for each in arguments if each.annotation is not None}
    return tuple(text for name, text in written.items() if name != "config" and text.rpartition(".")[2] != "Config")


def _annotation(node: ast.expr) -> str:
    quoted = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return str(node.value) if quoted else ast.unparse(node)  # type: ignore[attr-defined]


def _calls(node: _Function) -> list[ast.Call]:
    return [each for each in ast.walk(node) if isinstance(each, ast.Call)]


def _is_method(call: ast.Call, owner: str, method: str) -> bool:
    """Whether a call is written `….<owner>.<method>(…)`, such as `context.jobs.process(…)`."""
    match call.func:
        case ast.Attribute(value=ast.Attribute(attr=first), attr=second):
            return (first, second) == (owner, method)
    return False


def _is_super(call: ast.Call, method: str) -> bool:
    match call.func:
        case ast.Attribute(value=ast.Call(func=ast.Name(id="super")), attr=attr):
            return attr == method
    return False
