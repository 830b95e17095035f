"""New code for every process, without a restart; or the old one goes on, and says why."""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test.utils import override_settings

from pluginhub import execution, loading, publishing, reloading, tenancy
from pluginhub.configuration import Configuration, RegistrationSpec
from pluginhub.fleet.models import Generation, Process
from pluginhub.loading import discovery
from pluginhub.presence import presence
from pluginhub.registry import registry
from pluginhub.reloading import ReloadRefused
from pluginhub.types import PUBLIC, Tenant

OURS, ADDON = "pluginhub_reloaded", "pluginhub_reloaded_addon"

SAMPLE = """
    from pluginhub import Plugin
    from . import rules
    EXTRA

    class Sample(Plugin):
        def __init__(self):
            self.count = 0
            super().__init__()

        def process(self, value, context):
            from .late import version as late
            self.count += 1
            return [VERSION, rules.version, late, self.count]

        def get_state(self):
            return self.count

        def restore_state(self, state):
            self.count = state
    """
ADDON_SOURCE = """
    import pluginhub_reloaded.rules
    from pluginhub import Plugin

    class Addon(Plugin):
        def process(self, value, context):
            return pluginhub_reloaded.rules.version
    """

Write = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_acme: Tenant) -> Iterator[Write]:
    """Write a version of a distribution of two packages, of which one imports the other."""
    monkeypatch.setattr(discovery, "GROUP", "pluginhub.reloaded")
    monkeypatch.syspath_prepend(str(tmp_path))
    info = tmp_path / "reloaded-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: reloaded\nVersion: 1.0\n")
    points = f"sample = {OURS}.sample:Sample\naddon = {ADDON}:Addon\n"
    (info / "entry_points.txt").write_text(f"[pluginhub.reloaded]\n{points}")

    def write(version: int, extra: str = "", **files: str) -> None:
        folder = tmp_path / OURS
        folder.mkdir(exist_ok=True)
        sources = {"__init__": "", "rules": "version = VERSION", "late": "version = VERSION", "sample": SAMPLE, **files}
        for name, text in sources.items():
            text = textwrap.dedent(text).replace("VERSION", str(version)).replace("EXTRA", extra)
            (folder / f"{name}.py").write_text(text)
        (tmp_path / f"{ADDON}.py").write_text(textwrap.dedent(ADDON_SOURCE))
        loading.rediscover()

    loading.forget()
    yield write
    registry.clear()
    loading.forget()
    for name in [name for name in sys.modules if name.startswith(OURS)]:
        del sys.modules[name]


def publish(*plugins: str) -> None:
    specs = {name: RegistrationSpec(name=name, plugin=name) for name in plugins or ("sample",)}
    publishing.apply_configuration(Configuration(registrations=specs), author="tested")


def follow(number: int) -> None:
    """Wait until this process is at a generation, or knows why not."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        registry.look()
        problem = presence.generation_problem
        if loading.current().number >= number or (problem and problem.generation >= number):
            return
        time.sleep(0.02)
    raise AssertionError("This process follows no more.")


def run() -> Any:
    return execution.run("sample")


def test_new_code_serves_with_the_state_of_the_old(write: Write) -> None:
    write(1)
    publish()
    assert [run(), run()] == [[1, 1, 1, 1], [1, 1, 1, 2]]
    write(2)
    assert run() == [1, 1, 1, 3], "What is deployed but not reloaded serves already."
    generation = reloading.reload("sample", author="tested", note="two")
    follow(generation.number)
    assert run() == [2, 2, 2, 4]
    assert (generation.plugin, generation.version, generation.author, generation.note) == (
        "sample", "1.0", "tested", "two",
    )  # fmt: skip
    assert reloading.changed(generation) == [OURS, ADDON]


def test_who_imports_the_package_is_reloaded_with_it(write: Write) -> None:
    """The addon's own source stays the same."""
    write(1)
    publish("sample", "addon")
    assert (execution.run("addon"), run()[0]) == (1, 1)
    for version in (2, 3):
        write(version)
        follow(reloading.reload("sample", author="tested").number)
        assert (execution.run("addon"), run()[0]) == (version, version)


