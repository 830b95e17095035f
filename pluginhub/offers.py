"""What a configuration offers by name, told from the catalog without importing a plugin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pluginhub.configuration import Configuration, RegistrationSpec
from pluginhub.loading import Code, Entry

__all__ = ["Offers"]


@dataclass(frozen=True, slots=True)
class Offers:
    """The targets, streams and handlers of one runtime. Private members of a composition are not among them."""

    configuration: Configuration
    code: Code

    def targets(self) -> dict[str, tuple[str, str]]:
        """Return what can be run, as `{name: (kind, title)}`."""
        found = {}
        for kind, name, spec in self._enabled():
            if kind != "registration" or self.has_hook(spec, "process"):
                found[name] = (kind, spec.title or self._title(spec))
        return found

    def streams(self) -> dict[str, str]:
        """Return the streams, as `{name: title}`."""
        return {
            name: spec.title or self._title(spec)
            for kind, name, spec in self._enabled()
            if kind == "registration" and self.has_hook(spec, "stream")
        }

    def handlers(self) -> dict[str, str]:
        """Return the handlers of jobs, as `{"<registration>.<handler>": title}`."""
        found = {}
        for kind, name, spec in self._enabled():
            entry = self.code.known(spec.plugin) if kind == "registration" else None
            for handler in (*entry.jobs, *entry.adds_handlers) if entry else ():
                found[f"{name}.{handler}"] = f"{spec.title or self._title(spec)}: {handler}"
        return found

    def adding_middleware(self) -> Iterator[str]:
        """Name the enabled registrations whose `activate` adds interceptors."""
        for name, spec in self.configuration.registrations.items():
            entry = self.code.known(spec.plugin) if spec.enabled else None
            if entry is not None and entry.adds_middleware:
                yield name

    def _enabled(self) -> Iterator[tuple[str, str, Any]]:
        private = self.configuration.private()
        for name in self.configuration.names():
            spec = self.configuration.spec(name)
            if spec.enabled and name not in private:
                yield self.configuration.kind_of(name) or "", name, spec

    def has_hook(self, spec: RegistrationSpec, hook: str) -> bool:
        """Say whether a registration's plugin has a hook, as its source tells."""
        entry = self.code.known(spec.plugin)
        # A missing or unreadable package hides nothing: its targets answer 503 with the reason.
        return (hook == "process") if entry is None or entry.problem else _offers(entry, hook)

    def _title(self, spec: Any) -> str:
        entry = self.code.known(getattr(spec, "plugin", ""))
        return (entry.title if entry else "") or spec.name


def _offers(entry: Entry, hook: str) -> bool:
    return hook in entry.hooks or (hook == "process" and entry.is_composite)
