"""The draft in the admin: nobody overwrites what he has not seen, and every write is one of publishing's."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.contrib import admin as django_admin
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext

from pluginhub import publishing, tenancy
from pluginhub.admin.conflicts import Seen, changed_since, parts_of
from pluginhub.admin.drafts import DraftAdmin
from pluginhub.configuration import referring
from pluginhub.models import (
    Chain,
    Composition,
    InterceptorBinding,
    Member,
    PointBinding,
    Registration,
    Revision,
    Step,
    Target,
)
from pluginhub.points import Point
from pluginhub.types import Tenant
from tests.integration.adminsite import GREET, PLUGINS, chain, client_of, errors, register, steps, text, url

POINT = Point("drafts.test", title="The drafts' tests")
DRAFT = (Registration, Chain, Composition, InterceptorBinding, PointBinding)


@pytest.fixture(autouse=True)
def plugins(settings: Any) -> None:
    settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": PLUGINS}


@pytest.fixture
def inside(acme: Tenant) -> Callable[..., Any]:
    """`inside(f, …)` calls `f` in acme."""
    return lambda f, *args, **kwargs: tenancy.gate(acme, f, *args, **kwargs)


@pytest.fixture
def staff(acme: Tenant) -> Callable[..., Client]:
    """`staff("ann")` logs in a superuser, `staff("bob", "change_chain", …)` somebody with just these permissions."""

    def make(name: str, *permissions: str) -> Client:
        with tenancy.visit(acme):
            user = User.objects.create_user(name, is_staff=True, is_superuser=not permissions)
            user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
            return client_of(user, acme)

    return make


@pytest.fixture
def ann(staff: Any) -> Client:
    return staff("ann")  # type: ignore[no-any-return]


@pytest.fixture
def bob(staff: Any) -> Client:
    return staff("bob")  # type: ignore[no-any-return]


def form_of(page: Any) -> dict[str, Any]:
    """Return what a browser would send back of a page with a row's form, as it is."""
    sent: dict[str, Any] = {}
    formsets = [inline.formset for inline in page.context["inline_admin_formsets"]]
    forms = [page.context["adminform"].form, *(form for one in formsets for form in (one.management_form, *one.forms))]
    for form in [*forms, *filter(None, [getattr(forms[0], "configuration", None)])]:
        for field in form:
            value = field.value()
            if value is not None and value is not False:
                sent[field.html_name] = "on" if value is True else value
    return sent


