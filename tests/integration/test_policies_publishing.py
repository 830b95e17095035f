"""Steps' policies as rows: what publishing refuses of them, and how a published chain follows them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.test.utils import override_settings

from pluginhub import Context, Plugin, execution, loading, publishing, tenancy
from pluginhub.configuration import (
    ChainSpec,
    CompositionSpec,
    Configuration,
    MemberSpec,
    RegistrationSpec,
    StepSpec,
    read,
)
from pluginhub.exceptions import NotReady, PublishRefused, place_of
from pluginhub.models import Chain, Registration, Step, Target
from pluginhub.registry import registry
from pluginhub.types import Tenant
from tests.integration.adminsite import client_of, text, url


class Double(Plugin):
    """Give the number twice over."""

    def process(self, value: Any, context: Context) -> Any:
        return value * 2


class Fails(Plugin):
    """Fail."""

    async def process(self, value: Any, context: Context) -> Any:
        raise OSError("it does not answer")


class Missing(Plugin):
    """Cannot be brought up."""

    tries = itertools.count()

    def activate(self, context: Context) -> None:
        next(Missing.tries)
        raise RuntimeError("no connection")

    def process(self, value: Any, context: Context) -> Any:
        return value


PLUGINS = {each.__name__.lower(): f"{__name__}:{each.__name__}" for each in (Double, Fails, Missing)}
NAMES = ("double", "fails", "missing")


@pytest.fixture(autouse=True)
def catalog() -> Iterator[None]:
    with override_settings(PLUGINHUB={"PLUGINS": PLUGINS}):
        loading.forget()
        yield
    registry.stop()
    loading.forget()


def configuration(*specs: ChainSpec | CompositionSpec, off: str = "") -> Configuration:
    return Configuration(
        registrations={name: RegistrationSpec(name=name, plugin=name, enabled=name != off) for name in NAMES},
        chains={spec.name: spec for spec in specs if isinstance(spec, ChainSpec)},
        compositions={spec.name: spec for spec in specs if isinstance(spec, CompositionSpec)},
    )


def chain(name: str = "c", **step: Any) -> ChainSpec:
    return ChainSpec(name=name, steps=(StepSpec(**{"target": "fails", **step}),))


def standing_in(fallback: str, name: str = "c", **step: Any) -> ChainSpec:
    return chain(name, on_failure="fallback", fallback=fallback, **step)


def refused(wanted: Configuration) -> list[tuple[str, str, str, str]]:
    with pytest.raises(PublishRefused) as refusal:
        publishing.apply_configuration(wanted, author="me")
    return refusal.value.problems


def publish(*specs: ChainSpec | CompositionSpec) -> None:
    publishing.apply_configuration(configuration(*specs), author="me")


# What is refused, and where


@pytest.mark.parametrize("field", ["condition", "input", "output"])
def test_a_bad_expression_is_refused_at_its_field(in_acme: Tenant, field: str) -> None:
    message = "Unexpected '.' at character 3."
    assert refused(configuration(chain(**{field: "a..b"}))) == [("chain", "c", f"steps.0.{field}", message)]


def test_an_expression_of_a_row_is_refused_when_the_draft_is_published(in_acme: Tenant) -> None:
    publish(chain())
    Step.objects.update(condition="lenght(@) > `1`")
    with pytest.raises(PublishRefused) as refusal:
        publishing.publish(author="me")
    (problem,) = refusal.value.problems
    assert problem == ("chain", "c", "steps.0.condition", "There is no function lenght(). Did you mean length()?")


def test_a_fallback_that_does_not_exist_is_refused(in_acme: Tenant) -> None:
    with pytest.raises(PublishRefused, match="There is no 'doubel'"):
        publishing.apply_configuration(configuration(standing_in("doubel")), author="me")


def test_a_fallback_that_is_disabled_is_refused(in_acme: Tenant) -> None:
    message = "'double' is disabled. Enable it, or use another."
    problems = refused(configuration(standing_in("double"), off="double"))
    assert problems == [("chain", "c", "steps.0.fallback", message)]


def test_a_fallback_that_is_private_to_a_composition_is_refused(in_acme: Tenant) -> None:
    owner = CompositionSpec(name="all", members=(MemberSpec(target="double", private=True),))
    message = "'double' is private to the composition 'all'."
    assert refused(configuration(standing_in("double"), owner)) == [("chain", "c", "steps.0.fallback", message)]


def test_a_chain_that_stands_in_for_a_part_of_itself_is_refused_with_its_path(in_acme: Tenant) -> None:
    outer = ChainSpec(name="outer", steps=(StepSpec(target="double"), StepSpec(target="c")))
    message = "This calls itself: c → outer → c."
    assert refused(configuration(standing_in("outer"), outer)) == [("chain", "c", "steps.0.fallback", message)]


@pytest.mark.parametrize("step", [{"on_failure": "fallback"}, {"fallback": "double"}], ids=["none", "idle"])
def test_a_fallback_and_its_policy_go_together(in_acme: Tenant, step: dict[str, Any]) -> None:
    ((kind, name, field, message),) = refused(configuration(chain(**step)))
    assert (kind, name, field) == ("chain", "c", "steps.0.fallback")
    assert "A fallback is named where another target is called instead" in message


def test_what_stands_in_may_not_be_deleted_and_is_rewritten_with_the_chain(in_acme: Tenant) -> None:
    wanted = configuration(standing_in("double", condition="@ > `1`", output="{n: result}"))
    publishing.apply_configuration(wanted, author="me")
    assert read() == wanted
    step = Step.objects.get()
    assert (step.fallback.name if step.fallback else None, step.condition) == ("double", "@ > `1`")
    publishing.apply_configuration(configuration(), author="me")
    assert not Chain.objects.exists()


# What is served


def test_a_published_step_follows_its_policy(in_acme: Tenant) -> None:
    publish(standing_in("double", condition="n > `1`", input="n", output="merge(input, {n: result})", attempts=2,
                        backoff=0))  # fmt: skip
    assert execution.run("c", {"n": 4, "to": "ZRH"}) == {"n": 8, "to": "ZRH"}
    assert execution.run("c", {"n": 1}) == {"n": 1}


@pytest.mark.parametrize("answered", [True, False])
def test_a_fallback_that_cannot_be_brought_up_keeps_nothing_from_serving(in_acme: Tenant, answered: bool) -> None:
    publish(standing_in("missing", target="double" if answered else "fails", label="it"))
    if answered:
        assert execution.run("c", 2) == 4
    else:
        with pytest.raises(NotReady, match="missing") as failed:
            execution.run("c", 2)
        assert place_of(failed.value).steps == (("c", "it"), ("it", "fallback missing"))


def test_a_fallback_that_could_not_be_brought_up_is_tried_again(in_acme: Tenant) -> None:
    publish(standing_in("missing", target="double"))
    before = next(Missing.tries)
    for _ in range(2):
        execution.run("c", 1)
    assert next(Missing.tries) > before + 1


def test_a_target_that_cannot_be_brought_up_is_a_failure_of_its_step(in_acme: Tenant) -> None:
    publish(standing_in("double", target="missing"), chain("bare", target="missing"))
    assert execution.run("c", 2) == 4
    with pytest.raises(NotReady):
        execution.run("bare", 2)


# In the admin


def rows(target: Target, **step: Any) -> dict[str, Any]:
    row = {"target": target.pk, "attempts": 1, "backoff": 0.1, "on_failure": "fail", "position": 1, **step}
    sent = {"steps-TOTAL_FORMS": 1, "steps-INITIAL_FORMS": 0, "name": "c", "enabled": "on"}
    return sent | {f"steps-0-{field}": value for field, value in row.items()}


@pytest.fixture
def inside(acme: Tenant) -> Callable[..., Any]:
    """`inside(f, …)` calls `f` in acme."""
    return lambda f, *args, **kwargs: tenancy.gate(acme, f, *args, **kwargs)


@pytest.fixture
def admin(acme: Tenant) -> Client:
    with tenancy.visit(acme):
        publish()
        return client_of(User.objects.create_superuser("root", password="root"), acme)


def form_errors(page: Any) -> dict[str, list[str]]:
    (formset,) = (each.formset for each in page.context["inline_admin_formsets"])
    return dict(formset.forms[0].errors)


def test_a_bad_expression_is_an_error_at_its_field_when_the_row_is_saved(admin: Client, inside: Any) -> None:
    page = admin.post(
        url("chain", "add"), rows(inside(Target.objects.get, name="fails"), input="a..b", output="result")
    )
    assert page.status_code == 200
    assert form_errors(page) == {"input": ["Unexpected '.' at character 3."]}
    assert not inside(Chain.objects.count)


def test_a_fallback_is_asked_for_where_it_is_chosen(admin: Client, inside: Any) -> None:
    fails, double = (inside(Target.objects.get, name=name) for name in ("fails", "double"))
    page = admin.post(url("chain", "add"), rows(fails, on_failure="fallback"))
    assert form_errors(page) == {"fallback": ["Choose what to call instead."]}
    sent = rows(fails, on_failure="fallback", fallback=double.pk, condition=" @ > `1` ")
    assert admin.post(url("chain", "add"), sent).status_code == 302
    step = inside(Step.objects.get)
    assert (step.fallback_id, step.condition) == (double.pk, "@ > `1`")


def test_a_fallback_that_is_not_shown_is_not_kept(admin: Client, inside: Any) -> None:
    fails, double = (inside(Target.objects.get, name=name) for name in ("fails", "double"))
    sent = rows(fails, on_failure="skip", fallback=double.pk)
    assert admin.post(url("chain", "add"), sent).status_code == 302
    assert inside(Step.objects.get).fallback_id is None


def test_a_refused_fallback_is_shown_at_its_field(admin: Client, inside: Any) -> None:
    fails, double = (inside(Target.objects.get, name=name) for name in ("fails", "double"))
    inside(Registration.objects.filter(name="double").update, enabled=False)
    sent = rows(fails, on_failure="fallback", fallback=double.pk) | {"_publish": "1"}
    page = admin.post(url("chain", "add"), sent)
    assert form_errors(page) == {"fallback": ["'double' is disabled. Enable it, or use another."]}


def test_fallbacks_are_offered_as_targets_are_and_expressions_have_an_example(admin: Client, inside: Any) -> None:
    inside(Registration.objects.filter(name="double").update, title="Twice over")
    page = admin.get(url("chain", "add"))
    assert page.content.decode().count("double – Twice over") == 2
    assert "Such as merge(input, {price: result})" in text(page)
