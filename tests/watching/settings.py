"""The reference site's settings for the storms' own processes: the product's defaults, and an app that watches."""

from __future__ import annotations

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS as SITE_APPS
from tests.watching import HUB

INSTALLED_APPS = [*SITE_APPS, "tests.watching.apps.Watching"]
ROOT_URLCONF = PUBLIC_SCHEMA_URLCONF = "tests.watching.urls"
PLUGINHUB = HUB
