"""The commands: what they print, what they refuse, and that none needs a browser."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone
from pydantic import BaseModel

from pluginhub import Plugin, access, execution, publishing, tenancy
from pluginhub.configuration import InterceptorSpec, RegistrationSpec
from pluginhub.exceptions import UnknownTarget
from pluginhub.fleet.models import AllowedPlugin
from pluginhub.management.commands import pluginhub_check
from pluginhub.models import AccessToken, InterceptorBinding, PointBinding, Registration, Revision, Target
from pluginhub.types import Tenant
from tenants.freight import ETA
from tests.integration.hub import PLUGINS, chain, make_user, publish


@pytest.fixture(autouse=True)
def plugins(settings: Any) -> None:
    settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": PLUGINS}


class Renamed(Plugin):
    """A newer release of a plugin: it calls its one field otherwise."""

    class Config(BaseModel, extra="forbid"):
        words: str = ""

    def intercept(self, request: Any, call_next: Any) -> Any:
        return call_next(request)


class Picky(Plugin):
    """Is made for places that exist."""

    ups: ClassVar[int] = 0

    class Config(BaseModel):
        place: str = "here"

    def __init__(self, config: Config) -> None:
        if config.place == "nowhere":
            raise ValueError("There is no nowhere.")

    def activate(self, context: Any) -> None:
        Picky.ups += 1

    def process(self, value: Any, context: Any) -> Any:
        return value


class Unheard:
    """A service that nobody provides."""


class Needy(Plugin):
    """Asks for what is not there."""

    def __init__(self, service: Unheard) -> None:
        self.service = service

    def process(self, value: Any, context: Any) -> Any:
        return value


def call(command: str, *args: str, **options: Any) -> str:
    """Return what `pluginhub_<command>` prints."""
    out = io.StringIO()
    call_command(f"pluginhub_{command}", *args, stdout=out, **options)
    return out.getvalue()


def refusal(command: str, *args: str) -> str:
    with pytest.raises(CommandError) as caught:
        call(command, *args)
    return str(caught.value)


class TestTenants:
    @pytest.mark.parametrize(
        "command",
        [["token", "--user", "x"], ["run", "x"], ["list"], ["check"], ["disable"], ["export"], ["apply", "-"]],
    )
    def test_an_unknown_one_names_near_misses(self, acme: Tenant, command: list[str]) -> None:
        name, *rest = command
        assert "There is no tenant with the schema 'acmee'. Did you mean 'acme'?" in refusal(
            name, "--tenant", "acmee", *rest
        )

    def test_one_far_off_is_told_what_there_is(self, acme: Tenant) -> None:
        assert refusal("run", "--tenant", "zzz", "x").endswith("There is 'acme', 'globex'.")

    def test_it_is_left_as_it_was_found(self, acme: Tenant) -> None:
        call("list", "--tenant", "acme")
        assert tenancy.current_or_none() is None


class TestToken:
    def test_it_prints_a_token_and_nothing_else(self, in_acme: Tenant) -> None:
        user = make_user()
        printed = call("token", "--tenant", "acme", "--user", "rita")
        assert printed.count("\n") == 1
        caller = access.authenticate_bearer(printed.strip())
        assert caller is not None
        assert caller.user_id == str(user.pk)
        row = AccessToken.objects.get()
        assert (row.name, row.expires) == ("command line", None)

    def test_it_may_expire(self, in_acme: Tenant) -> None:
        make_user()
        call("token", "--tenant", "acme", "--user", "rita", "--name", "ci", "--days", "0.5")
        row = AccessToken.objects.get(name="ci")
        assert row.expires is not None
        assert 0 < (row.expires - timezone.now()).total_seconds() <= 43200
        assert "invalid _days value" in refusal("token", "--tenant", "acme", "--user", "rita", "--days", "0")

    def test_an_unknown_user_names_near_misses(self, in_acme: Tenant) -> None:
        make_user()
        assert "no user 'riat'. Did you mean 'rita'?" in refusal("token", "--tenant", "acme", "--user", "riat")

    def test_users_are_the_tenants(self, in_acme: Tenant, globex: Tenant) -> None:
        make_user()
        assert "no user 'rita'" in refusal("token", "--tenant", "globex", "--user", "rita")


class TestRun:
    @pytest.fixture(autouse=True)
    def targets(self, in_acme: Tenant) -> None:
        publish(chain("all", "say", "bad"), say="echo", who="whoami", bad="broken", no="refusing", odd="unspeakable")

    def test_it_prints_the_result_as_json(self) -> None:
        assert json.loads(call("run", "--tenant", "acme", "say", '{"a": [1, "é"]}')) == {"a": [1, "é"]}
        assert call("run", "--tenant", "acme", "say") == "null\n"

    def test_it_reads_standard_input(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"[1]")))
        assert json.loads(call("run", "--tenant", "acme", "say", "-")) == [1]

    def test_it_runs_trusted_and_from_the_command_line(self) -> None:
        told = json.loads(call("run", "--tenant", "acme", "who"))
        assert told == ["acme", "command line", "command", True]

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            (["sya"], "Did you mean 'say'"),
            (["say", "{"], "Not JSON"),
            (["no"], "origin: No airport has the code XXX."),
            (["all"], "step: bad"),
            (["odd"], "The result is not JSON"),
        ],
    )
    def test_what_goes_wrong_is_said_in_words(self, args: list[str], message: str) -> None:
        said = refusal("run", "--tenant", "acme", *args)
        assert message in said
        assert "hunter2" not in said


class TestList:
    def test_it_lists_all_tenants(self, in_acme: Tenant, globex: Tenant) -> None:
        publish(say="echo", count="numbers")
        Registration.objects.create(name="new", plugin="echo")
        *_, tenants = call("list").split("\n\n")
        assert [line.split() for line in tenants.splitlines()] == [
            ["TENANT", "REVISION", "TARGETS", "DRAFT"],
            ["acme", "revision", "1", "3", "1", "unpublished", "changes"],
            ["globex", "nothing", "published", "0", "as", "published"],
        ]

    def test_it_lists_the_catalog(self, acme: Tenant, settings: Any) -> None:
        plugins = {"lost": "no.such:Thing", "echo": PLUGINS["echo"]}
        settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": plugins}
        head, *rows = call("list").split("\n\n")[0].splitlines()
        assert head.split() == ["PLUGIN", "TITLE", "ORIGIN", "DISTRIBUTION", "PROBLEM"]
        told = {row.split()[0]: row for row in rows}
        assert [*told] == sorted(told)
        assert told["echo"].split()[-3:] == ["setting", "-", "-"]
        assert "no" in told["lost"].split("setting")[1]

    def test_it_lists_a_tenants_targets_and_points(self, in_acme: Tenant, settings: Any) -> None:
        public = RegistrationSpec(name="hook", plugin="hook", public=True, rate_limit="9/m")
        publish(public, chain("all", "say", "who"), say="echo", who="whoami")
        Registration.objects.create(name="off", plugin="echo", enabled=False)
        PointBinding.objects.create(point="order.total", target=Target.objects.get(name="all"))
        settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": {**PLUGINS, "whoami": "no.such:Thing"}}
        printed = call("list", "--tenant", "acme")
        assert "all   chain         say → who  enabled" in printed
        assert "hook  registration  hook       public" in printed
        assert "off   registration  echo       disabled" in printed
        assert re.search(r"^order\.total +all +declared nowhere here$", printed, re.MULTILINE)
        assert "revision 1" in printed
        (missing,) = [line for line in printed.splitlines() if line.startswith("who")]
        assert "no" in missing.split("whoami")[1]

    def test_it_lists_the_hosts_points(self, in_acme: Tenant) -> None:
        where = rf"tenants\.freight:{ETA.declared_at}"
        assert re.search(rf"^freight\.eta +Hours from door to door +chain +{where}$", call("list"), re.MULTILINE)
        assert re.search(r"^freight\.eta +- +chain$", call("list", "--tenant", "acme"), re.MULTILINE)

    def test_a_tenant_that_is_not_migrated_is_told(self, in_acme: Tenant) -> None:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE acme.pluginhub_revision RENAME TO away")
        try:
            assert "not migrated" in call("list")
            assert "migrate_schemas --schema acme" in call_failing("check", "--all")
        finally:
            with connection.cursor() as cursor:
                cursor.execute("ALTER TABLE acme.away RENAME TO pluginhub_revision")


def call_failing(command: str, *args: str) -> str:
    out = io.StringIO()
    with pytest.raises(CommandError):
        call_command(f"pluginhub_{command}", *args, stdout=out)
    return out.getvalue()


class TestCheck:
    def test_it_is_content_with_what_works(self, in_acme: Tenant, globex: Tenant) -> None:
        publish(say="echo")
        assert call("check", "--all") == "No problems in 2 tenants.\n"
        assert call("check", "--tenant", "acme") == "No problems in 1 tenants.\n"

    def test_it_wants_to_know_which(self, acme: Tenant) -> None:
        assert "--tenant SCHEMA, or --all" in refusal("check")
        assert "--tenant SCHEMA, or --all" in refusal("check", "--tenant", "acme", "--all")

    def test_it_names_tenant_registration_and_field(self, in_acme: Tenant, settings: Any) -> None:
        publish(RegistrationSpec(name="mark", plugin="stamp", config={"text": "x"}), say="echo")
        settings.PLUGINHUB = {
            **settings.PLUGINHUB,
            "PLUGINS": {"stamp": "tests.integration.test_commands:Renamed", "echoes": PLUGINS["echo"]},
        }
        printed = call_failing("check", "--all")
        assert "acme: registration mark config.text: " in printed
        assert "acme: registration say plugin: No plugin named 'echo' is installed. Did you mean 'echoes'?" in printed
        assert refusal("check", "--all") == "2 problems in 1 tenants."

    def test_it_knows_what_a_tenant_may_use(self, in_acme: Tenant) -> None:
        publish(say="echo")
        AllowedPlugin.objects.create(schema="acme", plugin="whoami")
        assert "may not use the plugin 'echo'" in call_failing("check", "--tenant", "acme")

    def test_it_checks_drafts_if_asked(self, in_acme: Tenant) -> None:
        publish(say="echo")
        Registration.objects.create(name="x", plugin="nope")
        assert call("check", "--tenant", "acme")
        said = call_failing("check", "--tenant", "acme", "--drafts")
        assert said.startswith("acme: draft registration x plugin: No plugin named 'nope' is installed.")

    def test_what_is_wrong_in_both_is_said_once(self, in_acme: Tenant, settings: Any) -> None:
        publish(say="echo")
        settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": {}}
        assert call_failing("check", "--all", "--drafts").splitlines() == [
            "acme: registration say plugin: No plugin named 'echo' is installed."
        ]

    @pytest.fixture
    def picky(self, in_acme: Tenant, settings: Any) -> None:
        settings.PLUGINHUB = {
            **settings.PLUGINHUB,
            "PLUGINS": {"picky": "tests.integration.test_commands:Picky", "needy": f"{__name__}:Needy"},
        }
        Picky.ups = 0

    def test_it_makes_every_object_and_activates_none(self, picky: None, in_acme: Tenant) -> None:
        publish(
            RegistrationSpec(name="fine", plugin="picky"), RegistrationSpec(name="off", plugin="picky", enabled=False)
        )
        assert call("check", "--tenant", "acme") == "No problems in 1 tenants.\n"
        assert Picky.ups == 0
        publish(RegistrationSpec(name="bad", plugin="picky", config={"place": "nowhere"}))
        failed = "The constructor of 'picky' failed with ValueError: There is no nowhere."
        assert call_failing("check", "--tenant", "acme") == f"acme: registration bad constructor: {failed}\n"
        assert Picky.ups == 0

    def test_it_names_a_service_that_nobody_provides(self, picky: None, in_acme: Tenant) -> None:
        """Not the publishing of it, but a release without its provider."""
        Registration.objects.create(name="needs", plugin="needy")
        data = publishing.configuration_at("draft").data()
        Revision.objects.create(number=1, format=1, data=data, digest="", author="before the release")
        said = call_failing("check", "--all")
        assert said.startswith("acme: registration needs ")
        assert "Unheard" in said

    def test_a_configuration_of_a_newer_release_is_told(self, in_acme: Tenant, globex: Tenant) -> None:
        Revision.objects.create(number=1, format=99, data={"format": 99}, digest="", author="newer")
        assert "acme: configuration: This configuration has the format 99" in call_failing("check", "--all")
        assert refusal("check", "--all") == "1 problems in 1 tenants."

    def test_it_fails_with_a_number_that_scripts_see(self, in_acme: Tenant) -> None:
        Registration.objects.create(name="x", plugin="nope")
        with pytest.raises(CommandError) as caught:
            call("check", "--all", "--drafts")
        assert caught.value.returncode == 1

    def test_it_says_how_far_it_is(self, many_tenants: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        many_tenants(3)
        monkeypatch.setattr(pluginhub_check, "PROGRESS_SECONDS", 0.0)
        said = io.StringIO()
        call_command("pluginhub_check", "--all", stdout=io.StringIO(), stderr=said)
        assert said.getvalue().splitlines() == [f"{number} of 5 tenants" for number in range(5)]


class TestDisable:
    @pytest.fixture(autouse=True)
    def targets(self, in_acme: Tenant) -> None:
        around = (InterceptorSpec(registration="stamp", scope="request"),)
        publish(
            chain("all", "say", "who"), chain("more", "all"), interceptors=around,
            say="echo", who="whoami", stamp="stamp", apart="echo",
        )  # fmt: skip
        PointBinding.objects.create(point="order.total", target=Target.objects.get(name="more"))
        publishing.publish(author="test")

    def test_a_target_goes_with_what_cannot_do_without_it(self) -> None:
        assert call("disable", "--tenant", "acme", "say") == "Disabled in revision 3: all, more, say.\n"
        assert execution.run("who")
        assert execution.run("apart", 1) == 1
        for name in ("say", "all", "more"):
            with pytest.raises(UnknownTarget):
                execution.run(name)
        assert not PointBinding.objects.get().enabled
        assert InterceptorBinding.objects.get().enabled

    def test_an_interceptor_goes_with_its_bindings(self) -> None:
        call("disable", "--tenant", "acme", "stamp")
        assert not InterceptorBinding.objects.get().enabled
        assert execution.run("all")

    def test_without_a_name_all_go(self) -> None:
        assert call("disable", "--tenant", "acme").startswith("Disabled in revision 3: all, apart, more,")
        assert not Target.objects.filter(enabled=True).exists()
        assert call("disable", "--tenant", "acme") == "Disabled in revision 3: nothing was enabled.\n"

    def test_an_unknown_one_names_near_misses(self) -> None:
        assert refusal("disable", "--tenant", "acme", "sya") == "There is no target 'sya'. Did you mean 'say', 'stamp'?"

    def test_an_emergency_publishes_nobody_s_half_done_work(self) -> None:
        Registration.objects.create(name="x", plugin="nope")
        Registration.objects.filter(name="apart").update(title="Not yet")
        assert call("disable", "--tenant", "acme", "say") == "Disabled in revision 3: all, more, say.\n"
        assert execution.run("apart", 1) == 1
        assert [str(change) for change in publishing.changes()] == [
            "registration apart changed (title)",
            "registration x added",
        ]
        assert not Registration.objects.get(name="say").enabled

    def test_the_draft_s_other_changes_may_be_thrown_away(self) -> None:
        Registration.objects.create(name="x", plugin="nope")
        call("disable", "--tenant", "acme", "say", "--discard-draft")
        assert not Registration.objects.filter(name="x").exists()
        assert publishing.changes() == []
        assert execution.run("apart", 1) == 1

    def test_what_is_not_published_yet_is_disabled_in_the_draft(self) -> None:
        Registration.objects.create(name="x", plugin="nope")
        assert call("disable", "--tenant", "acme", "x") == "Disabled in the draft, none of it was live: x.\n"
        assert not Registration.objects.get(name="x").enabled

    def test_by_force_what_else_is_unfit_goes_too(self, settings: Any) -> None:
        """After a release in which another plugin lost its hook."""
        settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": {**PLUGINS, "stamp": PLUGINS["echo"]}}
        said = refusal("disable", "--tenant", "acme", "say")
        assert "The plugin 'stamp' has no intercept hook" in said
        assert "--force" in said
        printed = call("disable", "--tenant", "acme", "say", "--force")
        assert printed == "Disabled in revision 3: all, more, say, stamp.\n"
        assert execution.run("apart", 1) == 1

    def test_it_imports_no_plugin(self, tmp_path: Path) -> None:
        """In a process of its own, with a plugin that would end it."""
        (tmp_path / "deadly_plugin.py").write_text(
            "import os\nfrom pluginhub import Plugin\nos._exit(7)\nclass Deadly(Plugin):\n"
            "    def process(self, value, context):\n        return value\n"
            "    def intercept(self, request, call_next):\n        return call_next(request)\n"
        )
        (tmp_path / "deadly_settings.py").write_text(
            "from tests.settings import *\nPLUGINHUB = {**PLUGINHUB, 'PLUGINS': {"
            "'echo': 'deadly_plugin:Deadly', 'whoami': 'deadly_plugin:Deadly', 'stamp': 'deadly_plugin:Deadly'}}\n"
        )
        path = os.pathsep.join([str(tmp_path), os.getcwd()])
        done = subprocess.run(
            [sys.executable, "-m", "django", "pluginhub_disable", "--tenant", "acme", "say"],
            env={**os.environ, "PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": "deadly_settings"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.stdout, done.returncode) == ("Disabled in revision 3: all, more, say.\n", 0), done.stderr


class TestSafeMode:
    def test_whatever_an_operator_does_then_no_plugin_is_imported(self, in_acme: Tenant, tmp_path: Path) -> None:
        """In a process of its own, with plugins that would end it."""
        publish(RegistrationSpec(name="mark", plugin="stamp", config={"text": "x"}), chain("all", "say"), say="echo")
        User.objects.create_superuser("root")
        (tmp_path / "deadly_plugin.py").write_text(
            "import os\nfrom pluginhub import Plugin\nos._exit(7)\nclass Deadly(Plugin):\n"
            "    def process(self, value, context):\n        return value\n"
            "    def intercept(self, request, call_next):\n        return call_next(request)\n"
        )
        (tmp_path / "safe_settings.py").write_text(
            "from tests.settings import *\nPLUGINHUB = {**PLUGINHUB, 'PLUGINS': {"
            "'echo': 'deadly_plugin:Deadly', 'stamp': 'deadly_plugin:Deadly'}}\n"
        )
        (tmp_path / "operator.yaml").write_text(call("export", "--tenant", "acme"))
        done = subprocess.run(
            [sys.executable, "-c", OPERATOR, str(tmp_path / "operator.yaml")],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(tmp_path), os.getcwd()]),
                "DJANGO_SETTINGS_MODULE": "safe_settings",
                "PLUGINHUB_SAFE_MODE": "1",
            },
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (done.stdout, done.returncode) == ("nothing imported\n", 0), done.stderr
        assert publishing.configuration_at("live").registrations["say"].enabled is False


OPERATOR = """
import sys
import django
django.setup()
from io import StringIO
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from pluginhub import execution, publishing, tenancy
from pluginhub.exceptions import NotReady
from pluginhub.models import Chain, Registration

