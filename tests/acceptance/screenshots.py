"""Pictures of the admin, for the documentation: `make screenshots`.

Starts the demo's site on databases of its own, walks through each screen in light and dark, wide and narrow, and writes
`<screen>-<width>-<scheme>.png` to the folder given. Without one, writes the handful that the documentation shows.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from tests.services import name_databases, running

DOCS = Path(__file__).resolve().parents[2] / "docs" / "screenshots"
SHOWN = [
    ("catalog", 1280, "light"),
    ("registration", 1280, "light"),
    ("chain", 1280, "light"),
    ("chain", 800, "dark"),
    ("chain-policy", 1280, "light"),
    ("breaker", 1280, "light"),
    ("interceptors", 1280, "light"),
    ("points", 1280, "light"),
    ("refusal", 1280, "light"),
    ("revision", 1280, "dark"),
    ("draft", 1280, "light"),
    ("conflict", 1280, "light"),
    ("try", 1280, "light"),
    ("trace", 1280, "light"),
    ("jobs", 1280, "light"),
]
HEIGHT = 800
CALLS = 4
"""After how many failures the breaker opens."""
RISKY = {"origin": "ZRH", "destination": "LPB", "weight_kg": 120, "declared_value": "not said"}
"""A shipment at which the score of a risk fails: it compares numbers."""
SIZES = [(width, scheme) for width in (1280, 800) for scheme in ("light", "dark")]
CHROMIUM = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="Write every screen in every size here.")
    parser.add_argument("--only", default="", help="Screens whose name begins so.")
    options = parser.parse_args()
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    name_databases()
    with site() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=[*CHROMIUM, *QUIET])
        wanted = SHOWN if options.folder is None else [(name, *size) for name in SCREENS for size in SIZES]
        for name, width, scheme in wanted:
            if name.startswith(options.only):
                _shoot(browser, address, name, width, scheme, options.folder or DOCS)


@contextmanager
def site() -> Iterator[str]:
    """The demo's two tenants, served, with a job done, a breaker open and a draft begun. Yields acme's address."""
    import django

    django.setup()
    from django.db import connections

    from pluginhub.registry import registry
    from tenants import processes
    from tenants.demonstration import Demonstration
    from tenants.proofs import ProofFailed

    port = processes.free_port()
    with tempfile.TemporaryDirectory() as logs, running():
        clients = Demonstration(port, lambda line: None).set_up()
        _publish_patterns()
        _begin_draft()
        registry.stop()
        connections.close_all()
        web = processes.web(port, log=Path(logs) / "web.log")
        worker = processes.worker(log=Path(logs) / "worker.log")
        with web, worker:
            for _ in range(CALLS):
                with suppress(ProofFailed):
                    clients["acme"].call("POST", "/hub/run/careful/", RISKY)
            yield f"http://acme.localhost:{port}"


def _publish_patterns() -> None:
    """Publish two interceptors of which one stands elsewhere than its position says, and a chain around a breaker."""
    from pluginhub import publishing, tenancy
    from pluginhub.models import Chain, InterceptorBinding, Registration, Step, Target

    with tenancy.visit(tenancy.find("acme")):
        for position, (name, plugin) in enumerate((("embargo", "embargo"), ("audit", "audit-calls")), 1):
            row = Registration.objects.create(name=name, plugin=plugin)
            InterceptorBinding.objects.create(registration=row, scope="call", position=position)
        Registration.objects.create(
            name="risk", title="Score the risk", plugin="risk-score", breaker_rate=0.5, breaker_calls=CALLS,
            breaker_seconds=3600, cache_seconds=600,
        )  # fmt: skip
        chain = Chain.objects.create(name="careful", title="Quote after a look at the risk")
        policies: dict[str, dict[str, Any]] = {
            "resolve": {},
            "risk": {"label": "risk, if it is up", "on_failure": "skip"},
            "quote": {},
            "round": {"label": "large ones to 100", "condition": "price > `10000`"},
        }
        for position, (name, policy) in enumerate(policies.items(), 1):
            Step.objects.create(chain=chain, position=position, target=Target.objects.get(name=name), **policy)
        publishing.publish(author="admin", note="Score the risk of what is sent")


def _begin_draft() -> None:
    """Leave something to see: jobs of several outcomes, stored values, three changes that are not published."""
    from django.contrib.auth.models import User

    from pluginhub import access, jobs, publishing, tenancy
    from pluginhub.models import Chain, Job, Registration, Step, StoredValue, Target

    with tenancy.visit(tenancy.find("acme")):
        rate = Registration.objects.get(name="rate")
        rate.config = {**rate.config, "per_1000_km": 0.4}
        rate.save()
        publishing.publish(author="admin", note="Dearer by distance since the fuel surcharge")
        rate.config = {**rate.config, "minimum": 60.0}
        rate.save()
        feed = Registration(name="partner-feed", title="Feed of a partner", plugin="partner-feed", enabled=False)
        feed.save()
        Registration.objects.create(name="mask", title="Mask personal data", plugin="redact")
        chain = Chain.objects.create(name="express", title="Express quote")
        for position, name in enumerate(("resolve", "distance", "rate"), 1):
            Step.objects.create(chain=chain, position=position, target=Target.objects.get(name=name))
        StoredValue.objects.create(namespace="count", key="quotes/2026-01", value={"quotes": 1204, "refused": 17})
        access.issue_token(User.objects.get(username="admin"), "Warehouse system")
        for weight in (120, 80, -1):
            jobs.enqueue("quote", {"origin": "ZRH", "destination": "LPB", "weight_kg": weight})
        Job.objects.filter(data__weight_kg=80).update(done=40, total=100, note="airport 40 of 100")
        jobs.enqueue("quote", {"origin": "ZRH", "destination": "JFK", "weight_kg": 3}, delay=3600)


def _row(model: str, name: str) -> Callable[[Page, str], None]:
    def open_it(page: Page, address: str) -> None:
        page.goto(f"{address}/admin/pluginhub/{model}/?q={name}")
        page.locator("#result_list tbody th a").filter(has_text=re.compile(rf"^{name}\b(?!-)")).first.click()

    return open_it


def _at(path: str) -> Callable[[Page, str], None]:
    def open_it(page: Page, address: str) -> None:
        page.goto(f"{address}/admin/pluginhub/{path}")

    return open_it


def _open_draft(page: Page, address: str) -> None:
    page.goto(f"{address}/admin/pluginhub/")
    page.locator(".pluginhub-draft summary").click()


def _refusal(page: Page, address: str) -> None:
    _row("chain", "express")(page, address)
    page.get_by_text("Add another Step").click()
    page.locator("#steps-3 select[name$=target]").select_option(label="partner-feed – Feed of a partner")
    page.locator("[name=_publish]").click()


def _try(page: Page, address: str) -> None:
    _row("chain", "quote")(page, address)
    page.get_by_role("link", name="Try it").click()
    page.get_by_label("Input, as JSON").fill('{"origin": "ZRH", "destination": "LPB", "weight_kg": 120}')
    page.get_by_role("button", name="Run").click()


def _try_wrong(page: Page, address: str) -> None:
    _row("chain", "quote")(page, address)
    page.get_by_role("link", name="Try it").click()
    page.get_by_label("Input, as JSON").fill('{"origin": "XXX", "destination": "LPB", "weight_kg": 120}')
    page.get_by_role("button", name="Run").click()


def _trace(page: Page, address: str) -> None:
    """Of a run in which something is cached, something skipped, and something left out."""
    _row("chain", "careful")(page, address)
    page.get_by_role("link", name="Try it").click()
    page.get_by_label("Input, as JSON").fill(json.dumps(RISKY))
    for _ in range(2):
        page.get_by_role("button", name="Run").click()
    page.locator(".pluginhub-span summary").nth(2).click()
    page.locator(".pluginhub-trace").evaluate("it => it.scrollIntoView()")


def _policy(page: Page, address: str) -> None:
    _row("chain", "quote")(page, address)
    page.locator(".pluginhub-fold summary").nth(2).click()
    page.locator(".pluginhub-ordered").evaluate("it => it.scrollIntoView()")


def _policy_wrong(page: Page, address: str) -> None:
    _policy(page, address)
    page.locator("[name=steps-2-condition]").fill("weight_kg >")
    page.locator("[name=steps-2-fallback]").select_option("")
    page.locator("[name=_save]").click()


def _breaker(page: Page, address: str) -> None:
    _registrations(page, address)
    _row("registration", "risk")(page, address)
    page.get_by_role("heading", name="Breaker").evaluate("it => it.scrollIntoView()")


def _registrations(page: Page, address: str) -> None:
    """With the breaker's mark, which comes when the process next says how it is."""
    _at("registration/")(page, address)
    while not page.get_by_text("Breaker open").count():
        page.wait_for_timeout(500)
        page.reload()