class TestConflicts:
    def test_a_step_that_somebody_moved_is_a_conflict_that_says_who_and_what(
        self, ann: Client, bob: Client, inside: Any
    ) -> None:
        for name in ("one", "two"):
            inside(register, name=name)
        at = url("chain", "change", inside(chain, "both", "one", "two").pk)
        mine, theirs = form_of(ann.get(at)), form_of(bob.get(at))
        theirs |= {"steps-0-position": 2, "steps-1-position": 1, "steps-1-on_failure": "skip"}
        assert bob.post(at, theirs).status_code == 302
        page = ann.post(at, {**mine, "title": "Mine"})
        said = r"bob \(.+\) has changed this since .*\. It now says: Steps “two \(on failure skip\), one”\."
        assert re.search(said, text(page))
        assert 'value="Mine"' in page.content.decode()
        assert inside(Chain.objects.get).title == ""

    def test_of_two_who_save_at_the_same_moment_one_is_told(self, ann: Client, bob: Client, inside: Any) -> None:
        """What was seen is compared under the lock, and nothing comes in between."""
        at = url("registration", "change", inside(register).pk)
        forms = [(client, {**form_of(client.get(at)), "title": name}) for client, name in ((ann, "Ann"), (bob, "Bob"))]
        together = threading.Barrier(2)

        def save(client: Client, sent: dict[str, Any]) -> int:
            try:
                together.wait()
                return client.post(at, sent).status_code
            finally:
                connections.close_all()

        with ThreadPoolExecutor(2) as pool:
            answers = [pool.submit(save, *one) for one in forms]
        assert sorted(one.result() for one in answers) == [200, 302]

    def test_sent_once_more_it_is_meant(self, ann: Client, bob: Client, inside: Any) -> None:
        """The page's steps are the whole: one that was removed comes back, one that was added goes."""
        for name in ("one", "two", "three"):
            inside(register, name=name)
        at = url("chain", "change", inside(chain, "all", "one", "two").pk)
        mine, theirs = form_of(ann.get(at)), form_of(bob.get(at))
        three = inside(Target.objects.get, name="three").pk
        added = {f"steps-2-{key}": value for key, value in {"target": three, "attempts": 1, "backoff": 0.1,
                 "on_failure": "fail", "position": 3}.items()}  # fmt: skip
        assert bob.post(at, {**theirs, **added, "steps-TOTAL_FORMS": 3, "steps-0-DELETE": "on"}).status_code == 302
        assert inside(self.targets) == ["two", "three"]
        again = ann.post(at, {**mine, "steps-0-label": "First"})
        assert "Steps “two, three”" in text(again)
        assert ann.post(at, form_of(again)).status_code == 302
        assert inside(self.targets) == ["one", "two"]
        assert inside(lambda: Step.objects.get(position=1).label) == "First"

    def test_a_member_that_somebody_made_optional_is_a_conflict(self, ann: Client, inside: Any) -> None:
        target = inside(register)
        made = inside(Composition.objects.create, name="all")
        inside(Member.objects.create, composition=made, position=1, target=target)
        at = url("composition", "change", made.pk)
        mine = form_of(ann.get(at))
        inside(Member.objects.update, required=False)
        page = ann.post(at, mine)
        assert (
            "Somebody has changed this since you opened the page. It now says: Members “greet (not required)”."
            in text(page)
        )
        assert not inside(Member.objects.get).required

    def test_a_setting_is_named_and_a_secret_only_named(self, ann: Client, bob: Client, inside: Any) -> None:
        ann.post(url("registration", "add", plugin="greet"), {**GREET, "config-token": "hunter2"})
        at = url("registration", "change", inside(Registration.objects.get).pk)
        mine = form_of(ann.get(at))
        bob.post(at, {**form_of(bob.get(at)), "config-greeting": "Moin", "config-token": "hunter3"})
        page = ann.post(at, {**mine, "config-greeting": "Hi"})
        assert "Setting greeting “Moin”, Setting token “(secret)”" in text(page)
        assert "hunter" not in page.content.decode()
        assert "ph1:" not in page.content.decode()

    def test_what_a_command_changed_is_told_with_the_revision_s_author(self, ann: Client, inside: Any) -> None:
        row = inside(register)
        inside(publishing.publish, author="root")
        at = url("registration", "change", row.pk)
        mine = form_of(ann.get(at))
        call_command("pluginhub_disable", "--tenant", "acme", "greet")
        page = ann.post(at, mine)
        assert re.search(r"command line \(.+\) has changed this .* It now says: Enabled “no”", text(page))
        assert not inside(Registration.objects.get).enabled

    def test_a_binding_is_guarded_too(self, ann: Client, inside: Any) -> None:
        wrap, target = inside(register, name="wrap", plugin="wrap"), inside(register)
        made = inside(InterceptorBinding.objects.create, registration=wrap, scope="call")
        at = url("interceptorbinding", "change", made.pk)
        mine = form_of(ann.get(at))
        inside(lambda: made.targets.add(Target.objects.get(pk=target.pk)))
        assert "Targets “greet”" in text(ann.post(at, mine))

    def test_a_row_that_is_gone_can_be_added_anew(self, ann: Client, bob: Client, inside: Any) -> None:
        for name in ("one", "two"):
            inside(register, name=name)
        row = inside(chain, "both", "one", "two")
        at = url("chain", "change", row.pk)
        mine = {**form_of(ann.get(at)), "title": "Mine"}
        bob.post(url("chain", "delete", row.pk), {"post": "yes"})
        page = ann.post(at, mine)
        assert re.search(r"bob \(.+\) has deleted this since you opened the page\. What you entered", text(page))
        assert inside(Chain.objects.count) == 0
        assert ann.post(at, {**form_of(page), "seen": ""}).status_code == 302
        assert inside(Chain.objects.get).title == "Mine"
        assert inside(self.targets) == ["one", "two"]

    def test_a_registration_that_is_gone_keeps_its_plugin(self, ann: Client, inside: Any) -> None:
        row = inside(register)
        at = url("registration", "change", row.pk)
        page = ann.get(at)
        assert 'name="was-plugin" value="greet"' in page.content.decode()
        mine = {**form_of(page), "was-plugin": "greet", "config-greeting": "Hi"}
        inside(row.delete)
        again = ann.post(at, mine)
        assert "has deleted this" in text(again)
        assert 'name="was-plugin" value="greet"' in again.content.decode()
        assert ann.post(at, {**form_of(again), "seen": "", "was-plugin": "os"}).status_code == 302
        assert inside(Registration.objects.count) == 0, "a plugin that may not be chosen is not"
        assert ann.post(at, {**form_of(again), "seen": "", "was-plugin": "greet"}).status_code == 302
        made = inside(Registration.objects.get)
        assert (made.plugin, made.config["greeting"]) == ("greet", "Hi")

    def test_nothing_is_deleted_that_is_not_what_the_question_was_about(
        self, ann: Client, bob: Client, inside: Any
    ) -> None:
        row = inside(register)
        at = url("registration", "delete", row.pk)
        asked = {"post": "yes", "seen": ann.get(at).context["seen"]}
        change = url("registration", "change", row.pk)
        bob.post(change, {**form_of(bob.get(change)), "title": "Theirs"})
        page = ann.post(at, asked, follow=True)
        assert re.search(
            r"bob \(.+\) has changed this .* It now says: Title “Theirs”.*\. Nothing was deleted\.", text(page)
        )
        assert inside(Registration.objects.count) == 1
        assert ann.post(at, {"post": "yes", "seen": page.context["seen"]}).status_code == 302
        assert inside(Registration.objects.count) == 0

    def test_the_same_goes_for_many_at_once(self, ann: Client, inside: Any) -> None:
        rows = [inside(register, name=name) for name in ("one", "two")]
        chosen = {"action": "delete_selected", "_selected_action": [row.pk for row in rows]}
        question = ann.post(url("registration"), chosen).content.decode()
        seen = {f"seen-{pk}": value.replace("&quot;", '"') for pk, value in
                re.findall(r'name="seen-(\d+)" value="([^"]+)"', question)}  # fmt: skip
        assert len(seen) == 2
        inside(Registration.objects.filter(name="two").update, title="Theirs")
        page = ann.post(url("registration"), {**chosen, "post": "yes", **seen}, follow=True)
        assert "“two”: Somebody has changed this" in text(page)
        assert inside(Registration.objects.count) == 2

    def test_what_says_the_same_is_no_conflict(self, ann: Client, inside: Any) -> None:
        row = inside(register)
        at = url("registration", "change", row.pk)
        mine = form_of(ann.get(at))
        inside(row.save)
        assert ann.post(at, {**mine, "title": "Mine"}).status_code == 302

    @pytest.mark.parametrize("said", ["", "{", "[1]", '{"at": 1, "parts": {}}', '{"at": "x"}', '{"parts": 3}'])
    def test_what_was_seen_is_only_believed_as_it_was_written(self, said: str) -> None:
        assert Seen.read(said) is None

    def test_a_page_gives_nothing_away(self, inside: Any, acme: Tenant) -> None:
        row = inside(register, title="Title", config={"greeting": "Moin"})
        with tenancy.visit(acme):
            seen = Seen.now(row)
            assert set(seen.digests) >= {"name", "title", "enabled", "config.greeting"}
            assert not {"Title", "Moin"} & set(re.findall(r"\w+", str(seen)))
            assert Seen.read(str(seen)) == seen
            assert changed_since(seen, row) is None
            assert parts_of(Registration()) == {}

    @staticmethod
    def targets() -> list[str]:
        return list(Step.objects.order_by("position").values_list("target__name", flat=True))


