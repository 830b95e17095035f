"""Chains over plain plugin objects: A → B → C → result, without a database.

The hub links its tenants' chains from the same parts.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from pluginhub import drivers
from pluginhub.compositions import link
from pluginhub.context import Run
from pluginhub.drivers import Node
from pluginhub.exceptions import HookError
from pluginhub.pipelines import Series, series
from pluginhub.plugins import Plugin
from pluginhub.policies import Policy, guard
from pluginhub.tracing import Trace

__all__ = ["Chain", "Step", "aexecute", "execute"]


class Step:
    """A plugin, chain or composition with a policy and a label of its own; the fallback is one of these, too."""

    __slots__ = ("label", "policy", "target")

    def __init__(self, target: Plugin | Chain, *, label: str = "", policy: Policy | None = None) -> None:
        self.target = target
        self.policy = policy or Policy()
        self.label = label or _name(target)


class Chain:
    """An ordered list of plugins, chains and steps, linked once. Lives as long as you keep it; runs many times."""

    __slots__ = ("name", "node")

    def __init__(self, targets: Iterable[Plugin | Chain | Step], *, name: str = "chain") -> None:
        self.name = name
        self.node: Series = series(name, [_linked(target) for target in targets])

    def execute(self, value: Any, *, timeout: float | None = None, trace: Trace | None = None) -> Any:
        """Run the chain from synchronous code; `timeout` is in seconds, and `trace` is filled with what steps do."""
        return drivers.run(self.node, value, _run(timeout, trace))

    async def aexecute(self, value: Any, *, timeout: float | None = None, trace: Trace | None = None) -> Any:
        """Run the chain from asynchronous code, on the running loop."""
        return await drivers.arun(self.node, value, _run(timeout, trace), anywhere=True)


def execute(plugins: Sequence[Plugin | Chain | Step], value: Any, *, timeout: float | None = None) -> Any:
    """Pass a value through plugins in order and return the last one's result.

    Errors of plugins are raised as themselves, marked with their place; `DeadlineExceeded` after `timeout` seconds.
    """
    return Chain(plugins).execute(value, timeout=timeout)


async def aexecute(plugins: Sequence[Plugin | Chain | Step], value: Any, *, timeout: float | None = None) -> Any:
    """The asynchronous twin of `execute`."""
    return await Chain(plugins).aexecute(value, timeout=timeout)


def _linked(target: Plugin | Chain | Step) -> tuple[str, Node]:
    step = target if isinstance(target, Step) else Step(_a_target(target))
    instead = step.policy.fallback
    fallback = None if instead is None else (_name(_a_target(instead)), _node(instead))
    return step.label, guard(_node(step.target), step.policy, step=step.label, fallback=fallback)


def _node(target: Plugin | Chain) -> Node:
    return target.node if isinstance(target, Chain) else link(target)


def _name(target: Plugin | Chain) -> str:
    return target.name if isinstance(target, Chain) else type(target).__name__


def _a_target(target: Any) -> Plugin | Chain:
    if isinstance(target, Plugin | Chain):
        return target
    raise HookError(f"{target!r} cannot be a step of a chain.", hint="Pass Plugin instances, Chain or Step objects.")


def _run(timeout: float | None, trace: Trace | None = None) -> Run:
    deadline = None if timeout is None else time.monotonic() + timeout
    return Run(id=uuid.uuid4().hex, deadline=deadline, invoke=_invoke, ainvoke=_ainvoke, trace=trace)


def _invoke(target: Any, value: Any, run: Run) -> Any:
    return drivers.run(link(_a_child(target)), value, run)


async def _ainvoke(target: Any, value: Any, run: Run) -> Any:
    return await drivers.arun(link(_a_child(target)), value, run, anywhere=True)


def _a_child(target: Any) -> Plugin:
    if isinstance(target, Plugin):
        return target
    raise HookError(f"There is no target {target!r} here.", hint="Names are known to the hub only; pass a child.")
