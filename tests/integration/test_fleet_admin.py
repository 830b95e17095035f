"""The fleet in the admin: what it says of processes, who may reload code, and what a tenant sees of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from pluginhub import loading, tenancy
from pluginhub.fleet.models import AllowedPlugin, Generation, Head, Process
from pluginhub.loading import discovery
from pluginhub.models import Registration
from pluginhub.registry import registry
from pluginhub.types import PUBLIC, Tenant
from tests.integration.adminsite import client_of, text, url

WHY = "Registration 'rate' cannot be brought up: no connection to the tariff."
SINCE = "2026-01-02T03:04:05+00:00"
PACKAGE = "fleetadmin_sample"
GROUP = "pluginhub.fleetadmin"
SOURCE = '''
from pluginhub import Plugin


class Sample(Plugin):
    """Return what comes."""

    def process(self, value, context):
        return value
'''


def page(model: str, name: str = "changelist", *args: Any) -> str:
    return reverse(f"admin:pluginhub_fleet_{model}_{name}", args=args, urlconf="tenants.site.urls_public")


def in_public(f: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return tenancy.gate(PUBLIC, f, *args, **kwargs)


def process(pid: int, *, kind: str = "web", silent_for: float = 0, **state: Any) -> None:
    said = {
        "generation": 0,
        "wanted_generation": 0,
        "generation_problem": "",
        "revisions": {},
        "problems": {},
        "lost": 0,
    }
    seen = timezone.now() - timedelta(seconds=silent_for)
    in_public(Process.objects.create, kind=kind, host="node", pid=pid, seen=seen, state={**said, **state})


def problem(revision: int, generation: int) -> dict[str, Any]:
    return {"revision": revision, "generation": generation, "why": WHY, "since": SINCE}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of one plugin, `sample`, on disk and in the catalog."""
    folder, info = tmp_path / PACKAGE, tmp_path / f"{PACKAGE}-1.0.dist-info"
    folder.mkdir()
    info.mkdir()
    (folder / "__init__.py").write_text(SOURCE)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\nsample = {PACKAGE}:Sample\n")
    monkeypatch.setattr(discovery, "GROUP", GROUP)
    monkeypatch.syspath_prepend(str(tmp_path))
    loading.forget()
    yield folder / "__init__.py"
    registry.clear()
    loading.forget()


@pytest.fixture
def root(acme: Tenant) -> Client:
    """A superuser of the public site."""
    with tenancy.visit(PUBLIC):
        client = Client(headers={"host": "localhost"})
        client.force_login(User.objects.create_superuser("root", password="root"))
        return client


@pytest.fixture
def clerk(acme: Tenant) -> Callable[..., Client]:
    """`clerk(tenant, "view_process", …)` logs in somebody with just these permissions."""

    def make(tenant: Tenant, *permissions: str, csrf: bool = False) -> Client:
        with tenancy.visit(tenant):
            user, _ = User.objects.get_or_create(username="clerk", is_staff=True)
            user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
            host = "localhost" if tenant == PUBLIC else f"{tenant.schema}.localhost"
            client = Client(headers={"host": host}, enforce_csrf_checks=csrf)
            client.force_login(user)
            return client

    return make