class TestPublishingWhatOneSaw:
    def test_the_button_publishes_the_changes_that_the_bar_shows(self, ann: Client, inside: Any) -> None:
        inside(register)
        expected = re.findall(r'name="expected" value="([^"]+)"', ann.get(url("chain")).content.decode())[0]
        inside(register, name="other")
        page = ann.post(url("revision", "publish"), {"expected": expected}, follow=True)
        assert "Not published. The draft was changed meanwhile; revision 0 is still the newest." in text(page)
        assert inside(Revision.objects.count) == 0
        expected = re.findall(r'name="expected" value="([^"]+)"', ann.get(url("chain")).content.decode())[0]
        page = ann.post(url("revision", "publish"), {"expected": expected}, follow=True)
        assert "Revision 1 is live." in text(page)

    def test_going_back_asks_again_when_something_changed_since_the_preview(self, ann: Client, inside: Any) -> None:
        row = inside(register)
        inside(publishing.publish, author="root")
        inside(lambda: Registration.objects.filter(pk=row.pk).update(title="Second"))
        inside(publishing.publish, author="root")
        at = url("revision", "rollback", 1)
        expected = ann.get(at).context["expected"]
        inside(register, name="unseen")
        page = ann.post(at, {"expected": expected}, follow=True)
        assert "The draft was changed meanwhile" in text(page)
        assert inside(Registration.objects.count) == 2
        page = ann.post(at, {"expected": ann.get(at).context["expected"]}, follow=True)
        assert "Revision 3 is live." in text(page)

    def test_a_conflict_leads_to_what_changed(self, ann: Client, inside: Any) -> None:
        inside(register)
        inside(publishing.publish, author="root")
        page = ann.post(url("revision", "publish"), {"expected": "0"}, follow=True)
        (link,) = re.findall(r'href="([^"]+)">See what changed', page.content.decode())
        assert link.endswith("/compare/?from=0&amp;to=live")


