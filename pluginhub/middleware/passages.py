"""One request's way through its interceptors to the view, and back."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async
from django.http import HttpRequest, HttpResponseBase

from pluginhub import drivers
from pluginhub.context import Run
from pluginhub.drivers import Colour, colour_of
from pluginhub.exceptions import InterceptorError, NotReady, mark, survivable
from pluginhub.interceptors import Interceptor, layered
from pluginhub.pipelines import Call
from pluginhub.views.answers import problem
from pluginhub.ways import RequestLayer

__all__ = ["athrough", "note", "through"]

View = Callable[[HttpRequest], Any]

_PASSAGE = "_pluginhub_passage"


def through(layers: Sequence[RequestLayer], request: HttpRequest, view: View) -> HttpResponseBase:
    """Return the response of the interceptors around a synchronous view."""
    with _passing(request) as passage:
        try:
            node = layered(passage.interceptors(layers), Call(lambda given, _: passage.arrived(view(given))))
            return passage.response_of(drivers.run(node, request, Run()))
        except Exception as error:
            return passage.settle(error)


async def athrough(layers: Sequence[RequestLayer], request: HttpRequest, view: View) -> HttpResponseBase:
    """Return the response of the interceptors around an asynchronous view.

    Asynchronous interceptors run on this loop. Where one is synchronous, all run from the request's own thread, as
    Django does it; not from the engine's pool, where requests would wait for threads that other requests hold.
    """
    if any(layer.intercept is None or colour_of(layer.intercept) is Colour.SYNC for layer in layers):
        return await sync_to_async(through)(layers, request, async_to_sync(view))

    async def awaited(given: HttpRequest, _: Run) -> Any:
        return passage.arrived(await view(given))

    with _passing(request) as passage:
        try:
            node = layered(passage.interceptors(layers), Call(awaited))
            return passage.response_of(await drivers.arun(node, request, Run(), anywhere=True))
        except Exception as error:
            return passage.settle(error)


def note(request: HttpRequest, error: Exception) -> None:
    """Remember what the view raised, if interceptors wait for it."""
    passage = request.__dict__.get(_PASSAGE)
    if passage is not None:
        passage.error = error


class _Passage:
    """Lives as long as the request is among its interceptors."""

    def __init__(self, request: HttpRequest) -> None:
        self.request = request
        self.error: Exception | None = None
        self._response: HttpResponseBase | None = None

    def interceptors(self, layers: Sequence[RequestLayer]) -> list[Interceptor]:
        return [self._marking(layer) for layer in layers]

    def arrived(self, response: HttpResponseBase) -> HttpResponseBase:
        """Take the view's response, or raise the error that made it a 500."""
        self._response = response
        if self.error is not None and response.status_code >= 500:
            raise self.error
        return response

    def response_of(self, result: Any) -> HttpResponseBase:
        if isinstance(result, HttpResponseBase):
            return result
        raise InterceptorError(
            f"The interceptors returned {type(result).__name__}, which is no response.",
            hint="Return what call_next(request) returned, or an HttpResponse.",
        )

    def settle(self, error: Exception) -> HttpResponseBase:
        """Answer the view's error as the host did already, and an interceptor's as a problem detail."""
        if error is self.error and self._response is not None:
            return self._response
        return problem(error, self.request)

    def _marking(self, layer: RequestLayer) -> Interceptor:
        """Return the interceptor, whose own errors name the registration they came from."""
        if layer.intercept is None:
            raise NotReady(f"The interceptor {layer.registration!r} is not ready: {layer.problem}")
        intercept = layer.intercept
        if colour_of(intercept) is Colour.SYNC:

            @functools.wraps(intercept)
            def marking(request: HttpRequest, call_next: Any) -> Any:
                with self._marked(layer):
                    return intercept(request, call_next)

            return marking

        @functools.wraps(intercept)
        async def amarking(request: HttpRequest, call_next: Any) -> Any:
            with self._marked(layer):
                return await intercept(request, call_next)

        return amarking

    @contextmanager
    def _marked(self, layer: RequestLayer) -> Iterator[None]:
        try:
            yield
        except SystemExit as error:
            raise survivable(error)  # noqa: B904 - it has the error as its cause
        except Exception as error:
            if error is not self.error and layer.registration:
                plugin = getattr(layer.intercept, "__self__", layer.intercept)
                mark(error, registration=layer.registration, plugin=type(plugin).__name__)
            raise


@contextmanager
def _passing(request: HttpRequest) -> Iterator[_Passage]:
    passage = _Passage(request)
    request.__dict__[_PASSAGE] = passage
    try:
        yield passage
    finally:
        request.__dict__.pop(_PASSAGE, None)
