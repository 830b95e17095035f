"""Asking the hub over HTTP in both colours, and the plugins it is asked for."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from contextvars import Context as Variables
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from asgiref.sync import async_to_sync
from django.contrib.auth.models import Permission, User
from django.db import connection as default_connection
from django.test import AsyncClient, Client
from pydantic import BaseModel

from pluginhub import Context, Item, Plugin, Refuse, RetryLater, access, job, publishing
from pluginhub.configuration import ChainSpec, Configuration, InterceptorSpec, RegistrationSpec, StepSpec

__all__ = ["PLUGINS", "Answer", "Colour", "Hub", "bearer", "make_user", "publish"]

Colour = Literal["wsgi", "asgi"]


@dataclass
class Answer:
    """A response, read to its end."""

    status: int
    headers: dict[str, str]
    content: bytes

    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def problem(self) -> dict[str, Any]:
        assert self.headers["content-type"] == "application/problem+json", self
        members: dict[str, Any] = self.json()
        assert members["status"] == self.status
        assert members["title"]
        assert b"Traceback" not in self.content
        return members


@dataclass
class Hub:
    """One client of acme's site under WSGI or ASGI. Keeps cookies; `token` logs it in."""

    colour: Colour
    host: str = "acme.localhost"
    token: str | None = None
    csrf: bool = False
    client: Any = field(init=False)

    def __post_init__(self) -> None:
        self.client = (Client if self.colour == "wsgi" else _AsyncClient)(
            enforce_csrf_checks=self.csrf, raise_request_exception=False
        )

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, b"", **headers)

    def post(self, path: str, value: Any = None, **headers: str) -> Answer:
        return self.ask("POST", path, json.dumps(value).encode(), **headers)

    def ask(
        self, method: str, path: str, body: bytes = b"", /, *, kind: str = "application/json", **headers: str
    ) -> Answer:
        """Send a request; headers are keywords, with _ for -."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token and "Authorization" not in given:
            given["Authorization"] = f"Bearer {self.token}"
        ask = self._sync if self.colour == "wsgi" else async_to_sync(self._async)
        before = connection.tenant
        try:  # a server's threads are in no tenant that a test has entered
            return Variables().run(ask, method, path, body, kind, {"host": self.host, **given})
        finally:
            connection.set_tenant(before)

    def _sync(self, method: str, path: str, body: bytes, kind: str, headers: dict[str, str]) -> Answer:
        response = self.client.generic(method, path, body, content_type=kind, headers=headers)
        content = b"".join(response) if response.streaming else response.content
        return _answer(response, content)

    async def _async(self, method: str, path: str, body: bytes, kind: str, headers: dict[str, str]) -> Answer:
        response = await self.client.generic(method, path, body, content_type=kind, headers=headers)
        content = b"".join([chunk async for chunk in response]) if response.streaming else response.content
        return _answer(response, content)


class _AsyncClient(AsyncClient):
    """Django's, which would send its own Host besides the one it is given."""

    def _base_scope(self, **request: Any) -> Any:
        request["headers"] = [each for each in request["headers"] if each != (b"host", b"testserver")]
        return super()._base_scope(**request)  # type: ignore[misc]


def _answer(response: Any, content: bytes) -> Answer:
    return Answer(response.status_code, {name.lower(): value for name, value in response.headers.items()}, content)


def make_user(name: str = "rita", *permissions: str) -> User:
    """Make a user of the current tenant who may run targets, and what else is said."""
    user = User.objects.create_user(name, password="a password")
    user.user_permissions.add(*Permission.objects.filter(codename__in=["run_target", *permissions]))
    return user


def bearer(user: User) -> str:
    return access.issue_token(user, "test")


def publish(
    *specs: RegistrationSpec | ChainSpec, interceptors: tuple[InterceptorSpec, ...] = (), **registrations: str
) -> None:
    """Publish these targets for the current tenant: specs, and name=plugin for plain registrations."""
    plain = [RegistrationSpec(name=name, plugin=plugin) for name, plugin in registrations.items()]
    known = {spec.name: spec for spec in (*specs, *plain)}
    publishing.apply_configuration(
        Configuration(
            registrations={name: spec for name, spec in known.items() if isinstance(spec, RegistrationSpec)},
            chains={name: spec for name, spec in known.items() if isinstance(spec, ChainSpec)},
            interceptors=interceptors,
        ),
        author="test",
    )


def chain(name: str, *targets: str, **about: Any) -> ChainSpec:
    return ChainSpec(name=name, steps=tuple(StepSpec(target=target) for target in targets), **about)


connection: Any = default_connection


class Echo(Plugin):
    """Answer what came in."""

    def process(self, value: Any, context: Context) -> Any:
        return value


class AsyncEcho(Plugin):
    """Answer what came in, a moment later."""

    async def process(self, value: Any, context: Context) -> Any:
        await asyncio.sleep(0)
        return value


class Quote(Plugin):
    """Quote a shipment."""

    class Input(BaseModel):
        weight: float
        origin: str = "FRA"

    class Output(BaseModel):
        price: float

    def process(self, value: Any, context: Context) -> Any:
        return {"price": value["weight"] * 2}


class Broken(Plugin):
    """Fail with words nobody outside may read."""

    def process(self, value: Any, context: Context) -> Any:
        raise RuntimeError("password=hunter2")


