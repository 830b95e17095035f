"""Interceptors of requests, and asking a view behind them without a server: `ask`, `aask`, `outside`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, ClassVar

from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from pydantic import BaseModel

from pluginhub import Context, Plugin, tenancy
from pluginhub.middleware import PluginMiddleware
from pluginhub.types import Tenant

HERE = "tests.integration.passing"
View = Callable[[HttpRequest], Any]


class Through(Plugin):
    """Pass on."""

    def intercept(self, request: Any, call_next: Any) -> Any:
        return call_next(request)


class AsyncThrough(Plugin):
    """Pass on, asynchronously."""

    async def intercept(self, request: Any, call_next: Any) -> Any:
        return await call_next(request)


class Upper(Plugin):
    """Put a body in place of the body."""

    def intercept(self, request: Any, call_next: Any) -> Any:
        response = call_next(request)
        response.streaming_content = _upper(response.streaming_content)
        return response


class AsyncUpper(Plugin):
    async def intercept(self, request: Any, call_next: Any) -> Any:
        response = await call_next(request)
        response.streaming_content = _aupper(response.streaming_content)
        return response


class Retry(Plugin):
    """Try again where the view fails."""

    def intercept(self, request: Any, call_next: Any) -> Any:
        again = call_next.repeatable()
        for _ in range(2):
            try:
                return again(request)
            except ConnectionError:
                pass
        return again(request)


class AsyncRetry(Plugin):
    async def intercept(self, request: Any, call_next: Any) -> Any:
        again = call_next.repeatable()
        for _ in range(2):
            try:
                return await again(request)
            except ConnectionError:
                pass
        return await again(request)


class Both(Plugin):
    """Pass on twice at once."""

    async def intercept(self, request: Any, call_next: Any) -> Any:
        again = call_next.repeatable()
        return (await asyncio.gather(again(request), again(request)))[0]


class First(Plugin):
    """Throw away what the view answers, or raise the first of two errors."""

    def intercept(self, request: Any, call_next: Any) -> Any:
        again = call_next.repeatable()
        errors: list[Exception] = []
        for _ in range(2):
            try:
                again(request).close()
            except ConnectionError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return HttpResponse(b"mine")


class Other(Plugin):
    """Pass on another request."""

    def intercept(self, request: Any, call_next: Any) -> Any:
        other = RequestFactory().get("/other/")
        other.tenant = request.tenant  # type: ignore[attr-defined]
        try:
            return call_next(other if request.path != "/nothing/" else None)
        except ConnectionError as error:
            return HttpResponse(f"{error}".encode())


class Counter(Plugin):
    """Count requests in memory, slowly enough to be caught in the act."""

    class Config(BaseModel):
        label: str = ""

    inside: ClassVar[threading.Semaphore] = threading.Semaphore(0)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.count = 0
        self.lock = threading.Lock()

    def add(self) -> None:
        with self.lock:
            self.count += 1

    def intercept(self, request: Any, call_next: Any) -> Any:
        response = call_next(request)
        self.add()
        return response

    def process(self, value: Any, context: Context) -> int:
        return self.count

    def get_state(self) -> int:
        return self.count

    def restore_state(self, state: int) -> None:
        self.count = state


class AsyncCounter(Counter):
    async def intercept(self, request: Any, call_next: Any) -> Any:
        response = await call_next(request)
        self.add()
        return response


class Adding(Counter):
    """Add its interceptor by itself."""

    intercept = None  # type: ignore[assignment]

    def activate(self, context: Context) -> None:
        context.middleware.use(self.watch, scope="request")

    def watch(self, request: Any, call_next: Any) -> Any:
        return Counter.intercept(self, request, call_next)


PLUGINS = {
    kind.__name__.lower(): f"{HERE}:{kind.__name__}"
    for kind in (
        Adding, AsyncCounter, AsyncRetry, AsyncThrough, AsyncUpper, Both, Counter, First, Other, Retry, Through, Upper
    )
}  # fmt: skip


def _upper(parts: Iterator[bytes]) -> Iterator[bytes]:
    for part in parts:
        yield part.upper()


async def _aupper(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for part in parts:
        yield part.upper()


def request_of(tenant: Tenant, path: str = "/page/", body: bytes = b"") -> HttpRequest:
    request = RequestFactory().post(path, body, content_type="text/plain")
    request.tenant = type("Row", (), {"schema_name": tenant.schema, "name": tenant.name})()  # type: ignore[attr-defined]
    return request


def ask(view: View, tenant: Tenant, path: str = "/page/", body: bytes = b"") -> Any:
    """Send a request to a synchronous view behind the middleware, from no tenant."""
    middleware = PluginMiddleware(_as_django(view, lambda: middleware))
    return middleware(request_of(tenant, path, body))


async def aask(view: View, tenant: Tenant, path: str = "/page/", body: bytes = b"") -> Any:
    """Send one to an asynchronous view."""

    async def answering(request: HttpRequest) -> Any:
        try:
            return await view(request)
        except Exception as error:
            middleware.process_exception(request, error)
            return HttpResponse(b"the host's 500", status=500)

    middleware = PluginMiddleware(answering)
    answer: Any = middleware(request_of(tenant, path, body))
    return await answer


def _as_django(view: View, middleware: Callable[[], PluginMiddleware]) -> View:
    def answering(request: HttpRequest) -> Any:
        try:
            return view(request)
        except Exception as error:
            middleware().process_exception(request, error)
            return HttpResponse(b"the host's 500", status=500)

    return answering


class Source:
    """A body that knows how far it was read, in which tenant, and whether it was closed."""

    def __init__(self, parts: int = 3) -> None:
        self.parts = parts
        self.seen: list[str] = []

    def note(self, what: str) -> None:
        tenant = tenancy.current_or_none()
        self.seen.append(f"{what} in {tenant.schema if tenant else None}")

    def body(self) -> Iterator[bytes]:
        try:
            for number in range(self.parts):
                self.note(str(number))
                yield b"part"
        finally:
            self.note("closed")

    async def abody(self) -> AsyncIterator[bytes]:
        try:
            for number in range(self.parts):
                self.note(str(number))
                await asyncio.sleep(0)
                yield b"part"
        finally:
            await asyncio.sleep(0)
            self.note("closed")


WHOLE = ["0 in acme", "1 in acme", "2 in acme", "closed in acme"]


def outside(f: Callable[[], Any]) -> Any:
    """Call `f` as a server's thread does: in no tenant, on the connection of this one."""
    from contextvars import Context as Variables

    return Variables().run(f)
