"""What plugins do, as Prometheus metrics: `plugin_execute_duration` (seconds) and `plugin_error_total`.

Each thread counts into cells of its own, without a lock; a scrape folds them. Labels are `plugin` and `tenant`;
tenants past the first `TENANT_LABELS` share the label `other`, so that the number of series stays bounded.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client import REGISTRY, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from pluginhub import forks

__all__ = ["BUCKETS", "SUM", "TENANT_LABELS", "Metrics", "Timings", "here", "register", "timings"]

BUCKETS = (1e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2, 5e-2, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0)
"""Upper bounds, in seconds."""

TENANT_LABELS = 100
SUM = len(BUCKETS) + 1
"""Where among the cells the sum of seconds stands; before it a count a bucket."""
_ERRORS, _HITS, _MISSES, _WIDTH = SUM + 1, SUM + 2, SUM + 3, SUM + 4
_KEPT_THREADS = 64

_lock = threading.Lock()
_local = threading.local()
_timings: dict[tuple[str, str], Timings] = {}
_labels: set[str] = set()
_own: dict[str, Counter | Histogram] = {}


class Timings:
    """The durations and errors of one plugin in one tenant. Lives as long as the process."""

    __slots__ = ("_folded", "_threads", "plugin", "tenant")

    def __init__(self, plugin: str, tenant: str) -> None:
        self.plugin = plugin
        self.tenant = tenant
        self.reset()

    def reset(self) -> None:
        """Begin at zero. Only where no other thread counts: in a forked child."""
        self._threads: list[tuple[threading.Thread, list[float]]] = []
        self._folded = [0.0] * _WIDTH

    def observe(self, seconds: float) -> None:
        try:
            cells = _local.cells[self]
        except (AttributeError, KeyError):
            cells = self.join()
        cells[bisect_left(BUCKETS, seconds)] += 1
        cells[SUM] += seconds

    def failed(self) -> None:
        self._count(_ERRORS)

    def hit(self) -> None:
        """Count a result that came from the registration's cache."""
        self._count(_HITS)

    def missed(self) -> None:
        """Count a result that was looked for there in vain."""
        self._count(_MISSES)

    def _count(self, cell: int) -> None:
        try:
            cells = _local.cells[self]
        except (AttributeError, KeyError):
            cells = self.join()
        cells[cell] += 1

    def totals(self) -> list[float]:
        """Return a count a bucket (the last: above all bounds), then seconds, errors, cache hits and misses."""
        with _lock:
            rows = [self._folded, *(cells for _, cells in self._threads)]
        return [sum(column) for column in zip(*rows, strict=True)]

    def join(self) -> list[float]:
        """Return new cells of this thread, kept in `here()`."""
        cells = here()[self] = [0.0] * _WIDTH
        with _lock:
            if len(self._threads) >= _KEPT_THREADS:
                self._fold_ended()
            self._threads.append((threading.current_thread(), cells))
        return cells

    def _fold_ended(self) -> None:
        alive = []
        for thread, cells in self._threads:
            if thread.is_alive():
                alive.append((thread, cells))
            else:
                self._folded = [a + b for a, b in zip(self._folded, cells, strict=True)]
        self._threads = alive


def here() -> dict[Timings, list[float]]:
    """Return the cells of this thread, for who counts much at once; who is not there yet joins."""
    try:
        return _local.cells  # type: ignore[no-any-return]
    except AttributeError:
        _local.cells = {}
        return _local.cells  # type: ignore[no-any-return]


def timings(plugin: str, tenant: str = "") -> Timings:
    """Return the one `Timings` of a plugin in a tenant."""
    label = _tenant_label(tenant)
    with _lock:
        return _timings.setdefault((plugin, label), Timings(plugin, label))


class Metrics:
    """What one registration measures itself. The metric `name` is exported as `plugin_<name>`."""

    __slots__ = ("plugin", "tenant")

    def __init__(self, plugin: str = "", tenant: str = "") -> None:
        self.plugin = plugin
        self.tenant = tenant

    def counter(self, name: str, description: str = "") -> Counter:
        """Return this registration's counter: `context.metrics.counter("rows").inc()`."""
        counter: Counter = self._labelled(name, Counter, description)
        return counter

    def histogram(self, name: str, description: str = "", *, buckets: Sequence[float] = BUCKETS) -> Histogram:
        """Return this registration's histogram: `context.metrics.histogram("size").observe(n)`."""
        histogram: Histogram = self._labelled(name, Histogram, description, buckets=buckets)
        return histogram

    def _labelled(self, name: str, kind: type[Any], description: str, **options: Any) -> Any:
        full = name if name.startswith("plugin_") else f"plugin_{name}"
        with _lock:
            metric = _own.get(full)
            if metric is None:
                metric = _own[full] = kind(full, description or f"{name}, measured by plugins", _LABELS, **options)
        if not isinstance(metric, kind):
            raise TypeError(f"The metric {name!r} is a {type(metric).__name__.lower()} already; choose another name.")
        return metric.labels(self.plugin, _tenant_label(self.tenant))


_LABELS = ("plugin", "tenant")


class _Folded(Collector):
    def collect(self) -> Iterator[Metric]:
        durations = HistogramMetricFamily("plugin_execute_duration", "Seconds a plugin's process took", labels=_LABELS)
        errors = CounterMetricFamily("plugin_error", "Runs of a plugin that failed", labels=_LABELS)
        hits = CounterMetricFamily("plugin_cache_hits", "Results that came from a cache", labels=_LABELS)
        misses = CounterMetricFamily("plugin_cache_misses", "Results looked for in a cache in vain", labels=_LABELS)
        with _lock:
            known = list(_timings.values())
        for timing in known:
            totals = timing.totals()
            labels = (timing.plugin, timing.tenant)
            durations.add_metric(labels, _cumulative(totals), totals[SUM])
            errors.add_metric(labels, totals[_ERRORS])
            if totals[_HITS] or totals[_MISSES]:  # most registrations have no cache
                hits.add_metric(labels, totals[_HITS])
                misses.add_metric(labels, totals[_MISSES])
        yield from (durations, errors, hits, misses)


def register(registry: CollectorRegistry = REGISTRY) -> None:
    """Export the plugins' metrics through `registry`. Harmless when done twice."""
    with _lock:
        if registry in _registered:
            return
        _registered.add(registry)
    registry.register(_Folded())  # may collect at once, which takes the lock


_registered: set[CollectorRegistry] = set()


def _cumulative(totals: list[float]) -> list[tuple[str, float]]:
    bounds = [*map(str, BUCKETS), "+Inf"]
    rising = 0.0
    buckets = []
    for bound, count in zip(bounds, totals, strict=False):
        rising += count
        buckets.append((bound, rising))
    return buckets


def _anew() -> None:
    """Begin at zero in a forked child, or the parent's counts would be summed up twice."""
    global _lock, _local
    _lock, _local = threading.Lock(), threading.local()
    for timing in _timings.values():
        timing.reset()
    for registry in {REGISTRY, *_registered}:
        registry._lock = threading.Lock()  # a scrape may have held it; so might any library's, which are theirs
    for metric in _own.values():
        metric._lock = threading.Lock()
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:  # there, values are a process's own already
            metric.clear()


forks.in_child(_anew, "what was counted so far")


def _tenant_label(tenant: str) -> str:
    with _lock:
        if tenant in _labels:
            return tenant
        if len(_labels) < TENANT_LABELS:
            _labels.add(tenant)
            return tenant
        return "other"
