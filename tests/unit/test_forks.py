"""A forked child has no thread but its own: nothing it inherits may wait for the others."""

from __future__ import annotations

import asyncio
import gc
import importlib
import pkgutil
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

import pluginhub
from pluginhub import crossing, forks, metrics
from tests.forking import held, in_child, locks

ROOT = Path(pluginhub.__file__).parent
SLOW = "tests_of_forks_slow"


@pytest.fixture(scope="module", autouse=True)
def _everything() -> None:
    """Import every module there is, so that each has said what it keeps."""
    for found in pkgutil.walk_packages([str(ROOT)], "pluginhub."):
        if ".migrations" not in found.name and ".contrib.embedded.supervisor" not in found.name:
            importlib.import_module(found.name)


@pytest.fixture
def rule() -> Iterator[list[str]]:
    """A rule of the test's own; what it did in this process."""
    done: list[str] = []
    forks.in_child(lambda: done.append("made anew"), "a test's own")
    yield done
    forks._rules.pop()


def free(lock: object) -> bool:
    got = bool(lock.acquire(blocking=False))  # type: ignore[attr-defined]
    if got:
        lock.release()  # type: ignore[attr-defined]
    return got


class TestRules:
    def test_a_child_makes_anew_what_it_is_told_to_and_its_parent_does_not(self, rule: list[str]) -> None:
        assert in_child(lambda: rule) == ["made anew"]
        assert rule == []

    def test_a_rule_that_fails_keeps_no_other_from_being_followed(
        self, rule: list[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail() -> None:
            raise RuntimeError("broken")

        forks._rules.insert(0, forks.Rule("what breaks", __name__, fail))
        try:
            said = in_child(lambda: [rule, [record.getMessage() for record in caplog.records]])
        finally:
            del forks._rules[0]
        assert said == [
            ["made anew"],
            [f"A forked child could not be given its own: what breaks ({__name__})"],
        ]

    def test_each_process_has_a_mark_of_its_own(self) -> None:
        mark = forks.here()
        assert mark is forks.here()
        assert in_child(lambda: mark is not forks.here())

    def test_what_is_kept_is_not_finalized(self) -> None:
        ended: list[str] = []

        class Session:
            def __del__(self) -> None:
                ended.append("closed in the parent's name")

        def lose() -> list[str]:
            forks.keep(sessions.pop())
            gc.collect()
            return ended

        sessions = [Session()]
        assert in_child(lose) == []

    def test_there_is_one_place_that_hears_of_forks(self) -> None:
        sources = [path for path in ROOT.rglob("*.py") if "register_at_fork" in path.read_text()]
        assert sources == [ROOT / "forks.py"]

    def test_every_rule_is_documented_and_every_documented_rule_exists(self) -> None:
        page = (ROOT.parent / "docs" / "architecture.md").read_text()
        section = re.search(r"^## At a fork\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
        assert section is not None
        table = section[1].partition("| made anew |")[2]
        written = {line.split("|")[1].strip() for line in table.splitlines()[2:] if line.startswith("| ")}
        assert written == {rule.what for rule in forks.rules() if rule.module.startswith("pluginhub")}


class TestLocks:
    def test_the_locks_of_this_process_are_found(self) -> None:
        names = set(locks())
        assert {
            "pluginhub.metrics._lock",
            "pluginhub.crossing._process._lock",
            "pluginhub.providers.processes.process.lock",
        } <= names

    def test_no_lock_that_another_thread_held_is_held_in_a_child(self) -> None:
        metrics.timings("held")
        with held(locks()) as names:
            assert len(names) > 10
            assert in_child(lambda: [name for name, lock in locks().items() if not free(lock)]) == []
            assert not free(metrics._lock), "held in this process all the while"

    def test_an_import_that_another_thread_had_begun_is_done_anew(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.syspath_prepend(str(tmp_path))
        begun = tmp_path / "begun"
        (tmp_path / f"{SLOW}.py").write_text(f"import time\nopen({str(begun)!r}, 'a').close()\ntime.sleep(1)\n")
        thread = threading.Thread(target=importlib.import_module, args=(SLOW,))
        thread.start()
        while not begun.exists():
            time.sleep(0.01)
        assert in_child(lambda: importlib.import_module(SLOW).__name__) == SLOW
        thread.join()
        assert sys.modules.pop(SLOW).time is time


class TestLoopsAndThreads:
    def test_a_child_has_a_loop_and_pools_of_its_own(self) -> None:
        def both() -> list[object]:
            async def say() -> str:
                return await crossing.in_thread(threading.current_thread().__class__.__name__.upper)

            return [crossing.submit_coroutine(say()).result(20), crossing.submit(str, 1).result(20)]

        assert both() == ["THREAD", "1"]
        assert in_child(both) == ["THREAD", "1"]
        assert both() == ["THREAD", "1"], "the parent's own go on"

    def test_the_parents_loop_is_still_woken_after_children_let_go_of_it(self) -> None:
        """A loop that is collected in a child would take its descriptors out of the parent's selector."""

        def let_go() -> str:
            gc.collect()
            return "gone"

        assert in_child(let_go) == "gone"
        time.sleep(0.05)  # the loop waits in its selector by now
        assert crossing.submit_coroutine(asyncio.sleep(0, "woken")).result(20) == "woken"

    def test_who_forks_in_a_pool_thread_is_in_none_in_the_child(self) -> None:
        assert crossing.submit(crossing.in_pool_thread).result(20)
        assert crossing.submit(in_child, crossing.in_pool_thread).result(60) is False

    def test_who_forks_amid_a_run_waits_in_the_child_for_nobody(self) -> None:
        async def work(home: crossing.Home) -> object:
            return await home.run(in_child, lambda: crossing.home() is None)

        assert crossing.on_loop(work) is True


class TestMetrics:
    def test_a_child_counts_from_zero_and_its_counts_are_not_the_parents(self) -> None:
        timing, own = metrics.timings("forked"), metrics.Metrics("forked").counter("forked_rows")

        def count() -> list[float]:
            timing.observe(0.1)
            metrics.Metrics("forked").counter("forked_rows").inc()
            return [sum(timing.totals()[: metrics.SUM]), metrics.Metrics("forked").counter("forked_rows")._value.get()]

        for _ in range(3):
            timing.observe(0.1)
            own.inc()
        assert in_child(count) == [1.0, 1.0]
        assert count() == [4.0, 4.0]

    def test_a_child_can_be_scraped_though_a_scrape_was_under_way(self) -> None:
        registry = CollectorRegistry(auto_describe=True)
        metrics.register(registry)
        metrics.timings("scraped").observe(0.1)
        with held({"registry": registry._lock, "ours": metrics._lock}) as names:
            assert len(names) == 2
            assert in_child(lambda: 'count{plugin="scraped",tenant=""} 0.0' in generate_latest(registry).decode())
