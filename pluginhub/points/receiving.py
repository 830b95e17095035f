"""Emitting where Django sends a signal."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, Protocol

from django.dispatch import Signal

__all__ = ["connect"]


class Emitting(Protocol):
    """A point, as signals see it."""

    name: str

    def targets(self) -> tuple[str, ...]: ...

    def emit(self, data: Any) -> list[str]: ...


def connect(
    point: Emitting,
    signal: Signal,
    sender: Any,
    data: Callable[..., Any],
    when: Callable[..., bool] | None,
) -> Callable[[], None]:
    """Emit whenever `signal` is sent, until the function that is returned is called."""

    def receive(sender: Any, signal: Signal, **sent: Any) -> None:
        # Fixtures are loaded raw: what they refer to may not be there yet.
        if sent.get("raw") or not point.targets():
            return
        if when is None or when(sender=sender, **sent):
            point.emit(data(sent["instance"]) if "instance" in sent else data(sender=sender, **sent))

    uid = ("pluginhub.point", point.name, _identity(data), _identity(when))
    signal.connect(receive, sender=sender, weak=False, dispatch_uid=uid)
    return partial(_disconnect, signal, sender, uid)


def _disconnect(signal: Signal, sender: Any, uid: Any) -> None:
    signal.disconnect(sender=sender, dispatch_uid=uid)


def _identity(f: Any) -> Hashable:
    """Return what a function and its twin, made by the same lines of a module that is imported twice, have in common.

    Functions that were made by the same lines of other values have other identities.
    """
    if not inspect.isfunction(f):
        return f if isinstance(f, Hashable) else id(f)
    held = tuple(map(repr, (f.__defaults__, f.__kwdefaults__, *map(_content, f.__closure__ or ()))))
    return f.__code__.co_filename, f.__code__, held


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is not filled yet
        return cell
