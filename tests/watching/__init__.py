"""What the storms' own processes have besides the site: plugins to ask, and an eye on what each of them serves."""

from __future__ import annotations

from typing import Any

__all__ = ["HUB", "LEDGER"]

LEDGER = "PLUGINHUB_STORM_LEDGER"
"""The environment variable that names the file in which the processes note what they swap in."""

HUB: dict[str, Any] = {
    "PLUGINS": {
        "number": "tests.watching.plugins:Number",
        "late-number": "tests.watching.plugins:LateNumber",
        "row-numbers": "tests.watching.plugins:RowNumbers",
    },
    "HOOK_SECONDS": 1.0,
}
"""`settings.PLUGINHUB` of every process of a storm, also of the one that publishes: else the product's defaults."""
