"""Calling the hooks of a plugin's life: in either colour, from a thread that waits, for as long as each may take."""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any

from pluginhub import crossing
from pluginhub.context import Context, Run, Services
from pluginhub.drivers import Colour, colour_of
from pluginhub.errands import Errand, GivenUp
from pluginhub.exceptions import DeadlineExceeded, HookError, survivable
from pluginhub.plugins import Plugin

__all__ = ["HookCall"]

CANCEL_SECONDS = 1.0
"""How long an asynchronous hook that was cancelled may take to clean up; never longer than its limit was."""

Late = Callable[[Any, BaseException | None], Any]


@dataclass(frozen=True, slots=True)
class HookCall:
    """One call of a plugin's hook, within `seconds`.

    An asynchronous hook is cancelled when they have passed. A synchronous one runs in a thread of its own and is given
    up, for nothing can end it; without a limit (`math.inf`) it runs in the caller's thread.
    """

    plugin: Plugin
    name: str
    hook: Callable[..., Any]
    services: Services
    seconds: float

    def context(self) -> Context:
        """Return the context of a hook that takes one: outside any run, with the hook's own deadline."""
        deadline = None if self.seconds == math.inf else monotonic() + self.seconds
        return Context((Run(tenant=self.services.tenant, deadline=deadline), self.services))

    def errand(self, *args: Any, late: Late = lambda result, error: None) -> Errand[Any]:
        """Return the call, to be waited for; `late` gets what comes of it after it was given up."""
        return Errand(partial(self.now, *args), late)

    def now(self, *args: Any) -> Any:
        """Call the hook in this thread. Only an asynchronous one keeps to its limit here."""
        if colour_of(self.hook) is Colour.SYNC:
            return self.hook(*args)
        return crossing.on_loop(lambda _: _cancelled_after(self.seconds, self.hook(*args)))

    def wait(self, errand: Errand[Any]) -> Any:
        """Return what the hook returns. Raises what it raises, and `DeadlineExceeded`."""
        try:
            return self._wait(errand)
        except GivenUp:
            raise self._too_long() from None
        except (asyncio.CancelledError, concurrent.futures.CancelledError) as error:
            # The calling thread was not cancelled, and must not look as if it were.
            raise HookError(f"{self} was cancelled.", hint="Let it catch what the code it awaits may raise.") from error
        except BaseException as error:
            raise survivable(error)  # noqa: B904 - it is the error itself, or has it as its cause

    def _wait(self, errand: Errand[Any]) -> Any:
        if self.seconds <= 0:
            raise GivenUp
        if self.seconds == math.inf:
            return errand.run_here()
        grace = min(CANCEL_SECONDS, self.seconds) if colour_of(self.hook) is Colour.ASYNC else 0.0
        return errand.run(self.seconds + grace)

    def _too_long(self) -> DeadlineExceeded:
        if self.seconds <= 0:
            return DeadlineExceeded(f"There was no time left for {self}.", hint="The tree's other hooks took it all.")
        what = f"{self} took longer than {self.seconds:.3g} s and was given up."
        return DeadlineExceeded(what, hint="Let it do less, or allow it more time.")

    def __str__(self) -> str:
        kind = type(self.plugin).__name__
        whose = "" if self.services.name in ("", kind) else f" of {self.services.name!r}"
        return f"{kind}.{self.name}{whose}"


async def _cancelled_after(seconds: float, work: Coroutine[Any, Any, Any]) -> Any:
    try:
        async with asyncio.timeout(None if seconds == math.inf else seconds) as limit:
            return await work
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise GivenUp from error
