"""Files of `PLUGINS_DIR` are reloaded as they are saved, with `DEBUG`, and keep their state."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test.utils import override_settings
from django.utils.autoreload import file_changed

from pluginhub import execution, loading, watching
from pluginhub.exceptions import NotReady
from pluginhub.registry import registry
from pluginhub.types import Tenant
from tests.integration.hub import publish

COUNTER = """
from pluginhub import Plugin
from ._shared import UNIT

class Counter(Plugin):
    def __init__(self):
        super().__init__()
        self.count = 0

    def process(self, value, context):
        self.count += 1
        return [LABEL, UNIT, self.count]

    def get_state(self):
        return self.count

    def restore_state(self, state):
        self.count = state
"""

ECHO = """
from pluginhub import Plugin

class Echo(Plugin):
    def process(self, value, context):
        return ["echo", value]
"""


@pytest.fixture
def folder(in_acme: Tenant, tmp_path: Path) -> Iterator[Path]:
    """A PLUGINS_DIR with a counter that is in use."""
    (tmp_path / "_shared.py").write_text("UNIT = 'kg'\n")
    save(tmp_path, "one")
    with override_settings(DEBUG=True, PLUGINHUB={"PLUGINS_DIR": str(tmp_path), "POLL_SECONDS": 0.05}):
        publish(counter="counter")
        assert execution.run("counter", None) == ["one", "kg", 1]
        yield tmp_path
        registry.stop()


@pytest.fixture
def counts(in_acme: Tenant) -> Callable[[str], list[Any]]:
    """`counts("two")` runs the counter until it says so, and returns all answers since the fixture's own run."""

    def run(label: str, unit: str = "kg") -> list[Any]:
        answers, until = [], time.monotonic() + 5
        while time.monotonic() < until:
            answers.append(execution.run("counter", None))
            if answers[-1][:2] == [label, unit]:
                break
            time.sleep(0.02)
        return answers

    return run


def save(folder: Path, label: str, name: str = "counter.py") -> None:
    (folder / name).write_text(f"LABEL = {label!r}\n{COUNTER}")


def eventually(true: Callable[[], Any]) -> bool:
    until = time.monotonic() + 5
    while not true() and time.monotonic() < until:
        time.sleep(0.02)
    return bool(true())


def watchers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "pluginhub watch files"]


def test_a_saved_file_serves_and_its_state_is_kept(folder: Path, counts: Callable[..., list[Any]]) -> None:
    save(folder, "two")
    answers = counts("two")
    assert answers[-1][0] == "two"
    assert [count for _, _, count in answers] == list(range(2, len(answers) + 2))
    save(folder, "six")  # of the same size
    assert counts("six")[-1][0] == "six"


def test_a_file_that_others_import_reloads_them(folder: Path, counts: Callable[..., list[Any]]) -> None:
    (folder / "_shared.py").write_text("UNIT = 'lb'\n")
    assert counts("one", "lb")[-1][:2] == ["one", "lb"]


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ("def process(", "'(' was never closed"),
        ("LABEL = 'x'\n1 / 0\n" + COUNTER, "ZeroDivisionError: division by zero (counter.py, line 2)"),
        ("LABEL = 'x'\n" + COUNTER.replace("self.count = state", "1 / 0"), "did not take its state"),
    ],
    ids=["syntax", "import", "state"],
)
def test_a_broken_file_leaves_the_older_code_serving_until_the_next_save(
    folder: Path, counts: Callable[..., list[Any]], caplog: pytest.LogCaptureFixture, broken: str, why: str
) -> None:
    caplog.set_level(logging.WARNING, "pluginhub.watching")
    (folder / "counter.py").write_text(broken)
    assert eventually(lambda: caplog.messages)
    time.sleep(3 * watching.LOOK_SECONDS)
    said = [record.getMessage() for record in caplog.records if record.name == "pluginhub.watching"]
    assert len(said) == 1
    assert "counter" in said[0]
    assert why in said[0]
    assert execution.run("counter", None) == ["one", "kg", 2]
    save(folder, "two")
    answers = counts("two")
    assert answers[-1][0] == "two"
    assert [count for _, _, count in answers] == list(range(3, len(answers) + 3))


def test_a_new_file_is_a_plugin(folder: Path) -> None:
    (folder / "echo.py").write_text(ECHO)
    assert eventually(lambda: loading.current().known("echo"))
    publish(counter="counter", echo="echo")
    assert execution.run("echo", 1) == ["echo", 1]
    assert execution.run("counter", None) == ["one", "kg", 2]


def test_a_file_that_is_gone_holds_nobody_back_but_who_uses_it(
    folder: Path, counts: Callable[..., list[Any]], caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "echo.py").write_text(ECHO)
    assert eventually(lambda: loading.current().known("echo"))
    publish(counter="counter", echo="echo")
    assert execution.run("echo", 1) == ["echo", 1]
    (folder / "echo.py").unlink()
    assert eventually(lambda: "No plugin named 'echo'" in caplog.text)
    assert execution.run("echo", 2) == ["echo", 2]
    publish(counter="counter")
    save(folder, "two")
    assert counts("two")[-1][0] == "two"
    assert eventually(lambda: loading.current().known("echo") is None)  # when all tenants have the new code
    with pytest.raises(NotReady, match="echo"):
        loading.load("echo")


def test_one_thread_watches_and_only_in_debug(folder: Path) -> None:
    assert len(watchers()) == 1
    registry.follow()
    assert len(watchers()) == 1
    registry.stop()
    assert watchers() == []
    with override_settings(DEBUG=False):
        registry.follow()
        assert watchers() == []
        save(folder, "two")
        watching.look()
        assert execution.run("counter", None)[0] == "one"


def test_a_process_without_threads_looks_by_itself(folder: Path) -> None:
    registry.stop()
    save(folder, "two")
    watching.look()
    assert execution.run("counter", None) == ["two", "kg", 2]


def test_the_autoreloader_leaves_these_files_alone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    def restarts(path: Path) -> bool:
        return not any(answer for _, answer in file_changed.send(sender=None, file_path=path))

    assert not restarts(folder / "counter.py")
    assert not restarts(folder / "below" / "deeper.py")
    assert restarts(tmp_path_factory.mktemp("elsewhere") / "counter.py")
    assert restarts(folder.parent / "views.py")
    with override_settings(DEBUG=False):
        assert restarts(folder / "counter.py")
    with override_settings(PLUGINHUB={"PLUGIN_DIR": "misspelt"}):
        assert restarts(folder / "counter.py")