def test_who_is_first_used_after_a_reload_imports_the_new_code(write: Write) -> None:
    write(1)
    publish("sample", "addon")
    run()
    write(2)
    follow(reloading.reload("sample", author="tested").number)
    assert execution.run("addon") == 2


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"sample": "this is no Python"}, "invalid syntax"),
        ({"rules": "1 / 0"}, "ZeroDivisionError: division by zero"),
        ({"extra": "import no_such_module"}, "No module named 'no_such_module'"),
        ({"extra": "from django.db import models"}, "holds Django models"),
        ({"extra": "from prometheus_client import Counter"}, "registers collectors for the whole process"),
        ({"sample": SAMPLE.replace("self.count = 0", "raise ValueError('no')")}, "ValueError: no"),
        ({"sample": SAMPLE + "    def health(self): return False\n"}, "health() returned False"),
    ],
    ids=["syntax", "import", "dependency", "models", "collectors", "constructor", "health"],
)
def test_what_does_not_come_up_is_refused_and_nothing_changes(write: Write, files: dict[str, str], reason: str) -> None:
    write(1)
    publish()
    run()
    write(2, **files)
    with pytest.raises(ReloadRefused) as caught:
        reloading.reload("sample", author="tested")
    assert reason in caught.value.detail
    assert caught.value.hint
    registry.look()
    assert tenancy.gate(PUBLIC, Generation.objects.count) == 0
    assert run() == [1, 1, 1, 2]


def test_a_process_that_cannot_take_it_keeps_the_code_it_has_and_says_why(write: Write) -> None:
    write(1)
    publish()
    run()
    write(2, sample=SAMPLE.replace("self.count = state", "raise ValueError('not mine')"))
    generation = reloading.reload("sample", author="tested")
    follow(generation.number)
    assert run() == [1, 1, 1, 2]
    assert presence.generation_problem is not None
    assert "did not take its state of version 1: ValueError: not mine" in presence.generation_problem.why
    registry.say()
    state = tenancy.gate(PUBLIC, lambda: Process.objects.get(id=presence.id).state)
    assert (state["generation"], state["wanted_generation"]) == (0, generation.number)
    write(3)
    follow(reloading.reload("sample", author="tested").number)
    assert run() == [3, 3, 3, 3]
    assert presence.generation_problem is None


def test_a_machine_with_other_code_keeps_what_it_has(write: Write) -> None:
    write(1)
    publish()
    run()
    write(2)
    generation = reloading.reload("sample", author="tested")
    write(9)  # as on a machine where that version was not deployed
    follow(generation.number)
    assert run() == [1, 1, 1, 2]
    assert presence.generation_problem is not None
    assert "is not the one that was reloaded" in presence.generation_problem.why


def test_a_process_that_starts_later_takes_what_it_finds(write: Write) -> None:
    write(1)
    generation = reloading.reload("sample", author="tested")
    publish()
    loading.forget()
    registry.look()
    follow(generation.number)
    assert run() == [1, 1, 1, 1]
    assert loading.current().number == generation.number
    assert loading.current().label("sample") == OURS


def test_only_the_installed_version_can_be_asked_for(write: Write) -> None:
    write(1)
    assert reloading.reload("sample", "1.0", author="tested").version == "1.0"
    with pytest.raises(ReloadRefused, match=r"Version 2.0 of 'sample' is not installed here: there is reloaded 1.0"):
        reloading.reload("sample", "2.0", author="tested")


def test_what_the_host_runs_as_its_own_is_refused() -> None:
    with pytest.raises(ReloadRefused, match="INSTALLED_APPS"):
        reloading.covered("tenants")


def test_what_only_the_setting_names_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes import it as Python does, and would go on with the first they got."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "pluginhub_named.py").write_text("from pluginhub import Plugin\nclass Named(Plugin): ...\n")
    with (
        override_settings(PLUGINHUB={"PLUGINS": {"named": "pluginhub_named:Named"}}),
        pytest.raises(ReloadRefused, match=r"only PLUGINHUB..PLUGINS.. names it"),
    ):
        reloading.reload("named", author="tested")


def test_the_command_tells_how_each_process_fares(write: Write) -> None:
    write(1)
    publish()
    run()
    write(2)
    out = StringIO()
    call_command("pluginhub_reload", "sample==1.0", stdout=out)
    assert "Generation 1: " in out.getvalue()
    assert ": runs it" in out.getvalue()
    assert run()[0] == 2
    write(3, sample=SAMPLE.replace("self.count = state", "raise ValueError('not mine')"))
    with pytest.raises(CommandError, match="keep the code they have"):
        call_command("pluginhub_reload", "sample", stdout=out)
    assert "not mine" in out.getvalue()
    with pytest.raises(CommandError, match="is not installed here"):
        call_command("pluginhub_reload", "sample==7", stdout=out)
    with pytest.raises(CommandError, match="sample"):
        call_command("pluginhub_reload", "simple", stdout=out)


def test_numbers_have_no_gaps_and_packages_add_up(write: Write) -> None:
    write(1)
    first = reloading.reload("sample", author="tested")
    second = reloading.reload("addon", author="tested")
    assert (first.number, second.number) == (1, 2)
    assert second.packages.keys() == {OURS, ADDON}
    assert reloading.changed(second) == []
