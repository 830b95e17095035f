"""Request interceptors around streaming responses, synchronous and asynchronous."""

from __future__ import annotations

import asyncio
import contextlib
import io
from typing import Any

import pytest
from django.http import FileResponse, HttpRequest, StreamingHttpResponse

from pluginhub.middleware import visits
from pluginhub.registry import registry
from pluginhub.types import Tenant
from tests.integration.hub import publish
from tests.integration.passing import PLUGINS, WHOLE, Source, aask, ask, outside
from tests.integration.test_middleware import around, use


@pytest.fixture(autouse=True)
def site(settings: Any) -> None:
    settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": PLUGINS}
    settings.ROOT_URLCONF = "tests.integration.host_urls"
    visits._absent.clear()


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
