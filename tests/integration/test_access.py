"""Callers, access tokens, tickets, and how often strangers may come."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, Group, Permission, User
from django.db import connection
from django.http import HttpRequest
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from pluginhub import access, admission, tenancy, valkey
from pluginhub.admission import RateLimit
from pluginhub.exceptions import HookError, NotReady, RateLimited, UnknownTarget
from pluginhub.models import AccessToken
from pluginhub.types import Tenant
from tests.integration.hub import make_user


@pytest.fixture
def user(in_acme: Tenant) -> User:
    return make_user()


class TestCallers:
    def test_a_user_may_what_django_says(self, user: User) -> None:
        group = Group.objects.create(name="operators")
        group.permissions.add(Permission.objects.get(codename="publish"))
        user.groups.add(group)
        caller = access.caller_for(user, "http")
        assert (caller.name, caller.user_id, caller.edge, caller.trusted) == ("rita", str(user.pk), "http", False)
        assert caller.may("pluginhub.run_target")
        assert caller.may("pluginhub.publish")
        assert not caller.may("pluginhub.view_job")

    def test_a_superuser_is_trusted_without_a_query(self, in_acme: Tenant) -> None:
        root = User.objects.create_superuser("root", password="x")
        with CaptureQueriesContext(connection) as queries:
            caller = access.caller_for(root, "admin")
        assert (caller.trusted, len(queries)) == (True, 0)

    def test_who_left_or_never_came_is_nobody(self, user: User) -> None:
        user.is_active = False
        for each in (user, AnonymousUser()):
            caller = access.caller_for(each, "http")
            assert (caller.user_id, caller.permissions, caller.edge) == (None, frozenset(), "http")
        assert access.caller_of(HttpRequest(), "http").user_id is None

    def test_permissions_are_remembered_a_moment_and_by_tenant(self, user: User, globex: Tenant) -> None:
        access.caller_for(user, "http")
        user.user_permissions.clear()
        again = User.objects.get(pk=user.pk)
        with CaptureQueriesContext(connection) as queries:
            assert access.caller_for(again, "http").may("pluginhub.run_target")
        assert len(queries) == 0
        with tenancy.visit(globex):
            assert not access.caller_for(again, "http").may("pluginhub.run_target")
        access.forget()
        assert not access.caller_for(User.objects.get(pk=user.pk), "http").may("pluginhub.run_target")

    async def test_its_twin_agrees(self, user: User) -> None:
        request = RequestFactory().get("/")

        async def auser() -> User:
            return user

        request.auser = auser
        caller = await access.acaller_of(request, "websocket")
        assert caller == access.caller_for(user, "websocket")
        assert (await access.acaller_of(HttpRequest(), "http")).user_id is None


class TestTokens:
    def test_only_the_hash_is_kept(self, user: User) -> None:
        token = access.issue_token(user, "for tests")
        row = AccessToken.objects.get()
        assert token.startswith(row.prefix)
        assert len(row.prefix) == 8
        assert token not in str(row.__dict__)

    def test_it_authenticates_its_user_at_its_edge(self, user: User) -> None:
        token = access.issue_token(user, "for tests")
        for edge in ("http", "websocket"):
            caller = access.authenticate_bearer(token, edge)
            assert caller == access.caller_for(user, edge)

    def test_another_tenant_does_not_know_it(self, user: User, globex: Tenant) -> None:
        token = access.issue_token(user, "for tests")
        assert access.authenticate_bearer(token)
        with tenancy.visit(globex):
            assert access.authenticate_bearer(token) is None

    @pytest.mark.parametrize("token", ["", "ph_x", "\udcff", "x" * 100_000])
    def test_what_is_no_token_is_nobodys(self, in_acme: Tenant, token: str) -> None:
        assert access.authenticate_bearer(token) is None

    def test_a_warm_one_costs_no_query(self, user: User) -> None:
        token = access.issue_token(user, "for tests")
        access.authenticate_bearer(token)
        with CaptureQueriesContext(connection) as queries:
            assert access.authenticate_bearer(token)
        assert len(queries) == 0

    def test_it_ends_at_its_hour_even_when_remembered(self, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
        token = access.issue_token(user, "for tests", expires=timezone.now() + timedelta(hours=1))
        assert access.authenticate_bearer(token)
        later = timezone.now() + timedelta(hours=1)
        monkeypatch.setattr("pluginhub.access.timezone.now", lambda: later)
        assert access.authenticate_bearer(token) is None

    def test_a_deleted_one_is_forgotten_in_time(self, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
        token = access.issue_token(user, "for tests")
        assert access.authenticate_bearer(token)
        AccessToken.objects.all().delete()
        later = time.monotonic() + access.REMEMBER_SECONDS
        monkeypatch.setattr("pluginhub.access.monotonic", lambda: later)
        assert access.authenticate_bearer(token) is None

    def test_its_last_use_is_kept_to_the_minute(self, user: User) -> None:
        token = access.issue_token(user, "for tests")
        access.authenticate_bearer(token)
        first = AccessToken.objects.get().last_used
        assert first is not None
        access.forget()
        access.authenticate_bearer(token)
        assert AccessToken.objects.get().last_used == first
        AccessToken.objects.update(last_used=first - timedelta(minutes=2))
        access.forget()
        access.authenticate_bearer(token)
        assert AccessToken.objects.filter(last_used__gt=first - timedelta(minutes=1)).exists()

    async def test_its_twin_agrees(self, acme: Tenant) -> None:
        token = await tenancy.agate(acme, lambda: access.issue_token(make_user(), "for tests"))
        with tenancy.enter(acme):
            first = await access.aauthenticate_bearer(token)
            assert first is not None
            assert await access.aauthenticate_bearer(token) == first
            assert await access.aauthenticate_bearer("ph_x") is None


class TestTickets:
    def test_one_serves_once(self, user: User) -> None:
        caller = access.caller_for(user, "http")
        ticket = access.issue_ticket(caller)
        redeemed = access.redeem(ticket, "websocket")
        assert redeemed is not None
        assert (redeemed.name, redeemed.user_id, redeemed.edge) == ("rita", caller.user_id, "websocket")
        assert redeemed.permissions == caller.permissions
        assert access.redeem(ticket) is None

    def test_many_at_once_are_let_in_once(self, user: User) -> None:
        ticket = access.issue_ticket(access.caller_for(user, "http"))
        let_in = []

        def try_it() -> None:
            with tenancy.enter(Tenant("acme")):
                let_in.append(access.redeem(ticket) is not None)

        threads = [threading.Thread(target=try_it) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(let_in) == [False] * 15 + [True]

    def test_it_passes_and_redis_does_not_know_it(self, user: User, settings: Any) -> None:
        settings.PLUGINHUB = {**settings.PLUGINHUB, "TICKET_SECONDS": 7}
        ticket = access.issue_ticket(access.caller_for(user, "http"))
        (key,) = valkey.client().keys("pluginhub:ticket:*")
        assert ticket not in str(key)
        assert 0 < valkey.client().ttl(key) <= 7

    def test_another_tenant_cannot_use_it_up(self, user: User, globex: Tenant) -> None:
        ticket = access.issue_ticket(access.caller_for(user, "http"))
        with tenancy.visit(globex):
            assert access.redeem(ticket) is None
        assert access.redeem(ticket) is not None

    def test_without_redis_there_are_none(self, user: User, settings: Any) -> None:
        settings.RQ_QUEUES = {"default": {"URL": "redis://127.0.0.1:1/0"}}
        with pytest.raises(NotReady, match="Redis is down"):
            access.issue_ticket(access.caller_for(user, "http"))
        with pytest.raises(NotReady, match="Redis is down"):
            access.redeem("x")


class TestRateLimits:
    @pytest.mark.parametrize(
        ("text", "limit"), [("1/s", (1, 1)), ("60/m", (60, 60)), ("5/h", (5, 3600)), ("9/d", (9, 86400))]
    )
    def test_they_are_written_as_calls_per_unit(self, text: str, limit: tuple[int, int]) -> None:
        assert (RateLimit.parse(text).calls, RateLimit.parse(text).seconds) == limit

    @pytest.mark.parametrize("text", ["", "60", "0/m", "-1/m", "60/w", "60/m ", "６0/m"])
    def test_anything_else_is_an_error(self, text: str) -> None:
        with pytest.raises(HookError, match="is no rate limit"):
            RateLimit.parse(text)

    def test_each_client_name_and_tenant_is_counted_apart(self, acme: Tenant, globex: Tenant) -> None:
        limit = RateLimit.parse("2/d")
        for tenant, name, client in [(acme, "a", "x"), (acme, "a", "y"), (acme, "b", "x"), (globex, "a", "x")]:
            limit.hit(tenant, name, client)
            limit.hit(tenant, name, client)
            with pytest.raises(RateLimited, match="2 calls in 86,400 s") as caught:
                limit.hit(tenant, name, client)
            assert 0 < caught.value.retry_after <= 86400

    def test_the_next_window_begins_anew(self, acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
        limit = RateLimit.parse("1/m")
        now = 1_700_000_000.0
        for minute in range(3):
            monkeypatch.setattr("pluginhub.admission.time.time", lambda minute=minute: now + 60 * minute)
            limit.hit(acme, "a", "x")
            with pytest.raises(RateLimited):
                limit.hit(acme, "a", "x")

    def test_counts_do_not_stay_for_ever(self, acme: Tenant) -> None:
        RateLimit.parse("1/m").hit(acme, "a", "x")
        (key,) = valkey.client().keys("pluginhub:rate:*")
        assert 0 < valkey.client().ttl(key) <= 61

    def test_many_at_once_are_counted_exactly(self, acme: Tenant) -> None:
        limit = RateLimit.parse("50/d")
        passed = []

        def hit() -> None:
            for _ in range(10):
                try:
                    limit.hit(acme, "a", "x")
                except RateLimited:
                    continue
                passed.append(1)

        threads = [threading.Thread(target=hit) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(passed) == 50

    def test_what_is_unknown_is_not_admitted(self, in_acme: Tenant) -> None:
        with pytest.raises(UnknownTarget, match="No public target named 'x'"):
            admission.admit("x", "192.0.2.1")
