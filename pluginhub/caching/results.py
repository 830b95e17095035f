"""A registration's results, kept for a while: a node around its pipeline that answers from the cache where it can.

Inside the step's policy and outside the breaker. It never fails a run: what has no key, or cannot be kept, passes by.
"""

from __future__ import annotations

from typing import Any

from pluginhub import tracing
from pluginhub.caching.asking import MISSING, get, log
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
        key = self._keys.key(text)
        found = self._entry(await driver.ask(get, key), run)
        if found is None:
            mark = Mark(key)
            return await mark.freeing(driver, self._missed(mark, value, run, driver))
        return self._hit(found, run)

    async def _missed(self, mark: Mark, value: Any, run: Run, driver: Driver) -> Any:
        found = self._entry(await mark.find(driver, run), run)
        if found is not None:
            return self._hit(found, run)
        self._timing.missed()
        return await self._computed(mark, value, run, driver)

    def _entry(self, found: Any, run: Run) -> tuple[str, Any] | None:
        """Return the kind and the value of what is kept; what somebody else put there is nothing."""
        if type(found) is tuple and len(found) == 2 and found[0] in (_RESULT, _STOP, _FAILURE):
            kind, value = found
            return None if kind == _FAILURE and value["run"] == run.id else (kind, value)  # its step's attempts go on
        if found is not MISSING:
            log.debug("A %s was kept in the place of a result of %s", type(found).__name__, self._name)
        return None

    def _hit(self, entry: tuple[str, Any], run: Run) -> Any:
        kind, value = entry
        self._timing.hit()
        tracing.note(run, decision="cached")
        if kind == _FAILURE:
            raise raised_from(value, run.id)
        return Stop(value) if kind == _STOP else value

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
