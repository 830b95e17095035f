"""Forked children make services of their own."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path

from dishka import Provider, provide

from pluginhub import providers, runs
from pluginhub.providers import TenantServices
from pluginhub.scopes import PROCESS
from tests.forking import in_child
from tests.unit.providers.services import (
    ACME,
    LEDGER,
    Ledgered,
    Unit,
    Zone,
    begun,
    get,
)


class Handle:
    pass


class Handles(Provider):
    """What cleans up even where it is merely collected."""

    @provide(scope=PROCESS)
    def handle(self) -> Iterable[Handle]:
        try:
            yield Handle()
        finally:
            LEDGER.append("handle -")


class TestForks:
    def test_a_child_makes_its_own_and_ends_none_of_its_parents(self, hosts: Callable[..., None]) -> None:
        hosts(Ledgered, Handles)
        services = TenantServices(ACME).hold()
        run = begun(services)
        get(run, Unit)
        services.get(Handle)
        LEDGER.clear()

        def child() -> list[str]:
            nonlocal services, run
            runs.end(run)
            services.release()
            del services, run
            gc.collect()
            inherited = list(LEDGER)
            mine = providers.of(ACME).hold()
            mine.get(Zone)
            mine.release()
            providers.close()
            return [*inherited, "then", *LEDGER]

        assert in_child(child) == ["then", "pool +", "zone acme +", "zone acme -", "pool -"]
        assert LEDGER == []
        runs.end(run)
        services.release()
        providers.close()
        assert LEDGER == ["unit of rita - well", "zone acme -", "handle -", "pool -"]

    def test_a_child_that_ends_as_processes_do_ends_none_of_its_parents(self, tmp_path: Path) -> None:
        """Interpreters collect all there is at their end, and a generator that is collected cleans up."""
        script = """
            import os, sys
            os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
            import django
            django.setup()
            from django.conf import settings
            from pluginhub.types import Tenant
            from dishka import Provider, provide
            from pluginhub import providers
            from pluginhub.scopes import PROCESS
            class Handle: ...
            from collections.abc import Iterable
            class Handles(Provider):
                @provide(scope=PROCESS)
                def handle(self) -> Iterable[Handle]:
                    try:
                        yield Handle()
                    finally:
                        os.write(1, b"parent" if os.getpid() == parent else b"child")
            settings.PLUGINHUB = {**settings.PLUGINHUB, "PROVIDERS": [Handles]}
            parent = os.getpid()
            providers.of(Tenant("acme")).get(Handle)
            child = os.fork()
            if child:
                assert os.waitpid(child, 0)[1] == 0
            sys.exit(0)
        """
        done = subprocess.run(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(script)],
            capture_output=True, cwd=Path(__file__).parents[2], timeout=60, check=False,
        )  # fmt: skip
        assert (done.stdout, done.returncode) == (b"parent", 0), done.stderr.decode()
