"""Forking in tests: a child that reports and exits, and the locks it could wait for in vain."""

from __future__ import annotations

import faulthandler
import json
import os
import queue
import select
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

__all__ = ["held", "in_child", "locks"]

SECONDS = 30
"""How long a child may take before it is ended, with what it waits for on standard error."""

_KINDS = (type(threading.Lock()), type(threading.RLock()))
_CONTAINERS = (dict, list, tuple, set, frozenset)
_WAITING = (threading.Event, threading.Condition, threading.Semaphore, queue.Queue)


def in_child(f: Callable[..., Any], *args: Any) -> Any:
    """Call `f` in a forked child and return its result, which JSON can say. Fails when the child does not come back."""
    reading, writing = os.pipe()
    sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: the process has threads; that is the point
        child = os.fork()
    if child == 0:
        os.close(reading)
        _report(writing, f, *args)
    os.close(writing)
    said = _heard(reading, child)
    assert said, "The child did not come back: see the stacks on standard error."
    outcome = json.loads(said)
    assert "error" not in outcome, outcome["error"]
    return outcome["result"]


def _heard(pipe: int, child: int) -> str:
    """Return what the child says; when its time is over, have it show its stacks, and end it."""
    if not select.select([pipe], [], [], SECONDS)[0]:
        os.kill(child, signal.SIGUSR2)
        time.sleep(0.5)
        os.kill(child, signal.SIGKILL)
    with open(pipe, encoding="utf-8") as file:
        said = file.read()
    os.waitpid(child, 0)
    return said


def _report(pipe: int, f: Callable[..., Any], *args: Any) -> None:
    faulthandler.register(signal.SIGUSR2, file=2)
    try:
        outcome = {"result": f(*args)}
    except BaseException:
        outcome = {"error": traceback.format_exc()}
    os.write(pipe, json.dumps(outcome).encode())
    os._exit(0)


@contextmanager
def held(wanted: dict[str, Any]) -> Iterator[list[str]]:
    """Have another thread hold all these locks within the block. Yields the names of those it got."""
    names: list[str] = []
    ready, leave = threading.Event(), threading.Event()

    def hold() -> None:
        got = {name: lock for name, lock in wanted.items() if lock.acquire(timeout=1)}
        names.extend(got)
        ready.set()
        leave.wait()
        for lock in got.values():
            lock.release()

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield names
    finally:
        leave.set()
        thread.join()


def locks() -> dict[str, Any]:
    """Return every lock that PluginHub's modules hold on to, directly or through their own objects, by where it is."""
    found: dict[str, Any] = {}
    seen: set[int] = set()
    for name, module in sorted(sys.modules.items()):
        if name == "pluginhub" or name.startswith("pluginhub."):
            for variable, value in vars(module).items():
                _walk(f"{name}.{variable}", value, found, seen)
    return found


def _walk(path: str, value: Any, found: dict[str, Any], seen: set[int]) -> None:
    if id(value) in seen or isinstance(value, type):
        return
    seen.add(id(value))
    if isinstance(value, _KINDS):
        found[path] = value
    elif isinstance(value, dict):
        for key, each in list(value.items()):
            _walk(f"{path}[{key!r:.40}]", each, found, seen)
    elif isinstance(value, _CONTAINERS):
        for number, each in enumerate(list(value)):
            _walk(f"{path}[{number}]", each, found, seen)
    elif isinstance(value, CollectorRegistry):
        _walk(f"{path}._lock", value._lock, found, seen)
    elif _is_ours(value):
        for name, each in _attributes(value):
            _walk(f"{path}.{name}", each, found, seen)


def _is_ours(value: Any) -> bool:
    kind = type(value)
    return isinstance(value, (*_WAITING, MetricWrapperBase)) or kind.__module__.partition(".")[0] == "pluginhub"


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    yield from list(getattr(value, "__dict__", {}).items())
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if not name.startswith("__") and hasattr(value, name):
                yield name, getattr(value, name)