class TestFleet:
    def test_two_processes_of_which_one_is_behind(self, root: Client) -> None:
        in_public(Head.objects.create, schema="acme", revision=12)
        in_public(Generation.objects.create, number=3, digest="")
        process(7, generation=3, revisions={"acme": 12})
        process(8, kind="worker", generation=2, revisions={"acme": 11}, problems={"acme": problem(12, 3)}, lost=5)
        said = text(root.get(page("process")))
        assert "Up to date: 1 of 2 processes. Behind: 1. Silent: 0." in said
        assert "web node:7 Up to date" in said
        assert "worker node:8 Behind" in said
        assert f"2 → 3 1 1 5 acme: {WHY}" in said
        assert "revision 11 in 1 process, revision 12 in 1 process" in said
        assert f"runs revision 11; revision 12 with generation 3 fails since 01/02/2026 3:04 a.m.: {WHY}" in said

    def test_all_is_well(self, root: Client) -> None:
        in_public(Head.objects.create, schema="acme", revision=12)
        process(7, revisions={"acme": 12})
        process(8, kind="worker")
        process(9, kind="command", silent_for=20)
        said = text(root.get(page("process")))
        assert "All 2 processes run what is wanted. No code was reloaded so far." in said

    def test_a_revision_on_its_way_is_behind_without_a_reason(self, root: Client) -> None:
        in_public(Head.objects.create, schema="acme", revision=12)
        process(7, revisions={"acme": 11})
        assert "web node:7: runs revision 11, and has not come to 12 yet" in text(root.get(page("process")))

    def test_a_process_that_says_nothing_is_silent(self, root: Client) -> None:
        process(7, silent_for=20)
        said = text(root.get(page("process")))
        assert "web node:7 Silent" in said
        assert "20 s ago" in said

    def test_code_that_a_process_refuses_is_its_last_error(self, root: Client) -> None:
        process(7, generation_problem="The package 'x' on this machine is not the one that was reloaded.")
        said = text(root.get(page("process")))
        assert "web node:7 Behind" in said
        assert "on this machine is not the one" in said

    def test_an_empty_fleet_says_when_one_shows_up(self, root: Client) -> None:
        assert "No process has said that it lives." in text(root.get(page("process")))

    def test_the_part_that_changes_is_fetched_alone(self, root: Client) -> None:
        process(7)
        whole = root.get(page("process")).content.decode()
        assert f'data-refresh="{page("process", "standing")}"' in whole
        part = root.get(page("process", "standing")).content.decode()
        assert "node:7" in part
        assert "<html" not in part

    def test_tenants_that_are_behind_come_first_and_can_be_searched(self, root: Client) -> None:
        heads = [Head(schema=f"tenant{number:03}", revision=2) for number in range(60)]
        in_public(Head.objects.bulk_create, heads)
        process(7, revisions={"tenant059": 1})
        said = text(root.get(page("process")))
        assert said.index("tenant059") < said.index("tenant000")
        assert "These are 50 of 60 tenants" in said
        found = text(root.get(page("process"), {"q": "058"}))
        assert "tenant058" in found
        assert "tenant000" not in found

    def test_no_query_per_row(self, root: Client) -> None:
        process(1, revisions={"acme": 1})
        root.get(page("process"))
        with CaptureQueriesContext(connection) as few:
            root.get(page("process", "standing"))
        in_public(Head.objects.bulk_create, [Head(schema=f"t{number}", revision=1) for number in range(30)])
        for pid in range(2, 12):
            process(pid, revisions={f"t{number}": 0 for number in range(30)})
        with CaptureQueriesContext(connection) as many:
            root.get(page("process", "standing"))
        assert len(many) == len(few)

    def test_what_was_named_by_a_tenant_is_escaped(self, root: Client) -> None:
        process(7, problems={"acme": {**problem(1, 0), "why": "<img src=x>"}})
        assert b"<img" not in root.get(page("process")).content

    @pytest.mark.parametrize("model", ["process", "generation", "allowedplugin"])
    def test_nobody_sees_it_in_a_tenant(self, acme: Tenant, model: str) -> None:
        process(7)
        with tenancy.visit(acme):
            admin = client_of(User.objects.create_superuser("root", password="root"), acme)
        assert admin.get(page(model)).status_code == 403
        assert b"pluginhub_fleet" not in admin.get("/admin/").content

    def test_it_takes_a_permission(self, clerk: Callable[..., Client]) -> None:
        assert clerk(PUBLIC).get(page("process")).status_code == 403
        assert clerk(PUBLIC).get(page("process", "standing")).status_code == 403
        assert clerk(PUBLIC, "view_process").get(page("process")).status_code == 200


class TestGenerations:
    def test_the_list_says_what_was_loaded_and_who_runs_it(self, root: Client) -> None:
        in_public(Generation.objects.create, number=1, plugin="rate", digest="", packages={"freight": "a"})
        packages = {"freight": "a", "tariff": "b"}
        in_public(Generation.objects.create, number=2, plugin="tariff", digest="", note="Dearer", packages=packages)
        process(7, generation=2)
        process(8, generation=2)
        process(9, generation=1)
        said = text(root.get(page("generation")))
        assert "tariff 2 processes" in said
        assert "freight 1 process" in said
        assert "Dearer" in said

    def test_the_list_asks_as_much_for_many_as_for_one(self, root: Client) -> None:
        in_public(Generation.objects.create, number=1, digest="", packages={"a": "1"})
        root.get(page("generation"))
        with CaptureQueriesContext(connection) as few:
            root.get(page("generation"))
        for number in range(2, 20):
            in_public(Generation.objects.create, number=number, digest="", packages={"a": str(number)})
        with CaptureQueriesContext(connection) as many:
            root.get(page("generation"))
        assert len(many) == len(few)

    def test_its_page_follows_each_process(self, root: Client) -> None:
        row = in_public(Generation.objects.create, number=2, plugin="rate", digest="")
        process(7, generation=2)
        process(8, generation=1, wanted_generation=2, generation_problem="does not come up")
        process(9, generation=1, wanted_generation=1)
        whole = root.get(page("generation", "change", row.pk))
        part = root.get(page("generation", "progress", row.pk))
        for said in (text(whole), text(part)):
            assert "1 of 3 processes run it, or a newer one. 1 keeps the code it has." in said
            assert "web node:8 Keeps older code does not come up" in said
            assert "web node:9 Is at it" in said

    def test_a_generation_that_is_not_there_is_not_found(self, root: Client) -> None:
        assert root.get(page("generation", "progress", 4711)).status_code == 404