with tenancy.visit(tenancy.find("acme")):
    root = User.objects.get()
    row, made = Registration.objects.get(name="mark"), Chain.objects.get()
client = Client(headers={"host": "acme.localhost"})
with tenancy.visit(tenancy.find("acme")):
    client.force_login(root)
for path in (
    "", "registration/", "registration/add/", "registration/add/?plugin=echo", f"registration/{row.pk}/change/",
    "chain/", f"chain/{made.pk}/change/", "revision/", "revision/compare/", "revision/1/rollback/",
):
    answer = client.get("/admin/pluginhub/" + path)
    assert answer.status_code == 200, path
sent = {"name": "mark", "title": "New"}
assert client.post(f"/admin/pluginhub/registration/{row.pk}/change/", sent).status_code == 302
assert client.post("/admin/pluginhub/revision/publish/").status_code == 302
with tenancy.visit(tenancy.find("acme")):
    assert publishing.live().number == 2
    try:
        execution.run("say", 1)
    except NotReady:
        pass
    publishing.problems()
tenant = ["--tenant", "acme"]
for args in (
    ["list"], ["list", *tenant], ["export", *tenant], ["disable", *tenant, "say"],
    ["apply", *tenant, sys.argv[1], "--dry-run"], ["check", "--all", "--drafts"],
):
    try:
        call_command(f"pluginhub_{args[0]}", *args[1:], stdout=StringIO())
    except CommandError:
        assert args[0] in ("check", "apply")
