"""Requests that pass inward several times, are replaced, or whose client leaves."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse

from pluginhub import tenancy
from pluginhub.middleware import visits
from pluginhub.registry import registry
from pluginhub.types import Tenant
from tests.integration.hub import publish
from tests.integration.passing import PLUGINS, Source, aask, ask
from tests.integration.test_middleware import around, use


@pytest.fixture(autouse=True)
def site(settings: Any) -> None:
    settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": PLUGINS}
    settings.ROOT_URLCONF = "tests.integration.host_urls"
    visits._absent.clear()


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
