"""Every call of the contract over HTTP, its answers and its errors, under WSGI and ASGI."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from pluginhub import admission, tenancy
from pluginhub.configuration import RegistrationSpec
from pluginhub.models import AccessToken, Job
from pluginhub.types import Tenant
from tests.integration.hub import PLUGINS, Colour, Hub, bearer, chain, make_user, publish
from tests.unit.test_payloads import HOSTILE


@pytest.fixture(autouse=True)
def plugins(settings: Any) -> None:
    settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": PLUGINS, "RUN_SECONDS": 1.0}


@pytest.fixture
def user(in_acme: Tenant) -> User:
    return make_user()


@pytest.fixture(params=["wsgi", "asgi"])
def colour(request: pytest.FixtureRequest) -> Colour:
    kind: Colour = request.param
    return kind


@pytest.fixture
def hub(colour: Colour, user: User) -> Hub:
    """Rita of acme, by access token."""
    return Hub(colour, token=bearer(user))


@pytest.fixture
def stranger(colour: Colour, in_acme: Tenant) -> Hub:
    return Hub(colour)


class TestIndex:
    def test_it_lists_what_is_enabled(self, hub: Hub) -> None:
        disabled = RegistrationSpec(name="off", plugin="echo", enabled=False)
        publish(disabled, chain("both", "say", "say"), say="echo", count="numbers")
        answer = hub.get("/hub/")
        assert answer.status == 200
        assert answer.json() == {
            "targets": [
                {"name": "both", "kind": "chain", "title": "both"},
                {"name": "say", "kind": "registration", "title": "Echo"},
            ],
            "streams": [{"name": "count", "title": "Numbers"}],
            "handlers": [{"name": "count.import", "title": "Numbers: import"}],
            "revision": 1,
        }
        assert answer.headers["pluginhub-revision"] == "1"
        assert answer.headers["cache-control"] == "no-store"

    def test_nothing_published_is_an_empty_list(self, hub: Hub) -> None:
        assert hub.get("/hub/").json() == {"targets": [], "streams": [], "handlers": [], "revision": 0}


class TestRun:
    @pytest.mark.parametrize("plugin", ["echo", "asyncecho"])
    def test_it_answers_result_run_revision_and_duration(self, hub: Hub, plugin: str) -> None:
        publish(say=plugin)
        answer = hub.post("/hub/run/say/", {"a": [1, 2.5, None, "é"]})
        assert answer.status == 200
        told = answer.json()
        assert told["result"] == {"a": [1, 2.5, None, "é"]}
        assert (told["revision"], answer.headers["pluginhub-revision"]) == (1, "1")
        assert len(told["run"]) == 32
        assert told["duration_ms"] > 0

    def test_an_empty_body_is_null(self, hub: Hub) -> None:
        publish(say="echo")
        assert hub.ask("POST", "/hub/run/say/").json()["result"] is None

    def test_what_a_body_is_called_does_not_matter(self, hub: Hub) -> None:
        publish(say="echo")
        answer = hub.ask("POST", "/hub/run/say/", b"[1]", kind="application/x-www-form-urlencoded")
        assert answer.json()["result"] == [1]

    def test_the_plugin_knows_who_asks(self, hub: Hub) -> None:
        publish(who="whoami")
        assert hub.post("/hub/run/who/").json()["result"] == ["acme", "rita", "http", False]

    def test_a_superuser_is_trusted(self, colour: Colour, in_acme: Tenant) -> None:
        publish(who="whoami")
        root = User.objects.create_superuser("root", password="x")
        assert Hub(colour, token=bearer(root)).post("/hub/run/who/").json()["result"][3] is True

    def test_it_costs_no_query_when_warm(self, user: User) -> None:
        publish(say="echo")
        hub = Hub("wsgi", token=bearer(user))
        hub.post("/hub/run/say/")
        with CaptureQueriesContext(connection) as queries:
            assert hub.post("/hub/run/say/").status == 200
        ours = [each["sql"] for each in queries if "tenants_" not in each["sql"] and "search_path" not in each["sql"]]
        assert ours == []


class TestErrors:
    """One row of the contract's table each."""

    def test_400_says_why_a_body_is_refused(self, hub: Hub) -> None:
        publish(say="echo")
        for name, (raw, reason) in HOSTILE.items():
            answer = hub.ask("POST", "/hub/run/say/", raw)
            assert (answer.status, name) == (400, name)
            assert reason in answer.problem["detail"]

    def test_401_without_credentials(self, stranger: Hub) -> None:
        for method, path in [("GET", "/hub/"), ("POST", "/hub/run/x/"), ("GET", "/hub/openapi.json")]:
            answer = stranger.ask(method, path)
            assert answer.status == 401
            assert answer.headers["www-authenticate"] == 'Bearer realm="pluginhub"'
            assert "access token" in answer.problem["hint"]

    def test_401_for_credentials_that_do_not_hold(self, stranger: Hub) -> None:
        for header in ("Bearer wrong", "Bearer ", "Bearer", "Basic eDp5", "", "Bearer \x80é"):
            answer = stranger.get("/hub/", Authorization=header)
            assert (answer.status, header) == (401, header)
            assert "invalid_token" in answer.headers["www-authenticate"]
            assert "wrong" not in answer.problem["detail"]

    def test_401_for_another_tenants_token(self, hub: Hub, globex: Tenant) -> None:
        hub.host = "globex.localhost"
        assert hub.get("/hub/").status == 401

    def test_403_without_the_permission(self, hub: Hub, user: User) -> None:
        user.user_permissions.clear()
        publish(say="echo")
        for answer in (
            hub.get("/hub/"),
            hub.post("/hub/run/say/"),
            hub.post("/hub/jobs/say/"),
            hub.post("/hub/tickets/"),
        ):
            assert answer.status == 403
            assert "pluginhub.run_target" in answer.problem["detail"]

    def test_404_names_near_misses(self, hub: Hub) -> None:
        publish(RegistrationSpec(name="said", plugin="echo", enabled=False), say="echo")
        for path in ("/hub/run/sai/", "/hub/run/said/", "/hub/jobs/sai/"):
            answer = hub.post(path)
            assert answer.status == 404
            assert answer.problem["near_misses"] == ["say"]

    def test_404_for_what_does_not_exist(self, hub: Hub) -> None:
        for path in ("/hub/nope/", "/hub/run/", "/hub/run/say", "/hub/jobs/a/b/", "/hub/run/%00%ff/"):
            answer = hub.post(path)
            assert (answer.status, path) == (404, path)
            assert answer.problem["title"]

    def test_404_for_endless_names(self, hub: Hub) -> None:
        answer = hub.post(f"/hub/run/{'x' * 5000}/")
        assert answer.status == 404
        assert len(answer.content) < 500

    def test_404_on_the_public_site_of_a_host_that_mounts_the_hub_there(self, colour: Colour, db: None) -> None:
        answer = Hub(colour, host="localhost").get("/hub/")
        assert answer.status == 404

    def test_405_names_what_is_allowed(self, hub: Hub) -> None:
        answer = hub.ask("PUT", "/hub/jobs/x/")
        assert answer.status == 405
        assert answer.headers["allow"] == "GET, HEAD, POST, DELETE, OPTIONS"
        assert answer.problem["detail"] == "PUT is not allowed here."
        assert hub.ask("OPTIONS", "/hub/run/x/").headers["allow"] == "POST, OPTIONS"

    def test_413_before_reading(self, hub: Hub, settings: Any) -> None:
        settings.PLUGINHUB = {**settings.PLUGINHUB, "MAX_BODY_BYTES": 10}
        publish(say="echo")
        assert hub.ask("POST", "/hub/run/say/", b'"12345678"').status == 200
        answer = hub.ask("POST", "/hub/run/say/", b'"123456789"')
        assert answer.status == 413
        assert answer.problem["max_bytes"] == 10

    def test_422_by_field_from_a_schema(self, hub: Hub) -> None:
        publish(quote="quote")
        assert hub.post("/hub/run/quote/", {"weight": 2}).json()["result"] == {"price": 4.0}
        answer = hub.post("/hub/run/quote/", {"weight": "heavy"})
        assert answer.status == 422
        assert list(answer.problem["errors"]) == ["weight"]

    def test_422_refused_by_a_plugin_inside_a_chain(self, hub: Hub) -> None:
        publish(chain("all", "say", "no"), say="echo", no="refusing")
        answer = hub.post("/hub/run/all/", 1)
        assert answer.status == 422
        assert answer.problem["errors"] == {"origin": "No airport has the code XXX."}
        assert (answer.problem["chain"], answer.problem["step"], answer.problem["plugin"]) == ("all", "no", "refusing")

    def test_429_when_a_public_target_is_called_too_often(self, stranger: Hub) -> None:
        publish(RegistrationSpec(name="hook", plugin="hook", public=True, rate_limit="2/h"))
        assert [stranger.post("/hub/in/hook/").status for _ in range(3)] == [200, 200, 429]
        answer = stranger.post("/hub/in/hook/")
        assert 0 < answer.problem["retry_after"] <= 3600
        assert 1 <= int(answer.headers["retry-after"]) <= 3600

    def test_500_names_chain_step_and_plugin_and_nothing_else(self, hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
        publish(chain("all", "say", "bad"), say="echo", bad="broken")
        answer = hub.post("/hub/run/all/", 1)
        assert answer.status == 500
        assert (answer.problem["chain"], answer.problem["step"], answer.problem["plugin"]) == ("all", "bad", "broken")
        assert b"hunter2" not in answer.content
        assert answer.headers["pluginhub-revision"] == "1"
        assert "hunter2" in caplog.text  # for those who run the site
        assert hub.post("/hub/run/say/", 1).status == 200

    def test_500_for_a_result_that_is_no_json(self, hub: Hub) -> None:
        publish(odd="unspeakable")
        answer = hub.post("/hub/run/odd/")
        assert answer.status == 500
        assert "The result is not JSON" in answer.problem["detail"]

    def test_503_with_the_reason_where_a_plugin_is_not_ready(self, hub: Hub) -> None:
        publish(wild="wild", say="echo")
        answer = hub.post("/hub/run/wild/")
        assert answer.status == 503
        assert "'wild' could not be activated" in answer.problem["detail"]
        assert hub.post("/hub/run/say/", 1).status == 200

    def test_503_says_when_to_come_again(self, hub: Hub) -> None:
        publish(later="later")
        answer = hub.post("/hub/run/later/")
        assert answer.status == 503
        assert answer.headers["retry-after"] == "3"

    def test_504_when_the_deadline_passed(self, hub: Hub) -> None:
        publish(slow="slow")
        answer = hub.post("/hub/run/slow/")
        assert answer.status == 504
        assert answer.problem["plugin"] == "slow"

    def test_safe_mode_runs_nothing(self, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        publish(say="echo")
        monkeypatch.setenv("PLUGINHUB_SAFE_MODE", "1")
        assert hub.post("/hub/run/say/").status == 503


class TestSessions:
    @pytest.fixture
    def session(self, colour: Colour, user: User) -> Hub:
        hub = Hub(colour, csrf=True)
        hub.client.force_login(user) if colour == "wsgi" else _login(hub, user)
        return hub

    def test_a_session_may_read_without_a_token(self, session: Hub) -> None:
        publish(say="echo")
        assert session.get("/hub/").status == 200

    def test_writing_needs_the_csrf_token(self, session: Hub) -> None:
        publish(who="whoami")
        answer = session.post("/hub/run/who/")
        assert answer.status == 403
        assert "CSRF" in answer.problem["detail"]
        secret = "a" * 32
        session.client.cookies["freight_csrf"] = secret
        answer = session.post("/hub/run/who/", X_CSRFToken=secret)
        assert answer.json()["result"] == ["acme", "rita", "http", False]
        assert session.post("/hub/run/who/", X_CSRFToken="b" * 32).status == 403

    def test_a_bearer_needs_none(self, session: Hub, user: User) -> None:
        publish(say="echo")
        session.token = bearer(user)
        assert session.post("/hub/run/say/", 1).status == 200

    def test_a_wrong_bearer_is_not_rescued_by_the_session(self, session: Hub) -> None:
        assert session.get("/hub/", Authorization="Bearer wrong").status == 401

    def test_another_tenants_session_is_none(self, session: Hub, globex: Tenant) -> None:
        session.host = "globex.localhost"
        assert session.get("/hub/").status == 401


def _login(hub: Hub, user: User) -> None:
    from asgiref.sync import async_to_sync

    async_to_sync(hub.client.aforce_login)(user)


class TestJobs:
    def test_it_is_accepted_and_can_be_looked_at_and_cancelled(self, hub: Hub) -> None:
        publish(say="echo", count="numbers")
        answer = hub.post("/hub/jobs/say/", {"a": 1})
        assert answer.status == 202
        told = answer.json()
        assert told == {"id": told["id"], "status": "queued", "url": f"/hub/jobs/{told['id']}/"}
        assert (answer.headers["location"], answer.headers["pluginhub-revision"]) == (told["url"], "1")
        assert hub.post("/hub/jobs/count.import/").status == 202

        seen = hub.get(told["url"]).json()
        assert seen["status"] == "queued"
        assert seen["progress"] == {"done": 0, "total": None, "note": ""}
        assert (seen["result"], seen["problem"], seen["url"]) == (None, None, told["url"])

        assert hub.ask("DELETE", told["url"]).json()["status"] == "cancelled"
        assert hub.get(told["url"]).json()["status"] == "cancelled"

    def test_the_job_knows_data_and_caller(self, hub: Hub, user: User) -> None:
        publish(say="echo")
        id_ = hub.post("/hub/jobs/say/", {"a": 1}).json()["id"]
        row = Job.objects.get(id=id_)
        assert (row.name, row.data, row.caller["name"], row.caller["edge"]) == ("say", {"a": 1}, "rita", "http")

    def test_the_same_idempotency_key_is_the_same_job(self, hub: Hub) -> None:
        publish(say="echo")
        ids = {hub.post("/hub/jobs/say/", n, Idempotency_Key="k").json()["id"] for n in range(3)}
        assert len(ids) == 1
        assert hub.post("/hub/jobs/say/", 1, Idempotency_Key="other").json()["id"] not in ids

    def test_a_key_that_is_too_long_is_refused(self, hub: Hub) -> None:
        publish(say="echo")
        answer = hub.post("/hub/jobs/say/", 1, Idempotency_Key="k" * 256)
        assert answer.status == 422
        assert "idempotency_key" in answer.problem["errors"]

    def test_hostile_data_is_refused(self, hub: Hub) -> None:
        publish(say="echo")
        assert hub.ask("POST", "/hub/jobs/say/", b'"\\u0000"').status == 400
        assert not Job.objects.exists()

    def test_a_job_that_is_not_there(self, hub: Hub) -> None:
        for id_ in ("nope", "00000000-0000-0000-0000-000000000000", "%00"):
            assert hub.get(f"/hub/jobs/{id_}/").status == 404
            assert hub.ask("DELETE", f"/hub/jobs/{id_}/").status == 404

    def test_others_jobs_are_not_there_either(self, hub: Hub, colour: Colour) -> None:
        publish(say="echo")
        url = hub.post("/hub/jobs/say/").json()["url"]
        assert Hub(colour, token=bearer(make_user("vera"))).get(url).status == 404
        assert Hub(colour, token=bearer(make_user("victor", "view_job"))).get(url).status == 200


class TestStreams:
    @pytest.fixture(params=["numbers", "asyncnumbers"])
    def count(self, request: pytest.FixtureRequest, hub: Hub) -> str:
        publish(count=request.param)
        return "/hub/stream/count/"

    def test_it_sends_events_and_their_end(self, hub: Hub, count: str) -> None:
        answer = hub.get(f'{count}?params={{"until":2}}')
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.content == b'id: 1\ndata: {"n":1}\n\nid: 2\ndata: {"n":2}\n\nevent: complete\ndata: {}\n\n'

    def test_it_resumes_by_last_event_id_or_cursor(self, hub: Hub, count: str) -> None:
        for answer in (hub.get(count, Last_Event_ID="2"), hub.get(f"{count}?cursor=2")):
            assert answer.content.startswith(b'id: 3\ndata: {"n":3}\n\nevent: complete')
        # The browser repeats the address when it reconnects, and adds where it was.
        assert hub.get(f"{count}?cursor=1", Last_Event_ID="3").content == b"event: complete\ndata: {}\n\n"

    def test_what_cannot_be_opened_answers_its_status(self, hub: Hub, count: str, stranger: Hub) -> None:
        assert hub.get("/hub/stream/coun/").problem["near_misses"] == ["count"]
        assert list(hub.get(f'{count}?params={{"until":"x"}}').problem["errors"]) == ["until"]
        assert hub.get(f"{count}?params=%7B").status == 400
        assert hub.get(f"{count}?params=NaN").status == 400
        assert hub.get(count, Last_Event_ID="{").status == 400
        assert stranger.get(count).status == 401

    def test_an_error_on_the_way_is_the_last_event(self, hub: Hub) -> None:
        publish(count="numbers")
        content = hub.get('/hub/stream/count/?params={"until":9}').content
        assert b"id: 5" in content
        last = content.rpartition(b"event: error\ndata: ")[2]
        assert json.loads(last)["plugin"] == "numbers"
        assert b"hunter2" not in content

    def test_a_jobs_progress_is_a_stream(self, hub: Hub) -> None:
        publish(say="echo")
        job = hub.post("/hub/jobs/say/").json()
        hub.ask("DELETE", job["url"])
        content = hub.get(f"/hub/stream/job:{job['id']}/").content
        assert b"cancelled" in content
        assert content.endswith(b"event: complete\ndata: {}\n\n")


class TestTickets:
    def test_a_ticket_opens_a_stream_once(self, hub: Hub, stranger: Hub) -> None:
        publish(count="numbers")
        answer = hub.post("/hub/tickets/")
        assert answer.status == 201
        ticket = answer.json()["ticket"]
        assert answer.json()["expires_in"] == 30
        assert stranger.get(f"/hub/stream/count/?ticket={ticket}").status == 200
        again = stranger.get(f"/hub/stream/count/?ticket={ticket}")
        assert again.status == 401
        assert "used" in again.problem["detail"]

    def test_it_opens_nothing_else(self, hub: Hub, stranger: Hub) -> None:
        ticket = hub.post("/hub/tickets/").json()["ticket"]
        assert stranger.get(f"/hub/?ticket={ticket}").status == 401

    def test_it_is_its_tenants(self, hub: Hub, stranger: Hub, globex: Tenant) -> None:
        ticket = hub.post("/hub/tickets/").json()["ticket"]
        stranger.host = "globex.localhost"
        assert stranger.get(f"/hub/stream/count/?ticket={ticket}").status == 401


class TestPublic:
    @pytest.fixture(autouse=True)
    def hook(self, in_acme: Tenant) -> None:
        publish(RegistrationSpec(name="hook", plugin="hook", public=True, rate_limit="1000/m"), say="echo")

    def test_the_plugin_gets_the_request(self, stranger: Hub) -> None:
        answer = stranger.ask("PATCH", "/hub/in/hook/?a=1&a=2&b=", b"raw \xc3\xa9", kind="text/odd", X_Signature="abc")
        assert answer.status == 200
        told = answer.json()
        assert (told["method"], told["path"], told["client"]) == ("PATCH", "/hub/in/hook/", "127.0.0.1")
        assert told["query"] == {"a": ["1", "2"], "b": [""]}
        assert (told["body"], told["base64"]) == ("raw é", False)
        assert (told["headers"]["x-signature"], told["headers"]["content-type"]) == ("abc", "text/odd")
        assert answer.headers["pluginhub-revision"] == "1"

    def test_a_body_that_is_no_text_comes_in_base64(self, stranger: Hub) -> None:
        for raw, encoded in ((b"\xff\xfe", "//4="), (b"a\0", "YQA=")):
            told = stranger.ask("POST", "/hub/in/hook/", raw).json()
            assert (told["body"], told["base64"]) == (encoded, True)

    def test_cookies_stay_outside(self, stranger: Hub) -> None:
        stranger.client.cookies["freight_session"] = "secret"
        assert "cookie" not in stranger.post("/hub/in/hook/").json()["headers"]

    def test_the_plugin_may_answer_status_headers_and_body(self, stranger: Hub) -> None:
        answer = stranger.ask("POST", "/hub/in/hook/", b"teapot")
        assert (answer.status, answer.content) == (418, b"short and stout")
        assert (answer.headers["x-pot"], answer.headers["content-type"]) == ("tea", "text/x-pot")
        assert stranger.ask("POST", "/hub/in/hook/", b"bytes").content == b"\x00\xff"

    def test_any_method_reaches_it(self, stranger: Hub) -> None:
        for method in ("GET", "PUT", "DELETE", "OPTIONS"):
            assert stranger.ask(method, "/hub/in/hook/").json()["method"] == method

    def test_an_answer_that_is_none_is_the_plugins_fault(self, stranger: Hub) -> None:
        for body in (b"split", b"odd"):
            answer = stranger.ask("POST", "/hub/in/hook/", body)
            assert answer.status == 500
            assert "'hook' answered" in answer.problem["detail"]
            assert "x-b" not in answer.headers

    def test_what_is_not_public_is_not_there(self, stranger: Hub) -> None:
        answer = stranger.post("/hub/in/say/")
        assert answer.status == 404
        assert answer.problem["near_misses"] == []
        assert stranger.post("/hub/in/hoo/").problem["near_misses"] == ["hook"]
        assert stranger.post("/hub/run/hook/").status == 401

    def test_too_large_and_hostile_requests_are_refused(self, stranger: Hub, settings: Any) -> None:
        assert stranger.ask("POST", "/hub/in/hook/?a=%00").status == 400
        settings.PLUGINHUB = {**settings.PLUGINHUB, "MAX_BODY_BYTES": 10}
        assert stranger.ask("POST", "/hub/in/hook/", b"x" * 11).status == 413

    def test_the_limit_holds_while_redis_is_down(
        self, stranger: Hub, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish(RegistrationSpec(name="hook", plugin="hook", public=True, rate_limit="2/h"))
        monkeypatch.setattr(admission, "_local", admission._Counts())
        settings.RQ_QUEUES = {"default": {"URL": "redis://127.0.0.1:1/0"}}
        assert [stranger.post("/hub/in/hook/").status for _ in range(3)] == [200, 200, 429]


class TestOpenApi:
    def test_it_describes_this_tenants_calls(self, hub: Hub) -> None:
        public = RegistrationSpec(name="hook", plugin="hook", public=True, rate_limit="9/m")
        publish(public, chain("all", "quote", "say"), quote="quote", say="echo", count="numbers")
        answer = hub.get("/hub/openapi.json")
        assert answer.status == 200
        document = answer.json()
        assert document["openapi"] == "3.1.0"
        assert document["servers"] == [{"url": "/hub/"}]
        assert set(document["paths"]) >= {
            "/", "/run/quote/", "/run/all/", "/jobs/quote/", "/jobs/count.import/", "/jobs/{id}/", "/stream/count/",
            "/in/hook/", "/tickets/",
        }  # fmt: skip
        taken = document["paths"]["/run/all/"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert taken == {"$ref": "#/components/schemas/quote.Input"}
        assert document["components"]["schemas"]["quote.Input"]["required"] == ["weight"]
        _resolve_all(document, document)

    def test_a_plugin_that_cannot_be_loaded_does_not_hide_the_rest(self, hub: Hub, settings: Any) -> None:
        publish(quote="quote")
        settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": {}}
        document = hub.get("/hub/openapi.json").json()
        assert "/run/quote/" in document["paths"]


def _resolve_all(node: Any, document: Any) -> None:
    if isinstance(node, dict):
        if "$ref" in node:
            found = document
            for part in node["$ref"].removeprefix("#/").split("/"):
                found = found[part]
        for each in node.values():
            _resolve_all(each, document)
    if isinstance(node, list):
        for each in node:
            _resolve_all(each, document)


def test_a_token_that_expired_or_whose_user_left_is_refused(hub: Hub, user: User) -> None:
    publish(say="echo")
    AccessToken.objects.update(expires=timezone.now())
    assert hub.get("/hub/").status == 401
    AccessToken.objects.update(expires=None)
    user.is_active = False
    user.save()
    assert hub.get("/hub/").status == 401


def test_two_tenants_answer_for_themselves(hub: Hub, globex: Tenant, colour: Colour) -> None:
    publish(who="whoami")
    with tenancy.visit(globex):
        publish(who="echo")
        other = Hub(colour, host="globex.localhost", token=bearer(make_user("greta")))
    assert hub.post("/hub/run/who/").json()["result"] == ["acme", "rita", "http", False]
    assert other.post("/hub/run/who/", 7).json()["result"] == 7
