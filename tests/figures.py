"""Measure, and keep what was seen: `make bench` prints the benchmarks, `make figures` also runs the storms and writes
`docs/figures.md`.

A benchmark or storm is a module with `figures() -> Iterator[Figure]`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import django

__all__ = ["Figure"]

PAGE = Path(__file__).parent.parent / "docs" / "figures.md"
FAMILIES = {"benchmarks": "Benchmarks", "storms": "Storms"}
PACKAGES = (
    *("Django", "django-tenants", "django-rq", "rq", "channels", "psycopg", "redis", "pydantic"),
    *("pluggy", "starlette", "stevedore"),
)
BY_HAND = "## Seen by running the command"
"""What follows this heading is kept: whole commands, which no module measures."""
HEAD = """# Figures

What was seen, and the command that shows it again. Times are of one run on a shared machine: read the ratios.
"""


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that was measured or counted, what we aim for, and what was seen."""

    name: str
    aim: str
    seen: str
    command: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*", choices=[[], *FAMILIES], help="which to run; all when absent")
    parser.add_argument("--write", action="store_true", help="write docs/figures.md")
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    sections = {family: list(_run(family)) for family in options.families or FAMILIES}
    if options.write:
        _, mark, by_hand = PAGE.read_text(encoding="utf-8").partition(BY_HAND) if PAGE.exists() else ("", "", "")
        PAGE.write_text(_page(sections) + (f"\n{mark}{by_hand}" if mark else ""), encoding="utf-8")


def _run(family: str) -> Iterator[Figure]:
    for path in sorted((Path(__file__).parent / family).glob("*.py")):
        module = importlib.import_module(f"tests.{family}.{path.stem}")
        for figure in module.figures() if hasattr(module, "figures") else ():
            print(f"{figure.name}: {figure.seen} (aim: {figure.aim})", flush=True)
            yield figure


def _page(sections: dict[str, list[Figure]]) -> str:
    parts = [HEAD]
    for family, figures in sections.items():
        parts.append(f"\n## {FAMILIES[family]}\n\n| figure | aim | seen | command |\n|---|---|---|---|\n")
        parts += [f"| {f.name} | {f.aim} | {f.seen} | `{f.command}` |\n" for f in figures]
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    parts.append(f"\nSeen with Python {platform.python_version()}, {versions}.\n")
    return "".join(parts)


if __name__ == "__main__":
    main()
