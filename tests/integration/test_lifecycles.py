"""The hooks' own threads, on real connections: in the tenant, and closed behind them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection

from pluginhub import Context, Plugin, execution, lifecycles, publishing, tenancy
from pluginhub.configuration import ChainSpec, CompositionSpec, Configuration, MemberSpec, RegistrationSpec, StepSpec
from pluginhub.context import Services
from pluginhub.exceptions import DeadlineExceeded, PublishRefused, UnknownTarget
from pluginhub.models import Member, StoredValue
from pluginhub.storage import TenantStorage
from pluginhub.types import Tenant
from tests.integration.adminsite import client_of, text, url
from tests.integration.samples import PLUGINS


class Asking(Plugin):
    """Asks the database, in either hook, where it is and by which connection; late, if it has to wait."""

    def __init__(self) -> None:
        self.may_ask = threading.Event()
        self.may_ask.set()
        self.down = threading.Event()
        self.backends: list[int] = []

    def activate(self, context: Context) -> None:
        assert self.may_ask.wait(30)
        self._ask(context, "up")

    def deactivate(self, context: Context) -> None:
        self._ask(context, "down")
        self.down.set()

    def _ask(self, context: Context, what: str) -> None:
        context.storage.set(what, connection.schema_name)  # type: ignore[attr-defined]
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            self.backends.append(cursor.fetchone()[0])


@pytest.fixture
def asking() -> Iterator[Asking]:
    plugin = Asking()
    yield plugin
    plugin.may_ask.set()


def services(tenant: Tenant) -> Services:
    return Services(name="asking", tenant=tenant, storage=TenantStorage(tenant, "asking"))


def is_closed(backend: int) -> bool:
    """Wait for the server to notice that a client has gone."""
    for _ in range(200):
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", [backend])
            if cursor.fetchone() == (0,):
                return True
        time.sleep(0.05)
    return False


def told() -> dict[str, Any]:
    return dict(StoredValue.objects.filter(namespace="asking").values_list("key", "value"))


def test_hooks_run_in_the_tenant_on_connections_that_end_with_them(in_acme: Tenant, asking: Asking) -> None:
    lifecycles.activate(asking, services(in_acme))
    lifecycles.deactivate(asking, services(in_acme))
    assert told() == {"up": "acme", "down": "acme"}
    assert len(set(asking.backends)) == 2
    assert all(map(is_closed, asking.backends))


def test_what_comes_up_late_goes_down_in_its_tenant(in_acme: Tenant, asking: Asking) -> None:
    asking.may_ask.clear()
    with pytest.raises(DeadlineExceeded):
        lifecycles.activate(asking, services(in_acme), lifecycles.Limits(hook=0.05))
    assert told() == {}
    asking.may_ask.set()
    assert asking.down.wait(30)
    assert all(map(is_closed, asking.backends))
    assert told() == {"up": "acme", "down": "acme"}


def test_without_a_limit_a_hook_is_in_the_callers_transaction(in_acme: Tenant, asking: Asking) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (own,) = cursor.fetchone()
    lifecycles.activate(asking, services(in_acme), lifecycles.UNLIMITED)
    assert asking.backends == [own]


MEMBERS = (MemberSpec(target="add", private=True), MemberSpec(target="double"))
OFFERS = CompositionSpec(name="offers", strategy="merge", members=MEMBERS)


def configuration(**chains: ChainSpec) -> Configuration:
    registrations = {name: RegistrationSpec(name=name, plugin=name) for name in ("add", "double")}
    return Configuration(registrations=registrations, compositions={"offers": OFFERS}, chains=chains)


class TestPrivateMembers:
    @pytest.fixture(autouse=True)
    def published(self, settings: Any, acme: Tenant) -> None:
        settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": PLUGINS}
        tenancy.gate(acme, publishing.apply_configuration, configuration(), author="test")

    def test_they_run_in_their_composition_and_nowhere_else(self, in_acme: Tenant) -> None:
        assert execution.run("offers", 2) == {"add": 3, "double": 4}
        with pytest.raises(UnknownTarget):
            execution.run("add", 2)
        assert [target["name"] for target in execution.listing()["targets"]] == ["double", "offers"]

    def test_another_user_is_refused(self, in_acme: Tenant) -> None:
        chain = ChainSpec(name="sum", steps=(StepSpec(target="add"),))
        with pytest.raises(PublishRefused, match="'add' is private to the composition 'offers'"):
            publishing.apply_configuration(configuration(sum=chain), author="test")

    def test_the_admin_lists_and_edits_them(self, acme: Tenant) -> None:
        with tenancy.visit(acme):
            admin = client_of(User.objects.create_superuser("root", password="root"), acme)
            member = Member.objects.get(target__name="add")
        assert "add (private) · double" in text(admin.get(url("composition")))
        sent = {
            "name": "offers", "enabled": "on", "strategy": "merge",
            "members-TOTAL_FORMS": 1, "members-INITIAL_FORMS": 1, "members-0-id": member.pk, "members-0-required": "on",
            "members-0-composition": member.composition_id, "members-0-target": member.target_id,
        }  # fmt: skip
        assert admin.post(url("composition", "change", member.composition_id), sent).status_code == 302
        assert not tenancy.gate(acme, Member.objects.get, pk=member.pk).private
