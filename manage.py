#!/usr/bin/env python
"""Run a command of the reference site."""

from __future__ import annotations

import os
import sys

from django.core.management import execute_from_command_line

from tenants.site import services


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tenants.site.settings")
    services.start()
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
