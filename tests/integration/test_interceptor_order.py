"""The order of interceptors around requests, calls, jobs and streams: positions, and what their plugins declare."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from contextvars import Context as Variables
from io import StringIO
from typing import Any
from unittest.mock import Mock

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection as default_connection
from django.http import HttpRequest
from django.test.utils import CaptureQueriesContext
from pydantic import BaseModel

from pluginhub import Context, Plugin, execution, jobs, loading, ordering, publishing
from pluginhub.admin.onions import Onion
from pluginhub.admin.pictures import Ring
from pluginhub.configuration import Configuration, InterceptorSpec, RegistrationSpec, nesting
from pluginhub.exceptions import PublishRefused
from pluginhub.middleware import visits
from pluginhub.models import InterceptorBinding, Registration
from pluginhub.registry import registry
from pluginhub.types import Scope, Tenant
from tests.integration.adminsite import client_of, errors, text, url
from tests.integration.hub import Hub

Become = Callable[..., None]
OWN = "(its plugin says so)"
connection: Any = default_connection
SCOPES: list[Scope] = ["request", "call", "job", "stream"]


class Marking(Plugin):
    """Leave a mark on what passes inwards."""

    class Config(BaseModel):
        mark: str

    config: Config

    def intercept(self, request: Any, call_next: Callable[[Any], Any]) -> Any:
        if isinstance(request, HttpRequest):
            response = call_next(request)
            response.headers["X-Marks"] = self.config.mark + response.headers.get("X-Marks", "")
            return response
        return call_next(request.replace({"marks": request.value["marks"] + self.config.mark}))


class Outside(Marking):
    """Stand outside of those that mark, and of one that would have it otherwise."""

    before = ("marking", "against")


class Inside(Marking):
    """Stand inside of those that mark, and of one that nobody has."""

    after = ("marking", "nobody")


class Against(Marking):
    """Stand outside of what would stand outside of it."""

    before = ("outside",)


class Selfish(Marking):
    """Stand outside of itself."""

    before = ("selfish",)


class AsMarked(Plugin):
    """Give the marks back."""

    def process(self, value: Any, context: Context) -> str:
        return str(value["marks"])

    def stream(self, params: Any, context: Context) -> Any:
        yield params["marks"]


class Unready(Marking):
    """Stand outside of those that mark, if it came up."""

    before = ("marking",)

    def activate(self, context: Context) -> None:
        raise RuntimeError("no connection")


class Adding(Plugin):
    """Add an interceptor of calls when it comes up."""

    def activate(self, context: Context) -> None:
        context.middleware.use(_added, scope="call")

    def process(self, value: Any, context: Context) -> Any:
        return value


def _added(request: Any, call_next: Callable[[Any], Any]) -> Any:
    return call_next(request.replace({"marks": request.value["marks"] + "+"}))


PLUGINS = {
    kind.__name__.lower(): f"{__name__}:{kind.__name__}"
    for kind in (Adding, Against, AsMarked, Inside, Marking, Outside, Selfish, Unready)
}


@pytest.fixture(autouse=True)
def plugins(settings: Any) -> None:
    settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": PLUGINS}
    settings.ROOT_URLCONF = "tests.integration.host_urls"
    visits._absent.clear()


@pytest.fixture
def become(settings: Any) -> Become:
    """`become(marking="Against")`: the plugin has another class from now on, as after an upgrade and a restart."""

    def change(**classes: str) -> None:
        changed = {name: f"{__name__}:{kind}" for name, kind in classes.items()}
        settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": {**PLUGINS, **changed}}
        loading.forget()
        registry.clear()

    return change


def value(scope: Scope, *names: str, **about: Any) -> Configuration:
    """A configuration in which plugins intercept, positioned in this order; a mark is a plugin's first letter."""
    specs = [RegistrationSpec(name=name, plugin=name, config={"mark": name[0]}) for name in names]
    specs += [RegistrationSpec(name="asmarked", plugin="asmarked")]
    bound = [InterceptorSpec(registration=name, scope=scope, position=at, **about) for at, name in enumerate(names, 1)]
    return Configuration(registrations={spec.name: spec for spec in specs}, interceptors=tuple(bound))


