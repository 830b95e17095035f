"""The tenant's admin, page by page, on real rows: what it writes, what it refuses, and what it never shows."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

import pluginhub
from pluginhub import access, encryption, jobs, publishing, tenancy
from pluginhub.fleet.models import AllowedPlugin
from pluginhub.models import (
    AccessToken,
    Chain,
    Composition,
    InterceptorBinding,
    Job,
    PointBinding,
    Registration,
    Revision,
    Step,
    StoredValue,
    Target,
)
from pluginhub.points import Point
from pluginhub.types import Tenant
from tests.integration.adminsite import GREET, PLUGINS, chain, client_of, errors, register, steps, text, url

CANARY = "hunter2-canary"
POINT = Point("admin.test", title="The admin's tests")


@pytest.fixture(autouse=True)
def plugins(settings: Any) -> None:
    settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": PLUGINS}


@pytest.fixture
def inside(acme: Tenant) -> Callable[..., Any]:
    """`inside(f, …)` calls `f` in acme."""
    return lambda f, *args, **kwargs: tenancy.gate(acme, f, *args, **kwargs)


@pytest.fixture
def admin(acme: Tenant) -> Client:
    with tenancy.visit(acme):
        user = User.objects.create_superuser("root", password="root")
        return client_of(user, acme)


@pytest.fixture
def clerk(acme: Tenant) -> Callable[..., Client]:
    """`clerk("view_chain", …)` logs in somebody with just these permissions."""

    def make(*permissions: str) -> Client:
        with tenancy.visit(acme):
            user = User.objects.create_user("clerk", password="clerk", is_staff=True)
            user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
            return client_of(user, acme)

    return make


class TestRegistrations:
    def test_adding_begins_with_the_catalog(self, admin: Client) -> None:
        page = admin.get(url("registration", "add"))
        assert "Choose a plugin" in text(page)
        assert "Put a greeting before a name." in text(page)
        assert '<a href="?plugin=greet">' in page.content.decode()

    def test_a_plugin_that_is_not_in_the_catalog_is_not_imported(self, admin: Client) -> None:
        page = admin.get(url("registration", "add", plugin="os.path"))
        assert "There is no plugin os.path to choose here." in text(page)

    def test_a_tenant_is_offered_what_it_may_use(self, admin: Client) -> None:
        AllowedPlugin.objects.create(schema="acme", plugin="louder")
        page = admin.get(url("registration", "add"))
        assert "?plugin=louder" in page.content.decode()
        assert "?plugin=greet" not in page.content.decode()
        assert "no plugin greet" in text(admin.get(url("registration", "add", plugin="greet")))

    def test_the_form_is_made_from_the_model_and_saved_as_json(self, admin: Client, inside: Any) -> None:
        form = admin.get(url("registration", "add", plugin="greet"))
        assert re.search(r'name="config-greeting" value="Hello"[^>]* maxlength="20"', form.content.decode())
        assert 'name="name" value="greet"' in form.content.decode()
        done = admin.post(url("registration", "add", plugin="greet"), {**GREET, "config-greeting": "Hi"})
        assert done.status_code == 302
        row = inside(Registration.objects.get)
        assert (row.plugin, row.config, row.config_version) == ("greet", {"greeting": "Hi", "token": None}, 1)

    def test_a_name_that_is_taken_is_not_proposed(self, admin: Client, inside: Any) -> None:
        inside(register)
        assert 'name="name" value="greet-2"' in admin.get(url("registration", "add", plugin="greet")).content.decode()

    def test_what_does_not_fit_is_said_at_its_field(self, admin: Client, inside: Any) -> None:
        page = admin.post(url("registration", "add", plugin="greet"), {**GREET, "config-greeting": "x" * 21})
        assert page.status_code == 200
        assert page.context["adminform"].form.configuration.errors["greeting"]
        assert inside(Registration.objects.count) == 0

    def test_what_several_fields_make_wrong_together_is_said_above_them(self, admin: Client) -> None:
        page = admin.post(url("registration", "add", plugin="greet"), {**GREET, "config-greeting": "Oi"})
        assert "Oi is no greeting" in text(page)

    def test_a_missing_plugin_shows_as_missing_and_keeps_its_configuration(self, admin: Client, inside: Any) -> None:
        row = inside(register, plugin="gone", config={"a": 1})
        assert "Missing" in text(admin.get(url("registration")))
        page = admin.get(url("registration", "change", row.pk))
        assert "No plugin named 'gone' is installed." in text(page)
        assert admin.post(url("registration", "change", row.pk), {"name": "greet", "title": "T"}).status_code == 302
        assert inside(Registration.objects.get).config == {"a": 1}

    def test_the_list_costs_the_same_for_many_rows(self, admin: Client, inside: Any) -> None:
        def queries() -> int:
            with CaptureQueriesContext(connection) as captured:
                admin.get(url("registration"))
            return len(captured)

        inside(register)
        queries()
        few = queries()
        inside(Target.objects.count)
        for number in range(20):
            inside(register, name=f"greet-{number}")
        assert queries() == few


class TestSecrets:
    @pytest.fixture
    def row(self, admin: Client, inside: Any) -> Registration:
        admin.post(url("registration", "add", plugin="greet"), {**GREET, "config-token": CANARY})
        found: Registration = inside(Registration.objects.get)
        return found

    def test_they_are_sealed_in_the_row_and_absent_from_every_page(
        self, admin: Client, row: Registration, acme: Tenant, inside: Any
    ) -> None:
        sealed = row.config["token"]
        assert encryption.is_sealed(sealed)
        assert encryption.unseal(sealed, tenant=acme, registration="greet", path="token") == CANARY
        inside(publishing.publish, author="root")
        pages = [
            url("registration"),
            url("registration", "change", row.pk),
            url("registration", "history", row.pk),
            url("revision"),
            url("revision", "change", inside(Revision.objects.get).pk),
        ]
        for page in pages:
            body = admin.get(page).content.decode()
            assert CANARY not in body, page
            assert sealed not in body, page
        assert CANARY not in str(list(inside(lambda: list(LogEntry.objects.values()))))

    def test_a_refused_form_does_not_give_back_what_was_typed(self, admin: Client) -> None:
        sent = {**GREET, "config-token": CANARY, "config-greeting": "x" * 21}
        assert CANARY not in admin.post(url("registration", "add", plugin="greet"), sent).content.decode()

    def test_an_empty_one_keeps_what_is_stored_and_is_no_change(
        self, admin: Client, row: Registration, inside: Any
    ) -> None:
        inside(publishing.publish, author="root")
        admin.post(url("registration", "change", row.pk), GREET)
        assert inside(Registration.objects.get).config == row.config
        assert inside(publishing.changes) == []

    def test_it_can_be_replaced_and_cleared(self, admin: Client, row: Registration, acme: Tenant, inside: Any) -> None:
        admin.post(url("registration", "change", row.pk), {**GREET, "config-token": "other"})
        sealed = inside(Registration.objects.get).config["token"]
        assert encryption.unseal(sealed, tenant=acme, registration="greet", path="token") == "other"
        admin.post(url("registration", "change", row.pk), {**GREET, "config-token_clear": "on"})
        assert inside(Registration.objects.get).config["token"] is None

    def test_it_moves_along_when_the_registration_is_renamed(
        self, admin: Client, row: Registration, acme: Tenant, inside: Any
    ) -> None:
        admin.post(url("registration", "change", row.pk), {**GREET, "name": "welcome"})
        sealed = inside(Registration.objects.get).config["token"]
        assert encryption.unseal(sealed, tenant=acme, registration="welcome", path="token") == CANARY

    def test_one_that_no_longer_opens_is_said_and_asked_for_again(
        self, admin: Client, row: Registration, inside: Any, settings: Any
    ) -> None:
        settings.SECRET_KEY = "another"
        user = inside(User.objects.get)
        page = _client_again(admin, user).get(url("registration", "change", row.pk))
        assert "which is not configured" in text(page)
        assert "A value is stored" not in text(page)


def _client_again(client: Client, user: User) -> Client:
    client.force_login(user)
    return client


class TestChains:
    def test_steps_are_saved_in_the_order_of_their_positions(self, admin: Client, inside: Any) -> None:
        first, second = inside(register, name="one"), inside(register, name="two")
        rows = steps({"target": first.pk, "position": 7}, {"target": second.pk, "position": 2})
        assert admin.post(url("chain", "add"), {"name": "both", "enabled": "on", **rows}).status_code == 302
        assert self.order(inside) == [(1, "two"), (2, "one")]

    def test_moving_one_saves_those_that_only_moved(self, admin: Client, inside: Any) -> None:
        for name in ("one", "two", "three"):
            inside(register, name=name)
        made = inside(chain, "all", "one", "two", "three")
        known = inside(lambda: list(made.steps.order_by("position").values("id", "target")))
        rows = steps(
            *({"id": row["id"], "chain": made.pk, "target": row["target"], "position": position}
              for row, position in zip(known, (2, 3, 1), strict=True)),
            initial=3,
        )  # fmt: skip
        assert admin.post(url("chain", "change", made.pk), {"name": "all", **rows}).status_code == 302
        assert self.order(inside) == [(1, "three"), (2, "one"), (3, "two")]

    def test_a_removed_step_leaves_no_gap(self, admin: Client, inside: Any) -> None:
        for name in ("one", "two"):
            inside(register, name=name)
        made = inside(chain, "all", "one", "two")
        known = inside(lambda: list(made.steps.order_by("position").values("id", "target")))
        rows = steps(*({"id": row["id"], "chain": made.pk, "target": row["target"]} for row in known), initial=2)
        admin.post(url("chain", "change", made.pk), {"name": "all", **rows, "steps-0-DELETE": "on"})
        assert self.order(inside) == [(1, "two")]

    def test_the_picker_offers_all_targets_but_the_chain_itself(self, admin: Client, inside: Any) -> None:
        inside(register, title="A greeting")
        made = inside(chain, "itself")
        inside(chain, "other")
        page = admin.get(url("chain", "change", made.pk)).content.decode()
        options = re.findall(r"<option[^>]*>([^<]+)</option>", page)
        assert "greet – A greeting" in options
        assert "other" in options
        assert "itself" not in options

    def test_what_cannot_be_stored_as_a_default_is_refused_at_its_field(self, admin: Client, inside: Any) -> None:
        target = inside(register)
        rows = steps({"target": target.pk, "on_failure": "default", "default": "NaN"})
        page = admin.post(url("chain", "add"), {"name": "c", **rows})
        assert page.status_code == 200
        assert "NaN is not JSON" in text(page)

    def test_a_cycle_may_be_saved_and_is_refused_with_its_path_when_published(self, admin: Client, inside: Any) -> None:
        inside(chain, "a")
        b = inside(chain, "b", "a")
        a = inside(Chain.objects.get, name="a")
        sent = {"name": "a", "enabled": "on", **steps({"target": b.pk})}
        page = admin.post(url("chain", "change", a.pk), {**sent, "_publish": "1"})
        assert page.status_code == 200
        assert "This calls itself: a → b → a." in text(page)
        assert inside(lambda: a.steps.count()) == 0, "the refusal rolled the step back"
        assert "was changed successfully" not in text(page)
        assert admin.post(url("chain", "change", a.pk), sent).status_code == 302
        assert inside(lambda: a.steps.count()) == 1

    def test_a_problem_of_a_step_is_shown_at_that_step(self, admin: Client, inside: Any) -> None:
        on, off = inside(register), inside(register, name="off", enabled=False)
        rows = steps({"target": off.pk, "position": 2}, {"target": on.pk, "position": 1})
        page = admin.post(url("chain", "add"), {"name": "c", "enabled": "on", **rows, "_publish": "1"})
        (formset,) = (one.formset for one in page.context["inline_admin_formsets"])
        assert formset.forms[0].errors == {"target": ["'off' is disabled. Enable it, or use another."]}
        assert not formset.forms[1].errors
        assert inside(Chain.objects.count) == 0

    @staticmethod
    def order(inside: Any) -> list[tuple[int, str]]:
        rows = Step.objects.order_by("position").values_list("position", "target__name")
        return inside(lambda: list(rows))  # type: ignore[no-any-return]


class TestCompositions:
    def test_members_and_a_parent_plugin_with_its_settings(self, admin: Client, inside: Any) -> None:
        target = inside(register)
        assert "Louder" in text(admin.get(url("composition", "add")))
        sent = {
            "name": "loud", "enabled": "on", "strategy": "parent", "plugin": "louder",
            "members-TOTAL_FORMS": 1, "members-INITIAL_FORMS": 0,
            "members-0-target": target.pk, "members-0-required": "on",
        }  # fmt: skip
        assert admin.post(url("composition", "add"), sent).status_code == 302
        made = inside(Composition.objects.get)
        assert 'name="config-marks"' in admin.get(url("composition", "change", made.pk)).content.decode()
        (member,) = inside(lambda: list(made.members.all()))
        sent |= {"members-INITIAL_FORMS": 1, "members-0-id": member.pk, "members-0-composition": made.pk}
        done = admin.post(url("composition", "change", made.pk), {**sent, "config-marks": "3", "_publish": "1"})
        assert done.status_code == 302
        assert inside(Composition.objects.get).config == {"marks": 3}


class TestBindings:
    def test_only_plugins_that_intercept_are_offered(self, admin: Client, inside: Any) -> None:
        inside(register)
        wrap = inside(register, name="wrap", plugin="wrap")
        page = admin.get(url("interceptorbinding", "add")).content.decode()
        assert ">wrap<" in page
        assert ">greet<" not in page.partition('name="registration"')[2].partition("</select>")[0]
        sent = {"registration": wrap.pk, "scope": "call", "position": 1, "enabled": "on"}
        assert admin.post(url("interceptorbinding", "add"), sent).status_code == 302
        assert inside(InterceptorBinding.objects.count) == 1

    def test_points_are_those_the_host_declares(self, admin: Client, inside: Any) -> None:
        target = inside(register)
        assert "The admin's tests (admin.test)" in text(admin.get(url("pointbinding", "add")))
        sent = {"point": "elsewhere", "target": target.pk, "enabled": "on"}
        assert "point" in errors(admin.post(url("pointbinding", "add"), sent))

    def test_a_target_hung_where_another_hangs_moves_it_on(self, admin: Client, inside: Any) -> None:
        for position, name in enumerate(("one", "two", "three")):
            target = inside(register, name=name)
            sent = {"point": POINT.name, "target": target.pk, "enabled": "on"}
            sent |= {"position": 1} if name == "three" else {}
            assert admin.post(url("pointbinding", "add"), sent).status_code == 302, position
        rows = PointBinding.objects.order_by("position").values_list("position", "target__name")
        assert inside(lambda: list(rows)) == [(1, "three"), (2, "one"), (3, "two")]


class TestPublishing:
    def test_the_state_of_the_draft_stands_on_every_page(self, admin: Client, inside: Any) -> None:
        row = inside(register)
        pages = [
            "/admin/pluginhub/",
            url("registration"),
            url("registration", "add"),
            url("registration", "change", row.pk),
            url("registration", "delete", row.pk),
            url("registration", "history", row.pk),
            url("registration", "try", row.pk),
            *(url(model) for model in ("chain", "composition", "interceptorbinding", "pointbinding", "job")),
            *(url(model, "add") for model in ("chain", "composition", "interceptorbinding", "pointbinding")),
            *(url(model) for model in ("storedvalue", "accesstoken", "revision")),
        ]
        for page in pages:
            response = admin.get(page)
            assert response.status_code == 200, page
            assert "1 change not published" in text(response), page
            assert "added registration greet" in text(response), page
        inside(publishing.publish, author="root", note="first")
        for page in pages:
            assert "Everything is published: revision 1, by root – first" in text(admin.get(page)), page

    def test_the_button_publishes_and_returns_to_its_page(self, admin: Client, inside: Any) -> None:
        inside(register)
        sent = {"note": "first", "expected": "0", "next": url("chain")}
        done = admin.post(url("revision", "publish"), sent, follow=True)
        assert done.redirect_chain == [(url("chain"), 302)]
        assert "Revision 1 is live." in text(done)
        (revision,) = inside(lambda: list(Revision.objects.all()))
        assert (revision.author, revision.note) == ("root", "first")

    def test_it_returns_to_no_other_site(self, admin: Client) -> None:
        done = admin.post(url("revision", "publish"), {"next": "https://evil.example/"})
        assert done["Location"].startswith("/admin/")

    def test_a_form_that_was_fetched_does_not_publish(self, admin: Client) -> None:
        assert admin.get(url("revision", "publish")).status_code == 405

    def test_save_and_publish_does_both(self, admin: Client, inside: Any) -> None:
        done = admin.post(url("registration", "add", plugin="greet"), {**GREET, "_publish": "1"}, follow=True)
        assert "Revision 1 is live." in text(done)
        assert "was added successfully" in text(done)
        assert list(inside(publishing.configuration_of, inside(publishing.live)).registrations) == ["greet"]

    def test_saving_alone_does_not(self, admin: Client, inside: Any) -> None:
        admin.post(url("registration", "add", plugin="greet"), GREET)
        assert inside(Revision.objects.count) == 0

    def test_a_problem_elsewhere_names_its_row(self, admin: Client, inside: Any) -> None:
        inside(register, name="gone", plugin="gone")
        page = admin.post(url("registration", "add", plugin="greet"), {**GREET, "_publish": "1"})
        assert "registration “gone”, plugin:" in text(page)
        assert inside(Registration.objects.count) == 1

    def test_the_button_says_why_it_refuses(self, admin: Client, inside: Any) -> None:
        inside(register, name="gone", plugin="gone")
        page = admin.post(url("revision", "publish"), {"next": url("registration")}, follow=True)
        assert "Not published. registration “gone”, plugin:" in text(page)
        assert inside(Revision.objects.count) == 0

    def test_who_has_not_seen_the_newest_revision_is_told(self, admin: Client, inside: Any) -> None:
        inside(register)
        inside(publishing.publish, author="somebody")
        stale = {**GREET, "name": "late", "_publish": "1", "expected": "0"}
        page = admin.post(url("registration", "add", plugin="greet"), stale)
        assert "Revision 1 was published meanwhile; you saw 0." in text(page)
        assert inside(Registration.objects.count) == 1
        page = admin.post(url("revision", "publish"), {"expected": "0"}, follow=True)
        assert "was published meanwhile" in text(page)

    def test_a_row_that_changed_under_the_page_is_not_overwritten(self, admin: Client, inside: Any) -> None:
        row = inside(register)
        seen = admin.get(url("registration", "change", row.pk)).context["adminform"].form["seen"].value()
        inside(lambda: register_again(row))
        page = admin.post(url("registration", "change", row.pk), {**GREET, "title": "mine", "seen": seen})
        assert "Somebody has changed this since you opened the page. It now says: Title “theirs”." in text(page)
        assert inside(Registration.objects.get).title == "theirs"

    def test_deleting_is_part_of_the_draft(self, admin: Client, inside: Any) -> None:
        row = inside(register)
        inside(publishing.publish, author="root")
        assert admin.post(url("registration", "delete", row.pk), {"post": "yes"}).status_code == 302
        assert [str(change) for change in inside(publishing.changes)] == ["registration greet removed"]

    def test_what_is_used_is_not_deleted(self, admin: Client, inside: Any) -> None:
        row = inside(register)
        inside(chain, "c", "greet")
        page = admin.post(url("registration", "delete", row.pk), {"post": "yes"})
        assert "would require deleting" in text(page)
        assert inside(Registration.objects.count) == 1

    def test_an_action_switches_rows_of_the_draft(self, admin: Client, inside: Any) -> None:
        row = inside(register)
        admin.post(url("registration"), {"action": "switch_off", "_selected_action": row.pk})
        assert not inside(Registration.objects.get).enabled


def register_again(row: Registration) -> None:
    row.title = "theirs"
    row.save()


class TestRevisions:
    def test_a_revision_says_what_changed(self, admin: Client, inside: Any) -> None:
        row = inside(register, config={"greeting": "Hello"})
        inside(publishing.publish, author="root")
        row.config = {"greeting": "Hi"}
        inside(row.save)
        second = inside(publishing.publish, author="root")
        page = admin.get(url("revision", "change", second.pk))
        assert "changed registration greet (setting greeting)" in text(page)
        assert admin.post(url("revision", "change", second.pk), {}).status_code == 403

    def test_rolling_back_shows_what_it_would_do_and_publishes_anew(self, admin: Client, inside: Any) -> None:
        row = inside(register)
        inside(publishing.publish, author="root")
        inside(row.delete)
        inside(publishing.publish, author="root")
        page = admin.get(url("revision", "rollback", 1))
        assert "added registration greet" in text(page)
        done = admin.post(url("revision", "rollback", 1), {"note": "sorry"}, follow=True)
        assert "Revision 3 is live." in text(done)
        assert inside(Registration.objects.count) == 1


class TestPermissions:
    def test_a_viewer_sees_and_changes_nothing(self, clerk: Any, inside: Any) -> None:
        row = inside(register, config={"greeting": "Hi", "token": "ph1:00000000:AAAA"})
        client = clerk("view_registration")
        page = client.get(url("registration", "change", row.pk))
        assert '"greeting": "Hi"' in text(page)
        assert "ph1:" not in text(page)
        assert "Save" not in text(page)
        assert client.post(url("registration", "change", row.pk), GREET).status_code == 403
        assert client.get(url("registration", "add")).status_code == 403
        assert client.get(url("chain")).status_code == 403

    def test_publishing_is_a_permission_of_its_own(self, clerk: Any, inside: Any) -> None:
        row = inside(register)
        client = clerk("view_registration", "change_registration")
        page = client.get(url("registration", "change", row.pk))
        assert "1 change not published" in text(page)
        assert 'name="_publish"' not in page.content.decode()
        assert client.post(url("revision", "publish")).status_code == 403
        assert client.get(url("revision", "rollback", 1)).status_code == 403
        client.post(url("registration", "change", row.pk), {**GREET, "title": "saved", "_publish": "1"})
        assert inside(Registration.objects.get).title == "saved"
        assert inside(Revision.objects.count) == 0

    def test_who_may_change_a_chain_may_change_its_steps(self, clerk: Any, inside: Any) -> None:
        target = inside(register)
        client = clerk("view_chain", "change_chain", "add_chain")
        client.post(url("chain", "add"), {"name": "c", **steps({"target": target.pk})})
        assert inside(Step.objects.count) == 1

    def test_another_tenant_s_admin_has_no_part_in_it(self, admin: Client, inside: Any, globex: Tenant) -> None:
        inside(register)
        admin.cookies.clear()
        with tenancy.visit(globex):
            other = client_of(User.objects.create_superuser("root", password="root"), globex)
        assert "0 registrations" in text(other.get(url("registration")))

    def test_running_is_a_permission_of_its_own(self, clerk: Any, inside: Any) -> None:
        row = inside(register)
        client = clerk("view_registration")
        assert client.get(url("registration", "try", row.pk)).status_code == 403
        assert "Try it" not in text(client.get(url("registration", "change", row.pk)))


class TestTryIt:
    def test_it_shows_the_result_of_what_is_published(self, admin: Client, inside: Any) -> None:
        row = inside(register, config={"greeting": "Hi"})
        inside(publishing.publish, author="root")
        page = admin.post(url("registration", "try", row.pk), {"sample": '"Ada"'})
        assert '"Hi Ada"' in text(page)
        assert "Revision 1" in text(page)

    def test_a_problem_is_an_answer(self, admin: Client, inside: Any) -> None:
        row = inside(register)
        assert "404 Unknown target" in text(admin.post(url("registration", "try", row.pk), {"sample": "1"}))
        assert "400 Malformed input" in text(admin.post(url("registration", "try", row.pk), {"sample": "{"}))


class TestJobs:
    @pytest.fixture
    def job(self, admin: Client, inside: Any) -> Job:
        inside(register)
        inside(publishing.publish, author="root")
        inside(jobs.enqueue, "greet", {"x": 1})
        found: Job = inside(Job.objects.get)
        return found

    def test_they_are_read_only(self, admin: Client, job: Job) -> None:
        assert "queued" in text(admin.get(url("job")))
        page = admin.get(url("job", "change", job.pk))
        assert '{ "x": 1 }' in text(page)
        assert admin.post(url("job", "change", job.pk), {}).status_code == 403
        assert admin.get(url("job", "add")).status_code == 403

    def test_they_can_be_cancelled(self, admin: Client, job: Job, inside: Any) -> None:
        done = admin.post(url("job"), {"action": "cancel", "_selected_action": job.pk}, follow=True)
        assert "1 job is asked to end." in text(done)
        assert inside(Job.objects.get).status == "cancelled"


class TestStoredValues:
    def test_json_that_cannot_be_kept_is_an_error_at_its_field(self, admin: Client, inside: Any) -> None:
        for value in ("NaN", '"\\u0000"', "[" * 50 + "]" * 50, '{"a": 1, "a": 2}'):
            assert "value" in errors(admin.post(url("storedvalue", "add"), {"key": "k", "value": value})), value
        assert admin.post(url("storedvalue", "add"), {"key": "k", "value": '{"n": 1}'}).status_code == 302
        assert inside(StoredValue.objects.get).value == {"n": 1}


class TestTokens:
    def test_a_token_is_shown_once_and_works(self, admin: Client, acme: Tenant, inside: Any) -> None:
        user = inside(User.objects.get)
        page = admin.post(url("accesstoken", "add"), {"name": "ci", "user": user.pk})
        (token,) = re.findall(r'value="(ph_[^"]+)"', page.content.decode())
        assert "no-store" in page["Cache-Control"]
        with tenancy.visit(acme):
            caller = access.authenticate_bearer(token)
        assert caller is not None
        assert caller.name == "root"
        row = inside(AccessToken.objects.get)
        for later in (url("accesstoken"), url("accesstoken", "change", row.pk), "/admin/"):
            assert token not in admin.get(later).content.decode()


def test_no_template_of_ours_brings_inline_code() -> None:
    """The site's policy is `default-src 'self'`: an inline script or style would not run."""
    templates = [*(Path(pluginhub.__file__).parent / "templates").rglob("*.html")]
    assert templates
    for path in templates:
        assert not re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", path.read_text()), path