def _interceptors(page: Page, address: str) -> None:
    _at("interceptorbinding/")(page, address)
    page.locator(".pluginhub-onions").evaluate("it => it.scrollIntoView()")


def _fleet(page: Page, address: str) -> None:
    _registrations(page, address)
    public = address.replace("acme.", "")
    page.goto(f"{public}/admin/login/?next=/admin/pluginhub_fleet/process/")
    _log_in(page)


def _job(page: Page, address: str) -> None:
    page.goto(f"{address}/admin/pluginhub/job/")
    page.locator("#result_list tbody th a").last.click()


def _revision(page: Page, address: str) -> None:
    page.goto(f"{address}/admin/pluginhub/revision/")
    page.locator("#result_list tbody th a").first.click()


def _rollback(page: Page, address: str) -> None:
    page.goto(f"{address}/admin/pluginhub/revision/1/rollback/")


def _conflict(page: Page, address: str) -> None:
    """Somebody else changes the chain in another window, and this one is saved after that."""
    _row("chain", "express")(page, address)
    other = page.context.new_page()
    other.goto(page.url)
    other.locator("[name=title]").fill("Express quote, next day")
    skips = other.locator("#steps-2 select[name$=on_failure]")
    skips.evaluate("one => one.value = one.value == 'skip' ? 'fail' : 'skip'")
    other.locator("[name=steps-0-label]").fill("Airports")
    other.locator("[name=_save]").click()
    other.wait_for_load_state("networkidle")
    other.close()
    page.locator("[name=title]").fill("Express quote for members")
    page.locator("[name=_save]").click()


