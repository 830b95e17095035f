"""From a class's outline, and those of its bases, to what the catalog says of a plugin."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from pluginhub.loading.entries import Colour, Entry
from pluginhub.loading.outlines import ClassOutline, Member, Outline
from pluginhub.loading.sources import Library
from pluginhub.plugins import HOOKS

__all__ = ["describe", "plugin_classes"]

_PLUGIN = frozenset({"pluginhub.Plugin", "pluginhub.plugins.Plugin"})
_COMPOSITE = frozenset({"pluginhub.CompositePlugin", "pluginhub.plugins.CompositePlugin"})
_MODELS = ("Config", "Input", "Output", "Params")


@dataclass(frozen=True, slots=True)
class _Lineage:
    """A class and its bases, in the order Python looks names up, as far as source could be found."""

    classes: tuple[ClassOutline, ...]
    is_plugin: bool
    is_composite: bool
    is_complete: bool

    def lookup(self, name: str) -> Iterator[Member]:
        return (found.members[name] for found in self.classes if name in found.members)

    def members(self) -> Mapping[str, Member]:
        members: dict[str, Member] = {}
        for found in reversed(self.classes):
            members.update(found.members)
        return members


def describe(entry: Entry, library: Library) -> Entry:
    """Return the entry with what the source of its class says, or with the reason why it cannot be read."""
    source = library.outline(entry.module)
    if source is None:
        return replace(entry, problem=_missing(entry.module, library))
    entry = replace(entry, path=source.path, digest=source.digest)
    if source.problem:
        return replace(entry, problem=source.problem)
    found = _find(f"{entry.module}.{entry.qualname}", library)
    if not isinstance(found, ClassOutline):
        return replace(entry, problem=_no_class(entry, source))
    lineage = _lineage(found, library)
    if not lineage.is_plugin and lineage.is_complete:
        return replace(entry, problem=f"{entry.dotted} is no subclass of pluginhub.Plugin.")
    facts = _facts(found.name, lineage)
    try:
        facts |= {side: _strings(side, lineage) for side in ("before", "after")}
    except ValueError as error:
        facts["problem"] = str(error)
    return replace(entry, doc=found.doc, is_composite=lineage.is_composite, **facts)


def plugin_classes(source: Outline, library: Library) -> list[str]:
    """Return the names of the plugins a module defines: top-level subclasses of Plugin, private ones left out."""
    return [
        name
        for name, found in source.classes.items()
        if "." not in name and not name.startswith("_") and _lineage(found, library).is_plugin
    ]


def _facts(name: str, lineage: _Lineage) -> dict[str, Any]:
    members = lineage.members()
    activations = _activations(lineage)
    hooks = {hook: _colour(members[hook], members) for hook in HOOKS if _is_set(members.get(hook))}
    return {
        "title": _literal(members.get("title")) or _words(name),
        "hooks": frozenset(hooks),
        "colours": MappingProxyType(hooks),
        "jobs": tuple(sorted({member.job for member in members.values() if member.job})),
        "provides": _listed(members.get("provides")),
        "requires": tuple(
            dict.fromkeys(text for key in ("__init__", "set_dependencies") for text in _types(members.get(key)))
        ),
        "has": frozenset(model for model in _MODELS if _is_set(members.get(model))),
        "adds_middleware": any(member.adds_middleware for member in activations),
        "adds_handlers": tuple(sorted({name for member in activations for name in member.handlers})),
    }


def _activations(lineage: _Lineage) -> list[Member]:
    """The `activate` methods that run: the nearest one, and further ones as far as each calls `super()`."""
    running = []
    for member in lineage.lookup("activate"):
        running.append(member)
        if not member.calls_super:
            break
    return running


def _is_set(member: Member | None) -> bool:
    return member is not None and member.kind != "none"


def _colour(member: Member, members: Mapping[str, Member]) -> Colour:
    if member.kind == "value":
        member = members.get(member.text, member)  # stream = pages
    return "async" if member.kind == "async def" else "sync"


def _types(member: Member | None) -> tuple[str, ...]:
    return member.types if member is not None else ()


def _literal(member: Member | None) -> str:
    if member is None or member.text[:1] not in "'\"":
        return ""
    return str(ast.literal_eval(member.text))


def _listed(member: Member | None) -> tuple[str, ...]:
    """The elements of a tuple, list or set as written; strings without their quotes."""
    if member is None or not member.text:
        return ()
    tree = ast.parse(member.text, mode="eval").body
    elements = tree.elts if isinstance(tree, ast.Tuple | ast.List | ast.Set) else [tree]
    return tuple(str(e.value) if isinstance(e, ast.Constant) else ast.unparse(e) for e in elements)


def _strings(name: str, lineage: _Lineage) -> tuple[str, ...]:
    """The strings that a class attribute lists. Raises `ValueError` where they are not written out.

    What cannot be read is not passed over: an interceptor that must see requests first would silently stand elsewhere.
    """
    member = next(lineage.lookup(name), None)
    if member is None:
        return ()
    try:
        said = ast.literal_eval(member.text) if member.text else None
    except (ValueError, TypeError):  # names and calls; sets of lists
        said = None
    if isinstance(said, tuple | list) and all(isinstance(each, str) for each in said):
        return tuple(said)
    raise ValueError(
        f"{name!r} must be a tuple of plugin names, written out as strings: it is read without importing. "
        f'Write {name} = ("signing",) in the class.'
    )


def _words(name: str) -> str:
    """`RedactPersonalData` → `Redact personal data`."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name.rpartition(".")[2])
    words = [part if part.isupper() and len(part) > 1 else part.lower() for part in parts]
    text = " ".join(words) or name
    return text[0].upper() + text[1:]


