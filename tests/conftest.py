"""Fixtures on real services. Nothing starts before a test asks for it: unit tests need none.

`acme` and `globex` are two tenants with empty tables, `in_acme` enters the first, `many_tenants(n)` makes more. Rows
are committed, so that threads, sockets and other processes see them, and removed after each test. Tests that use
`live_site` run after all others and share one running site, whose rows stay: they pick names of their own.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import pytest
from django.db import connection, connections
from pytest_django import DjangoDbBlocker

from pluginhub import access, loading, tenancy
from pluginhub.presence import presence
from pluginhub.registry import registry
from pluginhub.types import Tenant
from tenants import installation, processes
from tenants.demonstration import Demonstration
from tenants.processes import SiteProcess
from tenants.proofs import Client
from tests import rows, services

T = TypeVar("T")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the live site's tests after those that empty tables, and browsers last: they keep an event loop running."""
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    fixtures = getattr(item, "fixturenames", ())
    if "page" in fixtures or item.get_closest_marker("browser"):
        return 2
    return 1 if "live_site" in fixtures else 0


@pytest.fixture(scope="session")
def django_db_setup(django_test_environment: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """The servers, the tables, and the standing tenants."""
    with services.running():
        with django_db_blocker.unblock():
            installation.migrate()
            installation.create_public_site()
            for schema in rows.STANDING[1:]:
                installation.create_tenant(schema)
        yield
        connections.close_all()


@pytest.fixture
def _django_db_helper(
    request: pytest.FixtureRequest, django_db_setup: None, django_db_blocker: DjangoDbBlocker
) -> Iterator[None]:
    """Serve `db` and the mark `django_db`, in place of pytest-django's fixture, which knows one schema only."""
    with django_db_blocker.unblock():
        cast(Any, connection).set_schema_to_public()  # a request of the test before may have left it on its tenant
        yield
        _forget()
        if "page" not in request.fixturenames:  # else an event loop runs in this thread, and nothing was queried in it
            connection.close()
        if "live_site" not in request.fixturenames:
            rows.remove_all()


def _forget() -> None:
    """Empty what this process remembers of rows that are gone; the thread that follows the fleet ends, promptly."""
    registry.clear()
    registry.stop()
    access.forget()
    tenancy.forget()
    loading.current().retry()  # the catalog notices by itself what a test changed
    if loading.current().number:
        loading.forget()
    presence.generation_problem = None


@pytest.fixture
def acme(db: None) -> Tenant:
    return tenancy.find("acme")


@pytest.fixture
def globex(db: None) -> Tenant:
    return tenancy.find("globex")


@pytest.fixture
def in_acme(acme: Tenant) -> Iterator[Tenant]:
    """Be in acme: the context variable, this thread's connection, the fence."""
    with tenancy.visit(acme):
        yield acme


@pytest.fixture
def many_tenants(db: None) -> Callable[[int], list[Tenant]]:
    """`many_tenants(8)` makes eight tenants besides acme and globex."""

    def make(n: int) -> list[Tenant]:
        schemas = [f"{rows.SPARE}{number:03}" for number in range(n)]
        for schema in schemas:
            installation.create_tenant(schema)
        tenancy.forget()
        return [tenancy.find(schema) for schema in schemas]

    return make


@pytest.fixture
def aside(db: None) -> Callable[..., Any]:
    """`aside(f, …)` calls `f` in a thread of its own: a browser test's runs an event loop, which may not query."""

    def call(f: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        outcome: list[T] = []
        errors: list[BaseException] = []

        def work() -> None:
            try:
                outcome.append(f(*args, **kwargs))
            except BaseException as error:
                errors.append(error)
            finally:
                connections.close_all()

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return outcome[0]

    return call


@dataclass(frozen=True, slots=True)
class LiveSite:
    """A running site, set up as the demo is: a web process and a worker on the test run's databases."""

    port: int
    clients: dict[str, Client]
    web: SiteProcess
    worker: SiteProcess

    def url(self, host: str, path: str = "/") -> str:
        """`url("acme", "/admin/")`: an address that a browser opens; the host `""` is the public site."""
        return f"http://{host + '.' if host else ''}localhost:{self.port}{path}"


@pytest.fixture(scope="session")
def _running_site(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveSite]:
    logs, port = tmp_path_factory.mktemp("site"), processes.free_port()
    with django_db_blocker.unblock():
        rows.remove_all()
        clients = Demonstration(port, lambda line: None).set_up()
        _forget()
        connections.close_all()
        with processes.worker(log=logs / "worker.log") as worker, processes.web(port, log=logs / "web.log") as web:
            yield LiveSite(port, clients, web, worker)


@pytest.fixture
def live_site(db: None, _running_site: LiveSite, request: pytest.FixtureRequest) -> Iterator[LiveSite]:
    """The site; user and password of every admin are `admin`. What its processes said is shown where a test fails."""
    yield _running_site
    for process in (_running_site.web, _running_site.worker):
        assert process.alive(), f"The {process.name} died:\n{process.last_words()}"
        if getattr(request.node, "failed", False):
            print(f"--- {process.name}\n{process.last_words()}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.failed = getattr(item, "failed", False) or report.failed  # type: ignore[attr-defined]
    return report


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, Any]:
    """Use the system's Chromium, so that nothing is downloaded. Without one, browser tests skip, except in CI."""
    chromium = shutil.which("chromium")
    if chromium is None:
        missing = "There is no chromium on the PATH: install it to run the browser tests."
        if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
            pytest.fail(missing)
        pytest.skip(missing)
    quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    return {
        "executable_path": chromium,
        "args": ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", *quiet],
    }
