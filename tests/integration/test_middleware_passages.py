"""Request interceptors around what is more than a response: streams, retries, bodies, clients that leave, state."""

from __future__ import annotations

import asyncio
import contextlib
import io
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest
from asgiref.sync import async_to_sync
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import RequestFactory
from pydantic import BaseModel

from pluginhub import Context, Plugin, execution, handoffs, tenancy
from pluginhub.configuration import InterceptorSpec, RegistrationSpec
from pluginhub.middleware import PluginMiddleware, visits
from pluginhub.registry import registry
from pluginhub.types import Tenant
from tests.integration.hub import publish
from tests.integration.test_middleware import around, use

HERE = "tests.integration.test_middleware_passages"
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


@pytest.fixture(autouse=True)
def site(settings: Any) -> None:
    settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": PLUGINS}
    settings.ROOT_URLCONF = "tests.integration.host_urls"
    visits._absent.clear()


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


class TestStreams:
    @pytest.mark.parametrize("plugin", [None, "through", "asyncthrough"])
    def test_a_stream_is_not_read_by_its_layers(self, in_acme: Tenant, plugin: str | None) -> None:
        source = Source()
        publish(use(plugin or "through"), interceptors=around(plugin) if plugin else ())
        response = outside(lambda: ask(lambda _: StreamingHttpResponse(source.body()), in_acme))
        assert source.seen == []
        parts = iter(response)
        assert outside(lambda: next(parts)) == b"part"
        assert source.seen == ["0 in acme"]
        assert outside(lambda: list(parts)) == [b"part", b"part"]
        outside(response.close)
        assert source.seen == WHOLE

    @pytest.mark.parametrize("plugin", [None, "through", "asyncthrough"])
    def test_nor_is_an_asynchronous_one(self, in_acme: Tenant, plugin: str | None) -> None:
        source = Source()
        publish(use(plugin or "through"), interceptors=around(plugin) if plugin else ())

        async def view(request: HttpRequest) -> Any:
            return StreamingHttpResponse(source.abody())

        async def read() -> list[bytes]:
            response = await aask(view, in_acme)
            assert source.seen == []
            parts = [part async for part in response]
            response.close()
            return parts

        assert outside(lambda: asyncio.run(read())) == [b"part"] * 3
        assert source.seen == WHOLE

    @pytest.mark.parametrize("plugin", [None, "through"])
    def test_closing_it_early_closes_it_in_the_tenant(self, in_acme: Tenant, plugin: str | None) -> None:
        source = Source()
        publish(use("through"), interceptors=around(plugin) if plugin else ())
        response = outside(lambda: ask(lambda _: StreamingHttpResponse(source.body()), in_acme))
        outside(lambda: next(iter(response)))
        outside(response.close)
        assert source.seen == ["0 in acme", "closed in acme"]

    @pytest.mark.parametrize("plugin", [None, "asyncthrough"])
    def test_so_it_does_asynchronously(self, in_acme: Tenant, plugin: str | None) -> None:
        source = Source()
        publish(use("asyncthrough"), interceptors=around(plugin) if plugin else ())

        async def view(request: HttpRequest) -> Any:
            return StreamingHttpResponse(source.abody())

        async def read() -> None:
            response = await aask(view, in_acme)
            async with contextlib.aclosing(aiter(response)) as parts:
                await anext(parts)
            response.close()
            del response
            for _ in range(10):
                await asyncio.sleep(0)

        outside(lambda: asyncio.run(read()))
        assert source.seen == ["0 in acme", "closed in acme"]

    def test_a_layer_may_put_another_body_in_its_place(self, in_acme: Tenant) -> None:
        publish(use("upper"), use("through"), interceptors=around("through", "upper"))
        source = Source()
        response = outside(lambda: ask(lambda _: StreamingHttpResponse(source.body()), in_acme))
        assert outside(lambda: b"".join(response)) == b"PARTPARTPART"
        outside(response.close)
        assert source.seen == WHOLE

    def test_so_may_an_asynchronous_one(self, in_acme: Tenant) -> None:
        publish(use("asyncupper"), use("asyncthrough"), interceptors=around("asyncthrough", "asyncupper"))
        source = Source()

        async def view(request: HttpRequest) -> Any:
            return StreamingHttpResponse(source.abody())

        async def read() -> bytes:
            return b"".join([part async for part in await aask(view, in_acme)])

        assert outside(lambda: asyncio.run(read())) == b"PARTPARTPART"
        assert source.seen == WHOLE

    def test_the_runtime_is_held_until_it_is_closed(self, in_acme: Tenant) -> None:
        publish(use("counter"), interceptors=around("counter"))
        response = ask(lambda _: StreamingHttpResponse(Source().body()), in_acme)
        [runtime] = registry.runtimes()
        turnstile = runtime.instances.actives()["counter"].turnstile
        assert turnstile is not None
        assert (runtime.busy, turnstile._inside, turnstile._streams) == (True, 0, 1)
        response.close()
        response.close()
        assert (runtime.busy, turnstile._streams) == (False, 0)

    def test_one_that_nobody_closes_is_let_go_of_with_it(self, in_acme: Tenant) -> None:
        publish(use("through"), interceptors=around("through"))
        response = ask(lambda _: StreamingHttpResponse(Source().body()), in_acme)
        [runtime] = registry.runtimes()
        assert runtime.busy
        del response
        assert not runtime.busy

    def test_a_file_is_still_sent_by_the_server(self, in_acme: Tenant) -> None:
        publish(use("through"), interceptors=around("through"))
        file = io.BytesIO(b"content")
        response = ask(lambda _: FileResponse(file), in_acme)
        assert response.file_to_stream is file
        response.close()
        assert file.closed
        assert not registry.runtimes()[0].busy


