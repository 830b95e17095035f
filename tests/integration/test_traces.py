"""A trace that is asked for: over HTTP in both colours, by the command, and in the admin."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from pydantic import BaseModel, SecretStr

from pluginhub import Context, Plugin, execution, tenancy
from pluginhub.configuration import ChainSpec, RegistrationSpec, StepSpec
from pluginhub.exceptions import Fatal, Forbidden
from pluginhub.models import Chain
from pluginhub.tracing import trace_of
from pluginhub.types import Caller, Tenant
from tests.integration.hub import PLUGINS, Colour, Hub, bearer, chain, make_user, publish


class Signed(Plugin):
    """Says its secret, and calls another target."""

    class Config(BaseModel):
        key: SecretStr

    def __init__(self, config: Config) -> None:
        self.key = config.key

    def process(self, value: Any, context: Context) -> Any:
        return {"signature": f"signed by {self.key.get_secret_value()}", "said": context.call("say", value)}


SHARED = Fatal("Raised by everybody.", rates=object())


class Sharing(Plugin):
    """Raises one and the same error each time."""

    def process(self, value: Any, context: Context) -> Any:
        raise SHARED


@pytest.fixture(autouse=True)
def plugins(settings: Any) -> None:
    known = {**PLUGINS, "signed": "tests.integration.test_traces:Signed"}
    known["sharing"] = "tests.integration.test_traces:Sharing"
    settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": known, "RUN_SECONDS": 1.0}


@pytest.fixture
def seeing(in_acme: Tenant) -> User:
    return make_user("sue", "view_traces")


@pytest.fixture(params=["wsgi", "asgi"])
def hub(request: pytest.FixtureRequest, seeing: User) -> Hub:
    colour: Colour = request.param
    return Hub(colour, token=bearer(seeing))


ASKED = {"X_PluginHub_Trace": "1"}


def publish_signed() -> None:
    signed = RegistrationSpec(name="sign", plugin="signed", config={"key": "hunter2000"})
    publish(signed, chain("both", "say", "sign"), say="echo", later="asyncecho")


def test_a_run_tells_its_steps_to_who_asks(hub: Hub) -> None:
    publish(chain("both", "say", "later"), say="echo", later="asyncecho")
    [target] = hub.post("/hub/run/both/", {"n": 1}, **ASKED).json()["trace"]
    assert (target["kind"], target["name"], target["output"]) == ("target", "both", {"n": 1})
    assert [(step["name"], step["decision"]) for step in target["steps"]] == [("say", "ran"), ("later", "ran")]


def test_nobody_who_does_not_ask_gets_one(hub: Hub) -> None:
    publish(say="echo")
    assert "trace" not in hub.post("/hub/run/say/", 1).json()


def test_it_takes_a_permission(hub: Hub, in_acme: Tenant) -> None:
    publish(say="echo")
    hub.token = bearer(make_user("tom"))
    answer = hub.post("/hub/run/say/", 1, **ASKED)
    assert answer.status == 403
    assert "pluginhub.view_traces" in answer.problem["detail"]


def test_it_names_no_secret(hub: Hub) -> None:
    publish_signed()
    answer = hub.post("/hub/run/both/", {"password": "open sesame"}, **ASKED).json()
    assert "hunter2000" in json.dumps(answer["result"])  # the plugin says so itself
    told = json.dumps(answer["trace"], ensure_ascii=False)
    assert "signed by •••" in told
    assert "hunter2000" not in told
    assert "open sesame" not in told


def test_a_target_that_a_plugin_calls_is_told_within_its_step(hub: Hub) -> None:
    publish_signed()
    [target] = hub.post("/hub/run/both/", 1, **ASKED).json()["trace"]
    [call] = target["steps"][1]["steps"]
    assert (call["kind"], call["name"], call["output"]) == ("call", "say", 1)


def test_a_run_that_fails_tells_how_far_it_came(hub: Hub) -> None:
    publish(chain("both", "say", "refuse"), say="echo", refuse="refusing")
    problem = hub.post("/hub/run/both/", 1, **ASKED).problem
    assert problem["status"] == 422
    [target] = problem["trace"]
    assert [step["decision"] for step in target["steps"]] == ["ran", "failed"]
    assert target["steps"][1]["problem"]["detail"] == "Unknown airport."


def test_a_trace_is_of_who_asked_for_it_also_where_many_raise_one_error(hub: Hub, globex: Tenant) -> None:
    publish(share="sharing")
    with tenancy.visit(globex):
        publish(share="sharing")
        tom = bearer(make_user("tom"))
    assert "trace" in hub.post("/hub/run/share/", "of acme", **ASKED).problem
    assert "trace" not in hub.post("/hub/run/share/", 1).problem
    other = Hub(hub.colour, host="globex.localhost", token=tom)
    assert "trace" not in other.post("/hub/run/share/", 1).problem
    assert other.post("/hub/run/share/", 1, **ASKED).status == 403
    with tenancy.visit(globex), pytest.raises(Fatal) as failed:
        execution.run("share", 1)
    assert trace_of(failed.value) is None


def test_a_problem_that_is_no_json_fails_no_run_that_went_on(hub: Hub) -> None:
    on = ChainSpec(name="on", steps=(StepSpec(target="failing", on_failure="skip"),))
    publish(on, chain("failing", "share"), share="sharing")
    answer = hub.post("/hub/run/on/", 1, **ASKED)
    assert answer.status == 200
    assert answer.json()["trace"][0]["steps"][0]["steps"][0]["problem"]["rates"] == "<object>"


def test_an_error_nobody_foresaw_says_no_more_than_without_a_trace(hub: Hub) -> None:
    publish(chain("both", "say", "broken"), say="echo", broken="broken")
    answer = hub.post("/hub/run/both/", 1, **ASKED)
    assert answer.status == 500
    assert "hunter2" not in answer.content.decode()


def test_the_description_of_the_api_says_how(hub: Hub) -> None:
    publish(chain("both", "say", "broken"), say="echo", broken="broken")
    document = hub.get("/hub/openapi.json").json()
    [asks] = document["paths"]["/run/both/"]["post"]["parameters"]
    assert (asks["name"], asks["in"]) == ("X-PluginHub-Trace", "header")
    known = document["components"]["schemas"]["Span"]
    for span in hub.post("/hub/run/both/", 1, **ASKED).problem["trace"][0]["steps"]:
        assert set(known["required"]) <= span.keys() <= known["properties"].keys()


def test_python_may_ask_too(in_acme: Tenant) -> None:
    publish(say="echo")
    assert execution.perform("say", 1).trace is None
    assert (execution.perform("say", 1, trace=True).trace or [])[0]["output"] == 1
    caller = Caller("tom", "http", user_id="1", permissions=frozenset({execution.RUN}))
    with pytest.raises(Forbidden):
        execution.perform("say", 1, caller=caller, trace=True)


def test_the_command_prints_it_apart_from_the_result(in_acme: Tenant) -> None:
    publish(chain("both", "say", "say"), say="echo")
    out, err = io.StringIO(), io.StringIO()
    call_command("pluginhub_run", "both", "1", "--trace", tenant="acme", stdout=out, stderr=err)
    assert json.loads(out.getvalue()) == 1
    assert [step["name"] for step in json.loads(err.getvalue())[0]["steps"]] == ["say", "say"]


def test_the_command_prints_it_of_a_failed_run(in_acme: Tenant) -> None:
    publish(refuse="refusing")
    err = io.StringIO()
    with pytest.raises(CommandError, match="Unknown airport"):
        call_command("pluginhub_run", "refuse", "1", "--trace", tenant="acme", stderr=err)
    assert json.loads(err.getvalue())[0]["decision"] == "failed"


class TestTryIt:
    @pytest.fixture
    def tried_page(self, in_acme: Tenant) -> str:
        publish(chain("both", "say", "refuse"), say="echo", refuse="refusing")
        return f"/admin/pluginhub/chain/{Chain.objects.get(name='both').pk}/try/"

    def test_the_page_shows_each_step_to_who_may_see_traces(self, tried_page: str, seeing: User) -> None:
        text = self.tried(tried_page, seeing)
        assert "pluginhub-span" in text
        assert "Unknown airport." in text
        assert text.index(">say<") < text.index(">refuse<")

    def test_the_page_shows_the_result_alone_to_others(self, tried_page: str, in_acme: Tenant) -> None:
        text = self.tried(tried_page, make_user("tom"))
        assert "Unknown airport." in text
        assert "pluginhub-span" not in text

    def tried(self, path: str, user: User) -> str:
        user.is_staff = True
        user.save()
        user.user_permissions.add(Permission.objects.get(codename="view_chain"))
        hub = Hub("wsgi")
        hub.client.force_login(user)
        return hub.ask("POST", path, b"sample=1", kind="application/x-www-form-urlencoded").content.decode()
