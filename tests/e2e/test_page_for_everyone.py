"""The page with a keyboard, a screen reader, other colours and sizes, and 100,000 images."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from harborguard.config import Config
from harborguard.dev.local import prepare_demo
from harborguard.store.connection import Connection
from harborguard.store.counters import repair_counters
from tests.support.page import (
    chip,
    drawer,
    enter_key,
    expect_names,
    origin_of,
    query_of,
    rows_of,
    visit,
)
from tests.support.service import ROOT, Service
from tests.support.tenants import Tenants
from tests.tools.bench.load import make_tenant

ARTIFACTS = ROOT / ".ci" / "artifacts"
# The rules of WCAG 2.2 A and AA, and what axe recommends in addition.
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
WORST = "/?sort=riskScore:desc&limit=25"


@pytest.fixture
def demo_key(conn: Connection, database_url: str, tmp_path: Path) -> str:
    """Return a key of an organization with the demo data of `make run`."""
    return prepare_demo(Config(database_url=database_url, state_directory=tmp_path))


def views(page: Page, key: str) -> Iterator[str]:
    """Show one view after the other, and yield the name of each when it is complete."""
    expect(page.get_by_label("API key")).to_be_visible()
    yield "entry"
    enter_key(page, "wrong")
    expect(page.get_by_role("alert")).not_to_be_empty()
    yield "wrong-key"
    enter_key(page, key)
    expect(page.locator(".bar svg")).to_be_visible()
    yield "inventory"
    chip(page, "Severity", "Critical").click()
    page.get_by_role("columnheader", name="Risk").get_by_role("button").click()
    expect(chip(page, "Severity", "Critical")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("[aria-sort=ascending]")).to_have_count(1)
    yield "filtered"
    rows_of(page).first.get_by_role("link").click()
    expect(drawer(page).get_by_role("heading", name=re.compile(r"Tags \d"))).to_be_visible()
    expect(drawer(page).get_by_role("heading", name=re.compile(r"bilities \d"))).to_be_visible()
    yield "image"
    drawer(page).locator("tbody th a[data-page]").first.click()
    expect(page.locator("#cve tbody tr").first).to_be_visible()
    yield "vulnerability"
    page.get_by_role("link", name="HarborGuard").click()
    page.get_by_role("searchbox", name="Name").fill("nothing has this name")
    expect(page.get_by_role("heading", name="No image matches")).to_be_visible()
    yield "no-match"
    page.evaluate("history.pushState({}, '', '/?limit=0'); dispatchEvent(new Event('popstate'))")
    expect(page.get_by_role("heading", name="The address of this view")).to_be_visible()
    yield "error"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_every_view_has_no_violation_of_axe(
    browser: Browser, deployed_service: Service, demo_key: str, width: int, scheme: str
) -> None:
    violations = []
    size = {"width": width, "height": 900}
    with visit(browser, deployed_service, WORST, viewport=size, color_scheme=scheme) as tab:
        for name in views(tab.page, demo_key):
            # While something is loaded, it is dimmed.
            expect(tab.page.locator("[aria-busy]")).to_have_count(0)
            tab.page.screenshot(path=ARTIFACTS / f"page-{name}-{width}-{scheme}.png")
            options = {"runOnly": {"type": "tag", "values": RULES}}
            found = Axe().run(tab.page, options=options).response["violations"]
            violations += [(name, each["id"], each["nodes"]) for each in found]
            # Nothing is wider than the window, so the page never scrolls sideways.
            scrolled = tab.page.evaluate("document.documentElement.scrollWidth")
            assert scrolled <= width, name
    assert violations == []


def test_view_for_the_readme_is_a_picture(
    browser: Browser, deployed_service: Service, demo_key: str
) -> None:
    size = {"width": 1024, "height": 600}
    with visit(browser, deployed_service, WORST, demo_key, viewport=size) as tab:
        expect(tab.page.locator(".bar svg")).to_be_visible()
        tab.page.screenshot(path=ARTIFACTS / "page.png")
    print(f"screenshot: {ARTIFACTS / 'page.png'}")
    assert 10_000 < (ARTIFACTS / "page.png").stat().st_size < 120_000


def press(page: Page, key: str, until: str) -> None:
    """Press a key until the element with the focus has a text in its name."""
    for _ in range(60):
        page.keyboard.press(key)
        name = page.evaluate(
            "document.activeElement.getAttribute('aria-label')"
            " ?? document.activeElement.labels?.[0]?.textContent"
            " ?? document.activeElement.textContent"
        )
        if until in name:
            return
    raise AssertionError(f"no focus on {until}")


def test_all_is_done_with_the_keyboard_alone(
    browser: Browser, deployed_service: Service, tenants: Tenants
) -> None:
    for name, score in (("api", 31), ("web", 80), ("db", 10)):
        tenants.acme.add_image(f"ghcr.io/acme/{name}", score)
    with visit(browser, deployed_service) as tab:
        page = tab.page
        expect(page.get_by_label("API key")).to_be_focused()
        page.keyboard.type(tenants.acme.key)
        page.keyboard.press("Enter")
        expect(rows_of(page)).to_have_count(3)
        page.keyboard.press("Tab")
        press(page, "Shift+Tab", "Skip to the content")
        expect(page.get_by_text("Skip to the content")).to_be_in_viewport()
        page.keyboard.press("Enter")
        press(page, "Tab", "Name")
        page.keyboard.type("acme/")
        press(page, "Tab", "D")
        page.keyboard.press("Space")
        expect_names(page, "acme/web")
        expect(chip(page, "Grade", "D 1")).to_be_focused()
        page.keyboard.press("Space")
        expect(rows_of(page)).to_have_count(3)
        press(page, "Tab", "Risk")
        page.keyboard.press("Enter")
        expect_names(page, "acme/web", "acme/api", "acme/db")
        page.keyboard.press("Enter")
        expect_names(page, "acme/db", "acme/api", "acme/web")
        press(page, "Tab", "acme/api")
        page.keyboard.press("Enter")
        expect(drawer(page)).to_have_accessible_name("acme/api")
        press(page, "Tab", "Search")
        page.keyboard.type("x")
        page.wait_for_url("**v.search=x*")
        press(page, "Shift+Tab", "Close")
        page.keyboard.press("Enter")
        expect(page.get_by_role("link", name="acme/api")).to_be_focused()
        assert query_of(page) == {"search": "acme/", "sort": "riskScore:asc"}


def test_screen_reader_hears_results_and_the_structure(
    browser: Browser, deployed_service: Service, tenants: Tenants
) -> None:
    tenants.acme.add_image("ghcr.io/acme/api", 31)
    with visit(browser, deployed_service, "/", tenants.acme.key) as tab:
        page, status = tab.page, tab.page.locator("#status")
        expect(status).to_have_attribute("role", "status")
        expect(status).to_have_text("1 image")
        for role in ("banner", "main", "contentinfo", "search"):
            expect(page.get_by_role(role)).to_have_count(1)
        expect(page.get_by_role("table", name="the images")).to_be_visible()
        expect(page.get_by_role("rowheader")).to_have_count(1)
        page.get_by_role("searchbox", name="Name").fill("nothing")
        expect(status).to_have_text("0 images")
        page.get_by_role("searchbox", name="Name").fill("")
        page.get_by_role("link", name="acme/api").click()
        expect(page.locator("#image-status")).not_to_be_empty()


def test_motion_is_reduced_for_people_who_ask(browser: Browser, deployed_service: Service) -> None:
    with visit(browser, deployed_service, reduced_motion="reduce") as tab:
        moving = tab.page.evaluate(
            "document.getAnimations().filter(each => each.effect.getTiming().duration > 0).length"
        )
        assert moving == 0


# Record when the first rows are painted, and the tasks that block the page for more than 50 ms.
RECORDER = """
window.painted = new Promise((resolve) => {
  const observer = new MutationObserver(() => {
    if (!document.querySelector('#inventory tbody tr')) return;
    observer.disconnect();
    requestAnimationFrame(() => setTimeout(() => resolve(performance.now())));
  });
  observer.observe(document, { childList: true, subtree: true });
});
window.longTasks = [];
new PerformanceObserver((list) => window.longTasks.push(...list.getEntries().map(
  (entry) => entry.duration))).observe({ type: 'longtask', buffered: true });