class TestReloading:
    def test_the_button_reloads_and_leads_to_the_generation(self, root: Client, package: Path) -> None:
        answer = root.post(page("generation", "reload"), {"plugin": "sample", "note": "New tariff"}, follow=True)
        row = in_public(Generation.objects.get)
        assert (row.number, row.plugin, row.author, row.note) == (1, "sample", "root", "New tariff")
        assert answer.redirect_chain == [(page("generation", "change", row.pk), 302)]
        assert "Generation 1 is made." in text(answer)

    def test_the_form_offers_the_catalog_by_package(self, root: Client, package: Path) -> None:
        shown = root.get(page("generation", "reload")).content.decode()
        assert f'<optgroup label="{PACKAGE}' in shown
        assert '<option value="sample">' in shown

    def test_a_plugin_that_is_not_in_the_catalog_is_refused(self, root: Client, package: Path) -> None:
        answer = root.post(page("generation", "reload"), {"plugin": "os"})
        assert "Select a valid choice." in text(answer)

    def test_a_refusal_says_why_and_the_way_out(self, root: Client, package: Path) -> None:
        package.write_text("from django.db import models\n" + SOURCE)
        answer = root.post(page("generation", "reload"), {"plugin": "sample"})
        said = text(answer)
        assert "Not reloaded. What serves is not touched." in said
        assert "holds Django models, which belong to an app" in said
        assert "Deploy it, and restart the processes." in said
        assert not in_public(Generation.objects.exists)

    def test_code_that_cannot_be_imported_is_refused(self, root: Client, package: Path) -> None:
        package.write_text("import nothing_of_that_name\n" + SOURCE)
        said = text(root.post(page("generation", "reload"), {"plugin": "sample"}))
        assert "nothing_of_that_name" in said
        assert not in_public(Generation.objects.exists)

    def test_who_only_views_may_not(self, clerk: Callable[..., Client], package: Path) -> None:
        viewer = clerk(PUBLIC, "view_process", "view_generation")
        assert viewer.post(page("generation", "reload"), {"plugin": "sample"}).status_code == 403
        assert page("generation", "reload").encode() not in viewer.get(page("process")).content
        assert not in_public(Generation.objects.exists)

    def test_the_permission_suffices(self, clerk: Callable[..., Client], package: Path) -> None:
        answer = clerk(PUBLIC, "reload_code").post(page("generation", "reload"), {"plugin": "sample"}, follow=True)
        assert answer.status_code == 200
        assert in_public(Generation.objects.get).author == "clerk"

    def test_looking_at_the_form_changes_nothing(self, root: Client, package: Path) -> None:
        root.get(page("generation", "reload"), {"plugin": "sample", "note": ""})
        assert not in_public(Generation.objects.exists)

    def test_a_form_of_another_site_is_refused(self, clerk: Callable[..., Client], package: Path) -> None:
        stranger = clerk(PUBLIC, "reload_code", csrf=True)
        assert stranger.post(page("generation", "reload"), {"plugin": "sample"}).status_code == 403
        assert not in_public(Generation.objects.exists)