def _delete(page: Page, address: str) -> None:
    _row("chain", "express")(page, address)
    page.get_by_role("link", name="Delete").click()


def _token(page: Page, address: str) -> None:
    page.goto(f"{address}/admin/pluginhub/accesstoken/add/")
    page.locator("[name=name]").fill("Shop window")
    page.locator("[name=_save]").click()


SCREENS: dict[str, Callable[[Page, str], None]] = {
    "home": _open_draft,
    "catalog": _at("registration/add/"),
    "registrations": _registrations,
    "registration-add": _at("registration/add/?plugin=rate-by-weight"),
    "registration": _row("registration", "rate"),
    "breaker": _breaker,
    "registration-missing": _row("registration", "partner-feed"),
    "chains": _at("chain/"),
    "chain": _row("chain", "express"),
    "chain-policy": _policy,
    "chain-policy-refused": _policy_wrong,
    "refusal": _refusal,
    "compositions": _at("composition/"),
    "composition-add": _at("composition/add/"),
    "interceptors": _interceptors,
    "interceptor-add": _at("interceptorbinding/add/"),
    "points": _at("pointbinding/"),
    "point-add": _at("pointbinding/add/"),
    "jobs": _at("job/"),
    "job": _job,
    "values": _at("storedvalue/"),
    "revisions": _at("revision/"),
    "revision": _revision,
    "draft": _at("revision/compare/"),
    "compare": _at("revision/compare/?from=2&to=3"),
    "rollback": _rollback,
    "conflict": _conflict,
    "delete": _delete,
    "tokens": _at("accesstoken/"),
    "token-issued": _token,
    "try": _try,
    "try-refused": _try_wrong,
    "trace": _trace,
    "fleet": _fleet,
}


def _shoot(browser: Browser, address: str, name: str, width: int, scheme: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    dark = scheme == "dark"
    context = browser.new_context(
        viewport={"width": width, "height": HEIGHT}, color_scheme="dark" if dark else "light", reduced_motion="reduce"
    )
    page = context.new_page()
    page.goto(f"{address}/admin/login/")
    _log_in(page)
    SCREENS[name](page, address)
    page.wait_for_load_state("networkidle")
    path = folder / f"{name}-{width}-{scheme}.png"
    page.screenshot(path=path, full_page=folder != DOCS)
    print(path)
    context.close()


def _log_in(page: Page) -> None:
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill("admin")
    page.get_by_role("button", name="Log in").click()


if __name__ == "__main__":
    main()
