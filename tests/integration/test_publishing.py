"""Drafts become revisions: whole, in order, under a lock."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import IntegrityError, connection, connections, transaction
from django.test.utils import override_settings

from pluginhub import loading, publishing, signals, tenancy, valkey
from pluginhub.configuration import (
    ChainSpec,
    Change,
    CompositionSpec,
    Configuration,
    InterceptorSpec,
    MemberSpec,
    PointSpec,
    RegistrationSpec,
    StepSpec,
    read,
)
from pluginhub.exceptions import Conflict, NoTenant, NotFound, PluginHubError, PublishRefused
from pluginhub.fleet.models import AllowedPlugin, Head
from pluginhub.models import (
    Chain,
    InterceptorBinding,
    Member,
    PointBinding,
    Registration,
    Revision,
    Step,
    Target,
)
from pluginhub.plugins import Plugin
from pluginhub.types import Tenant
from tests.storms.publishing import PLUGINS, storm

THREADS = 8
WRITES = 10


class Echo(Plugin):
    """Return the value, and let everything pass."""

    def process(self, value: Any, context: Any) -> Any:
        return value

    def intercept(self, request: Any, call_next: Any) -> Any:
        return call_next(request)


@pytest.fixture(autouse=True)
def catalog() -> Iterator[None]:
    with override_settings(PLUGINHUB={"PLUGINS": {"echo": f"{__name__}:Echo"}}):
        loading.forget()
        yield
    loading.forget()


def register(name: str = "a", **fields: Any) -> Registration:
    return Registration.objects.create(name=name, plugin="echo", **fields)


def retitle(name: str, title: str) -> None:
    Registration.objects.filter(name=name).update(title=title)


WHOLE = Configuration(
    registrations={name: RegistrationSpec(name=name, plugin="echo", config={"n": 1}) for name in "abc"},
    chains={"chain": ChainSpec(name="chain", steps=(StepSpec(target="a"), StepSpec(target="b", on_failure="skip")))},
    compositions={
        "both": CompositionSpec(
            name="both",
            strategy="merge",
            members=(MemberSpec(target="chain"), MemberSpec(target="c", key="third", required=False, private=True)),
        )
    },
    interceptors=(
        InterceptorSpec(registration="a", scope="call", targets=("both", "chain"), position=1),
        InterceptorSpec(
            registration="b", scope="request", path_prefix="/shop/", methods=("GET", "POST"), required=True
        ),
    ),
    points={"order.total": PointSpec(point="order.total", targets=("both", "a"))},
)


# Publishing


def test_before_the_first_revision_there_is_none(in_acme: Tenant) -> None:
    register()
    assert publishing.live() is None
    assert publishing.changes() == [Change("registration", "a", "added")]


def test_publishing_turns_the_draft_into_a_revision(in_acme: Tenant) -> None:
    register(title="A")
    revision = publishing.publish(author="somebody", note="first")
    assert (revision.number, revision.author, revision.note) == (1, "somebody", "first")
    assert revision.digest == read().digest()
    assert publishing.live() == revision
    assert publishing.configuration_of(revision) == read()
    assert publishing.changes() == []
    assert Head.objects.get(schema="acme").revision == 1


def test_a_draft_is_saved_without_being_served(in_acme: Tenant) -> None:
    register()
    publishing.publish(author="me")
    result, revision = publishing.write(lambda: register("b").name, author="me")
    assert (result, revision) == ("b", None)
    assert publishing.changes() == [Change("registration", "b", "added")]
    assert publishing.configuration_of(publishing.live()).names() == ["a"]


def test_publishing_what_is_live_already_writes_nothing(in_acme: Tenant) -> None:
    register()
    first = publishing.publish(author="me")
    assert publishing.publish(author="me") == first
    assert Revision.objects.count() == 1


def test_revisions_of_tenants_are_counted_apart(acme: Tenant, globex: Tenant) -> None:
    for tenant in (acme, acme, globex):
        with tenancy.visit(tenant):
            register(f"r{Registration.objects.count()}")
            publishing.publish(author="me")
    assert {tenant.schema: Head.objects.get(schema=tenant.schema).revision for tenant in (acme, globex)} == {
        "acme": 2,
        "globex": 1,
    }
    with tenancy.visit(globex):
        assert publishing.configuration_of(publishing.live()).names() == ["r0"]


def test_a_draft_that_is_not_valid_is_refused_and_the_write_undone(in_acme: Tenant) -> None:
    register()
    publishing.publish(author="me")

    def apply() -> None:
        chain = Chain.objects.create(name="c")
        Step.objects.create(chain=chain, position=1, target=chain)

    with pytest.raises(PublishRefused) as caught:
        publishing.write(apply, author="me", publish=True)
    assert caught.value.problems == [("chain", "c", "steps", "This calls itself: c → c.")]
    assert not Chain.objects.exists()
    assert (Head.objects.get().revision, Revision.objects.count()) == (1, 1)


def test_problems_of_the_draft_can_be_asked_for(in_acme: Tenant) -> None:
    Registration.objects.create(name="a", plugin="ecko")
    assert publishing.problems() == [
        ("registration", "a", "plugin", "No plugin named 'ecko' is installed. Did you mean 'echo'?")
    ]


def test_a_tenant_may_use_what_the_fleet_allows(in_acme: Tenant) -> None:
    register()
    AllowedPlugin.objects.create(schema="globex", plugin="other")
    assert publishing.problems() == []
    AllowedPlugin.objects.create(schema="acme", plugin="other")
    assert publishing.problems() == [("registration", "a", "plugin", "This tenant may not use the plugin 'echo'.")]


def test_who_saw_an_older_revision_is_told(in_acme: Tenant) -> None:
    register()
    publishing.publish(author="me", expected=0)
    with pytest.raises(Conflict, match="Revision 1 was published meanwhile; you saw 0"):
        publishing.write(lambda: register("b"), author="me", publish=True, expected=0)
    assert not Registration.objects.filter(name="b").exists()


def test_two_steps_in_one_place_fail_in_the_write_and_not_at_the_commit(in_acme: Tenant) -> None:
    target, chain = register(), Chain.objects.create(name="c")

    def apply() -> None:
        for _ in range(2):
            Step.objects.create(chain=chain, position=1, target=target)

    with transaction.atomic():
        with pytest.raises(IntegrityError, match="pluginhub_step_position"):
            publishing.write(apply, author="me")
        assert not Step.objects.exists()


def test_a_transaction_that_sees_the_past_is_refused(in_acme: Tenant) -> None:
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        with pytest.raises(PluginHubError, match="cannot be written in a repeatable read transaction"):
            publishing.publish(author="me")


def test_nobody_s_draft_cannot_be_published(db: None) -> None:
    with pytest.raises(NoTenant):
        publishing.publish(author="me")


def test_numbers_go_on_where_the_head_was_lost(in_acme: Tenant) -> None:
    register()
    publishing.publish(author="me")
    Head.objects.all().delete()
    register("b")
    assert publishing.publish(author="me").number == 2


def test_reading_costs_the_same_for_any_number_of_rows(in_acme: Tenant, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(14):  # seven, each with django-tenants' SET search_path: no interceptor, no targets
        read()
    publishing.apply_configuration(WHOLE, author="me")
    for _ in range(2):
        with django_assert_num_queries(16):
            assert read() == WHOLE
        for number in range(20):
            register(f"more{number}")
        Registration.objects.filter(name__startswith="more").delete()


# Telling others


@pytest.fixture
def told() -> Iterator[list[dict[str, Any]]]:
    heard: list[dict[str, Any]] = []

    def listen(sender: Any, **facts: Any) -> None:
        heard.append({key: facts[key] for key in ("tenant", "revision", "changes")})

    signals.published.connect(listen)
    yield heard
    signals.published.disconnect(listen)


def test_the_host_is_told_after_the_commit(in_acme: Tenant, told: list[dict[str, Any]]) -> None:
    with transaction.atomic():
        register()
        publishing.publish(author="me")
        assert told == []
    assert told == [{"tenant": in_acme, "revision": 1, "changes": [Change("registration", "a", "added")]}]


def test_nobody_is_told_of_what_was_rolled_back(in_acme: Tenant, told: list[dict[str, Any]]) -> None:
    with transaction.atomic():
        register()
        publishing.publish(author="me")
        transaction.set_rollback(True)
    assert told == []
    assert publishing.live() is None


def test_other_processes_get_a_hint(in_acme: Tenant) -> None:
    client: Any = valkey.client()
    with client.pubsub() as ear:
        ear.subscribe("pluginhub:heads")
        ear.get_message(timeout=1)
        register()
        publishing.publish(author="me")
        message = ear.get_message(timeout=2)
    assert message is not None
    assert message["data"] == b"acme"


def test_a_listener_that_fails_changes_nothing(in_acme: Tenant) -> None:
    def fail(sender: Any, **_: Any) -> None:
        raise ZeroDivisionError

    signals.published.connect(fail)
    try:
        register()
        assert publishing.publish(author="me").number == 1
    finally:
        signals.published.disconnect(fail)


def test_redis_down_is_no_obstacle(in_acme: Tenant) -> None:
    register()
    started = time.monotonic()
    with override_settings(RQ_QUEUES={"default": {"URL": "redis://127.0.0.1:1/0"}}):
        assert publishing.publish(author="me").number == 1
    assert time.monotonic() - started < 20


# From a configuration to rows


def test_rows_say_what_a_configuration_says(in_acme: Tenant) -> None:
    publishing.apply_configuration(WHOLE, author="me")
    assert read() == WHOLE
    assert publishing.changes() == []


def test_rows_that_say_so_already_are_left_alone(in_acme: Tenant) -> None:
    publishing.apply_configuration(WHOLE, author="me")
    models = (Target, Step, Member, InterceptorBinding, PointBinding)
    before = [set(model.objects.values_list("pk", flat=True)) for model in models]
    changed = WHOLE.model_copy(
        update={"registrations": {**WHOLE.registrations, "a": RegistrationSpec(name="a", plugin="echo", title="A")}}
    )
    publishing.apply_configuration(changed, author="me")
    assert read() == changed
    assert [set(model.objects.values_list("pk", flat=True)) for model in models] == before


def test_everything_can_be_taken_away_and_brought_back(in_acme: Tenant) -> None:
    publishing.apply_configuration(WHOLE, author="me")
    publishing.apply_configuration(Configuration(), author="me")
    assert not Target.objects.exists()
    publishing.apply_configuration(WHOLE, author="me")
    assert read() == WHOLE


def test_a_name_may_become_another_kind_of_target(in_acme: Tenant) -> None:
    publishing.apply_configuration(WHOLE, author="me")
    registrations = {name: spec for name, spec in WHOLE.registrations.items() if name != "a"}
    chains = {**WHOLE.chains, "a": ChainSpec(name="a", steps=(StepSpec(target="b"),))}
    changed = WHOLE.model_copy(
        update={"registrations": registrations, "chains": chains, "interceptors": WHOLE.interceptors[1:]}
    )
    publishing.apply_configuration(changed, author="me")
    assert read() == changed


def test_disabled_bindings_outlive_a_rewrite_and_come_after(in_acme: Tenant) -> None:
    publishing.apply_configuration(WHOLE, author="me")
    c = Registration.objects.get(name="c")
    PointBinding.objects.create(point="order.total", target=c, position=9, enabled=False)
    InterceptorBinding.objects.create(registration=c, scope="job", enabled=False)
    points = {"order.total": PointSpec(point="order.total", targets=("a", "b", "both"))}
    publishing.apply_configuration(WHOLE.model_copy(update={"points": points, "interceptors": ()}), author="me")
    assert list(PointBinding.objects.values_list("target__name", "enabled")) == [
        ("a", True),
        ("b", True),
        ("both", True),
        ("c", False),
    ]
    assert InterceptorBinding.objects.get().registration == c


def test_a_target_that_is_not_there_is_named(in_acme: Tenant) -> None:
    broken = Configuration(
        chains={"c": ChainSpec(name="c", steps=(StepSpec(target="x"),))},
        interceptors=(InterceptorSpec(registration="y", scope="call"),),
    )
    with pytest.raises(PublishRefused) as caught:
        publishing.apply_configuration(broken, author="me")
    assert caught.value.problems == [
        ("chain", "c", "targets", "There is no 'x'."),
        ("interceptor", "y", "registration", "There is no 'y'."),
    ]


def test_rolling_back_publishes_the_old_anew_and_rewrites_the_rows(in_acme: Tenant) -> None:
    register(title="old")
    publishing.publish(author="me")
    publishing.write(lambda: retitle("a", "new"), author="me", publish=True)
    retitle("a", "draft")
    revision = publishing.rollback(1, author="somebody")
    assert revision is not None
    assert (revision.number, revision.note) == (3, "Back to revision 1")
    assert Registration.objects.get().title == "old"
    with pytest.raises(NotFound, match="There is no revision 9"):
        publishing.rollback(9, author="me")


# Many at once


def test_a_save_waits_for_who_publishes(in_acme: Tenant) -> None:
    """So that no draft is read while half of it is committed."""
    locked, done = threading.Event(), threading.Event()

    def hold() -> None:
        with _own_connection(), tenancy.visit(in_acme), transaction.atomic():
            publishing._lock(in_acme)
            locked.set()
            done.wait(0.3)

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(hold)
        locked.wait()
        started = time.monotonic()
        publishing.write(register, author="me")
        waited = time.monotonic() - started
        done.set()
        future.result()
    assert waited > 0.2


def test_what_is_applied_as_a_whole_is_what_is_published(in_acme: Tenant) -> None:
    """Two at once, who both began from the same rows: neither gets a mixture."""
    values = [
        Configuration(registrations={name: RegistrationSpec(name=name, plugin="echo", title=title) for name in "ab"})
        for title in ("one", "two")
    ]
    publishing.apply_configuration(Configuration(), author="me")
    together = threading.Barrier(2)

    def work(value: Configuration) -> bool:
        with _own_connection(), tenancy.visit(in_acme):
            together.wait()
            for _ in range(WRITES):
                revision = publishing.apply_configuration(value, author="me")
                if publishing.configuration_of(revision) != value:
                    return False
            return True

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(work, values)) == [True, True]


@pytest.mark.storm
def test_no_change_is_lost_when_eight_write_at_once(in_acme: Tenant, storming: str) -> None:
    ledger = storm(in_acme, storming, changes=THREADS * WRITES)
    assert (ledger.lost, ledger.gaps) == (0, 0)
    assert len(ledger.revisions) > THREADS


@pytest.mark.storm
def test_with_the_rows_read_before_the_lock_changes_are_lost(in_acme: Tenant, storming: str) -> None:
    """The same writes in the wrong order: the test above would see it."""
    assert storm(in_acme, storming, changes=THREADS * WRITES, late=True).lost > 0


@pytest.fixture
def storming() -> Iterator[str]:
    """The storm's plugin; returns the database's URL."""
    with override_settings(PLUGINHUB={"PLUGINS": PLUGINS}):
        yield os.environ["DATABASE_URL"]


class _own_connection:  # noqa: N801 - a context
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        connections.close_all()
