"""What is measured, folded over threads."""

from __future__ import annotations

import threading
import time

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from pluginhub import Context, Plugin, Refuse, chains, metrics
from pluginhub.exceptions import DeadlineExceeded
from pluginhub.metrics import SUM, Metrics, register, timings


class MeasuredOk(Plugin):
    def process(self, value: int, context: Context) -> int:
        return value


class MeasuredSlow(Plugin):
    def process(self, value: int, context: Context) -> int:
        time.sleep(0.05)
        return value


class MeasuredQuickly(Plugin):
    def process(self, value: int, context: Context) -> int:
        raise ValueError("boom")


class MeasuredNever(Plugin):
    def process(self, value: int, context: Context) -> int:
        raise AssertionError("it is too late to begin")


class MeasuredNeverEither(Plugin):
    async def process(self, value: int, context: Context) -> int:
        raise AssertionError("it is too late to begin")


class MeasuredBoom(Plugin):
    def process(self, value: int, context: Context) -> int:
        raise Refuse("no") if value else ValueError("boom")


def exported() -> str:
    registry = CollectorRegistry(auto_describe=True)
    register(registry)
    register(registry)
    return generate_latest(registry).decode()


def test_runs_are_counted_over_all_threads() -> None:
    threads = [threading.Thread(target=chains.execute, args=([MeasuredOk()] * 3, 1)) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 'plugin_execute_duration_count{plugin="MeasuredOk",tenant=""} 300.0' in exported()
    assert len(timings("MeasuredOk")._threads) <= 2 * metrics._KEPT_THREADS


def test_errors_are_counted_and_refusals_are_not() -> None:
    for value in (0, 0, 1):
        with pytest.raises((ValueError, Refuse)):
            chains.execute([MeasuredBoom()], value)
    assert 'plugin_error_total{plugin="MeasuredBoom",tenant=""} 2.0' in exported()


def test_a_failure_takes_as_long_as_the_one_that_failed_and_not_as_what_came_before_it() -> None:
    with pytest.raises(ValueError, match="boom"):
        chains.execute([MeasuredSlow(), MeasuredQuickly()], 1)
    slow, quick = (timings(name).totals()[SUM] for name in ("MeasuredSlow", "MeasuredQuickly"))
    assert quick < slow


@pytest.mark.parametrize("plugin", [MeasuredNever, MeasuredNeverEither], ids=["sync", "async"])
def test_what_does_not_begin_is_no_execution(plugin: type[Plugin]) -> None:
    with pytest.raises(DeadlineExceeded):
        chains.execute([plugin()], 1, timeout=-1)
    totals = timings(plugin.__name__).totals()
    assert sum(totals[:SUM]) == 0


def test_buckets_rise_to_the_count() -> None:
    timing = timings("bucketed")
    for seconds in (1e-6, 0.003, 100):
        timing.observe(seconds)
    lines = [line for line in exported().splitlines() if 'plugin="bucketed"' in line and "_bucket" in line]
    counts = [float(line.rsplit(" ", 1)[1]) for line in lines]
    assert counts == sorted(counts)
    assert counts[-1] == 3


def test_tenants_past_the_budget_share_a_label(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "TENANT_LABELS", 0)
    monkeypatch.setattr(metrics, "_labels", set())
    assert timings("any", "crowd-1").tenant == "other"
    assert timings("any", "crowd-1") is timings("any", "crowd-2")


def test_a_plugin_measures_itself() -> None:
    mine = Metrics("probe", "acme")
    mine.counter("test_rows").inc(3)
    mine.histogram("test_size").observe(2)
    assert mine.counter("test_rows") is mine.counter("test_rows")
    with pytest.raises(TypeError, match="counter already"):
        mine.histogram("test_rows")
