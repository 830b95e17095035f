"""What the database itself refuses, whoever writes."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import DataError, IntegrityError, connection, models, transaction
from django.db.models import ProtectedError
from django.utils import timezone

from pluginhub import tenancy
from pluginhub.exceptions import NoTenant
from pluginhub.models import (
    AccessToken,
    Chain,
    Composition,
    InterceptorBinding,
    Job,
    Member,
    PointBinding,
    Registration,
    Revision,
    Step,
    StoredValue,
    Target,
)
from pluginhub.types import Tenant


def registration(name: str = "a", **fields: Any) -> Registration:
    return Registration.objects.create(name=name, plugin="echo", **fields)


def refuses(constraint: str, make: Callable[[], Any]) -> None:
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        make()


@pytest.mark.parametrize("name", ["", "A", "1a", "a b", "ä", "a.b", "a/b", "a\n", "x" * 64])
def test_a_name_is_a_slug(in_acme: Tenant, name: str) -> None:
    with pytest.raises((IntegrityError, DataError)), transaction.atomic():
        registration(name)
    with pytest.raises(ValidationError):
        Registration(name=name, plugin="echo").full_clean()


@pytest.mark.parametrize("name", ["a", "a-b_c9", "x" * 63])
def test_good_names_pass(in_acme: Tenant, name: str) -> None:
    row = Registration(name=name, plugin="echo")
    row.full_clean()
    row.save()
    assert str(row) == row.label == name


def test_all_kinds_of_targets_share_one_namespace(in_acme: Tenant) -> None:
    registration("a")
    refuses("pluginhub_target_name", lambda: Chain.objects.create(name="a"))
    refuses("pluginhub_target_name", lambda: Composition.objects.create(name="a"))


def test_a_target_knows_its_kind(in_acme: Tenant) -> None:
    registration("a")
    Chain.objects.create(name="b")
    Composition.objects.create(name="c")
    assert list(Target.objects.values_list("name", "kind")) == [
        ("a", "registration"),
        ("b", "chain"),
        ("c", "composition"),
    ]


def test_a_kind_that_does_not_exist_is_refused(in_acme: Tenant) -> None:
    refuses("pluginhub_target_kind", lambda: Target.objects.create(name="a", kind="widget"))


@pytest.mark.parametrize(
    ("fields", "constraint"),
    [
        ({"config": []}, "pluginhub_registration_config"),
        ({"config_version": 0}, "pluginhub_registration_config_version"),
        ({"plugin": ""}, "pluginhub_registration_plugin"),
        ({"public": True}, "pluginhub_target_public_is_limited"),
        ({"rate_limit": "60/week"}, "pluginhub_target_rate_limit"),
        ({"rate_limit": "0/s"}, "pluginhub_target_rate_limit"),
    ],
)
def test_a_registration_that_cannot_be(in_acme: Tenant, fields: dict[str, Any], constraint: str) -> None:
    row = {"name": "a", "plugin": "echo", **fields}
    refuses(constraint, lambda: Registration.objects.create(**row))
    with pytest.raises(ValidationError):
        Registration(**row).full_clean()


@pytest.mark.parametrize(
    ("fields", "constraint"),
    [
        ({"time_limit": 0}, "pluginhub_step_time_limit"),
        ({"attempts": 0}, "pluginhub_step_attempts"),
        ({"backoff": -1}, "pluginhub_step_backoff"),
        ({"on_failure": "shrug"}, "pluginhub_step_on_failure"),
        ({"position": -1}, "pluginhub_step_position_check"),
    ],
)
def test_a_step_that_cannot_be(in_acme: Tenant, fields: dict[str, Any], constraint: str) -> None:
    chain, target = Chain.objects.create(name="c"), registration()
    row = {"chain": chain, "target": target, "position": 1, **fields}
    refuses(constraint, lambda: Step.objects.create(**row))


def test_steps_may_swap_places_within_a_transaction_and_share_none(in_acme: Tenant) -> None:
    chain, target = Chain.objects.create(name="c"), registration()
    one, two = (Step.objects.create(chain=chain, target=target, position=position) for position in (1, 2))
    with transaction.atomic():
        Step.objects.filter(pk=one.pk).update(position=2)
        Step.objects.filter(pk=two.pk).update(position=1)
    assert list(chain.steps.values_list("pk", flat=True)) == [two.pk, one.pk]
    refuses("pluginhub_step_position", lambda: Step.objects.filter(pk=one.pk).update(position=1))


def test_members_share_neither_place_nor_key(in_acme: Tenant) -> None:
    parent, target = Composition.objects.create(name="c"), registration()
    Member.objects.create(composition=parent, target=target, position=1, key="x")
    Member.objects.create(composition=parent, target=target, position=2)
    Member.objects.create(composition=parent, target=target, position=3)  # no key is no clash
    again = {"composition": parent, "target": target}
    refuses("pluginhub_member_key", lambda: Member.objects.create(**again, position=4, key="x"))
    refuses("pluginhub_member_position", lambda: Member.objects.create(**again, position=1))


@pytest.mark.parametrize("fields", [{"strategy": "parent"}, {"strategy": "merge", "plugin": "echo"}])
def test_a_parent_strategy_and_a_plugin_go_together(in_acme: Tenant, fields: dict[str, Any]) -> None:
    refuses("pluginhub_composition_plugin", lambda: Composition.objects.create(name="c", **fields))


def test_a_target_in_use_cannot_be_deleted(in_acme: Tenant) -> None:
    target = registration()
    Step.objects.create(chain=Chain.objects.create(name="c"), target=target, position=1)
    with pytest.raises(ProtectedError):
        target.delete()


@pytest.mark.parametrize(
    ("fields", "constraint"),
    [
        ({"scope": "planet"}, "pluginhub_interceptor_scope"),
        ({"scope": "request", "path_prefix": "shop/"}, "pluginhub_interceptor_path_prefix"),
        ({"scope": "request", "methods": "get"}, "pluginhub_interceptor_methods"),
        ({"scope": "request", "methods": "GET, POST"}, "pluginhub_interceptor_methods"),
        ({"scope": "call", "path_prefix": "/shop/"}, "pluginhub_interceptor_request_only"),
    ],
)
def test_an_interceptor_that_cannot_be(in_acme: Tenant, fields: dict[str, Any], constraint: str) -> None:
    row = {"registration": registration(), **fields}
    refuses(constraint, lambda: InterceptorBinding.objects.create(**row))


def test_a_target_hangs_on_a_point_once_and_in_one_place(in_acme: Tenant) -> None:
    a, b = registration("a"), registration("b")
    PointBinding.objects.create(point="order.total", target=a, position=1)
    refuses("pluginhub_point_target", lambda: PointBinding.objects.create(point="order.total", target=a, position=2))
    refuses("pluginhub_point_position", lambda: PointBinding.objects.create(point="order.total", target=b, position=1))
    refuses("pluginhub_point_name", lambda: PointBinding.objects.create(point="order total", target=b, position=2))


# Revisions


def revision(number: int = 1) -> Revision:
    return Revision.objects.create(number=number, format=1, data={}, digest="d", author="somebody")


def test_a_revision_cannot_be_changed_by_anyone(in_acme: Tenant) -> None:
    row = revision()
    row.note = "rewritten"
    refuses("revision 1 is published and cannot be changed", row.save)
    refuses("cannot be changed", lambda: Revision.objects.update(data={"registrations": {}}))
    with connection.cursor() as cursor:
        refuses("cannot be changed", lambda: cursor.execute("UPDATE pluginhub_revision SET author = 'me'"))


def test_revisions_have_numbers_of_their_own_from_1(in_acme: Tenant) -> None:
    revision(1)
    refuses("number", lambda: revision(1))
    refuses("pluginhub_revision_number", lambda: revision(0))


# Jobs


@pytest.mark.parametrize(
    ("fields", "constraint"),
    [
        ({"status": "lost"}, "pluginhub_job_(status|end_is_dated)"),
        ({"status": "running"}, "pluginhub_job_running_is_leased"),
        ({"status": "succeeded"}, "pluginhub_job_end_is_dated"),
        ({"ended": timezone.now()}, "pluginhub_job_end_is_dated"),
        ({"name": ""}, "pluginhub_job_name"),
        ({"max_attempts": 0}, "pluginhub_job_max_attempts"),
        ({"time_limit": 0}, "pluginhub_job_time_limit"),
        ({"caller": []}, "pluginhub_job_caller"),
    ],
)
def test_a_job_that_cannot_be(in_acme: Tenant, fields: dict[str, Any], constraint: str) -> None:
    refuses(constraint, lambda: Job.objects.create(**{"name": "a", **fields}))


def test_a_running_job_has_a_token_a_lease_and_a_start(in_acme: Tenant) -> None:
    now = timezone.now()
    job = Job.objects.create(name="a", status="running", token=uuid.uuid4(), lease_until=now, started=now)
    assert not job.is_ended


def test_idempotency_keys_are_unique_and_may_be_absent(in_acme: Tenant) -> None:
    for _ in range(2):
        Job.objects.create(name="a")
    Job.objects.create(name="a", idempotency_key="k")
    refuses("idempotency_key", lambda: Job.objects.create(name="b", idempotency_key="k"))


def test_a_claim_finds_its_jobs_by_an_index(in_acme: Tenant) -> None:
    claim = Job.objects.filter(status__in=["queued", "running"]).order_by("-priority", "run_at")
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        assert "pluginhub_job_claim" in claim[:1].explain()


# Tokens and values


def test_only_the_hash_of_a_token_is_kept(in_acme: Tenant) -> None:
    user = User.objects.create(username="somebody")
    row = {"user": user, "name": "ci", "prefix": "abcdefgh"}
    refuses("pluginhub_access_token_digest", lambda: AccessToken.objects.create(**row, digest="the token itself"))
    assert str(AccessToken.objects.create(**row, digest="0" * 64)) == "ci (abcdefgh…)"


def test_a_value_has_a_key_and_each_key_one_value(in_acme: Tenant) -> None:
    StoredValue.objects.create(namespace="a", key="k", value=1)
    refuses("pluginhub_stored_value_key", lambda: StoredValue.objects.create(namespace="a", key="k", value=2))
    refuses("pluginhub_stored_value_key_given", lambda: StoredValue.objects.create(namespace="a", key="", value=2))


# Crossings

OWNED: list[Callable[[], models.Model]] = [
    registration,
    revision,
    lambda: Job.objects.create(name="a"),
    lambda: StoredValue.objects.create(namespace="a", key="k", value=1),
    lambda: PointBinding.objects.create(point="p", target=registration(), position=1),
    lambda: InterceptorBinding.objects.create(registration=registration(), scope="call"),
]


@pytest.mark.parametrize("make", OWNED)
def test_a_row_of_one_tenant_cannot_be_saved_in_another(
    acme: Tenant, globex: Tenant, make: Callable[[], models.Model]
) -> None:
    """Loaded in acme, saved while the connection is on globex, where a row with the same key exists."""
    row = tenancy.gate(acme, make)
    tenancy.gate(globex, make)
    with tenancy.visit(globex):
        refuses("own_schema|cannot be changed", row.save)


def test_a_stamp_that_lies_is_refused(acme: Tenant, globex: Tenant) -> None:
    with tenancy.visit(acme):
        refuses("own_schema", lambda: StoredValue.objects.create(key="k", value=1, schema="globex"))


def test_raw_sql_cannot_cross_either(acme: Tenant, globex: Tenant) -> None:
    insert = "INSERT INTO globex.pluginhub_storedvalue (schema, namespace, key, value, updated) VALUES "
    with tenancy.visit(acme), connection.cursor() as cursor:
        refuses("own_schema", lambda: cursor.execute(insert + "('globex', '', 'k', '1', now())"))


def test_a_row_made_where_no_tenant_is_says_so(acme: Tenant) -> None:
    with pytest.raises(NoTenant, match="No tenant has been entered"):
        StoredValue(key="k", value=1).save()


def test_a_row_made_before_its_tenant_was_entered_belongs_where_it_is_saved(acme: Tenant) -> None:
    row = StoredValue(key="k", value=1)
    with tenancy.visit(acme):
        row.save()
    assert row.schema == "acme"


def test_rows_can_be_restored_from_a_dump_which_names_no_current_schema(in_acme: Tenant) -> None:
    """pg_restore empties the search path, so that `current_schema()` is null."""
    insert = "INSERT INTO acme.pluginhub_storedvalue (schema, namespace, key, value, updated) VALUES "
    with connection.cursor() as cursor:
        cursor.execute("SET search_path = ''")
        cursor.execute(insert + "('acme', '', 'k', '1', now())")
    assert StoredValue.objects.get().value == 1