class TestComparing:
    @pytest.fixture(autouse=True)
    def revisions(self, inside: Any) -> None:
        """1: greet; 2: greet says Hi, and a chain; 3: without the chain. The draft: another title."""
        row = inside(register, config={"greeting": "Hello", "token": None})
        inside(publishing.publish, author="ann", note="First")
        inside(Registration.objects.update, config={"greeting": "Hi", "token": None})
        made = inside(chain, "twice", "greet", "greet")
        inside(publishing.publish, author="bob")
        inside(made.delete)
        inside(publishing.publish, author="ann")
        inside(Registration.objects.filter(pk=row.pk).update, title="Greeting")

    def compared(self, page: Any) -> list[tuple[str, list[tuple[str, str, str]]]]:
        return [(f"{one.told.name} {one.told.what}", one.fields) for one in page.context["changes"]]

    def test_any_two_revisions(self, ann: Client) -> None:
        page = ann.get(url("revision", "compare", **{"from": "1", "to": "2"}))
        assert self.compared(page) == [
            ("greet changed", [("setting greeting", "Hello", "Hi")]),
            ("twice added", [("steps", "–", "1. greet\n2. greet")]),
        ]
        assert "Revision 1, by ann – First" in text(page)

    def test_backwards_too(self, ann: Client) -> None:
        page = ann.get(url("revision", "compare", **{"from": "3", "to": "1"}))
        assert self.compared(page) == [("greet changed", [("setting greeting", "Hi", "Hello")])]
        assert "Roll back to revision 1" in text(page)

    def test_the_draft_with_what_is_live(self, ann: Client) -> None:
        page = ann.get(url("revision", "compare"))
        assert self.compared(page) == [("greet changed", [("title", "–", "Greeting")])]
        assert "Publish this, and every save from now on" in text(page)

    def test_why_the_draft_cannot_be_published(self, ann: Client, inside: Any) -> None:
        inside(register, name="gone", plugin="gone")
        page = ann.get(url("revision", "compare"))
        assert "This cannot be published yet: registration “gone”, plugin: No plugin named 'gone'" in text(page)

    def test_two_ticked_ones_lead_there(self, ann: Client, inside: Any) -> None:
        keys = list(inside(lambda: list(Revision.objects.order_by("number").values_list("pk", flat=True))))

        def go(*chosen: int) -> str:
            answer = ann.post(url("revision"), {"action": "compare", "_selected_action": chosen})
            return str(answer["Location"])

        assert go(keys[2], keys[0]).endswith("?from=1&to=3")
        assert go(keys[1]).endswith("?from=2&to=live")
        page = ann.post(url("revision"), {"action": "compare", "_selected_action": keys}, follow=True)
        assert "Tick two revisions to compare, not 3." in text(page)

    def test_a_revision_that_is_not_there(self, ann: Client) -> None:
        assert ann.get(url("revision", "compare", **{"from": "9", "to": "live"})).status_code == 404

    def test_secrets_stay_where_they_are(self, ann: Client, inside: Any) -> None:
        change = url("registration", "change", inside(Registration.objects.get).pk)
        ann.post(change, {**form_of(ann.get(change)), "config-token": "hunter2"})
        page = ann.get(url("revision", "compare"))
        assert ("setting token", "–", "(secret)") in self.compared(page)[0][1]
        assert "ph1:" not in page.content.decode()

    def test_it_takes_the_permission_to_see_revisions(self, staff: Any) -> None:
        assert staff("carl", "view_registration").get(url("revision", "compare")).status_code == 403
        page = staff("dora", "view_revision").get(url("revision", "compare"))
        assert page.status_code == 200
        assert "every save from now on" not in text(page)


