"""A tenant is published again and again while clients run it in several processes: each run sees one revision."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from pluginhub.types import Tenant
from tests.storms.propagation import Storm, storming

pytestmark = pytest.mark.storm


@pytest.fixture
def storm(acme: Tenant, tmp_path: Path) -> Iterator[Storm]:
    with storming(acme, tmp_path, workers=1) as storm:
        yield storm


def test_every_process_follows_and_every_run_sees_one_revision(storm: Storm) -> None:
    """Also where subscriptions to Redis are killed, and where a process was stopped for a while."""
    calm = storm.leg(16)
    cut = storm.leg(10, kill_every=5)
    resumed = storm.stop_and_go_on(storm.fleet.webs[0], 1.0)
    jobs = storm.jobs()
    assert len(storm.of("/hub/run/steps/")) > 20
    assert (storm.inconsistent(), storm.backwards(), storm.load.failures()) == ([], 0, [])
    assert jobs
    assert storm.stale(jobs) == []
    assert math.inf not in (calm.settled, cut.settled, resumed), "A process never came to the newest revision."
    assert storm.torn() > 0, "Reading the rows at each step must tear, or this storm proves nothing."
