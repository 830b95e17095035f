"""The demo, as a stranger meets it: one command, in an installation of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tenants.processes import free_port
from tests import services

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installation() -> Iterator[dict[str, str]]:
    """The environment of an installation with embedded servers and data of its own."""
    folder = Path(tempfile.mkdtemp(prefix="pluginhub-demo-"))
    folder.chmod(0o755)
    ours = {services.RUN, "DATABASE_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE"}
    environment = {**{key: value for key, value in os.environ.items() if key not in ours}, "EMBEDDED_DIR": str(folder)}
    yield environment
    assert nothing_runs(environment, 30), left_running(environment)  # servers outlive their last user by a second
    shutil.rmtree(folder)


def demo(environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "manage.py", "demo", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def left_running(environment: dict[str, str]) -> list[str]:
    """Command lines of processes that belong to the installation."""
    found = []
    for process in psutil.process_iter(["environ", "cmdline", "status"]):
        mine = (process.info["environ"] or {}).get("EMBEDDED_DIR") == environment["EMBEDDED_DIR"]
        if mine and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(" ".join(process.info["cmdline"] or ()))
    return found


def nothing_runs(environment: dict[str, str], seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while left_running(environment):
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def test_once_proves_every_part_and_leaves_nothing_behind(installation: dict[str, str]) -> None:
    with demo(installation, "--once", "--port", str(free_port())) as process:
        said, _ = process.communicate(timeout=180)
    assert process.returncode == 0, said
    assert "All parts worked" in said
    assert re.search(r"without plugins +529\.00 EUR", said)
    assert re.search(r"acme +747\.65 EUR", said)
    assert re.search(r"globex +865\.00 USD", said)
    assert re.search(r"succeeded +28,298 of 28,298", said)
    assert "5 items on request" in said
    assert nothing_runs(installation), left_running(installation)


def test_it_stays_until_ctrl_c_and_its_commands_work_as_printed(installation: dict[str, str]) -> None:
    port = free_port()
    with demo(installation, "--port", str(port)) as process:
        assert process.stdout
        said = ""
        while "Ctrl-C stops everything" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        commands = re.findall(r"^  (curl .+)$", said, re.MULTILINE)
        assert len(commands) >= 4
        if shutil.which("curl"):
            for command in commands:
                answer = subprocess.run(
                    f"{command} -sS --fail-with-body --max-time 20", shell=True, capture_output=True
                )
                assert answer.returncode == 0, (command, answer)
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0, rest
    assert "Stopped." in rest
    assert nothing_runs(installation), left_running(installation)


def test_a_busy_port_is_one_line_that_says_what_to_do(installation: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with demo(installation, "--once", "--port", str(port)) as process:
            said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.strip() == f"CommandError: Port {port} is in use. Choose another: PORT={port + 1000} make demo"


def test_a_killed_demo_takes_its_processes_along(installation: dict[str, str]) -> None:
    if sys.platform != "linux":
        pytest.skip("Only Linux tells a process that its parent was killed.")
    with demo(installation, "--port", str(free_port())) as process:
        assert process.stdout
        while "Ctrl-C stops everything" not in (line := process.stdout.readline()):
            assert line
        process.kill()
        process.wait()
    assert nothing_runs(installation, 30), left_running(installation)
