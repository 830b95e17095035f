"""No row and no revision holds a secret in plain text, whichever way it came."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import override_settings
from pydantic import BaseModel, SecretStr

from pluginhub import loading, publishing
from pluginhub.configuration import CompositionSpec, Configuration, RegistrationSpec, read
from pluginhub.encryption import is_sealed, unseal_config
from pluginhub.exceptions import PublishRefused
from pluginhub.models import Registration, Revision
from pluginhub.plugins import CompositePlugin, Plugin
from pluginhub.types import Tenant

SECRET = "hunter2"


class Config(BaseModel):
    host: str = ""
    password: SecretStr = SecretStr("")
    more: dict[str, SecretStr] = {}


Given = Config


class Mailer(Plugin):
    """Sends with a password, which was called otherwise before."""

    Config = Given
    config_version = 2

    @classmethod
    def migrate_config(cls, data: dict[str, Any], from_version: int) -> dict[str, Any]:
        return {"password": data.pop("secret"), **data}

    def process(self, value: Any, context: Any) -> Any:
        return value


class Parent(CompositePlugin):
    """Has a password of its own."""

    Config = Given


@pytest.fixture(autouse=True)
def catalog() -> Iterator[None]:
    plugins = {"mailer": f"{__name__}:Mailer", "parent": f"{__name__}:Parent", "gone": "no_such_module:Plugin"}
    with override_settings(PLUGINHUB={"PLUGINS": plugins}):
        loading.forget()
        yield
    loading.forget()


def mailing(plugin: str = "mailer", *, title: str = "", enabled: bool = True, **config: Any) -> Configuration:
    spec = RegistrationSpec(name="mail", plugin=plugin, config=config, config_version=2, title=title, enabled=enabled)
    return Configuration(registrations={"mail": spec})


def apply(configuration: Configuration, *, publish: bool = True) -> None:
    publishing.apply_configuration(configuration, author="me", publish=publish)


def stored() -> str:
    """Everything that rows and revisions hold, as the database has it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT config::text FROM pluginhub_registration UNION ALL"
            " SELECT config::text FROM pluginhub_composition UNION ALL SELECT data::text FROM pluginhub_revision"
        )
        return "\n".join(text for (text,) in cursor.fetchall())


def config(tenant: Tenant) -> dict[str, Any]:
    return unseal_config(Registration.objects.get().config, tenant=tenant, registration="mail")


@pytest.mark.parametrize("publish", [True, False])
def test_a_configuration_from_code_is_sealed(in_acme: Tenant, publish: bool) -> None:
    apply(mailing(host="x", password=SECRET, more={"a": SECRET}), publish=publish)
    assert SECRET not in stored()
    assert config(in_acme) == {"host": "x", "password": SECRET, "more": {"a": SECRET}}


def test_a_parent_s_secrets_are_sealed(in_acme: Tenant) -> None:
    spec = CompositionSpec(name="all", strategy="parent", plugin="parent", config={"password": SECRET})
    apply(Configuration(compositions={"all": spec}))
    assert SECRET not in stored()


def test_a_configuration_from_a_file_is_sealed_and_applied_again_changes_nothing(
    in_acme: Tenant, tmp_path: Path
) -> None:
    file = tmp_path / "acme.json"
    file.write_text(json.dumps(mailing(host="x", password=SECRET).data()))
    for said in ("registration mail added\nPublished as revision 1.\n", "Nothing changed: revision 1 is live.\n"):
        out = io.StringIO()
        call_command("pluginhub_apply", "--tenant", "acme", str(file), stdout=out)
        assert out.getvalue() == said
    assert SECRET not in stored()


def test_a_dry_run_refuses_what_could_not_be_published(in_acme: Tenant, tmp_path: Path) -> None:
    file, out = tmp_path / "acme.json", io.StringIO()
    file.write_text(json.dumps(mailing(hots="x", password=SECRET).data()))
    with pytest.raises(CommandError, match=r"config\.hots: There is no field 'hots'") as caught:
        call_command("pluginhub_apply", "--tenant", "acme", str(file), "--dry-run", stdout=out)
    assert out.getvalue() == "registration mail added\n"
    assert SECRET not in str(caught.value)
    assert not Registration.objects.exists()


