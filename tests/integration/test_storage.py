"""`TenantStorage`: durable values of one registration in one tenant, in both colours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pluginhub import tenancy
from pluginhub.context import Storage
from pluginhub.exceptions import InvalidInput
from pluginhub.models import StoredValue
from pluginhub.storage import TenantStorage
from pluginhub.types import Tenant

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(-1e15, 1e15)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=10,
)


@pytest.fixture
def storage(acme: Tenant) -> TenantStorage:
    return TenantStorage(acme, "notes")


def test_it_is_the_storage_that_plugins_are_promised(storage: TenantStorage) -> None:
    promised: Storage = storage
    assert promised.shared.get("x") is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(value=JSON)
def test_any_json_comes_back_as_it_was(storage: TenantStorage, value: Any) -> None:
    storage.set("key", value)
    assert storage.get("key", "missing") == value


def test_a_missing_key_gives_the_default_and_a_stored_none_does_not(storage: TenantStorage) -> None:
    assert storage.get("x", 7) == 7
    storage.set("x", None)
    assert storage.get("x", 7) is None


def test_deleting_says_whether_there_was_something(storage: TenantStorage) -> None:
    storage.set("x", 1)
    assert storage.delete("x") is True
    assert storage.delete("x") is False


def test_each_registration_has_its_own_values_and_all_share_some(storage: TenantStorage, acme: Tenant) -> None:
    other = TenantStorage(acme, "other")
    storage.set("x", 1)
    other.set("x", 2)
    storage.shared.set("x", 3)
    assert (storage.get("x"), other.get("x"), other.shared.get("x")) == (1, 2, 3)


def test_each_tenant_has_its_own_values(storage: TenantStorage, globex: Tenant) -> None:
    storage.set("x", 1)
    assert TenantStorage(globex, "notes").get("x") is None


def test_it_belongs_to_its_tenant_wherever_it_is_used(storage: TenantStorage, globex: Tenant) -> None:
    with tenancy.visit(globex):
        storage.set("x", 1)
        assert StoredValue.objects.count() == 0
    assert storage.get("x") == 1


def test_keys_are_listed_in_order_by_prefix_and_page_by_page(storage: TenantStorage) -> None:
    for key in ["b", "a/2", "a/10", "a/1", "a%", "Z"]:
        storage.set(key, key)
    assert [key for key, _ in storage.list()] == ["Z", "a%", "a/1", "a/10", "a/2", "b"]
    assert [key for key, _ in storage.list("a/")] == ["a/1", "a/10", "a/2"]
    assert storage.list("a/", after="a/1", limit=1) == [("a/10", "a/10")]
    assert [key for key, _ in storage.list("a%")] == ["a%"]


def test_counting_starts_at_0_and_returns_the_new_number(storage: TenantStorage) -> None:
    assert [storage.increment("n"), storage.increment("n", 5), storage.increment("n", -10)] == [1, 6, -4]
    assert storage.get("n") == -4


def test_counting_knows_no_largest_number(storage: TenantStorage) -> None:
    storage.set("n", 2**80)
    assert storage.increment("n") == 2**80 + 1


@pytest.mark.parametrize("value", ["7", 1.5, [1], None, True])
def test_what_is_no_whole_number_is_not_counted_up(storage: TenantStorage, value: Any) -> None:
    storage.set("n", value)
    with pytest.raises(InvalidInput, match="The value at 'n' is no whole number"):
        storage.increment("n")
    assert storage.get("n") == value


def test_no_count_is_lost_between_threads(storage: TenantStorage) -> None:
    def work() -> None:
        for _ in range(50):
            storage.increment("n")
        connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(work) for _ in range(8)]:
            future.result()
    assert storage.get("n") == 400


def test_comparing_and_setting_only_replaces_what_was_expected(storage: TenantStorage) -> None:
    assert storage.compare_and_set("x", None, {"v": 1}) is True
    assert storage.compare_and_set("x", None, {"v": 2}) is False
    assert storage.compare_and_set("x", {"v": 2}, {"v": 3}) is False
    assert storage.compare_and_set("x", {"v": 1}, {"v": 3}) is True
    assert storage.get("x") == {"v": 3}


def test_a_stored_none_counts_as_nothing_when_compared(storage: TenantStorage) -> None:
    storage.set("x", None)
    assert storage.compare_and_set("x", None, 1) is True


def test_one_of_many_threads_wins(storage: TenantStorage) -> None:
    def work(number: int) -> bool:
        try:
            return storage.compare_and_set("leader", None, number)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(8))) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "a\0b", "\ud800", object(), {"deep": [[[]]] * 20_000}])
def test_what_cannot_be_kept_is_refused(storage: TenantStorage, value: Any) -> None:
    with pytest.raises(InvalidInput, match="The value cannot be stored"):
        storage.set("x", value)


@pytest.mark.parametrize("key", ["", "a\0b", "x" * 501])
def test_what_is_no_key_is_refused(storage: TenantStorage, key: str) -> None:
    with pytest.raises(InvalidInput, match="is no key"):
        storage.get(key)


def test_it_takes_part_in_the_caller_s_transaction(in_acme: Tenant) -> None:
    storage = TenantStorage(in_acme, "notes")
    with transaction.atomic():
        storage.set("x", 1)
        assert storage.get("x") == 1
        transaction.set_rollback(True)
    assert storage.get("x") is None


def test_each_call_is_one_statement(in_acme: Tenant, django_assert_num_queries: Any) -> None:
    storage = TenantStorage(in_acme, "notes")
    calls: list[Callable[[], Any]] = [
        lambda: storage.set("x", 1),
        lambda: storage.get("x"),
        lambda: storage.increment("x"),
        lambda: storage.compare_and_set("x", 2, 3),
        lambda: storage.compare_and_set("y", None, 3),
        lambda: storage.list(),
        lambda: storage.delete("x"),
    ]
    for call in calls:
        with django_assert_num_queries(2):  # the other one is django-tenants' SET search_path
            call()


def test_the_asynchronous_twins_do_the_same(storage: TenantStorage) -> None:
    async def work() -> list[Any]:
        await storage.aset("x", 1)
        await storage.aset("y", 2)
        return [
            await storage.aget("x"),
            await storage.alist(),
            await storage.aincrement("x"),
            await storage.acompare_and_set("x", 2, 3),
            await storage.adelete("y"),
            await storage.shared.aget("x", "default"),
        ]

    assert asyncio.run(work()) == [1, [("x", 1), ("y", 2)], 2, True, True, "default"]
    assert storage.get("x") == 3


def test_tasks_of_two_tenants_do_not_meet(storage: TenantStorage, globex: Tenant) -> None:
    other = TenantStorage(globex, "notes")

    async def work() -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(40):
                tasks.create_task((storage if number % 2 else other).aincrement("n"))

    asyncio.run(work())
    assert (storage.get("n"), other.get("n")) == (20, 20)
