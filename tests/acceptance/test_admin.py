"""The admin in a real browser: an operator logs in, registers, arranges, publishes; clients and neighbours notice.

The site's rows stay from test to test, in any order: what a test leaves behind must not stop another from publishing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import ConsoleMessage, Dialog, Error, Locator, Page, expect

if TYPE_CHECKING:
    from tests.conftest import LiveSite

pytestmark = pytest.mark.browser

HUB = "/admin/pluginhub/"


@pytest.fixture
def said(page: Page) -> list[str]:
    """What the browser complains of: errors in its console, and those nobody caught."""
    found: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type == "error":
            found.append(message.text)

    def uncaught(error: Error) -> None:
        found.append(str(error))

    page.on("console", listen)
    page.on("pageerror", uncaught)
    return found


@pytest.fixture
def operator(live_site: LiveSite, page: Page, said: list[str]) -> Iterator[Operator]:
    """Somebody logged in to acme; whoever complains after he is done fails the test."""
    somebody = Operator(page, live_site, "acme")
    somebody.log_in()
    stock = set(said)  # a strict policy refuses two inline styles of Django's own, on every page of the admin
    yield somebody
    assert set(said) - stock == set()


class Operator:
    """What a person does with the pages."""

    def __init__(self, page: Page, site: LiveSite, tenant: str) -> None:
        self.page = page
        self.site = site
        self.tenant = tenant

    def go(self, path: str) -> None:
        self.page.goto(self.site.url(self.tenant, path))

    def log_in(self) -> None:
        self.go("/admin/")
        self.page.get_by_label("Username").fill("admin")
        self.page.get_by_label("Password").fill("admin")
        self.press("Log in")

    def register(self, title: str, name: str, **settings: str) -> None:
        self.go(f"{HUB}registration/add/")
        self.page.get_by_role("link", name=title, exact=True).click()
        self.page.get_by_label("Name:").fill(name)
        for label, value in settings.items():
            self.page.get_by_label(f"{label}:").fill(value)
        self.press("Save")

    def begin_chain(self, name: str, *targets: str, enabled: bool = True) -> None:
        self.go(f"{HUB}chain/add/")
        self.page.get_by_label("Name:").fill(name)
        self.page.get_by_label("Enabled").set_checked(enabled)
        for target in targets:
            self.add_step(target)

    def add_step(self, target: str) -> None:
        self.page.get_by_role("button", name="Add another Step").click()
        picker = self.rows().last.locator("select[name$=-target]")
        option = picker.locator("option", has_text=re.compile(rf"^{target}( –|$)"))
        picker.select_option(value=option.get_attribute("value"))

    def rows(self) -> Locator:
        return self.page.locator(".pluginhub-ordered tr.form-row:not(.empty-form)")

    def order(self) -> list[str]:
        """The targets from top to bottom; their positions must count from 1."""
        rows = self.rows().all()
        positions = [row.locator("[name$=-position]").input_value() for row in rows]
        assert positions == [str(number) for number in range(1, len(rows) + 1)]
        chosen = [row.locator("select[name$=-target] option:checked").inner_text() for row in rows]
        return [text.partition(" ")[0] for text in chosen]

    def press(self, button: str) -> None:
        with self.page.expect_navigation():
            self.page.get_by_role("button", name=button, exact=True).click()

    def publish(self, note: str = "") -> None:
        self.page.get_by_label("Note", exact=True).fill(note)
        self.press("Publish")

    def bar(self) -> Locator:
        return self.page.get_by_role("region", name="Draft")


def call(site: LiveSite, tenant: str, target: str, value: Any) -> tuple[int, Any]:
    """Run a target as a client does."""
    client = site.clients[tenant]
    request = Request(
        f"http://127.0.0.1:{site.port}/hub/run/{target}/",
        data=json.dumps(value).encode(),
        headers={"Host": f"{tenant}.localhost", "Authorization": f"Bearer {client.token}"},
    )
    try:
        with urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)
    except HTTPError as error:
        return error.code, json.load(error)


def test_an_operator_builds_a_chain_and_a_client_calls_it(operator: Operator) -> None:
    page, site = operator.page, operator.site
    operator.register("Great-circle distance", "story-distance")
    expect(operator.bar()).to_contain_text("not published")
    operator.begin_chain("story", "resolve", "story-distance")
    operator.press("Save")
    shipment = {"origin": "ZRH", "destination": "LPB", "weight_kg": 10}
    assert call(site, "acme", "story", shipment)[0] == 404, "saving is not publishing"

    operator.publish("A story")
    expect(page.locator(".messagelist")).to_contain_text("is live")
    expect(operator.bar()).to_contain_text("Everything is published")
    expect(operator.bar()).to_contain_text("A story")
    status, answer = call(site, "acme", "story", shipment)
    assert status == 200
    assert answer["result"]["distance_km"] == pytest.approx(10395.1)
    assert call(site, "globex", "story", shipment)[0] == 404, "the neighbour has no part in it"


def test_a_refusal_is_shown_at_its_step_and_nothing_is_saved(operator: Operator) -> None:
    page = operator.page
    operator.register("Round price", "refused-round")
    page.get_by_role("link", name="refused-round").first.click()
    page.get_by_label("Enabled").uncheck()
    operator.press("Save")
    operator.begin_chain("refused", "resolve", "refused-round")
    operator.press("Save and publish")
    expect(operator.rows().nth(1)).to_contain_text("'refused-round' is disabled.")
    expect(operator.rows().nth(0)).not_to_contain_text("disabled")
    assert operator.order() == ["resolve", "refused-round"], "what was entered is still there"
    operator.go(f"{HUB}chain/?q=refused")
    expect(page.locator("#changelist")).to_contain_text("0 chains")


def test_a_setting_that_does_not_fit_is_said_at_its_field(operator: Operator) -> None:
    page = operator.page
    operator.register("Rate by weight", "unfit", Currency="francs", Minimum="-1")
    row = page.locator(".form-row", has=page.get_by_label("Currency:"))
    expect(row).to_contain_text("should match pattern")
    expect(page.locator(".form-row", has=page.get_by_label("Minimum:"))).to_contain_text("greater than or equal to 0")
    expect(page.get_by_label("Currency:")).to_have_value("francs")


def test_steps_are_ordered_by_keyboard(operator: Operator) -> None:
    operator.begin_chain("by-keyboard", "resolve", "distance", "rate", enabled=False)
    operator.rows().nth(2).locator(".pluginhub-handle").focus()
    operator.page.keyboard.press("ArrowUp")
    operator.page.keyboard.press("ArrowUp")
    operator.page.keyboard.press("ArrowUp")
    assert operator.order() == ["rate", "resolve", "distance"]
    expect(operator.rows().first.locator(".pluginhub-handle")).to_be_focused()
    operator.press("Save and continue editing")
    assert operator.order() == ["rate", "resolve", "distance"]


def test_steps_are_ordered_by_mouse(operator: Operator) -> None:
    page = operator.page
    operator.begin_chain("by-mouse", "resolve", "distance", "rate", enabled=False)
    operator.press("Save and continue editing")
    operator.rows().first.locator(".pluginhub-handle").hover()
    page.mouse.down()
    target = operator.rows().last.bounding_box()
    assert target
    page.mouse.move(target["x"] + 10, target["y"] + target["height"] / 2, steps=12)
    page.mouse.up()
    assert operator.order() == ["distance", "rate", "resolve"]
    operator.press("Save and continue editing")
    assert operator.order() == ["distance", "rate", "resolve"]


def test_steps_are_removed_before_and_after_they_were_saved(operator: Operator) -> None:
    operator.begin_chain("shrinking", "resolve", "distance", "rate", enabled=False)
    operator.rows().nth(0).get_by_role("button", name="Remove").click()
    assert operator.order() == ["distance", "rate"]
    operator.press("Save and continue editing")
    operator.rows().nth(0).get_by_label("Remove").check()
    operator.press("Save and continue editing")
    assert operator.order() == ["rate"]


def test_a_target_is_tried_on_a_sample(operator: Operator) -> None:
    page = operator.page
    operator.go(f"{HUB}chain/?q=quote")
    page.locator("#result_list tbody th a").first.click()
    page.get_by_role("link", name="Try it").click()
    page.get_by_label("Input, as JSON").fill('{"origin": "ZRH", "destination": "LPB", "weight_kg": 120}')
    operator.press("Run")
    expect(page.locator(".pluginhub-outcome")).to_contain_text('"price"')
    page.get_by_label("Input, as JSON").fill('{"origin": "XXX", "destination": "LPB", "weight_kg": 120}')
    operator.press("Run")
    expect(page.locator(".pluginhub-outcome")).to_contain_text("No airport has the code")


def test_a_token_is_shown_once(operator: Operator) -> None:
    page = operator.page
    operator.go(f"{HUB}accesstoken/add/")
    page.get_by_label("Name:").fill("browser")
    operator.press("Save")
    token = page.get_by_label("Access token", exact=True).input_value()
    assert token.startswith("ph_")
    page.get_by_role("link", name="Done").click()
    assert token not in page.content()


def test_no_page_is_wider_than_800_pixels(operator: Operator) -> None:
    page = operator.page
    page.set_viewport_size({"width": 800, "height": 720})
    models = ["registration", "chain", "composition", "interceptorbinding", "pointbinding"]
    for path in ["", *(f"{model}/{end}" for model in models for end in ("", "add/")), "job/", "revision/"]:
        operator.go(f"{HUB}{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 800, path


def test_a_name_never_becomes_markup(operator: Operator) -> None:
    """A title is the tenant's own text; nothing of it runs."""
    page = operator.page
    alerts: list[Dialog] = []
    page.on("dialog", lambda dialog: alerts.append(dialog))
    operator.register("Great-circle distance", "markup", Title="<img src=x onerror=alert(1)>")
    operator.go(f"{HUB}registration/?q=markup")
    expect(page.locator("#result_list")).to_contain_text("<img src=x onerror=alert(1)>")
    operator.go(f"{HUB}chain/add/")
    assert alerts == []