def publish(configuration: Configuration) -> None:
    publishing.apply_configuration(configuration, author="test")


def marks(scope: Scope, tenant: Tenant) -> str:
    """The marks that something gets on its way in."""
    if scope == "request":
        return Hub("wsgi").get("/page/").headers["x-marks"]
    if scope == "stream":
        (found,) = execution.stream("asmarked", {"marks": ""})
        return str(found)
    if scope == "job":
        job = jobs.enqueue("asmarked", {"marks": ""})
        jobs.work(tenant, seconds=5)
        return str(jobs.status(job)["result"])
    return str(execution.run("asmarked", {"marks": ""}))


@pytest.mark.parametrize("scope", SCOPES)
class TestTheOrder:
    def test_it_is_that_of_positions(self, in_acme: Tenant, scope: Scope) -> None:
        publish(value(scope, "against", "marking"))
        assert marks(scope, in_acme) == "am"
        publish(value(scope, "marking", "against"))
        assert marks(scope, in_acme) == "ma"

    def test_plugins_decide_it_against_positions(self, in_acme: Tenant, scope: Scope) -> None:
        publish(value(scope, "inside", "marking", "outside"))
        assert marks(scope, in_acme) == "omi"

    def test_rows_that_are_published_have_it_too(self, in_acme: Tenant, scope: Scope) -> None:
        publishing.apply_configuration(value(scope, "inside", "marking", "outside"), author="test")
        publishing.write(lambda: None, author="test", publish=True)
        registry.clear()
        assert marks(scope, in_acme) == "omi"

    def test_it_is_told_once_a_runtime(self, in_acme: Tenant, scope: Scope, monkeypatch: pytest.MonkeyPatch) -> None:
        publish(value(scope, "inside", "marking"))
        told = Mock(wraps=ordering.ordered)
        monkeypatch.setattr(nesting, "ordered", told)
        for _ in range(3):
            assert marks(scope, in_acme) == "mi"
        assert [len(call.args[0]) for call in told.call_args_list].count(2) == 1

    def test_a_contradiction_is_refused_in_words_at_the_row(self, in_acme: Tenant, scope: Scope) -> None:
        with pytest.raises(PublishRefused) as refused:
            publish(value(scope, "outside", "against"))
        words = f"Around {scope}s, 'outside' stands outside 'against' {OWN}, 'against' outside 'outside' {OWN}."
        assert refused.value.problems == [("interceptor", "outside", "position", words)]

    def test_one_that_a_new_version_brings_leaves_positions(
        self, in_acme: Tenant, scope: Scope, become: Become, caplog: pytest.LogCaptureFixture
    ) -> None:
        publish(value(scope, "inside", "marking", "outside"))
        become(marking="Against")
        with caplog.at_level(logging.WARNING, "pluginhub.configuration"):
            assert marks(scope, in_acme) == "imo"
        (said,) = [each.getMessage() for each in caplog.records if each.name == "pluginhub.configuration"]
        assert said.startswith(f"Acme stays with the positions of its interceptors. Around {scope}s, 'marking' stands")


