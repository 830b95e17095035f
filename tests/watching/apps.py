"""The app of the storms' processes: it notes each runtime that is swapped in."""

from __future__ import annotations

from django.apps import AppConfig

from pluginhub import signals
from tests.watching import ledgers

__all__ = ["Watching"]


class Watching(AppConfig):
    name = "tests.watching"

    def ready(self) -> None:
        signals.swapped.connect(ledgers.note, dispatch_uid="tests.watching")
