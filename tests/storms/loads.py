"""The load: clients that ask web servers by turns, one request after the other, and keep what they were told."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from types import TracebackType
from typing import Any

from django.contrib.auth.models import Permission, User

from pluginhub import access, tenancy
from pluginhub.types import Tenant
from tests.storms.fleets import until

__all__ = ["Answer", "Ask", "Load", "token"]

Ask = Callable[[int], tuple[str, Any]]
"""`ask(n)` → path and value of a client's n-th request."""

SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request was told. `status` is 0 where nothing came; times are of the day, in seconds."""

    client: int
    port: int
    path: str
    asked: float
    told: float
    status: int
    revision: int
    body: Any


@dataclass
class Load:
    """Clients at work from entering the block to leaving it. Each asks the next server with each request."""

    host: str
    ports: Sequence[int]
    token: str
    ask: Ask
    clients: int = 8
    pause: float = 0.05
    answers: list[Answer] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Load:
        self._threads = [threading.Thread(target=self._rage, args=(number,)) for number in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Let each client end with the request it is at."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def warm_up(self, seconds: float = 30.0) -> None:
        """Wait until each server has answered well."""
        for _ in until(seconds):
            good = {answer.port for answer in list(self.answers) if answer.status == 200}
            if good == set(self.ports):
                return
        raise TimeoutError(f"Not all servers answer: {self.failures()[:3]}")

    def failures(self) -> list[Answer]:
        return [answer for answer in list(self.answers) if not 200 <= answer.status < 300]

    def _rage(self, client: int) -> None:
        asked = client  # so that not all ask the same at once
        with contextlib.ExitStack() as stack:
            servers = [HTTPConnection("127.0.0.1", port, timeout=SECONDS) for port in self.ports]
            for server in servers:
                stack.callback(server.close)
            while not self._over.wait(self.pause):
                self.answers.append(self._ask(client, servers[asked % len(servers)], *self.ask(asked)))
                asked += 1

    def _ask(self, client: int, server: HTTPConnection, path: str, value: Any) -> Answer:
        headers = {"Host": self.host, "Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        asked = time.time()
        try:
            server.request("POST", path, json.dumps(value), headers)
            response = server.getresponse()
            body = json.loads(response.read())
        except (OSError, HTTPException, ValueError) as error:
            server.close()  # it connects again at the next request
            return Answer(client, server.port, path, asked, time.time(), 0, 0, repr(error))
        revision = int(response.headers.get("PluginHub-Revision") or 0)
        return Answer(client, server.port, path, asked, time.time(), response.status, revision, body)


def token(tenant: Tenant) -> str:
    """Make a user of the tenant who may run its targets, and return an access token."""

    def make() -> str:
        user = User.objects.create_user("storm")
        user.user_permissions.add(Permission.objects.get(codename="run_target"))
        return access.issue_token(user, "storm")

    return tenancy.gate(tenant, make)