class TestPasses:
    @pytest.mark.parametrize("plugin", ["retry", "asyncretry"])
    @pytest.mark.parametrize(("failures", "status", "passes"), [(0, 200, 1), (2, 200, 3), (5, 500, 3)])
    def test_an_interceptor_may_try_again(
        self, in_acme: Tenant, plugin: str, failures: int, status: int, passes: int
    ) -> None:
        publish(use(plugin), use("through"), interceptors=around(plugin, "through"))
        tries: list[bytes] = []

        def view(request: HttpRequest) -> HttpResponse:
            tries.append(request.body)
            if len(tries) <= failures:
                raise ConnectionError(len(tries))
            return HttpResponse(b"fine")

        async def aview(request: HttpRequest) -> HttpResponse:
            return view(request)

        response = (
            ask(view, in_acme, body=b"it") if plugin == "retry" else async_to_sync(aask)(aview, in_acme, body=b"it")
        )
        assert (response.status_code, tries) == (status, [b"it"] * passes)
        assert response.content == (b"fine" if status == 200 else b"the host's 500")

    def test_what_the_view_answers_by_itself_after_it_failed_is_its_answer(self, in_acme: Tenant) -> None:
        """A 500 of the second pass is a response: the error of the first has nothing to do with it."""
        publish(use("retry"), interceptors=around("retry"))
        tries: list[int] = []

        def view(request: HttpRequest) -> HttpResponse:
            tries.append(1)
            if len(tries) == 1:
                raise ConnectionError
            return HttpResponse(b"its own", status=500)

        response = ask(view, in_acme)
        assert (response.content, len(tries)) == (b"its own", 2)

    def test_any_of_the_views_errors_is_answered_by_the_host(self, in_acme: Tenant) -> None:
        publish(use("first"), interceptors=around("first"))

        def view(request: HttpRequest) -> HttpResponse:
            raise ConnectionError

        assert ask(view, in_acme).content == b"the host's 500"

    def test_a_response_may_be_thrown_away(self, in_acme: Tenant) -> None:
        publish(use("first"), interceptors=around("first"))
        source = Source()
        assert ask(lambda _: StreamingHttpResponse(source.body()), in_acme).content == b"mine"
        assert source.seen == []

    def test_a_request_is_not_in_two_views_at_once(self, in_acme: Tenant) -> None:
        publish(use("both"), interceptors=around("both"))

        async def view(request: HttpRequest) -> HttpResponse:
            await asyncio.sleep(0.01)
            return HttpResponse()

        response = async_to_sync(aask)(view, in_acme)
        assert response.status_code == 500
        assert b"while it was passed on already" in response.content

    def test_another_request_may_be_passed_on_and_its_error_comes_back(self, in_acme: Tenant) -> None:
        publish(use("other"), interceptors=around("other"))

        def view(request: HttpRequest) -> HttpResponse:
            raise ConnectionError(request.path)

        assert ask(view, in_acme).content == b"/other/"
        assert b"passed on NoneType instead of the request" in ask(view, in_acme, "/nothing/").content

    def test_layers_and_view_read_one_body(self, in_acme: Tenant) -> None:
        publish(use("through"), use("retry"), interceptors=around("through", "retry"))
        assert ask(lambda request: HttpResponse(request.body), in_acme, body=b"whole").content == b"whole"


class TestClientsThatLeave:
    def test_a_client_that_leaves_unwinds_view_and_layers_and_is_no_error(self, in_acme: Tenant) -> None:
        publish(use("asynccounter"), interceptors=around("asynccounter"))
        seen: list[str] = []

        async def leave() -> None:
            inside = asyncio.Event()

            async def view(request: HttpRequest) -> HttpResponse:
                inside.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    seen.append("unwound")
                return HttpResponse()

            task = asyncio.ensure_future(aask(view, in_acme))
            await inside.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        async_to_sync(leave)()
        [runtime] = registry.runtimes()
        turnstile = runtime.instances.actives()["asynccounter"].turnstile
        assert seen == ["unwound"]
        assert turnstile is not None
        assert (turnstile._inside, runtime.busy) == (0, False)

    def test_what_a_view_starts_goes_on(self, in_acme: Tenant) -> None:
        publish(use("asyncthrough"), interceptors=around("asyncthrough"))
        done: list[str] = []

        async def later() -> None:
            await asyncio.sleep(0.01)
            done.append(tenancy.current().schema)

        async def run() -> None:
            tasks: list[Any] = []

            async def view(request: HttpRequest) -> HttpResponse:
                tasks.append(asyncio.ensure_future(later()))
                return HttpResponse()

            await aask(view, in_acme)
            assert done == []
            await asyncio.gather(*tasks)

        async_to_sync(run)()
        assert done == ["acme"]


