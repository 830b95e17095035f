"""A plugin with services of each lifetime, all of which leave a line in a ledger when they come and go."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dishka import Provider, provide

from pluginhub import Context, Plugin
from pluginhub.scopes import PROCESS, RUN, TENANT

__all__ = ["LEDGER", "Served", "Services"]

LEDGER = "TESTS_LEDGER"
"""The environment's variable that says where the ledger is."""


class OfProcess:
    pass


class OfTenant:
    pass


class OfRun:
    pass


def said(what: str) -> None:
    with Path(os.environ[LEDGER]).open("a") as ledger:
        ledger.write(f"{what}\n")


class Services(Provider):
    @provide(scope=PROCESS)
    def process(self) -> Iterable[OfProcess]:
        said("process +")
        yield OfProcess()
        said("process -")

    @provide(scope=TENANT)
    def tenant(self, process: OfProcess) -> Iterable[OfTenant]:
        said("tenant +")
        yield OfTenant()
        said("tenant -")

    @provide(scope=RUN)
    def run(self) -> Iterable[OfRun]:
        said("run +")
        yield OfRun()
        said("run -")


class Served(Plugin):
    """Use them all."""

    def __init__(self, tenant: OfTenant) -> None:
        super().__init__()

    def activate(self, context: Context) -> None:
        said("up")

    def deactivate(self, context: Context) -> None:
        said("down")

    def process(self, value: Any, context: Context) -> Any:
        context.get(OfRun)
        return value