class TestRefusals:
    def test_a_plugin_that_names_itself_is_refused(self, in_acme: Tenant) -> None:
        with pytest.raises(PublishRefused) as refused:
            publish(value("call", "selfish"))
        words = "Around calls, 'selfish' would stand outside itself: its plugin 'selfish' names itself."
        assert refused.value.problems == [("interceptor", "selfish", "position", words)]

    def test_scopes_have_orders_of_their_own(self, in_acme: Tenant) -> None:
        calls, jobs_ = value("call", "outside"), value("job", "against")
        both = {**calls.registrations, **jobs_.registrations}
        publish(Configuration(registrations=both, interceptors=(*calls.interceptors, *jobs_.interceptors)))
        assert marks("call", in_acme) == "o"

    def test_it_is_told_of_who_is_not_live_yet(self, in_acme: Tenant) -> None:
        publish(value("call", "outside"))
        with pytest.raises(PublishRefused) as refused:
            publish(value("call", "outside", "against"))
        assert [problem[1] for problem in refused.value.problems] == ["against"]

    def test_what_a_new_version_brought_is_no_reason_to_refuse_something_else(
        self, in_acme: Tenant, become: Become
    ) -> None:
        publish(value("call", "marking", "outside"))
        become(marking="Against")
        publish(value("call", "marking", "outside", "inside"))
        assert marks("call", in_acme) == "moi"

    def test_it_hides_no_other(self, in_acme: Tenant, become: Become) -> None:
        publish(value("call", "marking", "outside"))
        become(marking="Against")
        with pytest.raises(PublishRefused) as refused:
            publish(value("call", "marking", "outside", "against"))
        assert [problem[1] for problem in refused.value.problems] == ["against"]

    def test_disabled_bindings_contradict_nothing(self, in_acme: Tenant) -> None:
        publish(value("call", "outside"))
        publish(value("job", "outside", "inside"))
        row = InterceptorBinding.objects.get(registration__name="inside")
        other = Registration.objects.create(name="against", plugin="against", config={"mark": "a"})
        InterceptorBinding.objects.create(registration=other, scope="job", enabled=False)
        publishing.write(lambda: row.delete(), author="test", publish=True)
        assert marks("job", in_acme) == "o"


class TestTheirPlace:
    def test_what_plugins_add_stands_inside_of_what_is_bound(self, in_acme: Tenant) -> None:
        found = value("call", "marking", "outside")
        adding = RegistrationSpec(name="adding", plugin="adding")
        publish(found.model_copy(update={"registrations": {**found.registrations, "adding": adding}}))
        assert marks("call", in_acme) == "om+"

    def test_those_of_one_target_and_of_all_are_in_one_order(self, in_acme: Tenant) -> None:
        found = value("call", "inside", "marking", "outside")
        inside, marking, outside = found.interceptors
        chosen = marking.model_copy(update={"targets": ("asmarked",)})
        publish(found.model_copy(update={"interceptors": (inside, chosen, outside)}))
        assert marks("call", in_acme) == "omi"

    def test_a_required_one_that_is_moved_is_still_required(self, in_acme: Tenant) -> None:
        found = value("request", "marking", "outside", required=True)
        broken = found.registrations["outside"].model_copy(update={"plugin": "unready"})
        publish(found.model_copy(update={"registrations": {**found.registrations, "outside": broken}}))
        assert Hub("wsgi").get("/page/").status == 503

    def test_the_admin_is_wrapped_by_none_in_any_order(self, in_acme: Tenant) -> None:
        publish(value("request", "marking", "outside"))
        assert "x-marks" not in Hub("wsgi").get("/admin/login/").headers
        publish(value("request", "marking", "outside", path_prefix="/admin/"))
        assert Hub("wsgi").get("/admin/login/").headers["x-marks"] == "om"


def test_the_check_before_a_deploy_names_a_contradiction(in_acme: Tenant, become: Become) -> None:
    publish(value("call", "marking", "outside"))
    become(marking="Against")
    with pytest.raises(CommandError):
        call_command("pluginhub_check", "--all", stdout=(said := StringIO()), stderr=said)
    assert "interceptor marking position: Around calls, 'marking' stands outside 'outside'" in said.getvalue()


def bind(scope: Scope, *names: str, **about: Any) -> None:
    """Bind rows of the draft, positioned in this order."""
    for at, name in enumerate(names, 1):
        made, _ = Registration.objects.get_or_create(name=name, defaults={"plugin": name, "config": {"mark": name[0]}})
        InterceptorBinding.objects.create(registration=made, scope=scope, position=at, **about)