class TestState:
    """No request is lost where state moves from an instance to the next; see `handoffs`."""

    @pytest.mark.parametrize("plugin", ["counter", "asynccounter", "adding"])
    def test_no_increment_is_lost_when_it_is_replaced_under_load(self, in_acme: Tenant, plugin: str) -> None:
        replace(plugin, 0)
        stop = threading.Event()
        with ThreadPoolExecutor(4) as pool:
            asking = [pool.submit(keep_asking, in_acme, stop, plugin) for _ in range(4)]
            for number in range(8):
                time.sleep(0.02)
                replace(plugin, number + 1)
            stop.set()
            asked = sum(each.result() for each in asking)
        assert execution.run("it") == asked
        assert asked > 20

    def test_what_the_view_runs_does_not_wait_for_the_request(self, in_acme: Tenant, settings: Any) -> None:
        settings.PLUGINHUB = {**settings.PLUGINHUB, "HANDOFF_SECONDS": 30}
        replace("counter", 0)
        inside = threading.Event()

        def view(request: HttpRequest) -> HttpResponse:
            inside.set()
            wait_until(is_closed)
            return HttpResponse(str(execution.run("it", timeout=10)).encode())

        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(tenancy.gate, in_acme, lambda: ask(view, in_acme).content)
            inside.wait(10)
            started = time.monotonic()
            replace("counter", 1)
            assert asked.result() == b"0"
        assert time.monotonic() - started < 25
        assert execution.run("it") == 1

    def test_requests_wait_while_state_moves(self, in_acme: Tenant) -> None:
        replace("counter", 0)
        ask(lambda _: HttpResponse(), in_acme)
        turnstile = registry.runtimes()[0].instances.actives()["it"].turnstile
        assert turnstile is not None
        turnstile.close()
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(tenancy.gate, in_acme, lambda: ask(lambda _: HttpResponse(b"then"), in_acme).content)
            wait_until(lambda: bool(turnstile._waiting))
            assert not asked.done()
            turnstile.open(moved=False)
            assert asked.result() == b"then"

    def test_one_that_waits_too_long_is_told(self, in_acme: Tenant, settings: Any) -> None:
        settings.PLUGINHUB = {**settings.PLUGINHUB, "RUN_SECONDS": 0.05}
        replace("counter", 0)
        ask(lambda _: HttpResponse(), in_acme)
        turnstile = registry.runtimes()[0].instances.actives()["it"].turnstile
        assert turnstile is not None
        turnstile.close()
        assert ask(lambda _: pytest.fail("called on"), in_acme).status_code == 504

        async def view(request: HttpRequest) -> HttpResponse:
            pytest.fail("called on")

        assert async_to_sync(aask)(view, in_acme).status_code == 504
        turnstile.open(moved=False)

    def test_a_task_that_outlives_the_request_waits_as_others_do(self) -> None:
        turnstile = handoffs.Turnstile()
        assert handoffs.enter([turnstile]) is None

        async def run() -> Any:
            go = asyncio.Event()

            async def later() -> Any:
                await go.wait()
                return handoffs.enter([turnstile])

            with handoffs.staying([turnstile]):
                task = asyncio.ensure_future(later())
                await asyncio.sleep(0)
                turnstile.close()
                assert handoffs.enter([turnstile]) is None
                turnstile.leave()
            go.set()
            return await task

        assert asyncio.run(run()) is turnstile


def outside(f: Callable[[], Any]) -> Any:
    """Call `f` as a server's thread does: in no tenant, on the connection of this one."""
    from contextvars import Context as Variables

    return Variables().run(f)


def replace(plugin: str, number: int) -> None:
    bound = () if plugin == "adding" else (InterceptorSpec(registration="it", scope="request", position=0),)
    publish(RegistrationSpec(name="it", plugin=plugin, config={"label": str(number)}), interceptors=bound)
    registry.refresh(tenancy.current())


def keep_asking(tenant: Tenant, stop: threading.Event, plugin: str) -> int:
    asked = 0

    async def aview(request: HttpRequest) -> HttpResponse:
        await asyncio.sleep(0.002)
        return HttpResponse()

    def view(request: HttpRequest) -> HttpResponse:
        time.sleep(0.002)
        return HttpResponse()

    while not stop.is_set():
        if plugin == "asynccounter":
            asyncio.run(aask(aview, tenant))
        else:
            ask(view, tenant)
        asked += 1
    return asked


def is_closed() -> bool:
    turnstile = registry.runtimes()[0].instances.actives()["it"].turnstile
    return turnstile is not None and turnstile._closed


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition() and time.monotonic() < until:
        time.sleep(0.005)
    assert condition()
