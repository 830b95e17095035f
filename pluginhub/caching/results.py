"""A registration's results, kept for a while: a node around its pipeline that answers from the cache where it can.

Inside the step's policy and outside the breaker. It never fails a run: what has no key, or cannot be kept, passes by.
"""

from __future__ import annotations

from typing import Any

from pluginhub import tracing
from pluginhub.caching.asking import MISSING, log
from pluginhub.caching.failures import kept_of, raised_from
from pluginhub.caching.keys import Keys, Terms, author_s_key
from pluginhub.caching.marks import Mark
from pluginhub.caching.plain import is_plain, text_of
from pluginhub.context import Run, Services
from pluginhub.drivers import Driver, Node
from pluginhub.exceptions import Stop
from pluginhub.metrics import timings
from pluginhub.plugins import Plugin

__all__ = ["Terms", "kept"]

_RESULT, _STOP, _FAILURE = "result", "stop", "failure"


def kept(node: Node, plugin: Plugin, services: Services, terms: Terms) -> Node:
    """Link a registration's pipeline with its cache; without one it stays as it is, and costs nothing."""
    if terms.seconds is None:
        return node
    return _Kept(node, services, terms, author_s_key(plugin, services))


class _Kept(Node):
    __slots__ = ("_author_s_key", "_inner", "_keys", "_name", "_terms", "_timing")

    def __init__(self, inner: Node, services: Services, terms: Terms, author_s: Node | None) -> None:
        super().__init__(inner.colour)
        self._inner = inner
        self._name = services.name
        self._terms = terms
        self._keys = Keys(services, terms)
        self._author_s_key = author_s
        self._timing = timings(services.plugin, services.tenant.schema if services.tenant else "")

    async def run(self, value: Any, run: Run, driver: Driver) -> Any:
        text = text_of(value) if self._author_s_key is None else await driver.run(self._author_s_key, value, run)
        if text is None:
            return await driver.run(self._inner, value, run)
        mark = Mark(self._keys.key(text))
        return await mark.freeing(driver, self._through(mark, value, run, driver))

    async def _through(self, mark: Mark, value: Any, run: Run, driver: Driver) -> Any:
        kind, found = _entry(await mark.find(driver, run))
        if kind is None or (kind == _FAILURE and found["run"] == run.id):  # its step's attempts go on
            self._timing.missed()
            return await self._computed(mark, value, run, driver)
        self._timing.hit()
        tracing.note(run, decision="cached")
        if kind == _FAILURE:
            raise raised_from(found, run.id)
        return Stop(found) if kind == _STOP else found

    async def _computed(self, mark: Mark, value: Any, run: Run, driver: Driver) -> Any:
        try:
            result = await driver.run(self._inner, value, run)
        except Exception as error:
            failure = None if self._terms.failures is None else kept_of(error)
            if failure is not None:
                await self._keep(mark, driver, (_FAILURE, failure), self._terms.failures)
            raise
        kind, plain = (_STOP, result.value) if type(result) is Stop else (_RESULT, result)
        if is_plain(plain):
            await self._keep(mark, driver, (kind, plain), self._terms.seconds)
        else:
            log.debug("A result of %s is not kept: a %s is no plain value", self._name, type(plain).__name__)
        return result

    async def _keep(self, mark: Mark, driver: Driver, entry: tuple[str, Any], seconds: float | None) -> None:
        try:
            await mark.keep(driver, entry, seconds)
        except Exception as error:  # what a backend thinks of a value's size, say
            log.debug("A result of %s could not be kept: %s", self._name, error)


def _entry(found: Any) -> tuple[str | None, Any]:
    """Return the kind and the value of what is kept; what somebody else put there is nothing."""
    if type(found) is tuple and len(found) == 2 and found[0] in (_RESULT, _STOP, _FAILURE):
        return found
    if found is not MISSING:
        log.debug("A %s was kept in the place of a result", type(found).__name__)
    return None, None