class TestInATenant:
    @pytest.fixture
    def row(self, acme: Tenant, package: Path) -> Registration:
        return tenancy.gate(acme, Registration.objects.create, name="mine", plugin="sample")

    def test_a_registration_reloads_its_package(
        self, acme: Tenant, clerk: Callable[..., Client], row: Registration
    ) -> None:
        operator = clerk(acme, "view_registration", "reload_code")
        button = url("registration", "reload", row.pk)
        assert button.encode() in operator.get(url("registration", "change", row.pk)).content
        assert "for all tenants" in text(operator.get(button))
        assert not in_public(Generation.objects.exists)
        answer = operator.post(button, {"note": "Now"}, follow=True)
        assert f"Generation 1 is made: every process loads {PACKAGE} anew" in text(answer)
        generation = in_public(Generation.objects.get)
        assert (generation.plugin, generation.author, generation.note) == ("sample", "clerk", "Now")

    def test_who_only_views_may_not(self, acme: Tenant, clerk: Callable[..., Client], row: Registration) -> None:
        viewer = clerk(acme, "view_registration")
        button = url("registration", "reload", row.pk)
        assert button.encode() not in viewer.get(url("registration", "change", row.pk)).content
        assert viewer.post(button).status_code == 403
        assert viewer.get(button).status_code == 403

    def test_who_may_not_see_it_may_not_reload_it(
        self, acme: Tenant, clerk: Callable[..., Client], row: Registration
    ) -> None:
        assert clerk(acme, "reload_code").post(url("registration", "reload", row.pk)).status_code == 403

    def test_a_form_of_another_site_is_refused(
        self, acme: Tenant, clerk: Callable[..., Client], row: Registration
    ) -> None:
        stranger = clerk(acme, "view_registration", "reload_code", csrf=True)
        assert stranger.post(url("registration", "reload", row.pk)).status_code == 403
        assert not in_public(Generation.objects.exists)

    def test_a_refusal_stays_on_the_page(
        self, acme: Tenant, clerk: Callable[..., Client], row: Registration, package: Path
    ) -> None:
        package.write_text("def broken(:\n")
        operator = clerk(acme, "view_registration", "reload_code")
        said = text(operator.post(url("registration", "reload", row.pk)))
        assert "Not reloaded. What serves is not touched." in said
        assert "cannot be loaded" in said

    def test_its_state_says_why_processes_do_not_take_it(
        self, acme: Tenant, clerk: Callable[..., Client], row: Registration
    ) -> None:
        for pid in (7, 8):
            process(pid, revisions={"acme": 11}, problems={"acme": problem(12, 3), "globex": problem(99, 3)})
        said = text(clerk(acme, "view_registration").get(url("registration", "change", row.pk)))
        assert "2 processes could not take revision 12 of this tenant with generation 3 of the code" in said
        assert said.count(WHY) == 1
        assert "What ran before goes on there: revision 11." in said
        assert "revision 99" not in said

    def test_problems_of_others_are_not_its_own(
        self, acme: Tenant, clerk: Callable[..., Client], row: Registration
    ) -> None:
        process(7, problems={"globex": problem(12, 3)})
        assert WHY not in text(clerk(acme, "view_registration").get(url("registration", "change", row.pk)))


class TestAllowances:
    def test_a_tenant_is_given_a_plugin_of_the_catalog(self, root: Client, package: Path) -> None:
        shown = root.get(page("allowedplugin", "add")).content.decode()
        assert '<option value="globex">' in shown
        answer = root.post(page("allowedplugin", "add"), {"schema": "acme", "plugin": "sample"})
        assert answer.status_code == 302
        assert in_public(lambda: list(AllowedPlugin.objects.values_list("schema", "plugin"))) == [("acme", "sample")]

    @pytest.mark.parametrize("sent", [{"schema": "nobody", "plugin": "sample"}, {"schema": "acme", "plugin": "os"}])
    def test_unknown_names_are_refused(self, root: Client, package: Path, sent: dict[str, str]) -> None:
        assert "Select a valid choice." in text(root.post(page("allowedplugin", "add"), sent))
        assert not in_public(AllowedPlugin.objects.exists)

    def test_the_same_again_is_refused(self, root: Client, package: Path) -> None:
        in_public(AllowedPlugin.objects.create, schema="acme", plugin="sample")
        answer = root.post(page("allowedplugin", "add"), {"schema": "acme", "plugin": "sample"})
        assert answer.status_code == 200
        assert in_public(AllowedPlugin.objects.count) == 1

    def test_it_takes_a_permission(self, clerk: Callable[..., Client], package: Path) -> None:
        viewer = clerk(PUBLIC, "view_allowedplugin")
        assert viewer.get(page("allowedplugin")).status_code == 200
        assert viewer.post(page("allowedplugin", "add"), {"schema": "acme", "plugin": "sample"}).status_code == 403
