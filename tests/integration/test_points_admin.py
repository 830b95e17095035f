"""The points' page of a tenant's admin: what the host declares, what hangs there, and from where it is called."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pydantic import BaseModel

from pluginhub import publishing, tenancy
from pluginhub.models import PointBinding, Registration
from pluginhub.points import Point
from pluginhub.types import Tenant
from tests.integration.adminsite import client_of, text, url
from tests.integration.samples import PLUGINS


class Parcel(BaseModel):
    weight: float
    note: str = ""


NAME = "points.admin.test"
PARCEL = Point(
    NAME, input=Parcel, output=list[int], title="What a parcel costs", description="Asked at checkout.", several="first"
)


def price(parcel: Parcel) -> Any:
    """Is never called: the page reads it."""
    return PARCEL.run(parcel, default=lambda _: [])


@pytest.fixture(autouse=True)
def plugins(settings: Any) -> None:
    settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": PLUGINS}


@pytest.fixture
def root(acme: Tenant) -> Client:
    with tenancy.visit(acme):
        return client_of(User.objects.create_superuser("root", password="root"), acme)


@pytest.fixture
def clerk(acme: Tenant) -> Callable[..., Client]:
    def make(*permissions: str) -> Client:
        with tenancy.visit(acme):
            user = User.objects.create_user("clerk", password="clerk", is_staff=True)
            user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
            return client_of(user, acme)

    return make


@pytest.fixture
def hung(acme: Tenant) -> list[PointBinding]:
    """Three targets that hang on the point, in the draft."""
    with tenancy.visit(acme):
        rows = [Registration.objects.create(name=name, plugin="add", title=f"Of {name}") for name in ("a", "b", "c")]
        return [PointBinding.objects.create(point=NAME, target=row, position=at) for at, row in enumerate(rows, 1)]


def card(client: Client, name: str = NAME) -> str:
    """Return the HTML of a point's card, without line breaks."""
    page = client.get(url("pointbinding")).content.decode()
    assert f'<article id="point-{name}"' in page
    return " ".join(page.split(f'<article id="point-{name}"')[1].split("</article>")[0].split())


def order() -> list[str]:
    with tenancy.visit("acme"):
        return list(PointBinding.objects.filter(point=NAME).values_list("target__name", flat=True))


def test_a_point_says_what_it_is(root: Client) -> None:
    shown = card(root)
    for said in ("What a parcel costs", "Asked at checkout.", "The first that answers", "<code>Parcel</code>"):
        assert said in shown
    assert "weight:&nbsp;float, note?:&nbsp;str" in shown
    assert "<code>list[int]</code>" in shown
    assert "Nothing hangs here" in shown


def test_it_says_where_the_host_declares_and_calls_it(root: Client) -> None:
    first = price.__code__.co_firstlineno
    shown = card(root)
    assert f"<code>{__name__}:{PARCEL.declared_at}</code>" in shown
    assert f"<code>{__name__}:{first + 2}</code> <code>run</code> in price" in shown


def test_it_shows_the_draft_and_what_is_live(root: Client, hung: list[PointBinding]) -> None:
    with tenancy.visit("acme"):
        publishing.publish(author="root")
        PointBinding.objects.filter(pk=hung[0].pk).update(enabled=False)
        hung[1].delete()
        PointBinding.objects.create(point=NAME, target=Registration.objects.create(name="d", plugin="add"), position=9)
    shown = card(root)
    states = [row.split("</tr>")[0] for row in shown.split("<tr>")[2:]]
    assert [("Off" in each, "Live" in each, "Not published" in each) for each in states] == [
        (True, False, False),
        (False, True, False),
        (False, False, True),
        (False, True, False),
    ]
    assert "It was taken down in the draft." in states[3]


def test_a_point_that_nobody_declares_is_shown_with_near_misses(root: Client) -> None:
    with tenancy.visit("acme"):
        row = Registration.objects.create(name="a", plugin="add")
        PointBinding.objects.create(point="points.admin.tset", target=row)
    shown = card(root, "points.admin.tset")
    assert "declares no point of this name" in shown
    assert f'<a href="#point-{NAME}">' in shown


