"""What a result is kept under: everything that shapes it, as far as it can be known."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pluginhub.context import Context, Run, Services
from pluginhub.drivers import Colour, Node, colour_of
from pluginhub.exceptions import HookError, InvalidInput, mark, survivable
from pluginhub.metrics import timings
from pluginhub.pipelines import Call
from pluginhub.plugins import Plugin, hook_of

__all__ = ["FORMAT", "Keys", "Terms", "author_s_key"]

FORMAT = 1
"""Counts up when what is kept changes its shape: entries of other code are then misses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """On which terms a registration's results are kept: for how many seconds, and failures, where they are.

    `code` tells the plugin's code from others, in all processes; `config` is as it is stored. `resets` returns how
    often the registration's cache was emptied.
    """

    seconds: float | None
    failures: float | None = None
    code: str = ""
    config: Any = None
    config_version: int = 1
    resets: Callable[[], int] = lambda: 0


class Keys:
    """Makes the keys of one registration's results. Lives as long as its linked pipeline.

    Schema and registration stand in each key as they are, so that tenants never meet; the rest is hashed. The seconds
    are part of it, too: a shorter time to live is not kept waiting by what was kept for longer.
    """

    __slots__ = ("_fixed", "_prefix", "_resets")

    def __init__(self, services: Services, terms: Terms) -> None:
        times = [terms.seconds, terms.failures]
        about = [FORMAT, services.plugin, terms.code, terms.config, terms.config_version, times]
        self._fixed = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
        schema = services.tenant.schema if services.tenant else ""
        self._prefix = f"pluginhub.results:{schema}:{services.name}:"
        self._resets = terms.resets

    def key(self, text: str) -> str:
        """Return the key of the input that `text` stands for."""
        whole = self._fixed.copy()
        whole.update(f"\n{self._resets()}\n{text}".encode(errors="surrogatepass"))
        return self._prefix + whole.hexdigest()


def author_s_key(plugin: Plugin, services: Services) -> Node | None:
    """Link a plugin's `cache_key`, of either colour, where its author defined one.

    Its errors are the plugin's: marked and counted.
    """
    hook = hook_of(plugin, "cache_key")
    if hook is None:
        return None
    timing = timings(services.plugin, services.tenant.schema if services.tenant else "")

    def checked(key: Any) -> str | None:
        if key is None or isinstance(key, str):
            return key
        raise HookError(
            f"cache_key of {type(plugin).__name__} returned {type(key).__name__}.",
            hint="Return a str that tells this input's result from others, or None not to keep it.",
        )

    def failed(raised: BaseException, run: Run) -> BaseException:
        error = survivable(raised)
        mark(error, registration=services.name or None, plugin=services.plugin, run=run.id)
        if not isinstance(error, InvalidInput):
            timing.failed()
        return error

    def call(value: Any, run: Run) -> str | None:
        try:
            return checked(hook(value, Context((run, services))))
        except BaseException as error:
            raise failed(error, run)  # noqa: B904 - it is the error itself, or has it as its cause

    async def acall(value: Any, run: Run) -> str | None:
        try:
            return checked(await hook(value, Context((run, services))))
        except BaseException as error:
            raise failed(error, run)  # noqa: B904 - it is the error itself, or has it as its cause

    return Call(acall if colour_of(hook) is Colour.ASYNC else call)
