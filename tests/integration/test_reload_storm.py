"""A package is reloaded again and again while clients run it in several processes: nobody sees two versions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pluginhub.types import Tenant
from tests.storms.packages import BROKEN, installed
from tests.storms.reloading import Storm, storming
from tests.storms.tearing import reloaded, swapped, torn

pytestmark = pytest.mark.storm


@pytest.fixture
def storm(acme: Tenant, tmp_path: Path) -> Iterator[Storm]:
    with storming(acme, tmp_path, workers=1) as storm:
        yield storm


def test_every_run_sees_one_version_and_no_state_is_lost(storm: Storm) -> None:
    """Also where versions are broken, in every way: the one before serves on, and each process says why."""
    storm.leg(2 * len(BROKEN) + 1, broken_every=2)
    storm.reload()
    jobs = storm.jobs()
    rest = storm.rest()
    assert len(storm.answers()) > 50
    assert len(storm.versions()) > 2
    assert (storm.mixed(), storm.backwards(), storm.load.failures()) == ([], 0, [])
    assert (storm.lost(), storm.late) == (0, 0)
    assert (storm.refused + storm.kept_out).keys() == set(BROKEN)
    assert any(job.status == "succeeded" for job in jobs)
    assert storm.mixed_jobs(jobs) == []
    assert rest.old(storm.version) == 0, f"Classes of older versions live on: {rest.alive}."


@pytest.mark.parametrize("renew", [reloaded, swapped], ids=["importlib.reload", "bare swap"])
def test_without_generations_the_same_runs_see_two_versions(tmp_path: Path, renew: Callable[[], Any]) -> None:
    with installed(tmp_path / "site") as distributions:
        mixed, _ = torn(distributions, renew, reloads=20)
    assert mixed > 0
