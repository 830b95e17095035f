"""Starting the site, listing what there is and repairing it import no plugin; the first use imports one, once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from pluginhub import access, publishing, tenancy
from pluginhub.types import Tenant
from tenants.setups import SETUPS

ROOT = Path(__file__).resolve().parents[2]
Fresh = Callable[..., dict[str, list[str]]]


@pytest.fixture
def fresh(acme: Tenant, globex: Tenant) -> Fresh:
    """`fresh("start", "admin")`: let a new process do these, on the demo's tenants; what it had imported after each."""
    for tenant in (acme, globex):
        with tenancy.visit(tenant):
            publishing.apply_configuration(SETUPS[tenant.schema](), author="test")
            user = User.objects.create_superuser("admin", password="admin")
    with tenancy.visit(acme):
        token = access.issue_token(User.objects.get(username=user.username), "test")

    def do(*steps: str, **environment: str) -> dict[str, list[str]]:
        done = subprocess.run(
            [sys.executable, "-W", "error::ImportWarning", "-m", "tests.integration.lazy", *steps],
            cwd=ROOT,
            env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings", "BEARER": f"Bearer {token}", **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        seen: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
        return seen

    return do


def test_starting_and_listing_import_no_plugin(fresh: Fresh) -> None:
    seen = fresh("start", "catalog", "admin", "commands")
    assert seen == {"start": [], "catalog": [], "admin": [], "commands": []}


def test_safe_mode_imports_no_plugin_whatever_is_asked(fresh: Fresh) -> None:
    seen = fresh("start", "catalog", "admin", "serve", "commands", PLUGINHUB_SAFE_MODE="1")
    assert seen == {"start": [], "catalog": [], "admin": [], "serve": [], "commands": []}


def test_the_first_use_imports_what_it_uses_and_nothing_else(fresh: Fresh) -> None:
    seen = fresh("start", "run", "catalog")
    assert seen["start"] == []
    names = ["", ".airports", ".resolving", ".shapes"]  # the target's, and what that imports
    assert seen["run"] == seen["catalog"] == [f"freight_plugins{name}" for name in names]