def _lineage(start: ClassOutline, library: Library) -> _Lineage:
    classes: list[ClassOutline] = []
    marks: set[str] = set()
    _climb(start, library, classes, marks, ())
    # A base met twice is looked at last, as in Python's own order.
    unique = list(dict.fromkeys((c.module, c.name) for c in reversed(classes)))[::-1]
    by_key = {(c.module, c.name): c for c in classes}
    return _Lineage(
        classes=tuple(by_key[key] for key in unique),
        is_plugin=bool(marks & {"plugin", "composite"}),
        is_composite="composite" in marks,
        is_complete="unknown" not in marks,
    )


def _climb(
    here: ClassOutline, library: Library, classes: list[ClassOutline], marks: set[str], below: tuple[str, ...]
) -> None:
    key = f"{here.module}.{here.name}"
    if key in below:  # a class that names itself as its base: Python would refuse it, reading must end
        return
    classes.append(here)
    for base in here.bases:
        found = _resolve(base, here, library)
        if isinstance(found, ClassOutline):
            _climb(found, library, classes, marks, (*below, key))
        elif base != "object":
            marks.add(found or "unknown")


def _resolve(written: str, here: ClassOutline, library: Library) -> ClassOutline | str | None:
    """What a base, as written in the module of `here`, refers to: a class, `plugin`, `composite`, or unknown."""
    source = library.outline(here.module)
    if source is None:
        return None
    outer = here.name.rpartition(".")[0]
    for local in filter(None, (outer and f"{outer}.{written}", written)):
        if local in source.classes:
            return source.classes[local]
    return _find_in(source, written, library, frozenset())


def _find(dotted: str, library: Library, seen: frozenset[str] = frozenset()) -> ClassOutline | str | None:
    """Look an absolute path up, through whatever re-exports it, without importing."""
    if dotted in _PLUGIN:
        return "plugin"
    if dotted in _COMPOSITE:
        return "composite"
    if dotted in seen:
        return None
    module, _, attribute = dotted.rpartition(".")
    while module:
        source = library.outline(module)
        if source is not None:
            return source.classes.get(attribute) or _find_in(source, attribute, library, seen | {dotted})
        module, _, inner = module.rpartition(".")
        attribute = f"{inner}.{attribute}"
    return None


def _find_in(source: Outline, written: str, library: Library, seen: frozenset[str]) -> ClassOutline | str | None:
    head, dot, rest = written.partition(".")
    if head in source.names:
        return _find(source.names[head] + dot + rest, library, seen)
    for star in source.stars:
        found = _find(f"{star}.{written}", library, seen)
        if found is not None:
            return found
    return None


def _missing(module: str, library: Library) -> str:
    parent = module.rpartition(".")[0]
    if parent and library.outline(parent) is not None:
        return f"There is no module {module!r} with Python source, though {parent!r} is there."
    return f"There is no module {module!r} with Python source. Install the distribution that contains it."


def _no_class(entry: Entry, source: Outline) -> str:
    near = difflib.get_close_matches(entry.qualname, source.classes, n=3, cutoff=0.5)
    hint = f" Did you mean {', '.join(map(repr, near))}?" if near else ""
    return f"Module {entry.module!r} defines no class {entry.qualname!r}.{hint}"
