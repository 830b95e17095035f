"""A process that does what its arguments name, in order, and says after each which plugin modules it has imported.

Run by `test_laziness`, as `python -m tests.integration.lazy start admin …`: a fresh process has imported nothing yet.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["imported"]


def imported() -> list[str]:
    """Return the modules of plugins that this process has imported."""
    return sorted(name for name in sys.modules if name.partition(".")[0] == "freight_plugins")


def start() -> None:
    """Start the site: apps, system checks, addresses, the middleware and the servers' entry."""
    import django

    django.setup()
    from django.conf import settings
    from django.core.management import call_command
    from django.urls import get_resolver

    call_command("check", "--database", "default", "--fail-level", "ERROR", stderr=io.StringIO())
    for urlconf in (settings.ROOT_URLCONF, settings.PUBLIC_SCHEMA_URLCONF):
        assert get_resolver(urlconf).url_patterns
    importlib.import_module("tenants.site.asgi")


def catalog() -> None:
    """List every plugin, with all that is known of it."""
    from pluginhub import loading

    assert [entry for entry in loading.catalog().values() if entry.title and entry.hooks and entry.doc]


def admin() -> None:
    """Open every list of the tenants' admin, the page that chooses a plugin, and those of rows without settings."""
    from django.contrib.auth.models import User
    from django.test import Client

    from pluginhub import tenancy

    for tenant in tenancy.tenants():
        with tenancy.visit(tenant):
            client = Client(headers={"host": f"{tenant.schema}.localhost"})
            client.force_login(User.objects.get(is_superuser=True))
            pages = list(_pages())
        for path in pages:
            response = client.get(path)
            assert response.status_code == 200, (path, response.status_code, response.content[:2000])
            assert not imported(), (path, imported())


def _pages() -> Iterator[str]:
    from django.contrib.admin import site
    from django.urls import reverse

    yield reverse("admin:index", urlconf="tenants.site.urls")
    for model in site._registry:
        if model._meta.app_label == "pluginhub":
            yield _page(model, "changelist")
            if model._meta.model_name in ("registration", "chain", "composition", "interceptorbinding", "pointbinding"):
                yield _page(model, "add")
            row = model._default_manager.first() if model._meta.model_name in ("chain", "pointbinding") else None
            if row is not None:
                yield _page(model, "change", row.pk)


def _page(model: Any, page: str, *args: Any) -> str:
    from django.urls import reverse

    return reverse(f"admin:pluginhub_{model._meta.model_name}_{page}", args=args, urlconf="tenants.site.urls")


def commands() -> None:
    """List the catalog and the tenants, and disable a target and everything else."""
    from django.core.management import call_command

    call_command("pluginhub_list", stdout=io.StringIO())
    call_command("pluginhub_list", tenant="acme", stdout=io.StringIO())
    call_command("pluginhub_export", tenant="acme", stdout=io.StringIO())
    call_command("pluginhub_disable", "eta", tenant="acme", stdout=io.StringIO())
    call_command("pluginhub_disable", tenant="globex", stdout=io.StringIO())


def serve() -> None:
    """Ask both sites for pages, probes and what they offer, and try to run and to do jobs: for safe mode."""
    from django.test import Client

    from pluginhub import jobs, tenancy

    for tenant in tenancy.tenants():
        client = Client(headers={"host": f"{tenant.schema}.localhost", "Authorization": os.environ["BEARER"]})
        assert client.get("/").status_code == 200
        assert client.get("/readyz").status_code == 200
        assert client.get("/hub/").status_code in (200, 401, 503)
        assert client.post("/hub/run/quote/", "1", content_type="application/json").status_code in (401, 503)
        jobs.bell(tenant.schema)


def run() -> None:
    """Use one target for the first time, in several threads at once."""
    from concurrent.futures import ThreadPoolExecutor

    from pluginhub import execution, tenancy

    def once(_: int) -> Any:
        with tenancy.visit("acme"):
            return execution.run("resolve", {"origin": "ZRH", "destination": "JFK", "weight_kg": 10.0})

    with ThreadPoolExecutor(8) as pool:
        assert len([*pool.map(once, range(8))]) == 8


STEPS: dict[str, Callable[[], None]] = {each.__name__: each for each in (start, catalog, admin, commands, serve, run)}


def main() -> None:
    seen: dict[str, list[str]] = {}
    for name in sys.argv[1:]:
        STEPS[name]()
        seen[name] = imported()
    print(json.dumps(seen), flush=True)
    os._exit(0)  # without the good-byes of threads and connections


if __name__ == "__main__":
    main()
