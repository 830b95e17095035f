"""Both colours: the same test runs a chain through the synchronous and the asynchronous driver."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from pluginhub import chains

Execute = Callable[..., Any]


def run_sync(plugins: Sequence[Any], value: Any, **options: Any) -> Any:
    return chains.execute(plugins, value, **options)


def run_async(plugins: Sequence[Any], value: Any, **options: Any) -> Any:
    return asyncio.run(chains.aexecute(plugins, value, **options))


in_both_colours = pytest.mark.parametrize("execute", [run_sync, run_async], ids=["sync", "async"])
