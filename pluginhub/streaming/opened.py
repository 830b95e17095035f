"""What is open while a stream is: the generator, the tenant it runs in, and the runtime it holds."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from pluginhub import crossing, drivers, runs
from pluginhub.context import Context, Run, Services
from pluginhub.drivers import Node
from pluginhub.exceptions import InvalidInput, PluginHubError, mark
from pluginhub.handoffs import Turnstile
from pluginhub.interceptors import around_calls
from pluginhub.metrics import timings
from pluginhub.pipelines import Call, errors_of
from pluginhub.presence import presence
from pluginhub.registry import registry
from pluginhub.runtimes import Runtime
from pluginhub.streaming.generators import Items, generated
from pluginhub.types import Caller, Item, Tenant
from pluginhub.ways import StreamSource

__all__ = ["Opened", "item_of", "open_generator"]

log = logging.getLogger("pluginhub.streaming")


@dataclass(slots=True)
class Lease:
    """What a stream holds while it is open: its run, and the tenant's runtime."""

    run: Run
    runtime: Runtime
    turnstile: Turnstile | None = None
    error: BaseException | None = None
    """What the stream failed with."""

    def end(self) -> None:
        try:
            runs.end(self.run, self.error)
        finally:
            if self.turnstile is not None:
                self.turnstile.part()
            self.runtime.release()


@dataclass(frozen=True, slots=True)
class Opened:
    """An open generator. Lives until `release`, which ends its run and gives the tenant's runtime back."""

    name: str
    tenant: Tenant
    generator: Items
    lease: Lease | None = None
    services: Services | None = None

    def release(self) -> None:
        if self.lease is not None:
            self.lease.end()

    async def arelease(self) -> None:
        """The asynchronous twin of `release`: what the run opened ends in a thread, as it may block."""
        if self.lease is None or self.lease.run.opened is None:
            self.release()
        else:
            await crossing.in_thread(self.release)

    def failed(self, error: BaseException) -> None:
        """Mark, count and log what the generator raised."""
        if self.lease is not None:
            self.lease.error = error
        if self.services is None:
            return
        _mark(error, self.services)
        if not isinstance(error, InvalidInput):
            timings(self.services.plugin, self.tenant.schema).failed()
        if not isinstance(error, PluginHubError):
            log.error("The stream %s of tenant %s failed", self.name, self.tenant, exc_info=error)


def open_generator(tenant: Tenant, name: str, params: Any, cursor: Any, caller: Caller) -> Opened:
    """Start a plugin's stream in this thread, which must be in the tenant. May activate the plugin."""
    runs.allowed(caller)
    runtime = registry.acquire(tenant)
    try:
        source = runtime.links.stream(name)
        run = runs.begin(runtime, caller=caller, cursor=cursor)
        try:
            generator = generated(drivers.run(_around(runtime, source), params, run))
        except BaseException as error:
            if isinstance(error, Exception):
                _mark(error, source.services)
            runs.end(run, error)
            raise
    except BaseException:
        runtime.release()
        raise
    if source.turnstile is not None:
        presence.lost += not source.turnstile.attend()
    return Opened(name, tenant, generator, Lease(run, runtime, source.turnstile), source.services)


def _around(runtime: Runtime, source: StreamSource) -> Node:
    """Return the opening of a stream, inside the tenant's stream interceptors: they may change params, or refuse."""

    def opening(params: Any, run: Run) -> Any:
        return source.hook(_checked(source.plugin.Params, params), Context((run, source.services)))

    return around_calls(source.name, runtime.wrappers.around("stream", source.name), Call(opening))


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


def _mark(error: BaseException, services: Services) -> None:
    mark(error, registration=services.name, plugin=services.plugin)
