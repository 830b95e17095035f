"""A tenant's set-up as a file: to git and back, to another tenant, and never with a secret in it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import CommandError, call_command
from pydantic import BaseModel, SecretStr

from pluginhub import publishing, tenancy
from pluginhub.configuration import ChainSpec, CompositionSpec, Configuration, RegistrationSpec, StepSpec, stored
from pluginhub.configuration.formats import MIGRATIONS
from pluginhub.encryption import is_sealed, seal, unseal_config
from pluginhub.exceptions import PublishRefused
from pluginhub.fleet.models import Head
from pluginhub.models import Registration, Revision
from pluginhub.plugins import CompositePlugin, Plugin
from pluginhub.types import Tenant

SECRETS = {"mail.password": "hunter-a", "mail.more.spare": "hunter-b", "all.key": "hunter-c"}


class Server(BaseModel):
    host: str = ""
    token: SecretStr = SecretStr("")


class Mailer(Plugin):
    """Sends, with passwords."""

    class Config(BaseModel):
        host: str = ""
        password: SecretStr = SecretStr("")
        more: dict[str, SecretStr] = {}
        servers: list[Server] = []

    def process(self, value: Any, context: Any) -> Any:
        return value


class Whole(CompositePlugin):
    """Has a password of its own."""

    class Config(BaseModel):
        key: SecretStr | None = None


PLUGINS = {"mailer": f"{__name__}:Mailer", "whole": f"{__name__}:Whole"}


@pytest.fixture(autouse=True)
def plugins(settings: Any) -> None:
    settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": PLUGINS}


def mailing(**config: Any) -> Configuration:
    mail = RegistrationSpec(name="mail", plugin="mailer", config={"host": "smtp", **config})
    return Configuration(
        registrations={"mail": mail},
        chains={"send": ChainSpec(name="send", title="Senden", steps=(StepSpec(target="mail", attempts=3),))},
        compositions={
            "all": CompositionSpec(name="all", strategy="parent", plugin="whole", config={"key": SECRETS["all.key"]})
        },
    )


WHOLE = mailing(password=SECRETS["mail.password"], more={"spare": SECRETS["mail.more.spare"]})


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., str]:
    """`run("export", tenant)` returns what a command prints; `run("apply", tenant, text, …)` takes a file's text."""

    def call(name: str, tenant: Tenant, *args: str) -> str:
        out = io.StringIO()
        if name == "apply":
            file = tmp_path / "file.yaml"
            file.write_text(args[0])
            args = (str(file), *args[1:])
        call_command(f"pluginhub_{name}", "--tenant", tenant.schema, *args, stdout=out)
        return out.getvalue()

    return call


@pytest.fixture
def exported(acme: Tenant, run: Any) -> str:
    """What acme exports: the whole, with its secrets named."""
    with tenancy.visit(acme):
        publishing.apply_configuration(WHOLE, author="me")
    text: str = run("export", acme)
    return text


def config(tenant: Tenant, name: str = "mail") -> dict[str, Any]:
    with tenancy.visit(tenant):
        spec = publishing.configuration_at("draft").spec(name)
        return unseal_config(spec.config, tenant=tenant, registration=name)  # type: ignore[union-attr]


def file(tmp_path: Path, **secrets: Any) -> str:
    path = tmp_path / "secrets.yaml"
    path.write_text(yaml.safe_dump(secrets))
    return str(path)