class Operator:
    """Somebody at acme's admin; a server's threads are in no tenant that a test has entered."""

    def __init__(self, tenant: Tenant) -> None:
        self._client = client_of(User.objects.create_superuser("root", password="root"), tenant)

    def get(self, path: str) -> Any:
        return self._ask(self._client.get, path)

    def post(self, path: str, form: dict[str, Any]) -> Any:
        return self._ask(self._client.post, path, form)

    def _ask(self, ask: Callable[..., Any], *given: Any) -> Any:
        before = connection.tenant
        try:
            return Variables().run(ask, *given)
        finally:
            connection.set_tenant(before)


@pytest.fixture
def admin(in_acme: Tenant) -> Operator:
    return Operator(in_acme)


def pictured(client: Operator) -> list[Onion]:
    """What the list of interceptors shows of their order."""
    response = client.get(url("interceptorbinding"))
    assert response.status_code == 200
    found: list[Onion] = response.context["onions"]
    for each in found:
        assert each.picture in response.content.decode()
        assert each.picture or each.contradictions or not each.rings
    return found


class TestThePicture:
    def test_it_shows_the_order_of_the_draft_in_each_scope(self, in_acme: Tenant, admin: Operator) -> None:
        publish(value("call", "marking"))
        bind("call", "outside", "inside")
        bind("job", "inside", "marking", "outside")
        calls, jobs_ = pictured(admin)
        assert [(each.scope, each.core, [ring.title for ring in each.rings]) for each in (calls, jobs_)] == [
            ("call", "the target", ["outside", "marking", "inside"]),
            ("job", "the job", ["outside", "marking", "inside"]),
        ]

    def test_a_ring_says_what_it_matches_and_why_it_stands_there(self, in_acme: Tenant, admin: Operator) -> None:
        bind("request", "marking", path_prefix="/shop/", methods="GET,POST")
        bind("request", "inside", required=True)
        InterceptorBinding.objects.filter(registration__name="inside").update(position=0)
        (found,) = pictured(admin)
        row = InterceptorBinding.objects.get(registration__name="inside")
        assert found.rings == [
            Ring("marking", found.rings[0].url, ("GET,POST /shop/, position 1",)),
            Ring(
                "inside",
                f"/admin/pluginhub/interceptorbinding/{row.pk}/change/",
                ("all, position 0",),
                ("its plugin puts it inside marking",),
                "required",
            ),
        ]

    @pytest.mark.parametrize(
        ("names", "moved", "reason"),
        [
            (("inside", "marking"), "inside", "its plugin puts it inside marking"),
            (("marking", "outside"), "outside", "its plugin puts it outside marking"),
            (("marking", "against", "outside"), "outside", ""),
            (("outside", "marking", "inside"), "", ""),
        ],
        ids=["inside", "outside", "contradicting", "by position"],
    )
    def test_the_one_that_a_plugin_moves_says_so(
        self, in_acme: Tenant, admin: Operator, names: tuple[str, ...], moved: str, reason: str
    ) -> None:
        bind("stream", *names)
        (found,) = pictured(admin)
        assert {ring.title: ring.reasons for ring in found.rings if ring.reasons} == (
            {moved: (reason,)} if reason else {}
        )

    def test_those_that_are_moved_by_the_plugin_of_another_name_it(self, in_acme: Tenant, admin: Operator) -> None:
        bind("stream", "marking", "adding")
        Registration.objects.filter(name="adding").update(plugin="outside", name="first")
        Registration.objects.create(name="second", plugin="outside", config={"mark": "s"})
        bind("stream", "second", "second")
        (found,) = pictured(admin)
        assert [ring.title for ring in found.rings] == ["second", "first", "second", "marking"]
        (said,) = {ring.reasons for ring in found.rings if ring.reasons}
        assert said == ("the plugin of second, first puts it inside",)

    def test_a_contradiction_stands_in_words_in_its_place(self, in_acme: Tenant, admin: Operator) -> None:
        bind("call", "outside", "against")
        bind("job", "marking")
        calls, jobs_ = pictured(admin)
        words = f"Around calls, 'outside' stands outside 'against' {OWN}, 'against' outside 'outside' {OWN}."
        assert (calls.picture, calls.contradictions) == ("", [words])
        assert f"{words} There is no such order, so this cannot be published" in text(
            admin.get(url("interceptorbinding"))
        )
        assert jobs_.picture

    def test_what_is_live_and_contradicts_itself_is_said(
        self, in_acme: Tenant, admin: Operator, become: Become
    ) -> None:
        publish(value("call", "marking", "outside"))
        become(marking="Against")
        InterceptorBinding.objects.filter(registration__name="outside").delete()
        (found,) = pictured(admin)
        assert not found.contradictions
        assert found.picture
        (said,) = found.live
        assert said.startswith("Around calls, 'marking' stands outside 'outside'")
        assert f"positions alone decide there: {said}" in text(admin.get(url("interceptorbinding")))

    def test_what_may_still_be_published_is_not_said_to_be_refused(
        self, in_acme: Tenant, admin: Operator, become: Become
    ) -> None:
        publish(value("call", "marking", "outside"))
        become(marking="Against")
        (found,) = pictured(admin)
        assert (found.picture, found.contradictions) == ("", found.live)
        said = text(admin.get(url("interceptorbinding")))
        assert said.count("'marking' stands outside 'outside'") == 1
        assert "positions alone decide there" in said
        assert "cannot be published" not in said
        assert publishing.problems() == []

    def test_the_same_is_a_list_for_who_sees_no_pictures(self, in_acme: Tenant, admin: Operator) -> None:
        bind("call", "marking", "outside")
        row = InterceptorBinding.objects.get(registration__name="outside")
        page = admin.get(url("interceptorbinding")).content.decode()
        (spoken,) = re.findall(r'(?s)<ol class="pluginhub-order pluginhub-spoken".*?</ol>', page)
        assert re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", spoken)).strip() == (
            "outside : all, position 2; its plugin puts it outside marking marking : all, position 1 the target"
        )
        assert f'href="/admin/pluginhub/interceptorbinding/{row.pk}/change/"' in spoken

    def test_those_that_plugins_add_are_told_of(self, in_acme: Tenant, admin: Operator) -> None:
        bind("call", "marking")
        assert "add themselves" not in text(admin.get(url("interceptorbinding")))
        Registration.objects.create(name="slow", plugin="adding")
        assert "add themselves when they come up: slow." in text(admin.get(url("interceptorbinding")))

    def test_none_are_no_picture(self, in_acme: Tenant, admin: Operator) -> None:
        bind("call", "marking", enabled=False)
        assert pictured(admin) == []
        assert "In which order" not in text(admin.get(url("interceptorbinding")))

    def test_plugins_that_are_gone_are_shown_by_position(self, in_acme: Tenant, admin: Operator, settings: Any) -> None:
        bind("call", "marking", "outside")
        settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": {}}
        (found,) = pictured(admin)
        assert [ring.title for ring in found.rings] == ["marking", "outside"]

    def test_it_costs_no_query_a_row(self, in_acme: Tenant, admin: Operator) -> None:
        def queries() -> int:
            with CaptureQueriesContext(connection) as seen:
                pictured(admin)
            return len(seen)

        bind("call", "marking", "outside")
        queries()
        few = queries()
        bind("call", *["marking"] * 9)
        assert queries() == few

    def test_a_refusal_stands_at_the_position_of_the_row_that_is_saved(self, in_acme: Tenant, admin: Operator) -> None:
        publish(value("call", "outside"))
        bind("call", "against")
        row = InterceptorBinding.objects.get(registration__name="against")
        form = {"registration": row.registration_id, "scope": "call", "position": 3, "enabled": "on", "_publish": ""}
        response = admin.post(url("interceptorbinding", "change", row.pk), form)
        assert list(errors(response)) == ["position"]
        assert "'outside' stands outside 'against'" in errors(response)["position"][0]
