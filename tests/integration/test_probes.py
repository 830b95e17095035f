"""Health, readiness and metrics: for any Host, under WSGI and ASGI, with or without the servers behind."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import OperationalError, connections
from django.test import RequestFactory

from pluginhub import probes
from pluginhub.presence import Problem, presence
from pluginhub.types import Tenant
from tests.integration.hub import PLUGINS, Colour, Hub, bearer, make_user, publish


@pytest.fixture(params=["wsgi", "asgi"])
def client(request: pytest.FixtureRequest, db: None) -> Hub:
    colour: Colour = request.param
    return Hub(colour)


@pytest.mark.parametrize("host", ["acme.localhost", "localhost", "nobody.example", "10.0.0.7:8000", "bad host"])
def test_any_host_is_answered(client: Hub, host: str) -> None:
    client.host = host
    for path in ("/healthz", "/readyz", "/metrics"):
        answer = client.get(path)
        assert (answer.status, path) == (200, path)
        assert answer.headers["cache-control"] == "no-store"


def test_only_reading_is_allowed(client: Hub) -> None:
    assert client.post("/healthz").status == 405
    assert client.ask("HEAD", "/healthz").status == 200


def test_other_paths_are_the_sites(client: Hub) -> None:
    client.host = "nobody.example"
    assert client.get("/healthz/more").status in (400, 404)


class TestReadiness:
    def test_it_counts_the_tenants_that_run_here(self, client: Hub, settings: Any, in_acme: Tenant) -> None:
        settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": PLUGINS}
        publish(say="echo")
        client.token = bearer(make_user())
        client.post("/hub/run/say/")
        told = client.get("/readyz").json()
        assert told == {"status": "ready", "database": "ok", "redis": "ok", "tenants": 1, "behind": 0, "generation": 0}

    def test_without_redis_it_is_degraded_and_ready(self, client: Hub, settings: Any) -> None:
        settings.RQ_QUEUES = {"default": {"URL": "redis://127.0.0.1:1/0"}}
        answer = client.get("/readyz")
        assert (answer.status, answer.json()["status"], answer.json()["redis"]) == (200, "degraded", "down")

    def test_without_the_database_it_is_not(self, client: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: Any) -> None:
            raise OperationalError("password=hunter2")

        monkeypatch.setattr(type(connections["default"]), "cursor", refuse)
        answer = client.get("/readyz")
        assert (answer.status, answer.json()["status"], answer.json()["database"]) == (503, "unavailable", "down")
        assert b"hunter2" not in answer.content

    def test_a_tenant_that_could_not_follow_is_told(self, client: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(presence.problems, "acme", Problem.of(ValueError("no"), 2, 0, None))
        assert (client.get("/readyz").json()["status"], client.get("/readyz").json()["behind"]) == ("degraded", 1)


class TestMetrics:
    def test_they_hold_plugins_and_requests(self, client: Hub, settings: Any, in_acme: Tenant) -> None:
        settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": PLUGINS}
        publish(say="echo", bad="broken")
        client.token = bearer(make_user())
        client.post("/hub/run/say/")
        client.post("/hub/run/bad/")
        client.token = None
        text = client.get("/metrics").content.decode()
        assert 'plugin_execute_duration_count{plugin="echo",tenant="acme"}' in text
        assert 'plugin_error_total{plugin="broken",tenant="acme"}' in text
        assert "django_http_requests_total_by_method_total" in text

    @pytest.mark.parametrize(
        ("address", "headers", "status"),
        [
            ("127.0.0.1", {}, 200),
            ("::1", {}, 200),
            ("::ffff:127.0.0.1", {}, 200),
            ("10.1.2.3", {}, 200),
            ("192.0.2.1", {}, 401),
            ("", {}, 401),
            ("nonsense", {}, 401),
            ("127.0.0.1", {"X-Forwarded-For": "192.0.2.1"}, 401),
            ("127.0.0.1", {"Forwarded": "for=192.0.2.1"}, 401),
            ("192.0.2.1", {"Authorization": "Bearer s3cret"}, 200),
            ("192.0.2.1", {"Authorization": "bearer s3cret", "X-Forwarded-For": "1.1.1.1"}, 200),
            ("192.0.2.1", {"Authorization": "Bearer s3cre"}, 401),
            ("192.0.2.1", {"Authorization": "Bearer "}, 401),
            ("192.0.2.1", {"Authorization": "Bearer é"}, 401),
        ],
    )
    def test_a_token_or_an_allowed_address_is_needed(
        self, settings: Any, address: str, headers: dict[str, str], status: int
    ) -> None:
        allowed = ["127.0.0.1", "::1", "10.0.0.0/8"]
        settings.PLUGINHUB = {**settings.PLUGINHUB, "METRICS_TOKEN": "s3cret", "METRICS_ADDRESSES": allowed}
        request = RequestFactory().get("/metrics", headers=headers, REMOTE_ADDR=address)
        assert probes.PROBES["/metrics"](request).status_code == status

    def test_no_token_in_the_settings_opens_to_none(self, settings: Any) -> None:
        settings.PLUGINHUB = {**settings.PLUGINHUB, "METRICS_TOKEN": None}
        for header in ("Bearer ", "Bearer None"):
            request = RequestFactory().get("/metrics", headers={"Authorization": header}, REMOTE_ADDR="192.0.2.1")
            assert probes.PROBES["/metrics"](request).status_code == 401
