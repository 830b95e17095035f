"""Pictures of the admin, for the documentation: `make screenshots`.

Starts the demo's site on databases of its own, walks through each screen in light and dark, wide and narrow, and writes
`<screen>-<width>-<scheme>.png` to the folder given. Without one, writes the handful that the documentation shows.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from tests.services import name_databases, running

DOCS = Path(__file__).resolve().parents[2] / "docs" / "screenshots"
SHOWN = [
    ("catalog", 1280, "light"),
    ("registration", 1280, "light"),
    ("chain", 1280, "light"),
    ("chain", 800, "dark"),
    ("refusal", 1280, "light"),
    ("revision", 1280, "dark"),
    ("draft", 1280, "light"),
    ("conflict", 1280, "light"),
    ("try", 1280, "light"),
    ("jobs", 1280, "light"),
]
HEIGHT = 800
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
    """The demo's two tenants, served, with a job done and a draft begun. Yields acme's address."""
    import django

    django.setup()
    from django.db import connections

    from pluginhub.registry import registry
    from tenants import processes
    from tenants.demonstration import Demonstration

    port = processes.free_port()
    with tempfile.TemporaryDirectory() as logs, running():
        Demonstration(port, lambda line: None).set_up()
        _begin_draft()
        registry.stop()
        connections.close_all()
        web = processes.web(port, log=Path(logs) / "web.log")
        worker = processes.worker(log=Path(logs) / "worker.log")
        with web, worker:
            yield f"http://acme.localhost:{port}"


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


def _policy(page: Page, address: str) -> None:
    _row("chain", "quote")(page, address)
    page.locator(".pluginhub-fold summary").nth(1).click()


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
    "registrations": _at("registration/"),
    "registration-add": _at("registration/add/?plugin=rate-by-weight"),
    "registration": _row("registration", "rate"),
    "registration-missing": _row("registration", "partner-feed"),
    "chains": _at("chain/"),
    "chain": _row("chain", "express"),
    "chain-policy": _policy,
    "refusal": _refusal,
    "compositions": _at("composition/"),
    "composition-add": _at("composition/add/"),
    "interceptors": _at("interceptorbinding/"),
    "interceptor-add": _at("interceptorbinding/add/"),
    "points": _at("pointbinding/"),
    "point-add": _at("pointbinding/add/"),
    "jobs": _at("job/"),
    "job": _job,
    "values": _at("storedvalue/"),
    "revisions": _at("revision/"),
    "revision": _revision,
    "draft": _at("revision/compare/"),
    "compare": _at("revision/compare/?from=1&to=2"),
    "rollback": _rollback,
    "conflict": _conflict,
    "delete": _delete,
    "tokens": _at("accesstoken/"),
    "token-issued": _token,
    "try": _try,
    "try-refused": _try_wrong,
}


def _shoot(browser: Browser, address: str, name: str, width: int, scheme: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    dark = scheme == "dark"
    context = browser.new_context(
        viewport={"width": width, "height": HEIGHT}, color_scheme="dark" if dark else "light", reduced_motion="reduce"
    )
    page = context.new_page()
    page.goto(f"{address}/admin/login/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill("admin")
    page.get_by_role("button", name="Log in").click()
    SCREENS[name](page, address)
    page.wait_for_load_state("networkidle")
    path = folder / f"{name}-{width}-{scheme}.png"
    page.screenshot(path=path, full_page=folder != DOCS)
    print(path)
    context.close()


if __name__ == "__main__":
    main()
