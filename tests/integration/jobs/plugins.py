"""Plugins whose jobs do what the tests of the jobs need: succeed, fail, wait, and leave a ledger of their effects."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from dataclasses import asdict
from typing import Any

from pluginhub import Context, Fatal, Plugin, Refuse, RetryLater, job

__all__ = ["Tasks"]


class Tasks(Plugin):
    """Jobs of every temper."""

    def activate(self, context: Context) -> None:
        context.jobs.process("added", self.added)

    def process(self, value: Any, context: Context) -> Any:
        return {"value": value}

    def added(self, data: Any, context: Context) -> Any:
        return {"added": data}

    @job("note")
    def note(self, data: dict[str, Any], context: Context) -> None:
        """Append a line to the ledger: one write, which no other process can split."""
        _append(data["ledger"], f"{context.tenant.schema} {data['text']}")

    @job("who")
    def who(self, data: Any, context: Context) -> dict[str, Any]:
        return asdict(context.caller) | {"permissions": sorted(context.caller.permissions)}

    @job("refused")
    def refused(self, data: Any, context: Context) -> None:
        raise Refuse("Not this.", errors={"code": "No such code."})

    @job("fatal")
    def fatal(self, data: Any, context: Context) -> None:
        raise Fatal("Never.")

    @job("broken")
    def broken(self, data: Any, context: Context) -> None:
        raise RuntimeError("a secret of the inside")

    @job("flaky")
    def flaky(self, data: dict[str, Any], context: Context) -> int:
        """Succeed at the attempt named."""
        attempt = context.storage.increment(context.run_id)
        if attempt < data["attempt"]:
            raise RetryLater("Not yet.", delay=data["delay"])
        return attempt

    @job("not-json")
    def not_json(self, data: Any, context: Context) -> Any:
        return object()

    @job("exiting")
    def exiting(self, data: Any, context: Context) -> None:
        sys.exit(3)

    @job("slow")
    def slow(self, data: dict[str, Any], context: Context) -> str:
        """Report progress for some seconds; say in the ledger when it began and when it came to its end."""
        _append(data["ledger"], f"begun {os.getpid()}")
        until, done = time.monotonic() + data["seconds"], 0
        while time.monotonic() < until:
            done += 1
            context.progress(done, None, "still at it")
            time.sleep(0.02)
        _append(data["ledger"], f"done {os.getpid()}")
        return "done"

    @job("aslow")
    async def aslow(self, data: dict[str, Any], context: Context) -> str:
        until, done = time.monotonic() + data["seconds"], 0
        while time.monotonic() < until:
            done += 1
            await context.aprogress(done, 1000)
            await asyncio.sleep(0.02)
        return "done"

    @job("million")
    def million(self, data: Any, context: Context) -> float:
        """Report a million times; return how many times as long that took as as many simple calls."""
        times = []
        for report in (divmod, context.progress):
            begun = time.perf_counter()
            for done in range(1, 1_000_001):
                report(done, 1_000_000)
            times.append(time.perf_counter() - begun)
        return times[1] / times[0]

    @job("stubborn")
    def stubborn(self, data: Any, context: Context) -> str:
        """Swallow every exception on the way, as careless code does."""
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                time.sleep(0.05)
            except Exception:
                pass
        return "unharmed"

    @job("deaf")
    def deaf(self, data: Any, context: Context) -> str:
        """Swallow even what is no exception."""
        until = time.monotonic() + 30
        while time.monotonic() < until:
            try:
                time.sleep(0.05)
            except BaseException:  # this is what is tested
                pass
        return "unharmed"

    @job("spawning")
    def spawning(self, data: Any, context: Context) -> str:
        """Enqueue by a bare name."""
        return context.jobs.enqueue("who")


def _append(path: str, line: str) -> None:
    ledger = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(ledger, f"{line}\n".encode())
    finally:
        os.close(ledger)
