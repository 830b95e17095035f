"""One test, all colours: layers written as coroutine functions, and the same ones turned into synchronous functions."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from pluginhub.drivers import drive
from pluginhub.interceptors import compose

__all__ = ["Onion", "asynchronous", "in_all_colours", "in_both_colours", "synchronous", "tagging"]

Layer = Callable[..., Any]
Onion = Callable[..., Any]
"""`onion(*layers, core=f)(request)`: what the layers around the core give, run to its end."""


class _Awaitable:
    """A synchronous `call_next` for a coroutine that is driven without a loop."""

    def __init__(self, call_next: Any) -> None:
        self._call_next = call_next

    async def __call__(self, request: Any) -> Any:
        return self._call_next(request)

    def repeatable(self) -> _Awaitable:
        return _Awaitable(self._call_next.repeatable())


def synchronous(layer: Layer) -> Layer:
    """Turn a layer, or a core, that awaits nothing else into a synchronous function."""

    @functools.wraps(layer)
    def function(request: Any, *call_next: Any) -> Any:
        return drive(layer(request, *map(_Awaitable, call_next)))

    return function


def asynchronous(layer: Layer) -> Layer:
    return layer


async def _value(request: Any) -> Any:
    return request


def _onion(colours: Sequence[Callable[[Layer], Layer]]) -> Onion:
    def onion(*layers: Layer, core: Layer = _value) -> Callable[[Any], Any]:
        turned = [colours[index % len(colours)] for index in range(len(layers) + 1)]
        composed = compose(*[turn(layer) for turn, layer in zip(turned, layers, strict=False)])
        inner = turned[-1](core) if asyncio.iscoroutinefunction(composed) else synchronous(core)

        def run(request: Any) -> Any:
            result = composed(request, inner)
            return asyncio.run(result) if asyncio.iscoroutine(result) else result

        return run

    return onion


_sync, _async = _onion([synchronous]), _onion([asynchronous])
_mixed = [_onion([synchronous, asynchronous]), _onion([asynchronous, synchronous])]

in_both_colours = pytest.mark.parametrize("onion", [_sync, _async], ids=["sync", "async"])
in_all_colours = pytest.mark.parametrize(
    "onion", [_sync, _async, *_mixed], ids=["sync", "async", "sync and async", "async and sync"]
)


def tagging(tag: str, seen: list[str] | None = None) -> Layer:
    """Return a layer that notes its tag on the way in and on the way out, also when an error passes."""
    noted = [] if seen is None else seen

    async def layer(request: list[str], call_next: Layer) -> Any:
        noted.append(f"{tag} in")
        try:
            return [*(await call_next([*request, f"{tag} in"])), f"{tag} out"]
        finally:
            noted.append(f"{tag} out")

    return layer
