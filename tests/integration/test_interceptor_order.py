"""The order of interceptors around requests, calls, jobs and streams: positions, and what their plugins declare."""

from __future__ import annotations

import logging
from collections.abc import Callable
from io import StringIO
from typing import Any
from unittest.mock import Mock

import pytest
from django.core.management import CommandError, call_command
from django.http import HttpRequest
from pydantic import BaseModel

from pluginhub import Context, Plugin, execution, jobs, loading, ordering, publishing
from pluginhub.configuration import Configuration, InterceptorSpec, RegistrationSpec, nesting
from pluginhub.exceptions import PublishRefused
from pluginhub.middleware import entering
from pluginhub.models import InterceptorBinding, Registration
from pluginhub.registry import registry
from pluginhub.types import Scope, Tenant
from tests.integration.hub import Hub

Become = Callable[..., None]
OWN = "(its plugin says so)"
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
    entering._absent.clear()


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
