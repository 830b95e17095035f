"""A stream opened for one consumer, who pulls."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

from pluginhub import crossing, tenancy
from pluginhub.exceptions import HookError
from pluginhub.streaming.generators import Looped, Pulled, Threaded
from pluginhub.streaming.opened import Opened, item_of, open_generator
from pluginhub.streaming.progress import follow, is_job
from pluginhub.streaming.turning import completed
from pluginhub.types import Caller, Item

__all__ = ["Source", "open"]

log = logging.getLogger("pluginhub.streaming")


class Source:
    """One open stream. Lives from `open` to `close`, for one consumer.

    `cursor` is that of the last item pulled: where a later stream may resume. `ended` tells that none is left.
    """

    __slots__ = ("_closed", "_opened", "_pulled", "_pulling", "cursor", "ended")

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self._pulled = _pulled(opened)
        self._pulling = False
        self._closed = False
        self.cursor: Any = None
        self.ended = False

    async def pull(self, n: int = 1) -> list[Item]:
        """Return the next items as soon as there are any: at least one and at most `n`. None at all is the end.

        The generator is advanced by no more than was asked for. Raises what it raises, marked with its place, and
        `HookError` while another pull is under way.
        """
        if self._pulling:
            raise HookError("This source is being pulled already.", hint="Await one pull before the next.")
        if self.ended or self._closed:
            return []
        self._pulling = True
        try:
            page = [item_of(each) for each in await self._pulled.pull(n)]
        except Exception as error:
            self.ended = True
            self.failed(error)
            raise
        finally:
            self._pulling = False
        if page:
            self.cursor = page[-1].cursor
        self.ended = not page
        return page

    def failed(self, error: BaseException) -> None:
        """Mark, count and log an error that the generator raised, or that one of its items caused."""
        self._opened.failed(error)

    async def close(self) -> None:
        """Close the generator and give the runtime back. Not during a pull; again is harmless."""
        if self._closed:
            return
        self._closed = True
        try:
            await self._pulled.close()
        except Exception:
            log.exception("The stream %s of tenant %s did not close cleanly", self._opened.name, self._opened.tenant)
        finally:
            await self._opened.arelease()


async def open(name: str, params: Any = None, *, cursor: Any = None, caller: Caller) -> Source:  # noqa: A001
    """Open a stream of the current tenant, after `cursor` if one is given; nothing is pulled yet.

    `name` is a target with a `stream` hook, or `job:<id>` for a job's progress and end. Raises `Unauthenticated`,
    `Forbidden`, `UnknownTarget`, `NotReady`, or `InvalidInput` where the params do not fit.
    """
    tenant = tenancy.current()
    if is_job(name):
        return Source(await follow(tenant, name, cursor, caller))
    opening = crossing.in_thread(open_generator, tenant, name, params, cursor, caller)
    return Source(await completed(opening, lambda opened: Source(opened).close()))


def _pulled(opened: Opened) -> Pulled:
    generator = opened.generator
    with tenancy.enter(opened.tenant), tenancy.fenced():  # what is current here is so in every pull
        return Looped(generator, opened.course) if isinstance(generator, AsyncIterator) else Threaded(generator)