class TestPublishingEverySave:
    @pytest.fixture
    def row(self, inside: Any) -> Registration:
        made: Registration = inside(register)
        inside(publishing.set_publishes_saves, True, author="root")
        return made

    def test_it_is_switched_on_with_what_is_pending(self, ann: Client, inside: Any) -> None:
        inside(register)
        page = ann.get(url("revision", "compare"))
        assert "nothing is live before somebody publishes" in text(page)
        sent = {"publish_saves": "on", "expected": page.context["expected"], "next": url("revision", "compare")}
        page = ann.post(url("revision", "saves"), sent, follow=True)
        assert "Revision 1 is live." in text(page)
        assert "Every save is published from now on." in text(page)
        assert "Keep saves as drafts" in text(page)
        assert "every save is published" in text(ann.get(url("chain")))
        ann.post(url("revision", "saves"), {"publish_saves": ""})
        assert not inside(publishing.publishes_saves)

    def test_it_is_not_switched_on_with_a_draft_that_cannot_be_published(self, ann: Client, inside: Any) -> None:
        inside(register, plugin="gone")
        page = ann.post(url("revision", "saves"), {"publish_saves": "on"}, follow=True)
        assert "Not published. registration “greet”, plugin:" in text(page)
        assert not inside(publishing.publishes_saves)

    def test_a_save_is_live_at_once(self, ann: Client, row: Registration, inside: Any) -> None:
        at = url("registration", "change", row.pk)
        page = ann.post(at, {**form_of(ann.get(at)), "title": "New"}, follow=True)
        assert "Revision 2 is live." in text(page)
        assert inside(publishing.changes) == []
        ann.post(url("registration"), {"action": "switch_off", "_selected_action": row.pk})
        assert inside(publishing.live).number == 3

    def test_one_that_would_make_the_whole_invalid_is_refused_at_its_row(
        self, ann: Client, row: Registration, inside: Any
    ) -> None:
        made = inside(chain, "c")
        at = url("chain", "change", made.pk)
        page = ann.post(at, {"name": "c", "enabled": "on", **steps({"target": made.pk})})
        assert page.status_code == 200
        assert "This calls itself: c → c." in text(page) or errors(page)
        assert inside(Step.objects.count) == 0
        off = url("registration")
        inside(Step.objects.create, chain=made, position=1, target=row)
        inside(publishing.publish, author="root")
        page = ann.post(off, {"action": "switch_off", "_selected_action": row.pk}, follow=True)
        assert "'greet' is disabled" in text(page)
        assert inside(Registration.objects.get).enabled

    def test_who_may_not_publish_saves_drafts(self, staff: Any, row: Registration, inside: Any) -> None:
        client = staff("carl", "view_registration", "change_registration")
        at = url("registration", "change", row.pk)
        assert client.post(at, {**form_of(client.get(at)), "title": "New"}).status_code == 302
        assert inside(publishing.live).number == 1
        assert [change.name for change in inside(publishing.changes)] == ["greet"]
        assert client.post(url("revision", "saves"), {"publish_saves": ""}).status_code == 403

    def test_a_file_that_is_to_stay_a_draft_does(self, row: Registration, inside: Any) -> None:
        wanted = inside(publishing.configuration_at, "live").model_copy(update={"registrations": {}})
        assert inside(publishing.apply_configuration, wanted, author="me", publish=False) is None
        assert inside(publishing.live).number == 1

    def test_it_costs_a_write_no_query(self, inside: Any) -> None:
        inside(register)
        inside(publishing.write, lambda: None, author="me")
        with CaptureQueriesContext(connection) as captured:
            inside(publishing.write, lambda: None, author="me")
        assert sum("pluginhub_fleet_head" in query["sql"] for query in captured) == 1