def test_a_secret_that_stays_the_same_keeps_its_token(in_acme: Tenant) -> None:
    apply(mailing(host="x", password=SECRET))
    token = Registration.objects.get().config["password"]
    apply(mailing(host="y", password=SECRET))
    assert Registration.objects.get().config == {"host": "y", "password": token}
    apply(mailing(host="y", password="another"))
    assert Registration.objects.get().config["password"] != token


def test_an_older_configuration_is_brought_up_to_date_for_its_secrets(in_acme: Tenant) -> None:
    spec = RegistrationSpec(name="mail", plugin="mailer", config={"secret": SECRET}, config_version=1)
    apply(Configuration(registrations={"mail": spec}))
    assert SECRET not in stored()
    assert config(in_acme) == {"password": SECRET}
    assert Registration.objects.get().config_version == 2


def test_what_code_wrote_into_a_row_is_sealed_in_row_and_revision(in_acme: Tenant) -> None:
    Registration.objects.create(name="mail", plugin="mailer", config={"password": SECRET}, config_version=2)
    revision = publishing.publish(author="me")
    assert SECRET not in stored()
    assert is_sealed(revision.data["registrations"]["mail"]["config"]["password"])
    assert revision.digest == read().digest()
    assert publishing.changes() == []


@pytest.mark.parametrize("plugin", ["gone", "never-heard-of"])
@pytest.mark.parametrize("enabled", [True, False])
def test_without_its_plugin_a_configuration_is_refused_rather_than_stored(
    in_acme: Tenant, plugin: str, enabled: bool
) -> None:
    with pytest.raises(PublishRefused, match="secrets cannot be told from the rest and sealed") as caught:
        apply(mailing(plugin, password=SECRET, enabled=enabled), publish=False)
    assert caught.value.problems[0][:3] == ("registration", "mail", "plugin")
    assert SECRET not in stored() + str(caught.value)


@pytest.mark.parametrize("plugin", ["gone", "never-heard-of"])
def test_a_disabled_row_whose_plugin_is_gone_reaches_no_revision_in_plain_text(in_acme: Tenant, plugin: str) -> None:
    """Code wrote it into the row; which of it is secret nobody can tell."""
    row = Registration.objects.create(name="mail", plugin=plugin, config={"password": SECRET}, enabled=False)
    for publish in (publishing.publish, lambda author: publishing.write(lambda: None, author=author, publish=True)):
        with pytest.raises(PublishRefused, match="secrets cannot be told from the rest and sealed") as caught:
            publish(author="me")
        assert caught.value.problems[0][:3] == ("registration", "mail", "plugin")
        assert SECRET not in str(caught.value)
    assert not Revision.objects.exists()
    row.delete()
    Registration.objects.create(name="mail", plugin=plugin, config={"retries": 3}, enabled=False)
    assert publishing.publish(author="me").number == 1, "what holds no text holds no secret"


def test_one_that_was_published_before_its_plugin_was_gone_keeps_nobody_from_publishing(in_acme: Tenant) -> None:
    apply(mailing(host="x", password=SECRET))
    Registration.objects.update(enabled=False)
    with override_settings(PLUGINHUB={"PLUGINS": {}}):
        loading.forget()
        assert publishing.publish(author="me").number == 2
    assert SECRET not in stored()


def test_a_revision_can_be_gone_back_to_without_its_plugin(in_acme: Tenant) -> None:
    apply(mailing(password=SECRET))
    apply(mailing(password=SECRET, title="Off", enabled=False))
    before = Registration.objects.get().config
    apply(Configuration())
    with override_settings(PLUGINHUB={"PLUGINS": {}}):
        loading.forget()
        publishing.rollback(2, author="me")
    assert Registration.objects.get().config == before
    assert Revision.objects.count() == 4
