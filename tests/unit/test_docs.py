"""The documentation's Python runs, and says something of everything it is about."""

from __future__ import annotations

import re
import sys
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest

from pluginhub.conf import Settings
from pluginhub.context import Context
from pluginhub.loading import Entry
from pluginhub.plugins import HOOKS

DOCS = Path(__file__).parents[2] / "docs"
MARK = "<!-- the Python below runs, from top to bottom -->"
"""Says that a page's code stands alone: it needs no service, and what it shows is true."""

PAGES = [path for path in [DOCS.parent / "README.md", *sorted(DOCS.glob("*.md"))] if MARK in path.read_text()]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_the_python_of_a_page_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType(f"docs_{path.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # where annotations are looked up
    text = path.read_text()
    for block in BLOCK.finditer(text):
        lines_before = "\n" * text.count("\n", 0, block.start(1))  # so that a failure names the page's line
        code = compile(lines_before + block[1], str(path), "exec", dont_inherit=True)
        exec(code, vars(module))


def test_the_guides_for_authors_run() -> None:
    assert {"README", "plugins", "catalog"} <= {path.stem for path in PAGES}


def test_every_hook_is_documented() -> None:
    text = (DOCS / "plugins.md").read_text()
    assert [hook for hook in HOOKS if f"`{hook}(" not in text] == []


def test_everything_the_context_offers_is_documented() -> None:
    text = (DOCS / "plugins.md").read_text()
    names = [name for name in vars(Context) if not name.startswith("_")]
    assert [name for name in names if not re.search(rf"`(context\.)?{name}\b", text)] == []


def test_every_field_of_the_catalog_is_documented() -> None:
    text = (DOCS / "catalog.md").read_text()
    assert [field.name for field in fields(Entry) if f"`{field.name}`" not in text] == []


def test_every_setting_check_and_command_is_documented() -> None:
    text = (DOCS / "hosting.md").read_text()
    root = DOCS.parent / "pluginhub"
    checks = re.findall(r'id="pluginhub\.(E\d+)"', (root / "checks.py").read_text())
    commands = [path.stem for path in (root / "management" / "commands").glob("pluginhub_*.py")]
    assert [name for name in [*Settings.model_fields, *checks, *commands] if f"{name}" not in text] == []
