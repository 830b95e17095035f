"""What is found in a runtime: pipelines, streams and layers that are ready to be used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pluginhub.breakers import Breaker
from pluginhub.context import Services
from pluginhub.drivers import Colour, Node
from pluginhub.handoffs import Turnstile
from pluginhub.interceptors import Interceptor
from pluginhub.plugins import Plugin

__all__ = ["Hung", "Linked", "RequestLayer", "StreamSource", "Way"]


@dataclass(frozen=True, slots=True)
class Way:
    """A way in from outside: a pipeline, and the turnstiles of the instances with state that it passes."""

    node: Node
    turnstiles: tuple[Turnstile, ...] = ()


@dataclass(frozen=True, slots=True)
class Linked:
    """A target ready to run: `node` inside other targets, `entry` when called from outside, `job` in a worker."""

    name: str
    node: Node
    entry: Way
    job: Way
    is_whole: bool = True
    """Whether all of it came up; an optional member that did not is tried again at the next call."""


@dataclass(frozen=True, slots=True)
class Hung:
    """What hangs on a point: its targets in order, each as it is called from outside, and the turnstiles on the way."""

    targets: tuple[tuple[str, Node], ...] = ()
    turnstiles: tuple[Turnstile, ...] = ()
    nodes: dict[str, Node] = field(default_factory=dict, compare=False)
    """The targets linked into one, by how several are taken: kept by the point for as long as they hang there."""


@dataclass(frozen=True, slots=True)
class StreamSource:
    """A target with a `stream` hook."""

    name: str
    plugin: Plugin
    hook: Callable[..., Any]
    services: Services
    colour: Colour
    turnstile: Turnstile | None = None
    """Where the stream is counted while it is open, if the instance has state to hand over."""
    breaker: Breaker | None = None


@dataclass(frozen=True, slots=True)
class RequestLayer:
    """An interceptor of HTTP requests and what it matches. `intercept` is absent where it could not be brought up."""

    path_prefix: str
    methods: tuple[str, ...]
    required: bool
    intercept: Interceptor | None
    problem: str = ""
    registration: str = ""
    turnstile: Turnstile | None = None
    """Where requests are counted, if the instance has state to hand over."""
