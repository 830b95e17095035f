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
from pluginhub.drivers import Colour
from pluginhub.exceptions import InterceptorError, NotReady, mark, survivable
from pluginhub.interceptors import Interceptor, layered
from pluginhub.layers import colour_of_interceptor
from pluginhub.middleware.visits import Visit
from pluginhub.pipelines import Call
from pluginhub.views.answers import problem
from pluginhub.ways import RequestLayer

__all__ = ["athrough", "note", "through"]

View = Callable[[HttpRequest], Any]

_PASSAGE = "_pluginhub_passage"


def through(layers: Sequence[RequestLayer], request: HttpRequest, view: View) -> HttpResponseBase:
    """Return the response of the interceptors around a synchronous view."""

    def core(given: Any, _: Run) -> HttpResponseBase:
        with passage.inward(given):
            return passage.arrived(view(given))

    with _passing(request) as passage:
        try:
            node = layered(passage.interceptors(layers), Call(core))
            return passage.response_of(drivers.run(node, request, Run()))
        except Exception as error:
            return passage.settle(error)


async def athrough(visit: Visit, request: HttpRequest, view: View) -> HttpResponseBase:
    """Return the response of the interceptors around an asynchronous view.

    Asynchronous interceptors run on this loop. Where one is synchronous, all run from the request's own thread, as
    Django does it; not from the engine's pool, where requests would wait for threads that other requests hold.
    """
    layers = visit.layers
    if any(layer.intercept is None or colour_of_interceptor(layer.intercept) is Colour.SYNC for layer in layers):

        def in_thread() -> HttpResponseBase:
            with visit.elsewhere():
                return through(layers, request, async_to_sync(view))

        return await sync_to_async(in_thread)()

    async def core(given: Any, _: Run) -> HttpResponseBase:
        with passage.inward(given):
            return passage.arrived(await view(given))

    with _passing(request) as passage:
        try:
            node = layered(passage.interceptors(layers), Call(core))
            return passage.response_of(await drivers.arun(node, request, Run(), anywhere=True))
        except Exception as error:
            return passage.settle(error)


def note(request: HttpRequest, error: Exception) -> None:
    """Remember what the view raised, if interceptors wait for it."""
    passage = request.__dict__.get(_PASSAGE)
    if passage is not None:
        passage.raised = error


class _Passage:
    """Lives as long as the request is among its interceptors."""

    def __init__(self, request: HttpRequest) -> None:
        self.request = request
        self.raised: Exception | None = None
        """What the view raised in this pass."""
        self._answers: list[tuple[Exception, HttpResponseBase]] = []
        """What it raised in any, and how the host answered that."""
        self._is_inward = False

    def interceptors(self, layers: Sequence[RequestLayer]) -> list[Interceptor]:
        return [self._marking(layer) for layer in layers]

    @contextmanager
    def inward(self, given: Any) -> Iterator[None]:
        """Let a request pass on to the view: the one that came, or another in its place. Each pass begins anew."""
        if not isinstance(given, HttpRequest):
            raise InterceptorError(
                f"An interceptor passed on {type(given).__name__} instead of the request it was given.",
                hint="Pass on request, or another HttpRequest.",
            )
        if self._is_inward:
            raise InterceptorError(
                "An interceptor passed the request on while it was passed on already.",
                hint="A request cannot be in two views at once: make one pass after the other.",
            )
        self._is_inward, self.raised = True, None
        given.__dict__[_PASSAGE] = self
        try:
            yield
        finally:
            self._is_inward = False

    def arrived(self, response: HttpResponseBase) -> HttpResponseBase:
        """Take the view's response, or raise the error that made it a 500."""
        if self.raised is not None and response.status_code >= 500:
            self._answers.append((self.raised, response))
            raise self.raised
        return response

    def response_of(self, result: Any) -> HttpResponseBase:
        if isinstance(result, HttpResponseBase):
            return result
        raise InterceptorError(
            f"The interceptors returned {type(result).__name__}, which is no response.",
            hint="Return what call_next(request) returned, or an HttpResponse.",
        )

    def settle(self, error: Exception) -> HttpResponseBase:
        """Answer a view's error as the host did already, and an interceptor's as a problem detail."""
        for raised, response in reversed(self._answers):
            if raised is error:
                return response
        return problem(error, self.request)

    def _marking(self, layer: RequestLayer) -> Interceptor:
        """Return the interceptor, whose own errors name the registration they came from."""
        if layer.intercept is None:
            raise NotReady(f"The interceptor {layer.registration!r} is not ready: {layer.problem}")
        intercept = layer.intercept
        if colour_of_interceptor(intercept) is Colour.SYNC:

            @functools.wraps(intercept, updated=())
            def marking(request: HttpRequest, call_next: Any) -> Any:
                with self._marked(layer):
                    return intercept(request, call_next)

            return marking

        @functools.wraps(intercept, updated=())
        async def amarking(request: HttpRequest, call_next: Any) -> Any:
            with self._marked(layer):
                return await intercept(request, call_next)

        return amarking

    @contextmanager
    def _marked(self, layer: RequestLayer) -> Iterator[None]:
        try:
            yield
        except (SystemExit, StopIteration, StopAsyncIteration) as error:
            raise survivable(error)  # noqa: B904 - it has the error as its cause
        except Exception as error:
            is_views = any(raised is error for raised, _ in self._answers)
            if not is_views and layer.registration:
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
