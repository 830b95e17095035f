"""A client that has published reads its own write: it says which revision is to answer, at least."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from pluginhub.configuration import RegistrationSpec
from pluginhub.fleet.models import Head
from pluginhub.models import Revision
from pluginhub.registry import registry
from pluginhub.types import Tenant
from tests.integration.hub import PLUGINS, Colour, Hub, bearer, make_user, publish

RUN = "/hub/run/say/"


@pytest.fixture(autouse=True)
def plugins(settings: Any) -> None:
    settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": PLUGINS}


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that follows nobody by itself, as one that has not looked yet."""
    monkeypatch.setattr(registry, "_follows", False)


@pytest.fixture(params=["wsgi", "asgi"])
def hub(request: pytest.FixtureRequest, in_acme: Tenant) -> Hub:
    colour: Colour = request.param
    publish(say="echo", other="echo")
    made = Hub(colour, token=bearer(make_user()))
    assert made.post(RUN, 1).headers["pluginhub-revision"] == "1"
    return made


def publish_elsewhere() -> None:
    """Another process publishes revision 2, without `other`."""
    done = subprocess.run(
        [sys.executable, "-m", "django", "pluginhub_disable", "--tenant", "acme", "other"],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "Disabled in revision 2: other.\n", done.stderr


def test_the_process_follows_at_once_where_a_client_asks(hub: Hub) -> None:
    publish_elsewhere()
    assert hub.post(RUN, 1).headers["pluginhub-revision"] == "1", "nobody told this process"
    answer = hub.post(RUN, 1, PluginHub_Revision="2")
    assert (answer.status, answer.headers["pluginhub-revision"]) == (200, "2")
    assert hub.post("/hub/run/other/", 1).status == 404


def test_an_older_one_is_no_wish(hub: Hub) -> None:
    for older in ("0", "1"):
        assert hub.post(RUN, 1, PluginHub_Revision=older).status == 200


def test_it_holds_for_a_process_that_serves_the_tenant_for_the_first_time(hub: Hub) -> None:
    publish_elsewhere()
    registry.clear()
    assert hub.get("/hub/", PluginHub_Revision="2").json()["revision"] == 2


def test_one_that_nobody_has_published_is_not_waited_for(hub: Hub) -> None:
    answer = hub.post(RUN, 1, PluginHub_Revision="7")
    assert answer.headers["retry-after"] == "1"
    assert answer.problem["detail"] == (
        "This process serves revision 1 of Acme, and not 7. None that is newer has been published."
    )
    assert answer.problem["revision"] == 1
    assert answer.status == 503


def test_one_that_cannot_be_brought_up_here_says_so_to_who_may_see_revisions(hub: Hub, in_acme: Tenant) -> None:
    """As after a roll-out was taken back: what a newer PluginHub wrote."""
    Revision.objects.create(number=2, format=99, data={"format": 99}, digest="", author="newer")
    Head.objects.update(revision=2)
    problem = hub.post(RUN, 1, PluginHub_Revision="2").problem
    assert problem["detail"] == (
        "This process serves revision 1 of Acme, and not 2. The newer one could not be brought up here."
    )
    hub.token = bearer(make_user("vera", "view_revision"))
    problem = hub.post(RUN, 1, PluginHub_Revision="2").problem
    assert "it was written by a newer PluginHub" in problem["detail"]
    assert hub.post(RUN, 1).status == 200, "the last good one serves"


@pytest.mark.parametrize("said", ["", "two", "-1", "1.0", "²", "9" * 30])
def test_what_is_no_number_is_malformed(hub: Hub, said: str) -> None:
    problem = hub.post(RUN, 1, PluginHub_Revision=said).problem
    assert (problem["status"], problem["detail"]) == (400, "The header PluginHub-Revision is a revision's number.")


def test_every_call_takes_it(hub: Hub) -> None:
    publish(RegistrationSpec(name="hook", plugin="hook", public=True, rate_limit="9/m"), say="echo")
    for method, path in (("GET", "/hub/"), ("GET", "/hub/openapi.json"), ("POST", "/hub/jobs/say/"),
                         ("POST", "/hub/in/hook/"), ("POST", "/hub/tickets/")):  # fmt: skip
        assert hub.ask(method, path, b"1", PluginHub_Revision="9").status == 503, path
        assert hub.ask(method, path, b"1", PluginHub_Revision="2").status < 300, path
