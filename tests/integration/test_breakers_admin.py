"""A breaker on its registration's page: how it stands in each process, and the buttons that reach them all."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from pluginhub import tenancy
from pluginhub.admin.resetting import Resettable
from pluginhub.fleet.models import Head, Process, Reset
from pluginhub.models import Registration
from pluginhub.types import PUBLIC, Tenant
from tests.integration.adminsite import GREET, PLUGINS, client_of, errors, register, text, url

OPEN = {"state": "open", "since": "2026-01-02T03:04:05+00:00", "failed": 7, "calls": 10, "retry_at": "2026-01-02T03:04:35+00:00"}  # fmt: skip # noqa: E501


@pytest.fixture(autouse=True)
def plugins(settings: Any) -> None:
    settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": PLUGINS}
    settings.TIME_ZONE = "UTC"


@pytest.fixture
def inside(acme: Tenant) -> Callable[..., Any]:
    """`inside(f, …)` calls `f` in acme."""
    return lambda f, *args, **kwargs: tenancy.gate(acme, f, *args, **kwargs)


@pytest.fixture
def clerk(acme: Tenant) -> Callable[..., Client]:
    """`clerk("view_registration", …)` logs in somebody with just these permissions."""

    def make(*permissions: str, **about: Any) -> Client:
        with tenancy.visit(acme):
            user = User.objects.create_user("clerk", password="clerk", is_staff=True, **about)
            user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
            return client_of(user, acme)

    return make


@pytest.fixture
def admin(clerk: Callable[..., Client]) -> Client:
    return clerk(is_superuser=True)


@pytest.fixture
def row(inside: Any) -> Registration:
    made: Registration = inside(register, breaker_rate=0.5)
    return made


def process(pid: int, *, silent_for: float = 0, **breakers: Any) -> None:
    seen = timezone.now() - timedelta(seconds=silent_for)
    state = {"generation": 0, "revisions": {"acme": 1}, "problems": {}, "lost": 0, "breakers": breakers}
    tenancy.gate(PUBLIC, Process.objects.create, kind="web", host="node", pid=pid, seen=seen, state=state)


def change(row: Registration) -> str:
    return url("registration", "change", row.pk)


class TestForm:
    def test_its_settings_are_saved(self, admin: Client, row: Registration, inside: Any) -> None:
        sent = {**GREET, "breaker_rate": "0.25", "breaker_calls": "40", "breaker_seconds": "5", "cache_seconds": "60"}
        assert admin.post(change(row), sent).status_code == 302
        row = inside(Registration.objects.get)
        assert (row.breaker_rate, row.breaker_calls, row.breaker_seconds, row.cache_seconds) == (0.25, 40, 5, 60)

    def test_what_a_breaker_needs_is_asked_for_where_there_is_one(self, admin: Client, row: Registration) -> None:
        page = admin.post(change(row), {**GREET, "breaker_rate": "0.5", "breaker_calls": "", "breaker_seconds": ""})
        assert errors(page) == {
            "breaker_calls": ["A breaker needs this."],
            "breaker_seconds": ["A breaker needs this."],
        }

    def test_without_one_what_is_left_empty_stays(self, admin: Client, row: Registration, inside: Any) -> None:
        sent = {**GREET, "breaker_rate": "", "breaker_calls": "", "breaker_seconds": ""}
        assert admin.post(change(row), sent).status_code == 302
        row = inside(Registration.objects.get)
        assert (row.breaker_rate, row.breaker_calls, row.breaker_seconds) == (None, 20, 30)

    @pytest.mark.parametrize(
        ("field", "value", "said"),
        [
            ("breaker_rate", "1.5", "A share of failed calls is more than 0 and at most 1."),
            ("breaker_calls", "1001", "A breaker looks at 1 to 1000 calls."),
            ("breaker_seconds", "0", "A breaker stays open for more than 0 seconds."),
            ("cache_seconds", "-1", "Results are kept for more than 0 seconds."),
        ],
    )
    def test_what_cannot_be_is_refused(
        self, admin: Client, row: Registration, field: str, value: str, said: str
    ) -> None:
        sent = {**GREET, "breaker_rate": "0.5", "breaker_calls": "9", "breaker_seconds": "9", field: value}
        assert said in text(admin.post(change(row), sent))


class TestShown:
    def test_each_process_that_serves_the_tenant_has_a_line(self, admin: Client, row: Registration) -> None:
        process(7, acme={"greet": OPEN})
        process(8, acme={"greet": {**OPEN, "state": "half-open"}})
        process(9, acme={"other": OPEN}, globex={"greet": OPEN})
        process(10, silent_for=100, acme={"greet": OPEN})
        said = text(admin.get(change(row)))
        assert "web node:7 Open 01/02/2026 03:04:05 7 of 10 calls 03:04:35" in said
        assert "web node:8 Half-open 01/02/2026 03:04:05 7 of 10 calls by the next call" in said
        assert "web node:9 Closed – – –" in said
        assert "node:10" not in said
        assert "Close it everywhere" in said

    def test_where_nobody_serves_the_tenant_it_says_so(self, row: Registration, inside: Any) -> None:
        process(9, globex={"greet": OPEN})
        tenancy.gate(PUBLIC, Process.objects.update, state={"revisions": {"globex": 1}})
        assert "No process has this tenant loaded" in inside(Resettable.shown_breaker, None, row)

    def test_while_all_are_closed_there_is_nothing_to_press(self, admin: Client, row: Registration) -> None:
        process(9)
        said = text(admin.get(change(row)))
        assert "web node:9 Closed" in said
        assert "Close it everywhere" not in said

    def test_the_list_says_which_are_left_alone(self, admin: Client, row: Registration, inside: Any) -> None:
        inside(register, name="calm")
        process(7, acme={"greet": OPEN})
        process(8, acme={"greet": OPEN})
        said = text(admin.get(url("registration")))
        assert "greet Not published Breaker open ×2" in said.replace("greet greet", "greet")
        assert said.count("Breaker open") == 1

    def test_the_fleet_says_it_of_each_process(self, db: None) -> None:
        process(7, acme={"greet": OPEN, "calm": OPEN}, globex={"say": OPEN})
        with tenancy.visit(PUBLIC):
            root = User.objects.create_superuser("root", password="root")
        client = Client(headers={"host": "localhost"})
        client.force_login(root)
        said = text(client.get("/admin/pluginhub_fleet/process/"))
        assert "Open breakers of acme: calm, greet Open breakers of globex: say" in said


class TestButtons:
    @pytest.mark.parametrize(
        ("what", "said", "logged"),
        [
            ("breaker", "The breaker of greet is closed", "Closed the breaker everywhere."),
            ("cache", "The cache of greet is empty", "Emptied the cache."),
        ],
    )
    def test_one_press_resets_says_so_and_is_in_the_history(
        self, clerk: Any, row: Registration, inside: Any, what: str, said: str, logged: str
    ) -> None:
        client = clerk("change_registration", "view_registration")
        answer = client.post(url("registration", what, row.pk), follow=True)
        assert answer.redirect_chain == [(change(row), 302)]
        assert f"{said}: every process follows within seconds." in text(answer)
        found = tenancy.gate(PUBLIC, Reset.objects.get)
        assert (found.schema, found.registration, found.author) == ("acme", "greet", "clerk")
        assert getattr(found, what) == 1
        assert tenancy.gate(PUBLIC, Head.objects.get).resets == 1
        assert inside(LogEntry.objects.get).get_change_message() == logged

    @pytest.mark.parametrize("what", ["breaker", "cache"])
    def test_it_takes_the_permission_to_change(self, clerk: Any, row: Registration, what: str) -> None:
        process(7, acme={"greet": OPEN})
        client = clerk("view_registration")
        page = client.get(change(row))
        assert "web node:7 Open" in text(page)
        assert b"pluginhub-reset" not in page.content
        assert client.post(url("registration", what, row.pk)).status_code == 403
        assert tenancy.gate(PUBLIC, Reset.objects.count) == 0

    @pytest.mark.parametrize("what", ["breaker", "cache"])
    def test_looking_does_nothing(self, admin: Client, row: Registration, what: str) -> None:
        assert admin.get(url("registration", what, row.pk)).status_code == 405
        assert tenancy.gate(PUBLIC, Reset.objects.count) == 0

    def test_a_forged_press_does_nothing(self, admin: Client, row: Registration, inside: Any) -> None:
        forging = Client(enforce_csrf_checks=True, headers={"host": "acme.localhost"})
        forging.cookies = admin.cookies
        assert forging.post(url("registration", "breaker", row.pk)).status_code == 403
        assert tenancy.gate(PUBLIC, Reset.objects.count) == 0

    def test_one_that_is_not_there_is_not_found(self, admin: Client) -> None:
        assert admin.post(url("registration", "breaker", 4711)).status_code == 404

    def test_each_button_presses_the_form_of_its_name(self, admin: Client, inside: Any) -> None:
        """No form stands inside another, and Enter in a field saves."""
        made = inside(register, breaker_rate=0.5, cache_seconds=5)
        process(7, acme={"greet": OPEN})
        page = admin.get(change(made)).content.decode()
        before, _, inside_form = page.partition('id="registration_form"')
        for what in ("breaker", "cache"):
            assert (
                f'<form id="pluginhub-reset-{what}" method="post" action="{url("registration", what, made.pk)}">'
                in before
            )
            assert f'form="pluginhub-reset-{what}"' in inside_form