RISKY = {"origin": "ZRH", "destination": "LPB", "weight_kg": 10, "declared_value": "not said"}
"""A shipment at which the score of a risk fails: it compares numbers."""


def test_a_policy_is_set_by_mouse_and_the_trace_shows_what_it_decided(operator: Operator) -> None:
    page = operator.page
    operator.register("Risk score", "doubtful")
    operator.begin_chain("guarded", "resolve", "doubtful", "hours")
    risk, hours = operator.rows().nth(1), operator.rows().nth(2)
    risk.get_by_text("Policy").click()
    expect(risk.get_by_label("Fallback")).to_be_hidden()
    risk.get_by_label("On failure").select_option("call another target instead")
    fallback = risk.get_by_label("Fallback").locator("option", has_text=re.compile("^distance – "))
    risk.get_by_label("Fallback").select_option(value=fallback.get_attribute("value"))
    hours.get_by_text("Policy").click()
    hours.get_by_label("Condition").fill("weight_kg > `100`")
    operator.press("Save and continue editing")
    expect(risk.locator("summary")).to_have_text("Policy on failure call distance")
    expect(hours.locator("summary")).to_have_text("Policy if weight_kg > `100`")
    operator.press("Save and publish")

    operator.go(f"{HUB}chain/?q=guarded")
    page.locator("#result_list tbody th a").first.click()
    page.get_by_role("link", name="Try it").click()
    page.get_by_label("Input, as JSON").fill(json.dumps(RISKY))
    operator.press("Run")
    expect(page.locator(".pluginhub-outcome")).to_contain_text('"distance_km": 10395.1')
    line = page.locator(".pluginhub-span")
    expect(line.filter(has_text="doubtful")).to_contain_text("fallback")
    expect(line.filter(has_text="distance fallback")).to_have_count(1)
    expect(line.filter(has_text="hours")).to_contain_text("left out")
    line.filter(has_text="distance fallback").locator("summary").click()
    expect(line.filter(has_text="distance fallback").locator("pre").last).to_contain_text('"distance_km"')


