"""Where providers come from: the setting `PROVIDERS`, and the entry points of plugin packages."""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from dishka import Provider
from django.utils.module_loading import import_string

from pluginhub.conf import settings
from pluginhub.loading import Code
from pluginhub.loading.packages import Package
from pluginhub.providers.graphs import Graph, ProvidersError

__all__ = ["GROUP", "PackageProvider", "host_problems", "host_providers", "of_packages", "packages_of"]

GROUP = "pluginhub.providers"
"""The entry point group in which plugin packages name their providers, as `package.module:ProviderClass`."""

log = logging.getLogger("pluginhub.providers")


@dataclass(frozen=True, slots=True)
class PackageProvider:
    """A plugin package's provider in one generation of its code."""

    name: str
    dotted: str
    package: Package | None
    """`None` where the module is imported by its real name, as the first generation's are."""

    @property
    def label(self) -> str:
        """What tells this generation's from others."""
        return self.package.label if self.package else _top(self.dotted)

    def load(self) -> Any:
        """Import it. The one place where packages' providers enter the process."""
        module, _, qualname = self.dotted.partition(":")
        value: Any = self.package.import_module(module) if self.package else importlib.import_module(module)
        for part in qualname.split("."):
            value = getattr(value, part)
        return value


def host_providers() -> list[Provider]:
    """Return what `PLUGINHUB["PROVIDERS"]` names. Raises `ProvidersError` for what is none."""
    return [_host_provider(given) for given in settings.PROVIDERS]


def host_problems() -> list[ProvidersError]:
    """Return what is wrong with the host's providers. Imports and combines them; makes no service."""
    found, good = [], []
    for given in settings.PROVIDERS:
        try:
            good.append(_host_provider(given))
        except ProvidersError as error:
            found.append(error)
    if not found:
        try:
            Graph(good)
        except ProvidersError as error:
            found.append(error)
    return found


def packages_of(code: Code) -> tuple[PackageProvider, ...]:
    """Return the providers of plugin packages in a generation of code, in order of their names. Imports nothing."""
    return tuple(PackageProvider(name, dotted, code.packages.get(_top(dotted))) for name, dotted in _installed.points())


def of_packages(
    sources: Iterable[PackageProvider], fits: Callable[[list[Provider]], object]
) -> tuple[list[Provider], list[str]]:
    """Import packages' providers; return those that fit together, and in words why others were left out.

    One that fails fails alone: what it would have provided is missing, the rest serves.
    """
    loaded, problems = _loaded(sources)
    good: list[tuple[str, Provider]] = []
    waiting = list(loaded.items())
    if waiting and _misfit([provider for _, provider in waiting], fits) is None:
        return [provider for _, provider in waiting], problems
    reasons: dict[str, str] = {}
    progress = True
    while progress:  # one may need what another provides, so each is tried again after any that fitted
        progress = False
        for name, provider in list(waiting):
            misfit = _misfit([*(each for _, each in good), provider], fits)
            if misfit is None:
                good.append((name, provider))
                waiting.remove((name, provider))
                progress = True
            else:
                reasons[name] = f"The provider {name!r} is left out: {misfit.detail}"
    problems += [reasons[name] for name, _ in waiting]
    return [provider for _, provider in good], problems


class _Installed:
    """The entry points of this installation. Looked at again when a distribution came or went."""

    def __init__(self) -> None:
        self._seen: tuple[tuple[tuple[str, int], ...], tuple[tuple[str, str], ...]] = ((), ())

    def points(self) -> tuple[tuple[str, str], ...]:
        stamp, (before, points) = tuple(_stamps()), self._seen
        if stamp != before:
            found = {point.name: point.value.replace(" ", "") for point in metadata.entry_points(group=GROUP)}
            points = tuple(sorted(found.items()))
            self._seen = stamp, points
        return points


_installed = _Installed()


def _stamps() -> Iterator[tuple[str, int]]:
    # Each distribution is an entry in a folder of `sys.path`.
    for path in sys.path:
        try:
            yield path, os.stat(path or ".").st_mtime_ns
        except OSError:
            yield path, 0


def _top(dotted: str) -> str:
    return dotted.partition(":")[0].partition(".")[0]


def _host_provider(given: Any) -> Provider:
    try:
        value = import_string(given.replace(":", ".")) if isinstance(given, str) else given
    except Exception as error:
        raise ProvidersError(
            f"PLUGINHUB['PROVIDERS'] names {given!r}, which cannot be imported: {type(error).__name__}: {error}.",
            hint="Write 'package.module.ProviderClass'.",
        ) from error
    return _instance(value, f"PLUGINHUB['PROVIDERS'] holds {given!r}, which")


def _loaded(sources: Iterable[PackageProvider]) -> tuple[dict[str, Provider], list[str]]:
    loaded: dict[str, Provider] = {}
    problems = []
    for source in sources:
        try:
            loaded[source.name] = _instance(source.load(), f"{source.dotted}")
        except ProvidersError as error:
            problems.append(f"The provider {source.name!r} is left out: {error.detail}")
        except (Exception, SystemExit) as error:
            log.warning("The provider %s (%s) cannot be loaded", source.name, source.dotted, exc_info=error)
            problems.append(f"The provider {source.name!r} cannot be loaded: {type(error).__name__}: {error}.")
    return loaded, problems


def _instance(value: Any, what: str) -> Provider:
    try:
        made = value() if inspect.isclass(value) else value
    except Exception as error:
        raise ProvidersError(f"{what} cannot be made: {type(error).__name__}: {error}.") from error
    if not isinstance(made, Provider):
        raise ProvidersError(f"{what} is no dishka Provider.", hint="Subclass dishka.Provider.")
    return made


def _misfit(providers: list[Provider], fits: Callable[[list[Provider]], object]) -> ProvidersError | None:
    try:
        fits(providers)
    except ProvidersError as error:
        return error
    return None
