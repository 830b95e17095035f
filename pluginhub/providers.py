"""The host's services for plugins' constructors: `PLUGINHUB["PROVIDERS"]`, resolved by dishka.

One synchronous container a process, made on first need and closed with it.
"""

from __future__ import annotations

import inspect
import threading
from typing import Any

from dishka import Container, Provider, make_container
from dishka.exceptions import NoFactoryError
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from pluginhub import forks
from pluginhub.conf import SettingsError, settings
from pluginhub.injection import Missing

__all__ = ["close", "provide"]

_lock = threading.Lock()
_container: Container | None = None


def provide(wanted: Any) -> Any:
    """Return the process's service of a type; raise `Missing` where no provider makes it."""
    try:
        return _open().get(wanted)
    except NoFactoryError as error:
        raise Missing(wanted) from error


def close() -> None:
    """Close the container and its services; the next `provide` opens a new one."""
    global _container
    with _lock:
        container, _container = _container, None
    if container is not None:
        container.close()


def _open() -> Container:
    global _container
    container = _container
    if container is None:
        with _lock:
            if _container is None:
                _container = make_container(*map(_provider, settings.PROVIDERS), lock_factory=threading.Lock)
            container = _container
    return container


def _provider(given: Any) -> Provider:
    provider = import_string(given) if isinstance(given, str) else given
    made = provider() if inspect.isclass(provider) else provider
    if not isinstance(made, Provider):
        raise SettingsError(f"PLUGINHUB['PROVIDERS'] holds {given!r}, which is no dishka Provider.")
    return made


def _anew() -> None:
    global _lock, _container
    forks.keep(_container)
    _lock, _container = threading.Lock(), None


forks.in_child(_anew, "the container of the host's services")


def _on_setting_changed(*, setting: str, **_: Any) -> None:
    if setting == "PLUGINHUB":
        close()


setting_changed.connect(_on_setting_changed)