# Every way to change the draft


_WRITES = re.compile(
    r'^\s*(?:INSERT INTO|UPDATE|DELETE FROM)\s+"?(pluginhub_(?:target|registration|chain|step|composition|member'
    r'|interceptorbinding|interceptorbinding_targets|pointbinding))"?\b'
)


class Watch:
    """Notes every statement that changes the draft, apart from those inside of `publishing.write`."""

    def __init__(self) -> None:
        self.depth = 0
        self.inside: list[str] = []
        self.outside: list[str] = []

    def wrap(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **options: Any) -> Any:
            self.depth += 1
            try:
                return write(*args, **options)
            finally:
                self.depth -= 1

        return watched

    def note(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        found = _WRITES.match(str(sql))
        if found:
            (self.inside if self.depth else self.outside).append(found[1])
        return execute(sql, params, many, context)

    @contextmanager
    def on(self) -> Iterator[None]:
        with connection.execute_wrapper(self.note):
            yield


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch, acme: Tenant) -> Watch:
    made = Watch()
    monkeypatch.setattr(publishing, "write", made.wrap(publishing.write))
    return made


class Everything:
    """A tenant with a row of each kind, and each way to change one."""

    def __init__(self, client: Client, inside: Any) -> None:
        self.client, self.inside = client, inside
        self.greet = inside(register)
        self.wrap = inside(register, name="wrap", plugin="wrap")
        self.spare = inside(register, name="spare")
        self.chain = inside(chain, "twice", "greet", "greet")
        self.composition = inside(Composition.objects.create, name="all")
        inside(Member.objects.create, composition=self.composition, position=1, target=self.greet)
        self.interceptor = inside(InterceptorBinding.objects.create, registration=self.wrap, scope="call")
        inside(lambda: self.interceptor.targets.add(Target.objects.get(name="greet")))
        self.point = inside(PointBinding.objects.create, point=POINT.name, target=self.chain, position=1)
        inside(publishing.publish, author="root")
        inside(Registration.objects.filter(name="greet").update, title="Draft")

    def add(self, model: str, **sent: Any) -> None:
        query = {"plugin": "greet"} if model == "registration" else {}
        assert self.client.post(url(model, "add", **query), sent).status_code == 302

    def change(self, model: str, row: Any, **sent: Any) -> None:
        at = url(model, "change", row.pk)
        answer = self.client.post(at, {**form_of(self.client.get(at)), **sent})
        assert answer.status_code == 302, text(answer)

    def delete(self, model: str, row: Any) -> None:
        at = url(model, "delete", row.pk)
        assert self.client.post(at, {"post": "yes", "seen": self.client.get(at).context["seen"]}).status_code == 302

    def act(self, model: str, action: str, *rows: Any) -> None:
        sent = {"action": action, "_selected_action": [row.pk for row in rows], "post": "yes"}
        assert self.client.post(url(model), sent).status_code == 302

    def command(self, name: str, *args: str) -> None:
        call_command(name, "--tenant", "acme", *args)

    def file(self, folder: Path) -> str:
        import yaml

        path = folder / "acme.yaml"
        value = referring(self.inside(publishing.configuration_at, 1))
        changed = value.model_copy(update={"points": {}, "interceptors": ()})
        path.write_text(yaml.safe_dump(changed.data()))
        return str(path)


