"""Packages load as generations: whole, from a snapshot, each import inside its own."""

from __future__ import annotations

import gc
import logging
import sys
import textwrap
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pluginhub import loading
from pluginhub.loading import Code, discovery
from pluginhub.loading.snapshots import take

TOP = "pluginhub_generated"
Write = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a version of a plugin package with modules that import one another in every way."""
    monkeypatch.setattr(discovery, "GROUP", "pluginhub.generated")
    monkeypatch.setattr(discovery, "CHECK_SECONDS", 0.0)
    monkeypatch.syspath_prepend(str(tmp_path))
    info = tmp_path / "generated-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: generated\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[pluginhub.generated]\nsample = {TOP}.sample:Sample\n")
    folder = tmp_path / TOP

    def write(version: Any, **files: str) -> None:
        folder.mkdir(exist_ok=True)
        for name, text in {**SOURCES, **files}.items():
            (folder / f"{name}.py").write_text(textwrap.dedent(text).replace("VERSION", repr(version)))

    loading.forget()
    yield write
    loading.forget()
    for name in [name for name in sys.modules if name.startswith(TOP)]:
        del sys.modules[name]


SOURCES = {
    "__init__": "version = VERSION",
    "constants": "version = VERSION",
    "late": "version = VERSION",
    "models": """
        from __future__ import annotations
        from dataclasses import dataclass, fields
        from typing import Optional
        from pydantic import BaseModel
        version = VERSION

        @dataclass(slots=True)
        class Point:
            x: int
            tag: Optional[Point] = None

        class Tree(BaseModel):
            name: str
            children: list[Tree] = []
        """,
    "sample": """
        import logging
        from pluginhub import Plugin
        import pluginhub_generated.constants
        import pluginhub_generated.constants as constants
        from pluginhub_generated import models
        from .constants import version as relative
        log = logging.getLogger(__name__)

        class Sample(Plugin):
            def process(self, value, context):
                import pluginhub_generated.late
                import pluginhub_generated.late as late
                from pluginhub_generated import late as again
                from . import late as near
                tree = models.Tree.model_validate({"name": "a", "children": [{"name": "b"}]})
                assert type(tree.children[0]) is models.Tree
                assert models.Point(1, models.Point(2)).tag.x == 2
                return [
                    VERSION, pluginhub_generated.version, pluginhub_generated.constants.version, constants.version,
                    models.version, relative, pluginhub_generated.late.version, late.version, again.version,
                    near.version,
                ]
        """,
}


def seen(code: Code) -> set[Any]:
    """Return the versions that one run sees."""
    return set(code.load("sample")().process(None, None))  # type: ignore[attr-defined]


def renewed() -> Code:
    loading.rediscover()
    return loading.current().renewed([loading.snapshot_of(TOP)], 1)


def test_a_generation_sees_itself_only(write: Write) -> None:
    write(1)
    first = loading.current()
    assert seen(first) == {1}
    write(2)
    second = renewed()
    assert seen(second) == {2}
    assert seen(first) == {1}
    assert sys.modules[f"{TOP}.sample"].log.name == f"{TOP}.sample"


def test_what_an_old_generation_imports_late_is_old(write: Write) -> None:
    """The disk has version 2 when version 1 first reaches the imports inside its functions."""
    write(1)
    first = loading.current()
    first.load("sample")
    write(2)
    second = renewed()
    second.load("sample")
    write(3)
    assert seen(first) == {1}
    assert seen(second) == {2}


def test_a_broken_generation_leaves_the_others_alone(write: Write) -> None:
    write(1)
    assert seen(loading.current()) == {1}
    write(2, constants="1 / 0")
    with pytest.raises(Exception, match="ZeroDivisionError") as caught:
        renewed().load("sample")
    assert "@" not in str(caught.value)
    assert seen(loading.current()) == {1}


def test_a_source_of_the_same_size_in_the_same_second_is_not_mistaken(write: Write) -> None:
    versions = []
    for version in range(1, 6):
        write(version)
        versions.append(seen(renewed()))
    assert versions == [{1}, {2}, {3}, {4}, {5}]


def test_a_digest_tells_code_from_other_code_as_every_process_does(write: Write) -> None:
    """It is of the source that was loaded, whatever the files say by now, and of no process's numbers."""
    write(1)
    first = loading.current()
    assert seen(first) == {1}
    digest = first.digest("sample")
    assert digest.startswith("1.0:")
    write(2, late="version = 2")
    second = renewed()
    assert first.digest("sample") == digest
    assert second.digest("sample") != digest
    write(1)
    third = renewed()
    assert third.label("sample") != first.label("sample")
    assert third.digest("sample") == digest


def test_generations_die_with_their_last_holder(write: Write) -> None:
    write(1)
    seen(loading.current())
    dead = []
    for version in range(2, 6):
        write(version)
        code = renewed()
        assert seen(code) == {version}
        dead.append(weakref.ref(code.load("sample")))
        tree = sys.modules[code.load("sample").__module__].models.Tree
        dead.append(weakref.ref(tree))
        del tree, code
    gc.collect()
    assert [ref() for ref in dead] == [None] * 8
    left = [name for name in [*sys.modules, *logging.Logger.manager.loggerDict] if name.startswith(f"{TOP}@")]
    assert left == []


def test_loggers_of_a_generation_obey_the_real_name(write: Write) -> None:
    write(1)
    code = renewed()
    code.load("sample")
    logging.getLogger(TOP).setLevel(logging.ERROR)
    try:
        log = sys.modules[code.load("sample").__module__].log
        assert log.getEffectiveLevel() == logging.ERROR
    finally:
        logging.getLogger(TOP).setLevel(logging.NOTSET)


def test_what_the_catalog_said_belongs_to_the_generation(write: Write) -> None:
    """A deployed but not yet reloaded version changes nothing of what is served."""
    write(1)
    first = loading.current()
    first.load("sample")
    write(2, sample="this is no Python")
    assert first.entry("sample").problem == ""
    assert loading.entry("sample").problem
    assert seen(first) == {1}


def test_a_snapshot_waits_until_files_come_to_rest(write: Write, tmp_path: Path) -> None:
    write(1)
    one = take(TOP, str(tmp_path / TOP / "__init__.py"))
    write(2)
    two = take(TOP, str(tmp_path / TOP / "__init__.py"))
    assert set(one.sources) == {TOP, *(f"{TOP}.{name}" for name in SOURCES if name != "__init__")}
    assert one.digest != two.digest
