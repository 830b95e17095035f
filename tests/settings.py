"""The reference site's settings, on databases of the test run's own."""

from __future__ import annotations

from tests.services import name_databases

name_databases()

from tenants.site.settings import *  # noqa: E402, F403 - it reads the environment just set

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # test users only, and fast

# Each test that runs something waits once for the thread that follows the fleet to end.
PLUGINHUB = {**PLUGINHUB, "POLL_SECONDS": 0.05}  # noqa: F405
