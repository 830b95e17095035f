"""Parents with sub-plugins, and how these run. How a tree of them comes up and goes down: see `lifecycles`."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pluginhub.context import Run, Services
from pluginhub.drivers import Colour, Driver, Node
from pluginhub.exceptions import HookError, NotReady, Stop
from pluginhub.lifecycles import absence
from pluginhub.pipelines import Spanned, leaf, series
from pluginhub.plugins import CompositePlugin, Plugin, Strategy, hook_of
from pluginhub.policies import Policy, guard

__all__ = ["Branch", "compose_members", "link"]


@dataclass(frozen=True, slots=True)
class Branch:
    """One linked member of a composition."""

    key: str
    node: Node
    required: bool = True


def link(plugin: Plugin, services: Services | None = None) -> Node:
    """Link a plugin object: a composite by its strategy or its own `process`, any other by its `process`.

    One that was left out when its tree came up raises `NotReady` when it is run.
    """
    node = _link(plugin, services)
    return _Optional(node, plugin) if absence(plugin) else node


def _link(plugin: Plugin, services: Services | None) -> Node:
    if not isinstance(plugin, CompositePlugin) or hook_of(plugin, "process") is not None:
        return leaf(plugin, services)
    return compose_members(type(plugin).__name__, plugin.strategy, [_branch(*member) for member in plugin.members])


def _branch(key: str, child: Plugin, required: bool) -> Branch:
    node = _link(child, None)
    return Branch(key, node if required else _Optional(node, child), required)


def compose_members(name: str, strategy: Strategy, members: Sequence[Branch]) -> Node:
    """Link members by a strategy; `name` is the composition's, for the places of errors."""
    if strategy == "sequence":
        optional = Policy(on_failure="skip")
        return series(name, [(m.key, m.node if m.required else guard(m.node, optional)) for m in members])
    members = [replace(member, node=Spanned("member", member.key, member.node, within=name)) for member in members]
    if strategy == "first":
        return _First(name, members)
    if strategy in ("parallel", "merge"):
        return _Parallel(members, by_key=strategy == "merge")
    raise HookError(f"There is no strategy {strategy!r}.", hint="Use sequence, parallel, first or merge.")


class _Optional(Node):
    """A sub-plugin that may have been left out when its tree came up."""

    __slots__ = ("_inner", "_plugin")

    def __init__(self, inner: Node, plugin: Plugin) -> None:
        super().__init__(inner.colour)
        self._inner = inner
        self._plugin = plugin

    async def run(self, value: Any, run: Run, driver: Driver) -> Any:
        why = absence(self._plugin)
        if why:
            raise NotReady(
                f"{type(self._plugin).__name__} was left out when its parent came up: {why}",
                hint="The process's log has the traceback. It is tried again when the parent next comes up.",
            )
        return await driver.run(self._inner, value, run)


class _First(Node):
    """The result of the first member that succeeds; the last error when none does."""

    __slots__ = ("_members", "_name")

    def __init__(self, name: str, members: Sequence[Branch]) -> None:
        super().__init__(_common_colour(members))
        self._name = name
        self._members = tuple(members)

    async def run(self, value: Any, run: Run, driver: Driver) -> Any:
        failed: Exception | None = None
        for member in self._members:
            if failed is not None and (run.remaining() or 0) < 0:
                break
            try:
                return _result(await driver.run(member.node, copy.deepcopy(value), run))
            except Exception as error:
                failed = error
        raise failed or HookError(f"The composition {self._name!r} has no members.", hint="Add one.")


class _Parallel(Node):
    """Every member on its own copy of the value, side by side: a list in order, or a mapping by key."""

    __slots__ = ("_by_key", "_members")

    def __init__(self, members: Sequence[Branch], *, by_key: bool) -> None:
        super().__init__(Colour.MIXED)
        self._members = tuple(members)
        self._by_key = by_key

    async def run(self, value: Any, run: Run, driver: Driver) -> Any:
        copies = [copy.deepcopy(value) for _ in self._members]
        outcomes = await driver.gather([member.node for member in self._members], copies, run)
        results: dict[str, Any] = {}
        for member, (result, error) in zip(self._members, outcomes, strict=True):
            if error is None:
                results[member.key] = _result(result)
            elif member.required:
                raise error
        return results if self._by_key else list(results.values())


def _common_colour(members: Sequence[Branch]) -> Colour:
    colours = {member.node.colour for member in members}
    return colours.pop() if len(colours) == 1 else Colour.MIXED if colours else Colour.SYNC


def _result(value: Any) -> Any:
    return value.value if isinstance(value, Stop) else value