class TestExport:
    def test_secrets_are_named_and_not_there(self, exported: str) -> None:
        assert "hunter" not in exported
        assert "ph1:" not in exported
        said = yaml.safe_load(exported)
        assert said["registrations"]["mail"]["config"] == {
            "host": "smtp",
            "password": {"$secret": "mail.password"},
            "more": {"spare": {"$secret": "mail.more.spare"}},
        }
        assert said["compositions"]["all"]["config"] == {"key": {"$secret": "all.key"}}

    def test_sealed_ones_are_exported_if_asked(self, exported: str, acme: Tenant, run: Any) -> None:
        text = run("export", acme, "--sealed")
        assert "hunter" not in text
        assert is_sealed(yaml.safe_load(text)["registrations"]["mail"]["config"]["password"])

    def test_an_older_revision(self, exported: str, acme: Tenant, run: Any) -> None:
        with tenancy.visit(acme):
            publishing.apply_configuration(Configuration(), author="me")
        assert yaml.safe_load(run("export", acme))["registrations"] == {}
        assert run("export", acme, "--revision", "1") == exported
        with pytest.raises(CommandError, match="There is no revision 9"):
            run("export", acme, "--revision", "9")

    def test_in_the_same_tenant_it_says_what_is_there(self, exported: str, acme: Tenant, run: Any) -> None:
        assert run("apply", acme, exported, "--dry-run") == "Nothing would change in what is live.\n"
        assert run("apply", acme, exported) == "Nothing changed: revision 1 is live.\n"
        assert run("apply", acme, run("export", acme, "--sealed")) == "Nothing changed: revision 1 is live.\n"
        with tenancy.visit(acme):
            assert Revision.objects.count() == 1


class TestAnotherTenant:
    def test_round_and_round(self, exported: str, globex: Tenant, run: Any, tmp_path: Path) -> None:
        given = file(tmp_path, **SECRETS)
        said = run("apply", globex, exported, "--secrets", given, "--dry-run")
        assert said.splitlines() == ["registration mail added", "chain send added", "composition all added"]
        with tenancy.visit(globex):
            assert publishing.live() is None
        assert run("apply", globex, exported, "--secrets", given).endswith("Published as revision 1.\n")
        assert run("export", globex) == exported
        assert run("apply", globex, exported) == "Nothing changed: revision 1 is live.\n"
        assert run("apply", globex, exported, "--secrets", given) == "Nothing changed: revision 1 is live.\n"
        assert config(globex) == {"host": "smtp", "password": "hunter-a", "more": {"spare": "hunter-b"}}
        assert config(globex, "all") == {"key": "hunter-c"}

    def test_what_is_missing_is_named_and_nothing_written(self, exported: str, globex: Tenant, run: Any) -> None:
        for more in ([], ["--dry-run"]):
            with pytest.raises(CommandError) as caught:
                run("apply", globex, exported, *more)
            first, *lines = str(caught.value).splitlines()
            assert first == "This cannot be published:"
            assert {line.split(":")[0].strip() for line in lines} == {
                "registration mail config.password",
                "registration mail config.more.spare",
                "composition all config.key",
            }
            way_out = "Write it in its place, or give it to pluginhub_apply with --secrets."
            assert f"The secret 'all.key' is not known to this tenant. {way_out}" in lines[-1]
        with tenancy.visit(globex):
            assert not Registration.objects.exists()

    def test_its_own_are_kept(self, exported: str, globex: Tenant, run: Any) -> None:
        with tenancy.visit(globex):
            publishing.apply_configuration(
                mailing(host="old", password="mine", more={"spare": "mine too"}), author="me"
            )
        assert run("apply", globex, exported).splitlines()[0] == "registration mail changed (config.host)"
        assert config(globex) == {"host": "smtp", "password": "mine", "more": {"spare": "mine too"}}

    def test_those_of_another_plugin_are_not(self, exported: str, globex: Tenant, run: Any, settings: Any) -> None:
        settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": {**PLUGINS, "other": PLUGINS["mailer"]}}
        spec = RegistrationSpec(name="mail", plugin="other", config={"password": "mine", "more": {"spare": "mine"}})
        with tenancy.visit(globex):
            publishing.apply_configuration(Configuration(registrations={"mail": spec}), author="me")
        with pytest.raises(CommandError, match=r"registration mail config\.password: The secret"):
            run("apply", globex, exported)

    def test_as_a_draft_it_waits_for_them(self, exported: str, globex: Tenant, run: Any) -> None:
        said = run("apply", globex, exported, "--draft")
        assert "Kept as the draft.\nIt cannot be published yet:\n  registration mail config." in said
        assert config(globex) == {"host": "smtp", "more": {}}
        with tenancy.visit(globex):
            assert publishing.live() is None

    def test_sealed_ones_of_another_tenant_are_asked_for_too(
        self, exported: str, acme: Tenant, globex: Tenant, run: Any, tmp_path: Path
    ) -> None:
        sealed = run("export", acme, "--sealed")
        with pytest.raises(CommandError, match=r"registration mail config\.password: The secret 'mail\.password'"):
            run("apply", globex, sealed)
        run("apply", globex, sealed, "--secrets", file(tmp_path, **SECRETS))
        assert run("apply", globex, sealed) == "Nothing changed: revision 1 is live.\n"
        assert run("export", globex) == exported