"""


def test_hundred_thousand_images_are_shown_and_searched(
    browser: Browser, deployed_service: Service, conn: Connection
) -> None:
    # Without foreign keys: their checks can use plans that other tests made for a few rows.
    conn.execute("SET session_replication_role = replica")
    tenant = make_tenant(conn, "100k", 100_000)
    conn.execute("RESET session_replication_role")
    repair_counters(conn, tenant.organization_id)
    conn.execute("VACUUM (ANALYZE) images, image_names, registries")
    with visit(browser, deployed_service, "/page/icon.svg", tenant.key) as tab:
        page = tab.page
        page.add_init_script(RECORDER)
        for limit in (50, 200):
            page.goto(f"{origin_of(deployed_service)}/?limit={limit}")
            expect(page.get_by_role("heading", name="Images 100,000")).to_be_visible()
            expect(rows_of(page)).to_have_count(limit)
            responded, painted = page.evaluate(
                "(async () => [performance.getEntriesByType('resource')"
                ".find(each => each.name.includes('/api/images?')).responseEnd, await painted])()"
            )
            print(
                f"{limit} rows: painted {painted - responded:.0f} ms after the response", end="; "
            )
            expect(page.get_by_role("img")).to_have_accessible_name(
                re.compile(r"Images by grade. A: [\d,]+, .*Never scanned: 12,500")
            )
            page.evaluate("window.longTasks.length = 0")
            search = page.get_by_role("searchbox", name="Name")
            search.press_sequentially("quasar/service-00", delay=120)
            expect(rows_of(page).first).to_contain_text("quasar/service-00")
            expect(search).to_have_value("quasar/service-00")
            longest = max(page.evaluate("longTasks"), default=0)
            print(f"longest task while typing {longest:.0f} ms")
            page.get_by_role("button", name="Last", exact=True).click()
            expect(page.get_by_role("button", name="Next")).to_be_disabled()
