"""What is open while a stream is: the generator, the tenant it runs in, and the runtime it holds."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from pluginhub import crossing, runs
from pluginhub.context import Context, Services
from pluginhub.exceptions import InvalidInput, PluginHubError
from pluginhub.handoffs import Turnstile
from pluginhub.instances import Active
from pluginhub.layers import Interceptor, Invocation
from pluginhub.pipelines import errors_of
from pluginhub.presence import presence
from pluginhub.registry import registry
from pluginhub.runtimes import Runtime
from pluginhub.streaming.courses import Course
from pluginhub.streaming.generators import Items, generated
from pluginhub.streaming.wrapping import Layer, wrapped
from pluginhub.types import Caller, Item, Tenant
from pluginhub.ways import StreamSource

__all__ = ["Opened", "item_of", "open_generator"]

log = logging.getLogger("pluginhub.streaming")


@dataclass(slots=True)
class Lease:
    """What a stream holds while it is open: its run, and the tenant's runtime."""

    course: Course
    runtime: Runtime
    turnstiles: Sequence[Turnstile] = ()
    """Of the instances with state that it passes: the plugin's, and its interceptors'."""
    error: BaseException | None = None
    """What the stream failed with."""

    def begin(self) -> None:
        for turnstile in self.turnstiles:
            presence.lost += not turnstile.attend()

    def end(self) -> None:
        try:
            runs.end(self.course.run, self.error)
        finally:
            self.course.end()
            for turnstile in self.turnstiles:
                turnstile.part()
            self.runtime.release()


@dataclass(frozen=True, slots=True)
class Opened:
    """An open generator. Lives until `release`, which ends its run and gives the tenant's runtime back."""

    name: str
    tenant: Tenant
    generator: Items
    lease: Lease | None = None
    services: Services | None = None

    @property
    def course(self) -> Course | None:
        return None if self.lease is None else self.lease.course

    def release(self) -> None:
        if self.lease is not None:
            self.lease.end()

    async def arelease(self) -> None:
        """The asynchronous twin of `release`: what the run opened ends in a thread, as it may block."""
        if self.lease is None or self.lease.course.run.opened is None:
            self.release()
        else:
            await crossing.in_thread(self.release)

    def failed(self, error: BaseException) -> None:
        """Mark, count and log what the generator raised."""
        if self.lease is None:
            return
        self.lease.error = error
        self.lease.course.noted(error, self.services)
        if not isinstance(error, PluginHubError):
            log.error("The stream %s of tenant %s failed", self.name, self.tenant, exc_info=error)


def open_generator(tenant: Tenant, name: str, params: Any, cursor: Any, caller: Caller) -> Opened:
    """Start a plugin's stream in this thread, which must be in the tenant. May activate the plugin."""
    runs.allowed(caller)
    runtime = registry.acquire(tenant)
    try:
        source = runtime.links.stream(name)
        found = [(each, _owner(runtime, each)) for each in runtime.wrappers.around("stream", name)]
        course = Course(runs.begin(runtime, caller=caller, cursor=cursor))
        course.enter(source.breaker, source.services)
    except BaseException:
        runtime.release()
        raise
    turnstiles = [source.turnstile, *(owner.turnstile for _, owner in found if owner is not None)]
    lease = Lease(course, runtime, [each for each in turnstiles if each is not None])
    lease.begin()
    try:
        layers = [(intercept, None if owner is None else owner.services) for intercept, owner in found]
        return Opened(name, tenant, _opened(source, layers, params, course), lease, source.services)
    except BaseException as raised:
        lease.error = error = course.noted(raised, source.services)
        lease.end()
        raise error  # noqa: B904 - it is the error itself, or has it as its cause


def _opened(source: StreamSource, layers: Sequence[Layer], params: Any, course: Course) -> Items:
    """Open a plugin's stream inside the tenant's interceptors of streams."""

    def hook(params: Any) -> Any:
        return source.hook(_checked(source.plugin.Params, params), Context((course.run, source.services)))

    if not layers:
        return generated(hook(params))
    request = Invocation(source.name, params, course.run.caller, course.run.id)
    return wrapped(layers, hook, source.services, course).open(request)


def _owner(runtime: Runtime, intercept: Interceptor) -> Active | None:
    """Return the instance that an interceptor belongs to: it is the plugin's own hook, or what that added."""
    plugin = getattr(intercept, "__self__", None)
    for active in runtime.instances.actives().values():
        added = [function for _, function in active.services.middleware.added]
        if active.plugin is plugin or intercept in added or plugin in added:
            return active
    return None


def item_of(data: Any) -> Item:
    return data if type(data) is Item else Item(data)


def _checked(model: type[BaseModel] | None, params: Any) -> Any:
    params = {} if params is None else params
    if model is None:
        return params
    try:
        return model.model_validate(params)
    except ValidationError as error:
        raise InvalidInput("The params do not fit.", errors=errors_of(error)) from error