class Refusing(Plugin):
    """Refuse."""

    def process(self, value: Any, context: Context) -> Any:
        raise Refuse("Unknown airport.", errors={"origin": "No airport has the code XXX."})


class Later(Plugin):
    """Ask to come again."""

    def process(self, value: Any, context: Context) -> Any:
        raise RetryLater("Busy.", delay=2.5)


class Slow(Plugin):
    """Take longer than it may."""

    async def process(self, value: Any, context: Context) -> Any:
        await asyncio.sleep(5)


class Unspeakable(Plugin):
    """Return what JSON cannot say."""

    def process(self, value: Any, context: Context) -> Any:
        return object()


class Whoami(Plugin):
    """Tell who asks."""

    def process(self, value: Any, context: Context) -> Any:
        caller = context.caller
        return [context.tenant.schema, caller.name, caller.edge, caller.trusted]


class Hook(Plugin):
    """Do as the body says, for strangers."""

    def process(self, value: Any, context: Context) -> Any:
        if value["body"] == "teapot":
            return {"status": 418, "headers": {"X-Pot": "tea", "Content-Type": "text/x-pot"}, "body": "short and stout"}
        if value["body"] == "bytes":
            return {"status": 200, "body": b"\x00\xff"}
        if value["body"] == "split":
            return {"status": 200, "headers": {"X-A": "a\r\nX-B: b"}}
        if value["body"] == "odd":
            return {"status": "200"}
        return value


class Numbers(Plugin):
    """Count, from where the client is."""

    class Params(BaseModel):
        until: int = 3

    def stream(self, params: Any, context: Context) -> Any:
        for number in range((context.cursor or 0) + 1, params.until + 1):
            yield Item({"n": number}, cursor=number)
            if number == 5:
                raise RuntimeError("password=hunter2")

    @job("import")
    def load(self, data: Any, context: Context) -> Any:
        return data


class AsyncNumbers(Numbers):
    """Count, asynchronously."""

    async def stream(self, params: Any, context: Context) -> Any:
        for number in range((context.cursor or 0) + 1, params.until + 1):
            await asyncio.sleep(0)
            yield Item({"n": number}, cursor=number)


class Stamp(Plugin):
    """Stamp responses with a header, in the order they pass."""

    class Config(BaseModel):
        text: str = "sync"

    def intercept(self, request: Any, call_next: Any) -> Any:
        request.META["HTTP_X_IN"] = f"{request.META.get('HTTP_X_IN', '')}{self.config.text} "
        response = call_next(request)
        response.headers["X-Stamp"] = f"{response.headers.get('X-Stamp', '')}{self.config.text} "
        return response


class AsyncStamp(Stamp):
    """Stamp responses, asynchronously."""

    async def intercept(self, request: Any, call_next: Any) -> Any:
        request.META["HTTP_X_IN"] = f"{request.META.get('HTTP_X_IN', '')}{self.config.text} "
        response = await call_next(request)
        response.headers["X-Stamp"] = f"{response.headers.get('X-Stamp', '')}{self.config.text} "
        return response


class Closed(Plugin):
    """Answer instead of the view."""

    def intercept(self, request: Any, call_next: Any) -> Any:
        from django.http import HttpResponse

        return HttpResponse(b"closed", status=503)


class Rescue(Plugin):
    """Turn the view's error into an answer."""

    def intercept(self, request: Any, call_next: Any) -> Any:
        from django.http import HttpResponse

        try:
            return call_next(request)
        except ZeroDivisionError as error:
            return HttpResponse(f"rescued: {error}", status=200)


class Clumsy(Plugin):
    """Break the rules of the onion as told."""

    class Config(BaseModel):
        how: str = "raise"

    def intercept(self, request: Any, call_next: Any) -> Any:
        if self.config.how == "raise":
            raise RuntimeError("password=hunter2")
        if self.config.how == "refuse":
            raise Refuse("Not from here.")
        if self.config.how == "twice":
            call_next(request)
            return call_next(request)
        return "no response"


class Wild(Plugin):
    """Cannot be brought up."""

    def activate(self, context: Context) -> None:
        raise RuntimeError("no connection")

    def intercept(self, request: Any, call_next: Any) -> Any:
        return call_next(request)

    def process(self, value: Any, context: Context) -> Any:
        return value


class Sleepy(Plugin):
    """Hold a thread."""

    def process(self, value: Any, context: Context) -> Any:
        time.sleep(0.05)
        return value


class Endless(Plugin):
    """Stream until the client leaves."""

    closed: ClassVar[threading.Event] = threading.Event()

    async def stream(self, params: Any, context: Context) -> Any:
        try:
            for number in itertools.count(1):
                yield Item(number, cursor=number)
                await asyncio.sleep(0.01)
        finally:
            self.closed.set()


PLUGINS = {
    kind.__name__.lower(): f"{__name__}:{kind.__name__}"
    for kind in (
        AsyncEcho, AsyncNumbers, AsyncStamp, Broken, Closed, Clumsy, Echo, Endless, Hook, Later, Numbers, Quote,
        Refusing, Rescue, Sleepy, Slow, Stamp, Unspeakable, Whoami, Wild,
    )
}  # fmt: skip