def test_a_target_moves_up_and_down(root: Client, hung: list[PointBinding]) -> None:
    for row, way, expected in (
        (hung[2], "up", ["a", "c", "b"]),
        (hung[0], "down", ["c", "a", "b"]),
        (hung[2], "up", ["c", "a", "b"]),
        (hung[1], "down", ["c", "a", "b"]),
    ):
        done = root.post(url("pointbinding"), {"move": f"{row.pk}:{way}", "post": "yes"})
        assert done.headers["Location"].endswith(f"#point-{NAME}")
        assert order() == expected
    with tenancy.visit("acme"):
        assert list(PointBinding.objects.values_list("position", flat=True)) == [1, 2, 3]
        assert LogEntry.objects.filter(object_id=hung[2].pk).exists()


def test_what_is_gone_or_is_no_row_cannot_be_moved(root: Client, hung: list[PointBinding]) -> None:
    for sent in ("999999:up", "x:up", "", f"{10**40}:down"):
        assert root.post(url("pointbinding"), {"move": sent, "post": "yes"}).status_code == 302
    assert order() == ["a", "b", "c"]


def test_a_move_is_published_where_every_save_is(root: Client, hung: list[PointBinding]) -> None:
    with tenancy.visit("acme"):
        publishing.set_publishes_saves(True, author="root")
    root.post(url("pointbinding"), {"move": f"{hung[1].pk}:up", "post": "yes"})
    with tenancy.visit("acme"):
        assert publishing.configuration_at("live").points[NAME].targets == ("b", "a", "c")


def test_who_may_only_look_is_offered_nothing_else(clerk: Callable[..., Client], hung: list[PointBinding]) -> None:
    client = clerk("view_pointbinding")
    shown = card(client)
    for offered in ("name=&quot;move", 'name="move"', "Hang a target", ">Change<", "registration/"):
        assert offered not in shown
    assert ">View<" in shown
    assert client.post(url("pointbinding"), {"move": f"{hung[1].pk}:up", "post": "yes"}).status_code == 403
    assert order() == ["a", "b", "c"]


def test_who_may_hang_is_led_to_a_form_with_the_point_chosen(clerk: Callable[..., Client]) -> None:
    client = clerk("view_pointbinding", "add_pointbinding")
    assert f'href="{url("pointbinding", "add")}?point={NAME}"' in card(client)
    form = text(client.get(url("pointbinding", "add", point=NAME)))
    assert f"What a parcel costs ({NAME})" in form


def test_what_is_hung_comes_last_unless_told_otherwise(root: Client, hung: list[PointBinding]) -> None:
    with tenancy.visit("acme"):
        target = Registration.objects.create(name="d", plugin="add")
    form = root.get(url("pointbinding", "add", point=NAME)).context["adminform"].form
    assert form["position"].value() is None
    sent = {"point": NAME, "target": target.pk, "enabled": "on", "position": form["position"].value() or ""}
    assert root.post(url("pointbinding", "add"), sent).status_code == 302
    assert order() == ["a", "b", "c", "d"]


def test_the_page_costs_the_same_for_many_rows_and_points(root: Client, hung: list[PointBinding]) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert root.get(url("pointbinding")).status_code == 200
        return len(captured)

    queries()
    few = queries()
    with tenancy.visit("acme"):
        for number in range(15):
            row = Registration.objects.create(name=f"more-{number}", plugin="add")
            PointBinding.objects.create(point=f"points.more.{number}", target=row)
    assert queries() == few


@pytest.fixture
def broken() -> Iterator[Point]:
    """A point of a module whose source is gone."""
    module = ModuleType("points_without_source")
    exec("from pluginhub.points import Point\nHERE = Point('points.admin.lost')\n", vars(module))
    sys.modules[module.__name__] = module
    yield vars(module)["HERE"]
    del sys.modules[module.__name__], Point._registry["points.admin.lost"]


def test_a_module_without_source_is_named(root: Client, broken: Point) -> None:
    assert "There is no source to read of points_without_source." in card(root, broken.name)
