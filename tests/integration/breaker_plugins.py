"""Plugins that fail when they are told to, and another process that serves acme with them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel

from pluginhub import Context, Plugin, RetryLater, job

__all__ = ["PLUGINS", "AsyncFlaky", "Flaky", "Neighbour", "neighbour"]

PLUGINS = {name: f"tests.integration.breaker_plugins:{kind}" for name, kind in
           {"flaky": "Flaky", "aflaky": "AsyncFlaky"}.items()}  # fmt: skip


class Flaky(Plugin):
    """Fail where the value is "fail"."""

    class Config(BaseModel):
        label: str = ""

    def process(self, value: Any, context: Context) -> Any:
        if value == "fail":
            raise OSError("down")
        return value

    def stream(self, params: Any, context: Context) -> Iterator[Any]:
        if params["at"] == 0:
            raise OSError("down")
        yield 1
        if params["at"] == 1:
            raise OSError("down")
        yield 2

    @job("load")
    def load(self, data: Any, context: Context) -> Any:
        if data == "later":
            raise RetryLater("Busy.", delay=0)
        return self.process(data, context)


class AsyncFlaky(Flaky):
    async def process(self, value: Any, context: Context) -> Any:
        return super().process(value, context)


class Neighbour:
    """Another process of the fleet, which calls targets when it is asked to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid

    def call(self, target: str, value: Any) -> Any:
        """Return a result, or the name of an error's class."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([target, value]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@contextmanager
def neighbour(settings: dict[str, Any]) -> Iterator[Neighbour]:
    """Start a process with these settings of PLUGINHUB, and end it with the block."""
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "NEIGHBOUR": json.dumps(settings)}
    command = [sys.executable, "-m", "tests.integration.breaker_plugins"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield Neighbour(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(timeout=20)


def _serve() -> None:
    import django
    from django.test.utils import override_settings

    django.setup()
    with override_settings(**json.loads(os.environ["NEIGHBOUR"])):
        from pluginhub import execution, tenancy
        from pluginhub.registry import registry

        registry.follow("worker")
        for line in sys.stdin:
            target, value = json.loads(line)
            with tenancy.visit(tenancy.find("acme")):
                try:
                    answer = execution.run(target, value)
                except Exception as error:
                    answer = type(error).__name__
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve()
