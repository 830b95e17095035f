"""What one registration's plugin provides and another's requires: who gets what from whom, and who comes up first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pluginhub.exceptions import DependencyError, NotReady
from pluginhub.injection.missing import Missing
from pluginhub.injection.needs import EMPTY, name_of, needs_of
from pluginhub.plugins import Plugin

__all__ = ["SeveralSuppliers", "Suppliers", "provided_by"]


def provided_by(cls: type[Plugin]) -> tuple[Any, ...]:
    """Return the types that a plugin lists in `provides`, of which a single one needs no list."""
    listed: Any = cls.provides
    return tuple(listed) if isinstance(listed, tuple | list | set | frozenset) else (listed,)


class SeveralSuppliers(DependencyError):
    """Two registrations of a tenant provide a type that a third requires."""

    def __init__(self, wanted: Any, asking: str, names: list[str]) -> None:
        listed = f"{', '.join(map(repr, names[:-1]))} and {names[-1]!r}"
        super().__init__(
            f"{asking!r} needs {name_of(wanted)}, and {listed} both provide it.", hint="Disable all of them but one."
        )
        self.names = names


class Suppliers:
    """Which of a tenant's registrations provide what. Lives as long as one configuration with its code.

    `candidates` names the registrations that might provide a type, told by its name alone; `class_of` imports a
    registration's plugin, and returns `None` for targets without one; `uses` names the targets that a target brings up
    with itself.
    """

    def __init__(
        self,
        candidates: Callable[[str], Iterable[str]],
        class_of: Callable[[str], type[Plugin] | None],
        uses: Callable[[str], Iterable[str]] = lambda name: (),
    ) -> None:
        self._candidates = candidates
        self._class_of = class_of
        self._uses = uses

    def of(self, wanted: Any, asking: str) -> str:
        """Return the registration that provides a type to another. Raises `Missing`, or `SeveralSuppliers`."""
        found, why = [], ""
        for name in self._candidates(getattr(wanted, "__name__", "")):
            if name == asking:
                continue
            try:
                cls = self._class_of(name)
            except NotReady as error:  # perhaps it provides another type of that name
                why = f"{name!r} might provide it, but is not ready: {error.detail}"
                continue
            if cls is not None and wanted in provided_by(cls):
                found.append(name)
        if not found:
            raise Missing(wanted, why)
        if len(found) > 1:
            raise SeveralSuppliers(wanted, asking, sorted(found))
        return found[0]

    def before(self, name: str) -> list[str]:
        """Name what must be up before a target is: who provides what it requires, and the targets it uses."""
        return list(dict.fromkeys((*self.givers(name), *self._uses(name))))

    def givers(self, name: str) -> Iterator[str]:
        """Yield who provides what a target's plugin requires. Raises `SeveralSuppliers`."""
        try:
            cls = self._class_of(name)
        except NotReady:
            return  # its own activation says so
        for need in needs_of(cls) if cls is not None else ():
            if need.wanted is EMPTY:
                continue
            try:
                yield self.of(need.wanted, name)
            except Missing:
                continue

    def check(self, name: str) -> None:
        """Raise `DependencyError` with the path if a target needs itself, directly or through others."""
        path = self.cycle(name)
        if path:
            raise DependencyError(
                f"{path[0]!r} needs itself: {' → '.join(path)}.",
                hint="Let one of them take what it needs elsewhere, or disable it.",
            )

    def cycle(self, name: str) -> list[str]:
        """Return the first circle met from a target, closed; an empty list where there is none."""
        path: dict[str, None] = {}
        done: set[str] = set()
        waiting = [(name, False)]
        while waiting:  # without recursion: chains may be long
            each, leaving = waiting.pop()
            if leaving:
                path.pop(each)
                done.add(each)
            elif each in path:
                return [*list(path)[list(path).index(each) :], each]
            elif each not in done:
                path[each] = None
                waiting.append((each, True))
                waiting += [(before, False) for before in reversed(self.before(each))]
        return []