WAYS: dict[str, Callable[[Everything, Path], Any]] = {
    "add a registration": lambda e, _: e.add("registration", **{**GREET, "name": "new"}),
    "add and publish": lambda e, _: e.add("registration", **{**GREET, "name": "new", "_publish": "1"}),
    "change a registration": lambda e, _: e.change("registration", e.greet, title="New"),
    "rename a registration": lambda e, _: e.change("registration", e.greet, name="new"),
    "delete a registration": lambda e, _: e.delete("registration", e.spare),
    "add a chain": lambda e, _: e.add("chain", name="new", **steps({"target": e.greet.pk})),
    "change only a step": lambda e, _: e.change("chain", e.chain, **{"steps-0-label": "New"}),
    "remove only a step": lambda e, _: e.change("chain", e.chain, **{"steps-0-DELETE": "on"}),
    "move only a step": lambda e, _: e.change("chain", e.chain, **{"steps-0-position": 9}),
    "change only a member": lambda e, _: e.change("composition", e.composition, **{"members-0-key": "new"}),
    "delete a composition": lambda e, _: e.delete("composition", e.composition),
    "change an interceptor": lambda e, _: e.change("interceptorbinding", e.interceptor, required="on"),
    "change an interceptor's targets": lambda e, _: e.change("interceptorbinding", e.interceptor, targets=[e.chain.pk]),
    "delete an interceptor": lambda e, _: e.delete("interceptorbinding", e.interceptor),
    "add a point binding": lambda e, _: e.add("pointbinding", point=POINT.name, target=e.greet.pk, position=1),
    "change a point binding": lambda e, _: e.change("pointbinding", e.point, target=e.greet.pk),
    "delete a point binding": lambda e, _: e.delete("pointbinding", e.point),
    "switch off": lambda e, _: e.act("registration", "switch_off", e.greet),
    "switch on": lambda e, _: e.act("chain", "switch_on", e.chain),
    "delete many": lambda e, _: e.act("pointbinding", "delete_selected", e.point),
    "delete many with their parts": lambda e, _: e.act("composition", "delete_selected", e.composition),
    "roll back": lambda e, _: e.client.post(url("revision", "rollback", 1)),
    "apply a file": lambda e, folder: e.command("pluginhub_apply", e.file(folder)),
    "apply a file as the draft": lambda e, folder: e.command("pluginhub_apply", e.file(folder), "--draft"),
    "disable by command": lambda e, _: e.command("pluginhub_disable", "greet"),
    "disable all, without the draft": lambda e, _: e.command("pluginhub_disable", "--discard-draft"),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_change_the_draft_is_one_of_publishing(
    way: str, ann: Client, inside: Any, watch: Watch, tmp_path: Path
) -> None:
    everything = Everything(ann, inside)
    with watch.on():
        WAYS[way](everything, tmp_path)
    assert watch.inside
    assert watch.outside == []


def test_a_row_that_is_changed_apart_from_publishing_is_found(inside: Any, watch: Watch) -> None:
    with watch.on():
        inside(register)
        inside(Registration.objects.update, plugin="wrap")
        inside(Registration.objects.all().delete)
    assert {*watch.outside} == {"pluginhub_target", "pluginhub_registration"}
    assert watch.inside == []


def test_no_page_for_a_row_of_the_draft_is_without_it() -> None:
    made = {model: django_admin.site._registry[model] for model in DRAFT}
    assert [model for model, one in made.items() if not isinstance(one, DraftAdmin)] == []
    assert not [one for one in made.values() if one.list_editable]
