"""Sealing what a configuration from elsewhere says in plain text, before any row or revision holds it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pluginhub import loading, tenancy
from pluginhub.configuration.constraints import Problem
from pluginhub.configuration.values import ChainSpec, CompositionSpec, Configuration, RegistrationSpec
from pluginhub.encryption import SealError, is_sealed, seal_config, unseal_config
from pluginhub.exceptions import NotReady
from pluginhub.plugins import Plugin

__all__ = ["seal"]

Configured = RegistrationSpec | CompositionSpec


def seal(configuration: Configuration, *, before: Configuration) -> tuple[Configuration, list[Problem]]:
    """Return the current tenant's configuration with its secrets sealed, and what could not be looked into.

    Which fields are secrets only the plugin's `Config` tells, so this imports the plugins of targets that have a
    configuration. A secret that `before` has too keeps its token. What `before` says in the same way and cannot be
    looked into, or is disabled, is left as it is, and no problem.
    """
    specs: dict[str, dict[str, Configured]] = {"registration": {}, "composition": {}}
    problems: list[Problem] = []
    for kind, spec in configuration.targets():
        if isinstance(spec, ChainSpec):
            continue
        specs[kind][spec.name] = spec
        old = _configured(before, spec.name)
        is_old = old is not None and (old.plugin, old.config) == (spec.plugin, spec.config)
        if not spec.plugin or not spec.config or (is_old and not spec.enabled):
            continue
        try:
            specs[kind][spec.name] = _sealed(loading.load(spec.plugin), spec, old.config if old else {})
        except SealError as error:
            problems.append((kind, spec.name, "config", str(error)))
        except NotReady as error:
            if not is_old and any(_plain(spec.config)):
                message = f"Its secrets cannot be told from the rest and sealed. {error}"
                problems.append((kind, spec.name, "plugin", message))
        except Exception as error:  # the author's migrate_config
            kind_of_error = type(error).__name__
            message = f"migrate_config of {spec.plugin!r} failed with {kind_of_error}: {error}"
            problems.append((kind, spec.name, "config", message))
    update = {"registrations": specs["registration"], "compositions": specs["composition"]}
    return configuration.model_copy(update=update), problems


def _sealed(cls: type[Plugin], spec: Configured, before: dict[str, Any]) -> Configured:
    """Bring an older configuration up to date first: where its secrets stood, only the author knew."""
    if cls.Config is None:
        return spec
    tenant, data, version = tenancy.current(), spec.config, spec.config_version
    if version != cls.config_version and data != before:
        data = cls.migrate_config(unseal_config(data, tenant=tenant, registration=spec.name), version)
        version = cls.config_version
    config = seal_config(cls.Config, data, tenant=tenant, registration=spec.name, before=before)
    return spec.model_copy(update={"config": config, "config_version": version})


def _configured(configuration: Configuration, name: str) -> Configured | None:
    return configuration.registrations.get(name) or configuration.compositions.get(name)


def _plain(value: Any) -> Iterator[str]:
    """Yield the strings in a configuration that are not sealed."""
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _plain(each)
    elif isinstance(value, str) and value and not is_sealed(value):
        yield value