assert not [name for name in sys.modules if "deadly" in name]
print("nothing imported")
"""


class TestExportAndApply:
    def test_what_one_prints_the_other_takes(self, in_acme: Tenant, globex: Tenant, tmp_path: Path) -> None:
        publish(chain("all", "say", "say"), say="echo")
        file = tmp_path / "acme.yaml"
        file.write_text(call("export", "--tenant", "acme"))
        printed = call("apply", "--tenant", "globex", str(file), "--note", "from acme")
        assert printed.endswith("Published as revision 1.\n")
        with tenancy.visit(globex):
            assert execution.run("all", 5) == 5
            live = publishing.live()
            assert live is not None
            assert (live.note, live.author) == ("from acme", "command line")

    def test_a_dry_run_changes_nothing(self, in_acme: Tenant, globex: Tenant, tmp_path: Path) -> None:
        publish(say="echo")
        file = tmp_path / "acme.yaml"
        file.write_text(call("export", "--tenant", "acme"))
        assert "say" in call("apply", "--tenant", "globex", str(file), "--dry-run")
        with tenancy.visit(globex):
            assert not Target.objects.exists()

    def test_a_draft_is_kept_unpublished(self, in_acme: Tenant, globex: Tenant, tmp_path: Path) -> None:
        publish(say="echo")
        file = tmp_path / "acme.yaml"
        file.write_text(call("export", "--tenant", "acme"))
        assert call("apply", "--tenant", "globex", str(file), "--draft").endswith("Kept as the draft.\n")
        with tenancy.visit(globex):
            assert publishing.live() is None
            assert "say" in call("export", "--tenant", "globex", "--draft")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{", "is no YAML"),
            ("[1]", "is no configuration"),
            ("registrations: {x: {name: x}}", "registrations.x.plugin: Field required"),
            ("registrations: {x: {name: x, plugin: nope}}", "No plugin named 'nope' is installed"),
            ("!!python/object/apply:os.getcwd []", "is no YAML"),
            (
                "chains: {dup: {name: price}}",
                "the whole: chains.dup.name is 'price': write the key, or leave name out.",
            ),
            ("points: {a: {point: b}}", "the whole: points.a.point is 'b': write the key, or leave point out."),
            ("registrations: {Say: {plugin: echo}}", "registration Say name: A name is at most 63 lower case letters"),
            ("registrations: {x: {plugin: echo, rate_limit: often}}", "x rate_limit: 'often' is no rate limit"),
            ("{registrations: {x: {plugin: echo}}, chains: {x: {}}}", "chain x name: Another target has this name."),
            (
                "{registrations: {x: {plugin: echo}}, compositions: {c: {members: [{target: x}, {target: x}]}}}",
                "composition c members.1.key: Another member has the key 'x'.",
            ),
            ("registrations: {x: {plugin: echo, config: {day: 2026-01-01}}}", "x.config: This is no JSON: Object"),
            ('registrations: {x: {plugin: echo, config: {a: "\\0"}}}', "x.config: A string contains NUL"),
            ("registrations: {x: {plugin: echo, config: {a: .nan}}}", "x.config: This is no JSON"),
        ],
    )
    def test_what_is_no_configuration_is_refused(self, acme: Tenant, tmp_path: Path, text: str, message: str) -> None:
        file = tmp_path / "bad.yaml"
        file.write_text(text)
        for more in ([], ["--draft"], ["--dry-run"]):
            if "nope" not in text or more != ["--draft"]:  # a draft need not be valid
                said = refusal("apply", "--tenant", "acme", str(file), *more)
                assert said.count(message) == 1
        with tenancy.visit(acme):
            assert publishing.live() is None

    def test_names_are_those_of_the_keys(self, in_acme: Tenant, tmp_path: Path) -> None:
        file = tmp_path / "short.yaml"
        file.write_text("{registrations: {say: {plugin: echo}}, points: {order.total: {targets: [say]}}}")
        assert call("apply", "--tenant", "acme", str(file)).splitlines()[0] == "registration say added"
        assert execution.run("say", 1) == 1

    def test_what_is_exported_is_in_the_order_of_names(self, in_acme: Tenant) -> None:
        publish(zz="echo", aaaa="echo", b="echo")
        said = yaml.safe_load(call("export", "--tenant", "acme"))
        assert [*said["registrations"]] == ["aaaa", "b", "zz"]

    def test_a_file_that_is_not_there(self, acme: Tenant) -> None:
        assert "cannot be read" in refusal("apply", "--tenant", "acme", "/no/such/file")

    def test_a_stale_write_is_refused(self, in_acme: Tenant, tmp_path: Path) -> None:
        publish(say="echo")
        file = tmp_path / "acme.yaml"
        file.write_text(call("export", "--tenant", "acme"))
        publish(other="echo")
        assert "Revision 2 was published meanwhile" in refusal(
            "apply", "--tenant", "acme", str(file), "--expected", "1"
        )


def test_a_user_of_the_public_site_has_no_token(acme: Tenant) -> None:
    User.objects.create_user("rita")
    assert "There is no tenant with the schema 'public'" in refusal("token", "--tenant", "public", "--user", "rita")
