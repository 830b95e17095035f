"""Parents with sub-plugins: how they run, and how a tree of them comes up and goes down."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pluginhub.context import Context, Run, Services
from pluginhub.drivers import SYNC as SYNC_DRIVER
from pluginhub.drivers import Colour, Driver, Node, colour_of, drive
from pluginhub.exceptions import HookError, Stop, mark, survivable
from pluginhub.pipelines import Call, leaf, series
from pluginhub.plugins import CompositePlugin, Plugin, Strategy, hook_of
from pluginhub.policies import Policy, guard

__all__ = ["Branch", "activate", "compose_members", "deactivate", "link"]


HOOK_SECONDS = 30.0
"""How long an asynchronous `activate` or `deactivate` may take."""


@dataclass(frozen=True, slots=True)
class Branch:
    """One linked member of a composition."""

    key: str
    node: Node
    required: bool = True


def link(plugin: Plugin, services: Services | None = None) -> Node:
    """Link a plugin object: a composite by its strategy or its own `process`, any other by its `process`."""
    if not isinstance(plugin, CompositePlugin) or hook_of(plugin, "process") is not None:
        return leaf(plugin, services)
    members = [Branch(key, link(child), required) for key, child, required in plugin.members]
    return compose_members(type(plugin).__name__, plugin.strategy, members)


def compose_members(name: str, strategy: Strategy, members: Sequence[Branch]) -> Node:
    """Link members by a strategy; `name` is the composition's, for the places of errors."""
    if strategy == "sequence":
        optional = Policy(on_failure="skip")
        return series(name, [(m.key, m.node if m.required else guard(m.node, optional)) for m in members])
    if strategy == "first":
        return _First(name, members)
    if strategy in ("parallel", "merge"):
        return _Parallel(name, members, by_key=strategy == "merge")
    raise HookError(f"There is no strategy {strategy!r}.", hint="Use sequence, parallel, first or merge.")


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
                mark(error, chain=self._name, step=member.key, run=run.id)
                failed = error
        raise failed or HookError(f"The composition {self._name!r} has no members.", hint="Add one.")


class _Parallel(Node):
    """Every member on its own copy of the value, side by side: a list in order, or a mapping by key."""

    __slots__ = ("_by_key", "_members", "_name")

    def __init__(self, name: str, members: Sequence[Branch], *, by_key: bool) -> None:
        super().__init__(Colour.MIXED)
        self._name = name
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
                mark(error, chain=self._name, step=member.key, run=run.id)
                raise error
        return results if self._by_key else list(results.values())


def activate(plugin: Plugin, services: Services | None = None) -> None:
    """Activate a plugin and, if it is a composite, its children in order; on failure undo what was done, in reverse.

    All errors are reported together: the first as itself, those of the way back as its notes.
    """
    services = services or Services(name=type(plugin).__name__, plugin=type(plugin).__name__)
    done: list[Plugin] = []
    try:
        for each in _tree(plugin):
            _hook(each, "activate", services)
            done.append(each)
    except BaseException as error:
        mark(error, registration=services.name, plugin=services.plugin)
        for note in _take_down(done, services):
            error.add_note(f"While rolling back: {note!r}")
        raise


def deactivate(plugin: Plugin, services: Services | None = None) -> None:
    """Deactivate a plugin's tree in reverse order, all of it; then raise what failed, together."""
    services = services or Services(name=type(plugin).__name__, plugin=type(plugin).__name__)
    failed = _take_down(list(_tree(plugin)), services)
    if failed:
        raise ExceptionGroup(f"{services.name} did not go down cleanly", failed)


def _take_down(plugins: Sequence[Plugin], services: Services) -> list[Exception]:
    failed = []
    for plugin in reversed(plugins):
        try:
            _hook(plugin, "deactivate", services)
        except Exception as error:
            failed.append(error)
    return failed


def _hook(plugin: Plugin, name: str, services: Services) -> None:
    hook = hook_of(plugin, name)
    if hook is None:
        return
    _open(services, name == "activate")
    try:
        run = Run(tenant=services.tenant, deadline=time.monotonic() + HOOK_SECONDS)
        if colour_of(hook) is Colour.ASYNC:

            async def ahook(_: Any, run: Run) -> Any:
                return await hook(Context(run, services))

            drive(SYNC_DRIVER.run(Call(ahook), None, run))
        else:
            hook(Context(run, services))
    except SystemExit as error:
        raise survivable(error)  # noqa: B904 - it has the error as its cause
    finally:
        _open(services, False)


def _open(services: Services, is_open: bool) -> None:
    """Let plugins add interceptors and handlers, or no longer."""
    services.middleware.open = is_open
    if services.jobs is not None:
        services.jobs.open = is_open


def _tree(plugin: Plugin) -> Sequence[Plugin]:
    return list(plugin.walk()) if isinstance(plugin, CompositePlugin) else [plugin]


def _common_colour(members: Sequence[Branch]) -> Colour:
    colours = {member.node.colour for member in members}
    return colours.pop() if len(colours) == 1 else Colour.MIXED if colours else Colour.SYNC


def _result(value: Any) -> Any:
    return value.value if isinstance(value, Stop) else value
