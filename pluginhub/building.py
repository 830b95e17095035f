"""From a registration to a plugin object: its configuration, its services, and what its constructor asks for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ValidationError

from pluginhub import context, injection, providers
from pluginhub.caching import TenantCache
from pluginhub.configuration import CompositionSpec, RegistrationSpec
from pluginhub.context import Services
from pluginhub.encryption import unseal_config
from pluginhub.exceptions import NotReady
from pluginhub.metrics import Metrics
from pluginhub.pipelines import errors_of
from pluginhub.plugins import Plugin
from pluginhub.storage import TenantStorage
from pluginhub.types import Tenant

__all__ = ["build", "configured", "services_of"]

make_jobs: Callable[[Tenant, str], context.Jobs] | None = None
"""What makes a registration's `context.jobs`: set when the app is ready, since jobs run plugins and so stand above."""


def build(cls: type[Plugin], spec: RegistrationSpec | CompositionSpec, services: Services) -> Plugin:
    """Make the plugin object of a registration, or of a composition with code of its own. Activates nothing.

    Raises `NotReady` for a configuration that does not fit, `DependencyError` for a service that nobody provides, and
    what the constructor raises.
    """
    assert services.tenant is not None
    config = configured(cls, spec, services.tenant)
    return injection.build(cls, config=config, services=_known(services), provide=providers.provide)


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


def _known(services: Services) -> dict[Any, Any]:
    return {
        TenantStorage: services.storage,
        context.Storage: services.storage,
        TenantCache: services.cache,
        context.Cache: services.cache,
        context.Jobs: services.jobs,
        Metrics: services.metrics,
        Tenant: services.tenant,
        logging.Logger: services.log,
    }
