"""From a registration to a plugin object: its configuration, its services, and what its constructor asks for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from pydantic import BaseModel, ValidationError

from pluginhub import context, injection, providers
from pluginhub.caching import TenantCache
from pluginhub.configuration import ChainSpec, CompositionSpec, Configuration, RegistrationSpec, used_in_order
from pluginhub.context import Services
from pluginhub.encryption import unseal_config
from pluginhub.exceptions import NotReady
from pluginhub.injection import Missing, Suppliers, name_of, provided_by
from pluginhub.loading import Code, Entry
from pluginhub.metrics import Metrics
from pluginhub.pipelines import errors_of
from pluginhub.plugins import Plugin
from pluginhub.providers import OWN
from pluginhub.storage import TenantStorage
from pluginhub.types import Tenant

__all__ = ["build", "check_provided", "configured", "offering", "services_of", "suppliers"]

make_jobs: Callable[[Tenant, str], context.Jobs] | None = None
"""What makes a registration's `context.jobs`: set when the app is ready, since jobs run plugins and so stand above."""


def build(
    cls: type[Plugin],
    spec: RegistrationSpec | CompositionSpec,
    services: Services,
    offered: Callable[[Any], Any] | None = None,
    provide: Callable[[Any], Any] | None = None,
) -> Plugin:
    """Make the plugin object of a registration, or of a composition with code of its own. Activates nothing.

    `offered` returns what another registration's plugin provides, `provide` what providers make; both take a type and
    raise `Missing`. Raises `NotReady` for a configuration that does not fit, `DependencyError` for a service that
    nobody provides, and what the constructor raises.
    """
    assert services.tenant is not None
    config = configured(cls, spec, services.tenant)
    known = {kind: getattr(services, field) for kind, field in OWN.items()}
    source = provide or providers.of(services.tenant).get

    def find(wanted: Any) -> Any:
        for instead in providers.overridden(wanted):
            return instead
        try:
            return _offered(offered, wanted)
        except Missing as missing:
            return _also(source, wanted, missing.why)

    return injection.build(cls, config=config, services=known, provide=find)


def check_provided(plugin: Plugin, services: Services) -> None:
    """Note what a plugin that has been activated provides by being of that type; raise `NotReady` for what is missing.

    Also for what `context.provide` got and `provides` does not list: nobody would find it.
    """
    listed, given = provided_by(type(plugin)), services.provided
    for kind in listed:
        if kind not in given and _is_a(plugin, kind):
            given[kind] = plugin
    _refuse(services, [kind for kind in listed if kind not in given], "lists {} in provides, and provided none")
    _refuse(services, [kind for kind in given if kind not in listed], "provided {}, which its provides does not list")


def offering(configuration: Configuration, entry_of: Callable[[str], Entry | None]) -> Callable[[str], Iterable[str]]:
    """Return what names the enabled registrations that may provide a type, told by its name from their source."""
    by_name: dict[str, list[str]] = {}
    for _, spec in configuration.targets():
        plugin = "" if isinstance(spec, ChainSpec) or not spec.enabled else spec.plugin
        entry = entry_of(plugin) if plugin else None
        for written in entry.provides if entry is not None else ():
            by_name.setdefault(written.rpartition(".")[2], []).append(spec.name)
    return lambda name: by_name.get(name, ())


def suppliers(configuration: Configuration, code: Code) -> Suppliers:
    """Return who provides what to whom in a configuration, with the plugins of one generation of code."""

    targets = {spec.name: spec for _, spec in configuration.targets()}

    def class_of(name: str) -> type[Plugin] | None:
        spec = targets.get(name)
        plugin = spec.plugin if isinstance(spec, RegistrationSpec | CompositionSpec) else ""
        return code.load(plugin) if plugin else None

    def uses(name: str) -> tuple[str, ...]:
        return used_in_order(targets[name]) if name in targets else ()

    return Suppliers(offering(configuration, code.known), class_of, uses)


def services_of(spec: RegistrationSpec | CompositionSpec, tenant: Tenant) -> Services:
    """Return what a registration holds on to besides its plugin object."""
    return Services(
        name=spec.name,
        plugin=spec.plugin,
        tenant=tenant,
        storage=TenantStorage(tenant, spec.name),
        cache=TenantCache(tenant, spec.name),
        jobs=make_jobs(tenant, spec.name) if make_jobs else None,
        metrics=Metrics(spec.plugin, tenant.schema),
        log=logging.getLogger(f"pluginhub.plugins.{spec.plugin}"),
    )


def configured(cls: type[Plugin], spec: RegistrationSpec | CompositionSpec, tenant: Tenant) -> BaseModel | None:
    """Return a registration's configuration as its plugin's model: unsealed, migrated, validated."""
    if cls.Config is None:
        return None
    data = unseal_config(spec.config, tenant=tenant, registration=spec.name)
    if spec.config_version != cls.config_version:
        data = cls.migrate_config(data, spec.config_version)
    try:
        return cls.Config.model_validate(data)
    except ValidationError as error:
        raise NotReady(
            f"The configuration of {spec.name!r} does not fit its plugin {spec.plugin!r}.",
            hint="Open the registration, correct the fields named, and publish.",
            errors=errors_of(error),
        ) from error


def _offered(offered: Callable[[Any], Any] | None, wanted: Any) -> Any:
    if offered is None:
        raise Missing(wanted)
    return offered(wanted)


def _also(provide: Callable[[Any], Any], wanted: Any, why: str) -> Any:
    try:
        return provide(wanted)
    except injection.RunOnly:
        raise
    except Missing as missing:
        raise Missing(wanted, f"{why} {missing.why}".strip()) from None


def _is_a(plugin: Plugin, kind: Any) -> bool:
    try:
        return isinstance(plugin, kind)
    except TypeError:  # a protocol that cannot tell, or no type at all
        return False


def _refuse(services: Services, kinds: list[Any], what: str) -> None:
    if kinds:
        raise NotReady(
            f"{services.name!r} {what.format(', '.join(map(name_of, kinds)))}.",
            hint="Call context.provide(Type, instance) in activate, for each type listed and no other.",
        )
