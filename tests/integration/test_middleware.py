"""The tenant and its request interceptors around a host's views, synchronous and asynchronous, under WSGI and ASGI."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

from pluginhub import tenancy
from pluginhub.configuration import InterceptorSpec, RegistrationSpec
from pluginhub.middleware import PluginMiddleware, visits
from pluginhub.middleware.choosing import protected
from pluginhub.models import Revision
from pluginhub.registry import registry
from pluginhub.types import PUBLIC, Tenant
from tests.integration.hub import PLUGINS, Colour, Hub, bearer, make_user, publish

STAMPS = ("stamp", "asyncstamp")


@pytest.fixture(autouse=True)
def site(settings: Any) -> None:
    settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": PLUGINS}
    settings.ROOT_URLCONF = "tests.integration.host_urls"
    settings.LOGIN_URL = "/login/"
    visits._absent.clear()


@pytest.fixture(params=["wsgi", "asgi"])
def client(request: pytest.FixtureRequest, in_acme: Tenant) -> Hub:
    colour: Colour = request.param
    return Hub(colour)


def use(plugin: str, name: str = "", **config: Any) -> RegistrationSpec:
    return RegistrationSpec(name=name or plugin, plugin=plugin, config=config)


def around(*names: str, **about: Any) -> tuple[InterceptorSpec, ...]:
    return tuple(
        InterceptorSpec(registration=name, scope="request", position=position, **about)
        for position, name in enumerate(names)
    )


class TestTheTenant:
    def test_it_is_entered_around_the_view(self, client: Hub, globex: Tenant) -> None:
        for path in ("/page/", "/apage/"):
            client.host = "acme.localhost"
            assert client.get(path).content == b"acme"
            client.host = "globex.localhost"
            assert client.get(path).content == b"globex"
        assert tenancy.current().schema == "acme"  # this test's own

    def test_without_django_tenants_there_is_none(self) -> None:
        seen = []

        def view(request: HttpRequest) -> HttpResponse:
            seen.append(tenancy.current_or_none())
            return HttpResponse()

        PluginMiddleware(view)(RequestFactory().get("/"))
        assert seen == [None]

    def test_the_public_site_is_the_public_tenant_and_is_never_wrapped(self, db: None, acme: Tenant) -> None:
        seen = []

        def view(request: HttpRequest) -> HttpResponse:
            seen.append(tenancy.current_or_none())
            return HttpResponse()

        request = RequestFactory().get("/")
        request.tenant = type("Row", (), {"schema_name": "public", "name": "x"})()  # type: ignore[attr-defined]
        PluginMiddleware(view)(request)
        assert seen == [PUBLIC]

    def test_no_interceptors_add_no_query_when_warm(self, in_acme: Tenant) -> None:
        client = Hub("wsgi")
        publish(say="echo")
        client.get("/page/")
        with CaptureQueriesContext(connection) as queries:
            client.get("/page/")
        assert [each["sql"] for each in queries if "pluginhub" in each["sql"]] == []


class TestTheOnion:
    @pytest.mark.parametrize("path", ["/page/", "/apage/"])
    @pytest.mark.parametrize("kinds", [("stamp", "stamp"), ("asyncstamp", "asyncstamp"), STAMPS, STAMPS[::-1]])
    def test_interceptors_of_any_colour_wrap_views_of_any_colour_in_order(
        self, client: Hub, path: str, kinds: tuple[str, str]
    ) -> None:
        publish(
            use(kinds[0], "outer", text="A"), use(kinds[1], "inner", text="B"), interceptors=around("outer", "inner")
        )
        answer = client.get(path)
        assert answer.content == b"acme A B"
        assert answer.headers["x-stamp"] == "B A "

    def test_another_tenant_sees_nothing_of_them(self, client: Hub, globex: Tenant) -> None:
        publish(use("stamp"), interceptors=around("stamp"))
        client.host = "globex.localhost"
        assert "x-stamp" not in client.get("/page/").headers

    def test_a_change_is_followed(self, client: Hub) -> None:
        publish(use("stamp"), interceptors=around("stamp"))
        assert "x-stamp" in client.get("/page/").headers
        publish(use("stamp"))
        assert "x-stamp" not in client.get("/page/").headers

    def test_one_may_answer_instead_of_the_view(self, client: Hub) -> None:
        publish(use("closed"), use("stamp"), interceptors=around("stamp", "closed"))
        answer = client.get("/broken/")
        assert (answer.status, answer.content, answer.headers["x-stamp"]) == (503, b"closed", "sync ")

    @pytest.mark.parametrize("path", ["/broken/", "/abroken/"])
    def test_the_views_error_reaches_them_as_itself(self, client: Hub, path: str) -> None:
        publish(use("rescue"), use("stamp"), interceptors=around("rescue", "stamp"))
        answer = client.get(path)
        assert (answer.status, answer.content) == (200, b"rescued: division by zero")

    @pytest.mark.parametrize("path", ["/broken/", "/abroken/"])
    @pytest.mark.parametrize("stamp", STAMPS)
    def test_an_error_that_passes_them_is_answered_by_the_host(self, client: Hub, path: str, stamp: str) -> None:
        publish(use(stamp), interceptors=around(stamp))
        answer = client.get(path)
        assert answer.status == 500
        assert answer.headers["content-type"].startswith("text/html")

    def test_a_404_or_403_of_the_view_is_a_response_to_them(self, client: Hub) -> None:
        publish(use("stamp"), interceptors=around("stamp"))
        for path, status in (("/refused/?missing", 404), ("/refused/", 403), ("/nowhere/", 404)):
            answer = client.get(path)
            assert (answer.status, answer.headers["x-stamp"]) == (status, "sync ")

    @pytest.mark.parametrize(
        ("how", "status", "detail"),
        [
            ("raise", 500, "RuntimeError at plugin 'Clumsy'."),
            ("refuse", 422, "Not from here."),
            ("twice", 500, "called call_next twice"),
            ("nothing", 500, "returned str, which is no response"),
        ],
    )
    def test_one_that_breaks_the_rules_is_a_problem_that_names_it(
        self, client: Hub, how: str, status: int, detail: str
    ) -> None:
        publish(use("clumsy", how=how), interceptors=around("clumsy"))
        answer = client.get("/page/")
        assert answer.status == status
        assert detail in answer.problem["detail"]
        assert b"hunter2" not in answer.content

    def test_the_hub_itself_is_wrapped_as_the_rest(self, client: Hub) -> None:
        publish(use("stamp"), use("echo"), interceptors=around("stamp"))
        client.token = bearer(make_user())
        answer = client.post("/hub/run/echo/", 1)
        assert (answer.json()["result"], answer.headers["x-stamp"]) == (1, "sync ")


class TestChoosing:
    @pytest.mark.parametrize(
        ("prefix", "methods", "wrapped"),
        [
            ("", (), True),
            ("/", (), True),
            ("/pa", (), True),
            ("/page/", (), True),
            ("/page/x", (), False),
            ("/other/", (), False),
            ("/page/", ("GET",), True),
            ("", ("POST", "PUT"), False),
        ],
    )
    def test_by_path_prefix_and_method(
        self, in_acme: Tenant, prefix: str, methods: tuple[str, ...], wrapped: bool
    ) -> None:
        publish(use("stamp"), interceptors=around("stamp", path_prefix=prefix, methods=methods))
        assert ("x-stamp" in Hub("wsgi").get("/page/").headers) is wrapped

    @pytest.mark.parametrize(
        ("path", "prefix", "wrapped"),
        [
            ("/admin/login/", "", False),
            ("/admin/login/", "/", False),
            ("/admin/login/", "/adm", False),
            ("/admin/login/", "/admin/", True),
            ("/admin/login/", "/admin/login", True),
            ("/login/", "", False),
            ("/login/", "/login/", True),
        ],
    )
    def test_the_way_back_in_is_wrapped_only_where_a_binding_names_it(
        self, client: Hub, path: str, prefix: str, wrapped: bool
    ) -> None:
        publish(use("closed"), interceptors=around("closed", path_prefix=prefix))
        assert (client.get(path).status == 503) is wrapped

    def test_probes_are_answered_before(self, client: Hub) -> None:
        publish(use("closed"), interceptors=around("closed", path_prefix="/healthz"))
        assert client.get("/healthz").status == 200

    def test_the_admin_is_found_wherever_it_is(self) -> None:
        assert protected("tests.integration.host_urls") == ("/admin/", "/login/", "/healthz", "/readyz", "/metrics")

    def test_safe_mode_runs_none(self, client: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        publish(use("closed"), interceptors=around("closed", required=True))
        monkeypatch.setenv("PLUGINHUB_SAFE_MODE", "1")
        assert client.get("/page/").status == 200


class TestTheHostComesFirst:
    def test_one_that_cannot_be_brought_up_is_left_out(self, client: Hub) -> None:
        publish(use("wild"), use("stamp"), interceptors=around("wild", "stamp"))
        answer = client.get("/page/")
        assert (answer.status, answer.headers["x-stamp"]) == (200, "sync ")

    def test_a_required_one_is_a_503_instead(self, client: Hub) -> None:
        publish(use("wild"), interceptors=around("wild", required=True))
        answer = client.get("/page/")
        assert answer.status == 503
        assert "'wild'" in answer.problem["detail"]
        assert client.get("/admin/login/").status == 200

    def test_a_tenant_that_is_not_migrated_is_served_as_ever(self, client: Hub) -> None:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE acme.pluginhub_revision RENAME TO pluginhub_revision_away")
        try:
            registry.clear()
            assert client.get("/page/").content == b"acme"
            client.token = None
            assert client.get("/hub/").status == 401
        finally:
            with connection.cursor() as cursor:
                cursor.execute("ALTER TABLE acme.pluginhub_revision_away RENAME TO pluginhub_revision")

    def test_a_revision_that_cannot_be_read_is_left_aside(self, client: Hub, acme: Tenant) -> None:
        publish(use("stamp"), interceptors=around("stamp"))
        newer = {"format": 1, "registrations": {"x": "nonsense"}}
        Revision.objects.create(number=2, format=1, data=newer, digest="0" * 64, author="somebody's script")
        registry.clear()
        assert client.get("/page/").content == b"acme"

    def test_it_is_asked_for_again_a_moment_later(self, client: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        publish(use("stamp"), interceptors=around("stamp"))
        visits._note_absent(tenancy.current(), RuntimeError("away"))
        assert "x-stamp" not in client.get("/page/").headers
        monkeypatch.setitem(visits._absent, "acme", 0.0)
        assert "x-stamp" in client.get("/page/").headers


def test_a_session_is_the_tenants_inside_interceptors_too(in_acme: Tenant) -> None:
    user = User.objects.create_superuser("root", password="x")
    publish(use("stamp"), use("asyncstamp"), interceptors=around("stamp", "asyncstamp"))
    client = Hub("wsgi")
    client.client.force_login(user)
    assert client.get("/admin/").status == 200
