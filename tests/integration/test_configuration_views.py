"""A tenant's set-up over HTTP: read, compared, rehearsed, written by who has seen what is there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.management import call_command

from pluginhub import encryption, publishing, tenancy
from pluginhub.configuration import Configuration, PointSpec, RegistrationSpec
from pluginhub.models import Registration, Revision
from pluginhub.types import Tenant
from tests.integration.adminsite import PLUGINS
from tests.integration.hub import Colour, Hub, bearer, make_user

PATH = "/hub/configuration/"
SECRET = "hunter2"


@pytest.fixture(autouse=True)
def plugins(settings: Any) -> None:
    settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": PLUGINS}


@pytest.fixture(params=["wsgi", "asgi"])
def colour(request: pytest.FixtureRequest) -> Colour:
    kind: Colour = request.param
    return kind


@pytest.fixture
def hub(colour: Colour, in_acme: Tenant) -> Hub:
    """Somebody who may see and publish."""
    return Hub(colour, token=bearer(make_user("ann", "view_revision", "publish")))


@pytest.fixture(autouse=True)
def revisions(in_acme: Tenant) -> None:
    """1: greet; 2: it has a title. The draft: it has another."""
    publish(title="")
    publish(title="Second")
    Registration.objects.update(title="Draft")


def publish(**fields: Any) -> None:
    spec = RegistrationSpec(name="greet", plugin="greet", config={"greeting": "Hi", "token": SECRET}, **fields)
    points = {"order.total": PointSpec(point="order.total", targets=("greet",))}
    publishing.apply_configuration(Configuration(registrations={"greet": spec}, points=points), author="root")


def put(hub: Hub, value: Any, query: str = "", **headers: str) -> Any:
    return hub.ask("PUT", PATH + query, json.dumps(value).encode(), **headers)


def read(hub: Hub, query: str = "") -> Any:
    answer = hub.get(PATH + query)
    assert answer.status == 200, answer
    return answer.json()


TITLE = [{"kind": "registration", "name": "greet", "what": "changed", "fields": ["title"]}]


class TestReading:
    def test_it_is_what_is_live_and_what_is_not_published_yet(self, hub: Hub) -> None:
        answer = hub.get(PATH)
        told = answer.json()
        assert {*told} == {"revision", "configuration", "changes"}
        assert told["revision"] == 2
        assert told["configuration"]["registrations"]["greet"]["title"] == "Second"
        assert told["changes"] == TITLE
        assert answer.headers["etag"] == f'"2-{publishing.configuration_at("draft").digest()}"'
        assert answer.headers["pluginhub-revision"] == "2"

    def test_secrets_are_sealed(self, hub: Hub) -> None:
        content = hub.get(PATH).content.decode()
        assert SECRET not in content
        assert encryption.is_sealed(json.loads(content)["configuration"]["registrations"]["greet"]["config"]["token"])

    @pytest.mark.parametrize(
        ("query", "title", "changes"),
        [
            ("?revision=1", "", TITLE),
            ("?revision=1&against=2", "", TITLE),
            ("?revision=2&against=2", "Second", []),
            ("?revision=draft", "Draft", TITLE),
            ("?revision=draft&against=1", "Draft", TITLE),
            ("?revision=live", "Second", []),
            ("?against=1", "Second", TITLE),
        ],
    )
    def test_any_against_any(self, hub: Hub, query: str, title: str, changes: Any) -> None:
        told = read(hub, query)
        assert told["configuration"]["registrations"]["greet"]["title"] == title
        assert told["changes"] == changes

    def test_what_is_not_there_is_said(self, hub: Hub) -> None:
        assert hub.get(f"{PATH}?revision=9").problem["detail"] == "There is no revision 9."
        assert hub.get(f"{PATH}?against=9").status == 404
        assert hub.get(f"{PATH}?revision=newest").problem["detail"] == (
            "?revision= is a revision's number, draft or live."
        )

    def test_it_takes_permissions(self, colour: Colour) -> None:
        runner = Hub(colour, token=bearer(make_user("rita")))
        assert "view_revision" in runner.get(PATH).problem["detail"]
        viewer = Hub(colour, token=bearer(make_user("vera", "view_revision")))
        assert viewer.get(PATH).status == 200
        assert "pluginhub.publish" in put(viewer, {}, "?expected=2").problem["detail"]
        blind = Hub(colour, token=bearer(make_user("paul", "publish")))
        assert put(blind, {}, "?expected=2").status == 403
        assert Hub(colour).get(PATH).status == 401
        assert publishing.live().number == 2  # type: ignore[union-attr]


class TestWriting:
    def test_what_was_read_and_changed_is_published(self, hub: Hub) -> None:
        answer = hub.get(PATH)
        value = answer.json()["configuration"]
        value["registrations"]["greet"]["config"]["greeting"] = "Moin"
        done = put(hub, value, "?note=Ahoy", If_Match=answer.headers["etag"])
        assert done.status == 200, done
        assert done.json() == {
            "revision": 3,
            "changes": [{"kind": "registration", "name": "greet", "what": "changed", "fields": ["config.greeting"]}],
            "discarded": TITLE,
        }
        assert (done.headers["pluginhub-revision"], done.headers["etag"]) == ("3", f'"{publishing.mark()}"')
        revision = Revision.objects.get(number=3)
        assert (revision.author, revision.note) == ("ann", "Ahoy")
        config = Registration.objects.get().config
        opened = encryption.unseal_config(config, tenant=tenancy.current(), registration="greet")
        assert opened == {"greeting": "Moin", "token": SECRET}

    def test_again_it_changes_nothing(self, hub: Hub) -> None:
        value = read(hub, "?revision=draft")["configuration"]
        done = put(hub, value, "?expected=2")
        assert done.json()["revision"] == 3
        again = put(hub, value, If_Match=done.headers["etag"])
        assert again.json() == {"revision": 3, "changes": [], "discarded": []}

    def test_who_has_not_seen_the_newest_is_refused(self, hub: Hub) -> None:
        answer = hub.get(PATH)
        publishing.publish(author="somebody")
        for headers, query in (({"If_Match": answer.headers["etag"]}, ""), ({}, "?expected=2")):
            for more in ("", "&dry_run=1" if query else "?dry_run=1"):
                problem = put(hub, answer.json()["configuration"], query + more, **headers).problem
                assert (problem["status"], problem["revision"]) == (409, 3)
                assert problem["detail"] == "Revision 3 was published meanwhile; you saw 2."
        assert publishing.configuration_at("draft").registrations["greet"].title == "Draft"

    def test_who_has_not_seen_the_draft_is_refused_by_its_tag(self, hub: Hub) -> None:
        answer = hub.get(PATH)
        Registration.objects.update(title="Another")
        problem = put(hub, answer.json()["configuration"], If_Match=answer.headers["etag"]).problem
        assert problem["detail"] == "The draft was changed meanwhile; revision 2 is still the newest."
        assert Registration.objects.get().title == "Another"

    def test_who_says_nothing_of_what_he_has_seen_is_asked(self, hub: Hub) -> None:
        problem = put(hub, read(hub)["configuration"]).problem
        assert (problem["status"], problem["title"]) == (428, "Expectation required")

    @pytest.mark.parametrize("tag", ["W/{}", '"1-x", {}', "*"])
    def test_tags_as_http_writes_them(self, hub: Hub, tag: str) -> None:
        answer = hub.get(PATH)
        assert put(hub, answer.json()["configuration"], If_Match=tag.format(answer.headers["etag"])).status == 200

    def test_one_that_is_none(self, hub: Hub) -> None:
        assert put(hub, {}, If_Match="2").problem["detail"] == "If-Match holds no ETag."
        assert put(hub, {}, "?expected=two").status == 400
        assert put(hub, {}, "?expected=2&dry_run=maybe").status == 400

    def test_a_rehearsal_writes_nothing_and_says_what_is_wrong(self, hub: Hub) -> None:
        before = publishing.mark()
        value = {"registrations": {"greet": {"plugin": "greet", "config": {"greetign": 1}}, "x": {"plugin": "nope"}}}
        told = put(hub, value, "?dry_run=1").json()
        assert [(one["kind"], one["name"], one["what"]) for one in told["changes"]] == [
            ("registration", "greet", "changed"),
            ("registration", "x", "added"),
            ("point", "order.total", "removed"),
        ]
        assert told["discarded"] == TITLE
        assert ("registration", "x", "plugin") in {(one["kind"], one["name"], one["field"]) for one in told["problems"]}
        assert publishing.mark() == before

    def test_what_cannot_be_published_is_told_by_row(self, hub: Hub) -> None:
        value = {"registrations": {"x": {"plugin": "nope"}}}
        problem = put(hub, value, "?expected=2").problem
        assert (problem["status"], problem["title"]) == (422, "Publish refused")
        assert problem["problems"] == [
            {"kind": "registration", "name": "x", "field": "plugin", "message": "No plugin named 'nope' is installed."}
        ]
        assert Registration.objects.get().name == "greet"

    @pytest.mark.parametrize(
        ("value", "field"),
        [
            (None, ""),
            ([], ""),
            ({"registrations": {"x": {}}}, "registrations.x.plugin"),
            ({"more": 1}, "more"),
            ({"format": 99}, "format"),
            ({"format": 0}, "format"),
        ],
    )
    def test_what_is_no_configuration_is_told_by_field(self, hub: Hub, value: Any, field: str) -> None:
        problem = put(hub, value, "?expected=2").problem
        assert problem["status"] == 422
        assert [*problem["errors"]] == [field]

    def test_a_secret_of_elsewhere_is_asked_for(self, hub: Hub, globex: Tenant) -> None:
        value = read(hub)["configuration"]
        config = value["registrations"]["greet"]["config"]
        foreign = encryption.seal("theirs", tenant=globex, registration="greet", path="token")
        value["registrations"]["greet"]["config"] = {**config, "token": foreign}
        assert put(hub, value, "?dry_run=1").json()["problems"] == [], "it keeps the one it has"
        value["registrations"]["other"] = {"plugin": "greet", "config": {"token": foreign}}
        problem = put(hub, value, "?expected=2").problem
        assert [(one["name"], one["field"]) for one in problem["problems"]] == [("other", "config.token")]
        assert "The secret 'other.token' is not known to this tenant." in problem["detail"]
        assert "theirs" not in json.dumps(problem)

    def test_a_session_needs_its_csrf_token(self, colour: Colour) -> None:
        user = make_user("sue", "view_revision", "publish")
        hub = Hub(colour, csrf=True)
        with tenancy.visit(tenancy.current()):
            hub.client.force_login(user)
        assert "CSRF" in put(hub, {}, "?expected=2").problem["detail"]


def test_it_is_described(hub: Hub) -> None:
    path = hub.get("/hub/openapi.json").json()["paths"]["/configuration/"]
    assert {*path} == {"get", "put"}
    assert {one["name"] for one in path["put"]["parameters"]} == {"If-Match", "expected", "dry_run", "note"}


def test_before_the_first_revision_there_is_an_empty_one(colour: Colour, globex: Tenant) -> None:
    with tenancy.visit(globex):
        hub = Hub(colour, host="globex.localhost", token=bearer(make_user("gus", "view_revision", "publish")))
        answer = hub.get(PATH)
        assert (answer.json()["revision"], answer.json()["configuration"]["registrations"]) == (0, {})
        value = {"registrations": {"greet": {"plugin": "greet"}}}
        assert put(hub, value, If_Match=answer.headers["etag"]).json()["revision"] == 1
        call_command("pluginhub_check", "--tenant", "globex")