class TestGivingSecrets:
    def test_nested_keys_say_the_same(self, exported: str, globex: Tenant, run: Any, tmp_path: Path) -> None:
        given = file(tmp_path, mail={"password": "x", "more": {"spare": "y"}}, all={"key": "z"})
        run("apply", globex, exported, "--secrets", given)
        assert config(globex) == {"host": "smtp", "password": "x", "more": {"spare": "y"}}

    def test_from_the_environment(
        self, exported: str, globex: Tenant, run: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in SECRETS.items():
            monkeypatch.setenv(f"PLUGINHUB_SECRET_{name.upper().replace('.', '_')}", value)
        run("apply", globex, exported, "--secrets", "env")
        assert config(globex)["password"] == "hunter-a"

    def test_a_variable_for_two_is_refused(self, acme: Tenant, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        text = "registrations: {mail: {plugin: mailer, config: {password: {$secret: a.b}, more: {x: {$secret: a-b}}}}}"
        monkeypatch.setenv("PLUGINHUB_SECRET_A_B", "x")
        with pytest.raises(
            CommandError, match=r"PLUGINHUB_SECRET_A_B is both 'a\.b' and 'a-b'\. Give them in a file\."
        ):
            run("apply", acme, text, "--secrets", "env")

    def test_a_name_of_ones_own_may_stand_in_many_places(self, acme: Tenant, run: Any, tmp_path: Path) -> None:
        text = "registrations: {mail: {plugin: mailer, config: {password: {$secret: S}, more: {x: {$secret: S}}}}}"
        run("apply", acme, text, "--secrets", file(tmp_path, S="shared"))
        assert config(acme) == {"password": "shared", "more": {"x": "shared"}}

    def test_one_that_is_given_goes_before_what_is_stored(
        self, exported: str, acme: Tenant, run: Any, tmp_path: Path
    ) -> None:
        said = run("apply", acme, exported, "--secrets", file(tmp_path, **{"mail.password": "new"}))
        assert said == "registration mail changed (config.password)\nPublished as revision 2.\n"
        assert config(acme)["password"] == "new"

    def test_a_misspelt_one_names_near_misses(self, exported: str, globex: Tenant, run: Any, tmp_path: Path) -> None:
        with pytest.raises(CommandError) as caught:
            run("apply", globex, exported, "--secrets", file(tmp_path, **{"mial.password": "hunter-x"}))
        assert "no place for the secret 'mial.password'. Did you mean 'mail.password'?" in str(caught.value)
        assert "hunter" not in str(caught.value)

    @pytest.mark.parametrize("text", ["{mail: {password: 5}}", "[hunter]", "hunter: [", "hunter"])
    def test_a_file_that_is_none_is_refused_without_showing_it(
        self, exported: str, globex: Tenant, run: Any, tmp_path: Path, text: str
    ) -> None:
        path = tmp_path / "secrets.yaml"
        path.write_text(text)
        with pytest.raises(CommandError) as caught:
            run("apply", globex, exported, "--secrets", str(path))
        assert "hunter" not in str(caught.value)

    def test_a_secret_goes_to_no_field_that_is_none(self, exported: str, acme: Tenant, run: Any) -> None:
        """What is stored is found in its own place only, and so never shown in another."""
        changed = exported.replace("host: smtp", "host: {$secret: mail.password}")
        with pytest.raises(CommandError, match=r"registration mail config\.host: The secret 'mail\.password' is not"):
            run("apply", acme, changed)


class TestLists:
    """A secret in a list is kept by the item that is otherwise the same."""

    @pytest.fixture(autouse=True)
    def servers(self, acme: Tenant) -> None:
        servers = [{"host": "one", "token": "hunter-1"}, {"host": "two", "token": "hunter-2"}]
        with tenancy.visit(acme):
            publishing.apply_configuration(mailing(servers=servers), author="me")

    def test_it_moves_with_its_item(self, acme: Tenant, run: Any) -> None:
        said = yaml.safe_load(run("export", acme))
        items = said["registrations"]["mail"]["config"]["servers"]
        assert items[0] == {"host": "one", "token": {"$secret": "mail.servers.0.token"}}
        items.reverse()
        run("apply", acme, yaml.safe_dump(said))
        assert config(acme)["servers"] == [{"host": "two", "token": "hunter-2"}, {"host": "one", "token": "hunter-1"}]

    def test_it_goes_to_no_other_item(self, acme: Tenant, run: Any) -> None:
        said = run("export", acme).replace("host: one", "host: attacker.example")
        with pytest.raises(CommandError, match=r"config\.servers\.0\.token: The secret 'mail\.servers\.0\.token'"):
            run("apply", acme, said)

    def test_a_sealed_one_stays_with_its_item_whatever_else_changes(self, acme: Tenant, run: Any) -> None:
        run("apply", acme, run("export", acme, "--sealed").replace("host: one", "host: uno"))
        assert config(acme)["servers"][0] == {"host": "uno", "token": "hunter-1"}


class TestOtherFormats:
    def test_a_file_and_a_revision_of_an_older_one_are_read(
        self, acme: Tenant, run: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(MIGRATIONS, 0, lambda data: {"registrations": data["plugins"]})
        old = {"format": 0, "plugins": {"mail": {"plugin": "mailer", "config": {"host": "smtp"}}}}
        with tenancy.visit(acme):
            Revision.objects.create(number=1, format=0, data=old, digest="of another format", author="older")
            Head.objects.create(schema="acme", revision=1)
            publishing.rollback(1, author="me")
            assert publishing.configuration_at("live") == stored(old)
            assert publishing.live().number == 1, "it says the same"  # type: ignore[union-attr]
            Registration.objects.update(title="New")
            assert publishing.publish(author="me").number == 2
        assert run("apply", acme, yaml.safe_dump(old)).startswith("registration mail changed (title)\n")

    def test_a_newer_file_is_refused_in_words(self, acme: Tenant, run: Any) -> None:
        with pytest.raises(CommandError, match="it was written by a newer PluginHub"):
            run("apply", acme, "{format: 99, registrations: {}}")

    def test_a_newer_revision_keeps_nobody_from_publishing_or_going_back(self, acme: Tenant, run: Any) -> None:
        with tenancy.visit(acme):
            publishing.apply_configuration(mailing(), author="me")
            Revision.objects.create(number=2, format=99, data={"format": 99}, digest="", author="newer")
            Head.objects.update(revision=2)
            assert publishing.problems() == []
            assert publishing.rollback(1, author="me").number == 3  # type: ignore[union-attr]
            assert publishing.changes() == []
        assert yaml.safe_load(run("export", acme, "--revision", "1"))["registrations"]
        with pytest.raises(CommandError, match="newer PluginHub"):
            run("export", acme, "--revision", "2")


def test_a_token_that_was_here_before_and_does_not_open_is_no_news(in_acme: Tenant, globex: Tenant) -> None:
    """Its key is lost: whoever changes something else is not asked for it, and nobody can publish it as new."""
    lost = seal("x", tenant=globex, registration="mail", path="password")
    Registration.objects.create(name="mail", plugin="mailer", config={"password": lost}, enabled=False)
    wanted = publishing.configuration_at("draft").model_copy(update={"points": {}})
    assert publishing.rehearse(wanted).problems == []
    moved = RegistrationSpec(name="post", plugin="mailer", config={"password": lost}, enabled=False)
    with pytest.raises(PublishRefused, match=r"'post', config\.password"):
        publishing.apply_configuration(Configuration(registrations={"post": moved}), author="me")