def test_an_open_breaker_is_closed_by_its_button(operator: Operator) -> None:
    page, site = operator.page, operator.site
    operator.go(f"{HUB}registration/add/?plugin=risk-score")
    page.get_by_label("Name:").fill("tripping")
    page.get_by_text("Breaker", exact=True).click()
    page.get_by_label("Share of failures").fill("1")
    page.get_by_label("Last calls").fill("1")
    page.get_by_label("Seconds open").fill("86400")
    operator.press("Save and publish")
    airports = {end: _airport() for end in ("origin", "destination")}
    asked = {**RISKY, "airports": airports}
    assert [call(site, "acme", "tripping", asked)[0] for _ in range(2)] == [500, 503]

    operator.go(f"{HUB}registration/?q=tripping")
    _wait(page, "Breaker open")  # the process tells of it in its own time
    page.locator("#result_list tbody th a").first.click()
    expect(page.locator(".pluginhub-breakers")).to_contain_text("1 of 1 calls")
    operator.press("Close it everywhere")
    expect(page.locator(".messagelist")).to_contain_text("is closed")
    _wait(page, "Closed")
    expect(page.get_by_role("button", name="Close it everywhere")).to_have_count(0)
    assert call(site, "acme", "tripping", asked)[0] == 500, "it is called again"


def _airport() -> dict[str, Any]:
    words = dict.fromkeys(("iata", "name", "city", "country", "tz"), "–")
    return {**words, "lat": 0.0, "lon": 0.0, "elevation": 0.0}


def _wait(page: Page, text: str, reloads: int = 60) -> None:
    """Load the page anew until it says so."""
    while not page.locator("#content").get_by_text(text, exact=True).count():
        assert (reloads := reloads - 1), f"The page never says {text!r}."
        page.wait_for_timeout(250)
        page.reload()
