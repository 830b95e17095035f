"""A site with 500 plugins installed: what its start, and listing them, cost beside the same site without them.

Each start is a process of its own; those with and without plugins take turns. Seconds are the processor's.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from tests.figures import Figure

__all__ = ["distribution", "figures"]

COMMAND = "make bench"
PLUGINS = 500
ROUNDS = 3
PACKAGE = "generated_plugins"

MODULE = '''"""Plugin number {number}, as long as plugins are."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from pluginhub import Context, Plugin, Refuse, job

__all__ = ["Generated{number}"]


class Generated{number}(Plugin):
    """Do the work that has the number {number}.

    What it does not do is a matter of the other numbers.
    """

    class Config(BaseModel):
        limit: int = {number}
        mode: Literal["fast", "exact"] = "fast"
        words: list[str] = []

    class Input(BaseModel):
        value: int

    def activate(self, context: Context) -> None:
        self.seen = 0
        context.jobs.process("again", self.again)

    def process(self, value: Any, context: Context) -> Any:
        self.seen += 1
        if value["value"] > self.config.limit:
            raise Refuse("Too much.", errors={{"value": "is more than the limit"}})
        total = sum(len(word) * value["value"] for word in self.config.words)
        return {{"total": total, "mode": self.config.mode}}

    @job("count")
    def count(self, data: Any, context: Context) -> int:
        return self.seen

    def again(self, data: Any, context: Context) -> None:
        context.log.info("again %s", data)

    def get_state(self) -> dict[str, int]:
        return {{"seen": self.seen}}

    def restore_state(self, state: dict[str, int]) -> None:
        self.seen = state["seen"]
'''


def figures() -> Iterator[Figure]:
    """Start the site with and without the plugins, in turn."""
    with tempfile.TemporaryDirectory() as folder:
        bare, full = Path(folder, "bare"), Path(folder, "full")
        bare.mkdir()
        distribution(full, PLUGINS)
        starts = [(_start(bare), _start(full)) for _ in range(ROUNDS + 1)][1:]  # the first fills the disk's cache
    without, with_ = ([pair[side] for pair in starts] for side in (0, 1))
    listed, imported = with_[0]["listed"] - without[0]["listed"], len(with_[0]["imported"])
    name = f"A site with {PLUGINS} plugins installed"
    yield Figure(f"{name}: imported by its start and by listing them", "0", f"{imported} of {listed}", COMMAND)
    yield _beside(f"{name}: start and listing, beside none", "≤ 1 ms a plugin", without, with_, ("seconds", "s", "ms"))
    yield _beside(f"{name}: memory, beside none", "≤ 16 KB a plugin", without, with_, ("megabytes", "MB", "KB"))
    again, between = (statistics.median(start[key] for start in with_) for key in ("again", "between"))
    yield Figure(f"{name}: looking again, once a second, nothing changed", "≤ 10 ms", f"{again * 1e3:.1f} ms", COMMAND)
    yield Figure(f"{name}: asking for the catalog in between", "≤ 10 µs", f"{between * 1e6:.1f} µs", COMMAND)


def _beside(name: str, aim: str, without: list[Any], with_: list[Any], what: tuple[str, str, str]) -> Figure:
    key, unit, thousandth = what
    less, more = (statistics.median(start[key] for start in starts) for starts in (without, with_))
    each = statistics.median(b[key] - a[key] for a, b in zip(without, with_, strict=True)) / PLUGINS * 1e3
    return Figure(name, aim, f"{more:.2f} {unit} against {less:.2f} {unit}: {each:.2f} {thousandth} a plugin", COMMAND)


def distribution(folder: Path, count: int) -> None:
    """Install a distribution with so many plugins, each in a module of its own, as pip would leave it on the disk."""
    package, info = folder / PACKAGE, folder / f"{PACKAGE}-1.0.dist-info"
    for each in (package, info):
        each.mkdir(parents=True)
    (package / "__init__.py").touch()
    for number in range(count):
        (package / f"plugin_{number:03}.py").write_text(MODULE.format(number=number))
    points = [f"generated-{n:03} = {PACKAGE}.plugin_{n:03}:Generated{n}" for n in range(count)]
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join(["[pluginhub.plugins]", *points]) + "\n")


def _start(folder: Path) -> dict[str, Any]:
    """Start the site in a process that has `folder` among its packages; return what it says."""
    said = subprocess.run(
        [sys.executable, "-m", __name__],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])},
        check=True,
        capture_output=True,
    )
    outcome: dict[str, Any] = json.loads(said.stdout)
    return outcome


def main() -> None:
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    from django.urls import get_resolver

    from pluginhub import loading
    from pluginhub.loading import discovery

    assert get_resolver().url_patterns
    entries = loading.catalog()
    seconds, memory = time.process_time(), psutil.Process().memory_info().rss
    assert not [entry.problem for entry in entries.values() if entry.problem]
    time.sleep(discovery.CHECK_SECONDS)
    looking = time.process_time()
    assert loading.catalog() is entries
    looked = time.process_time()
    for _ in range(1000):
        loading.catalog()
    said = {
        "seconds": seconds,
        "megabytes": memory / 1e6,
        "listed": len(entries),
        "imported": [name for name in sys.modules if name.partition(".")[0] == PACKAGE],
        "again": looked - looking,
        "between": (time.process_time() - looked) / 1000,
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main()
