"""The views of the page in a real browser, behind nginx as it is shipped."""

import json
import os
import re
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import Browser, Route, expect

from tests.support.page import (
    chip,
    drawer,
    expect_names,
    origin_of,
    query_of,
    rows_of,
    visit,
)
from tests.support.recording import ingest
from tests.support.reports import envelope, manifest
from tests.support.service import Service
from tests.support.tenants import Tenant, Tenants

NOW = datetime.now(UTC)


def add_images(tenants: Tenants) -> list[str]:
    """Add images with three grades and one that was never scanned; return their ids."""
    acme = tenants.acme
    tenants.globex.add_image("ghcr.io/globex/secret", 90)
    day = timedelta(days=1)
    rows: list[tuple[str, int | None, dict[str, Any]]] = [
        ("ghcr.io/acme/api", 31, {"high": 3, "last_scanned_at": NOW - 2 * day}),
        ("ghcr.io/acme/web", 80, {"critical": 1, "last_scanned_at": NOW - 40 * day}),
        ("quay.io/acme/db", 10, {"low": 7, "tag_count": 3, "latest_tag": "1.4",
                                 "latest_digest": manifest("a"), "last_scanned_at": NOW - 200 * day}),
        ("quay.io/acme/new", None, {}),
    ]  # fmt: skip
    return [
        acme.add_image(name, score, created_at=NOW - (number + 1) * day, **columns)
        for number, (name, score, columns) in enumerate(rows)
    ]


def add_report(tenant: Tenant, findings: list[dict[str, Any]], **options: Any) -> str:
    """Record a report with findings, and return the id of the image."""
    report = json.loads(envelope(counts=(1,), **options))
    vulnerabilities = report["findings"]["vulnerabilities"]
    report["findings"]["vulnerabilities"] = [
        {**template, **finding} for finding in findings for template in vulnerabilities
    ]
    body = json.dumps(report).encode()
    return ingest(tenant.conn, tenant.organization_id, body).image_id


FINDINGS = [
    {"cveId": "CVE-2026-1", "severity": "CRITICAL", "cvssScore": 9.8, "packageName": "zlib",
     "fixedVersion": None, "kev": True, "epss": 0.34, "title": "Overflow in zlib"},
    {"cveId": "CVE-2026-2", "severity": "HIGH", "cvssScore": 7.5, "packageName": "openssl"},
    {"cveId": "CVE-2026-3", "severity": "LOW", "cvssScore": 2.0, "packageName": "bash"},
]  # fmt: skip


# -- the inventory


def test_row_shows_name_registry_tag_digest_risk_counts_and_scan(
    browser: Browser, deployed_service: Service, tenants: Tenants
) -> None:
    add_images(tenants)
    with visit(browser, deployed_service, "/?sort=name:asc", tenants.acme.key) as tab:
        expect(rows_of(tab.page)).to_have_count(4)
        assert [
            row.locator("th, td").all_inner_texts() for row in rows_of(tab.page).all()
        ] == [
            ["acme/api\nghcr.io", "–\nnone\n–\nno digest", "0", "B\n31", "0", "3", "0", "0",
             "2 days ago", "1 day ago"],
            ["acme/web\nghcr.io", "–\nnone\n–\nno digest", "0", "D\n80", "1", "0", "0", "0",
             "1 month ago\nstale", "2 days ago"],
            ["acme/db\nquay.io", "1.4\naaaaaaaaaaaa", "3", "A\n10", "0", "0", "0", "7",
             "6 months ago\nstale", "3 days ago"],
            ["acme/new\nquay.io", "–\nnone\n–\nno digest", "0", "–\nno grade", *["–\nunknown"] * 4,
             "never scanned", "4 days ago"],
        ]  # fmt: skip
        scanned = NOW - timedelta(days=2)
        expect(rows_of(tab.page).first.locator("time").first).to_have_attribute(
            "title", f"{scanned.day} {scanned:%B %Y at %H:%M:%S} UTC"
        )
        expect(tab.page.get_by_role("heading", name="Images 4")).to_be_visible()
        assert tab.problems == []


def test_numbers_and_times_are_those_of_the_locale(
    browser: Browser, deployed_service: Service, tenants: Tenants
) -> None:
    scanned = datetime(2026, 4, 26, 22, 22, 11, tzinfo=UTC)
    tenants.acme.add_image("ghcr.io/acme/api", 31, low=1234, last_scanned_at=scanned)
    options = {"locale": "de-DE", "timezone_id": "Europe/Berlin"}
    with visit(browser, deployed_service, "/", tenants.acme.key, **options) as tab:
        expect(rows_of(tab.page)).to_contain_text("1.234")
        time = rows_of(tab.page).locator("time").first
        expect(time).to_have_text(re.compile("^vor "))
        expect(time).to_have_attribute("title", "27. April 2026 um 00:22:11 MESZ")


def test_copy_button_copies_the_whole_digest(
    browser: Browser, deployed_service: Service, tenants: Tenants
) -> None:
    add_images(tenants)
    permissions = ["clipboard-read", "clipboard-write"]
    with visit(browser, deployed_service, "/", tenants.acme.key, permissions=permissions) as tab:
        tab.page.get_by_role("button", name="Copy the digest of quay.io/acme/db").click()
        expect(tab.page.get_by_text("Copied.")).to_be_visible()
        assert tab.page.evaluate("navigator.clipboard.readText()") == manifest("a")


@pytest.mark.parametrize("device", ["mouse", "keyboard"])
def test_press_of_a_chip_whose_numbers_arrive_before_the_release_counts(
    browser: Browser, deployed_service: Service, tenants: Tenants, device: str
) -> None:
    add_images(tenants)
    with visit(browser, deployed_service, "/page/icon.svg", tenants.acme.key) as tab:
        page, held = tab.page, list[Route]()
        page.route("**/api/images/summary*", lambda route: held.append(route))  # noqa: PLW0108
        page.goto(f"{origin_of(deployed_service)}/")
        expect(rows_of(page)).to_have_count(4)
        button = chip(page, "Grade", "D")
        if device == "mouse":
            button.hover()
            page.mouse.down()
        else:
            button.focus()
            page.keyboard.down("Space")
        for route in held:
            route.continue_()
        page.unroute("**/api/images/summary*")
        expect(page.locator(".bar svg")).to_be_visible()
        page.mouse.up() if device == "mouse" else page.keyboard.up("Space")
        expect_names(page, "acme/web")
        expect(chip(page, "Grade", "D 1")).to_have_attribute("aria-pressed", "true")


def test_chips_filter_the_list_and_back_button_returns(
    browser: Browser, deployed_service: Service, tenants: Tenants
) -> None:
    add_images(tenants)
    with visit(browser, deployed_service, "/?sort=name:asc", tenants.acme.key) as tab:
        page = tab.page
        expect(page.get_by_role("img")).to_have_accessible_name(
            "Images by grade. A: 1, B: 1, D: 1, Never scanned: 1"
        )
        chip(page, "Grade", "D 1").click()
        expect_names(page, "acme/web")
        assert query_of(page) == {"sort": "name:asc", "grade": "D"}
        expect(page.get_by_role("img")).to_have_accessible_name("Images by grade. D: 1")
        # The numbers of the other grades are those that a click adds.
        chip(page, "Grade", "A 1").click()
        expect_names(page, "acme/web", "acme/db")
        assert query_of(page) == {"sort": "name:asc", "grade": "A,D"}
        page.go_back()
        expect_names(page, "acme/web")
        page.reload()
        expect_names(page, "acme/web")
        expect(chip(page, "Grade", "D 1")).to_have_attribute("aria-pressed", "true")
        page.get_by_role("button", name="Clear all filters").click()
        expect(rows_of(page)).to_have_count(4)
        for group, name, expected, images in (
            ("Scan", "Never scanned 1", {"scanned": "never"}, ["acme/new"]),
            ("Scan", "Stale", {"scanned": "stale"}, ["acme/web", "acme/db"]),
            ("Scan", "Fresh", {"scanned": "fresh"}, ["acme/api"]),
            ("Severity", "High", {"severity": "HIGH"}, ["acme/api"]),
            ("Registry", "quay.io 2", {"registry": "quay.io"}, ["acme/db", "acme/new"]),
        ):
            chip(page, group, name).click()
            expect_names(page, *images)
            assert query_of(page) == {"sort": "name:asc", **expected}
            chip(page, group, name.split()[0]).click()
            expect(rows_of(page)).to_have_count(4)
        assert tab.problems == []


def test_filter_without_a_chip_is_applied_and_can_be_removed(
    browser: Browser, deployed_service: Service, tenants: Tenants
) -> None:
    image_id = add_report(tenants.acme, FINDINGS)
    tenants.acme.add_image("ghcr.io/acme/web", 80)
    path = "/?package=openssl&cveId=CVE-2026-2&riskScore=50"
    with visit(browser, deployed_service, path, tenants.acme.key) as tab:
        page = tab.page
        expect_names(page, "acme/api")
        chip(page, "Active", "riskScore: 50").click()
        assert query_of(page) == {"package": "openssl", "cveId": "CVE-2026-2"}
        page.get_by_label("Vulnerability").fill("CVE-2026-3")
        page.get_by_role("button", name="Filter", exact=True).click()
        expect(page.get_by_role("heading", name="No image matches")).to_be_visible()
        chip(page, "Active", "package: openssl").click()
        expect_names(page, "acme/api")
        page.get_by_role("link", name="Its findings").click()
        expect(page.get_by_role("heading", name="CVE-2026-3")).to_be_focused()
        assert query_of(page) == {"cve": "CVE-2026-3"}
        page.get_by_role("link", name="ghcr.io/acme/api").click()
        assert query_of(page) == {"cve": "CVE-2026-3", "image": image_id}


def test_column_heads_sort_and_say_so(
    browser: Browser, deployed_service: Service, tenants: Tenants
) -> None:
    add_images(tenants)
    orders = {
        "Risk": ["riskScore:desc", "riskScore:asc"],
        "Image": ["name:asc", "name:desc"],
        "Tags": ["tagCount:desc", "tagCount:asc"],
        "Last scan": ["lastScannedAt:desc", "lastScannedAt:asc"],
        "Added": ["createdAt:desc", "createdAt:asc"],
    }
    with visit(browser, deployed_service, "/", tenants.acme.key) as tab:
        page = tab.page
        for label, (first, second) in orders.items():
            head = page.get_by_role("columnheader", name=label)
            for order in (first, second):
                head.get_by_role("button").click()
                page.wait_for_function("order => location.search === `?sort=${order}`", arg=order)
                direction = "ascending" if order.endswith("asc") else "descending"
                expect(head).to_have_attribute("aria-sort", direction)
                expect(page.locator("[aria-sort]")).to_have_count(1)
        page.get_by_role("columnheader", name="Risk").get_by_role("button").click()
        expect_names(page, "acme/web", "acme/api", "acme/db", "acme/new")


def test_pages_are_those_of_the_api(
    browser: Browser, deployed_service: Service, tenants: Tenants
) -> None:
    for number in range(120):
        tenants.acme.add_image(f"ghcr.io/acme/image-{number:03}", number % 101)
    with visit(browser, deployed_service, "/?sort=name:asc", tenants.acme.key) as tab:
        page = tab.page
        pager = page.get_by_role("navigation", name="Pages of the images")
        expect(pager).to_contain_text("1–50 of 120")
        pager.get_by_role("button", name="Next").click()
        expect(rows_of(page).first).to_contain_text("acme/image-050")
        expect(pager.get_by_role("button", name="Next")).to_be_focused()
        expect(page.locator("#status")).to_have_text("120 images, page 2 of 3")
        pager.get_by_role("button", name="Last", exact=True).click()
        expect(rows_of(page)).to_have_count(20)
        assert query_of(page) == {"sort": "name:asc", "page": "3"}
        expect(pager.get_by_role("button", name="Next")).to_be_disabled()
        pager.get_by_role("button", name="Next").click(force=True)
        assert query_of(page) == {"sort": "name:asc", "page": "3"}
        pager.get_by_role("button", name="First").click()
        expect(rows_of(page)).to_have_count(50)
        assert query_of(page) == {"sort": "name:asc"}
        pager.get_by_label("Rows").select_option("100")
        expect(rows_of(page)).to_have_count(100)
        assert query_of(page) == {"sort": "name:asc", "limit": "100"}
        page.goto(f"{origin_of(deployed_service)}/?page=9&limit=100")
        expect(page.get_by_role("heading", name="This page is past the end")).to_be_visible()
        page.get_by_role("link", name="Show the first page").click()
        expect(rows_of(page)).to_have_count(100)


def test_search_waits_for_the_last_key_and_is_one_step_back(
    browser: Browser, deployed_service: Service, tenants: Tenants
) -> None:
    add_images(tenants)
    with visit(browser, deployed_service, "/?sort=name:asc", tenants.acme.key) as tab:
        page = tab.page
        expect(rows_of(page)).to_have_count(4)
        before = len(tab.requests)
        page.get_by_role("searchbox", name="Name").press_sequentially("acme/d", delay=10)
        expect_names(page, "acme/db")
        lists = [url for url in tab.requests[before:] if "/api/images?" in url]
        assert lists == [
            f"{origin_of(deployed_service)}/api/images?sort=name%3Aasc&search=acme%2Fd"
        ]
        page.get_by_role("searchbox", name="Name").press_sequentially("x")
        expect(page.get_by_role("heading", name="No image matches")).to_be_visible()
        expect(page.get_by_role("searchbox", name="Name")).to_be_focused()
        page.go_back()
        expect(rows_of(page)).to_have_count(4)
        expect(page.get_by_role("searchbox", name="Name")).to_have_value("")


def test_search_cancels_the_former_request(
    browser: Browser, deployed_service: Service, tenants: Tenants
) -> None:
    add_images(tenants)
    with visit(browser, deployed_service, "/", tenants.acme.key) as tab:
        page, failed = tab.page, []
        expect(rows_of(page)).to_have_count(4)
        page.on("requestfailed", lambda request: failed.append((request.url, request.failure)))
        with tenants.acme.conn.transaction():
            tenants.acme.conn.execute("LOCK TABLE image_names, images IN ACCESS EXCLUSIVE MODE")
            with page.expect_request(lambda request: "search=api" in request.url):
                page.get_by_role("searchbox", name="Name").fill("api")
            with page.expect_request(lambda request: "search=web" in request.url):
                page.get_by_role("searchbox", name="Name").fill("web")
        expect_names(page, "acme/web")
        [(url, failure)] = failed
        assert (url.partition("?")[2], failure) == ("search=api", "net::ERR_ABORTED")


# -- an image


def test_drawer_shows_scans_tags_and_findings(
    browser: Browser, deployed_service: Service, tenants: Tenants
) -> None:
    image_id = add_report(tenants.acme, FINDINGS, scanners=("trivy", "grype"))
    with visit(browser, deployed_service, "/", tenants.acme.key) as tab:
        page = tab.page
        link = page.get_by_role("link", name="acme/api")
        link.click()
        expect(drawer(page)).to_have_accessible_name("acme/api")
        assert query_of(page) == {"image": image_id}
        facts = drawer(page).locator("dl")
        expect(facts).to_contain_text("ghcr.io/acme/api")
        expect(facts).to_contain_text("Critical 1")
        scans = drawer(page).get_by_role("table", name="The scans that count")
        expect(scans.locator("tbody tr")).to_have_count(1)
        expect(scans.locator("tbody tr")).to_contain_text("grype, trivy")
        tags = drawer(page).get_by_role("table", name="the tags of the image")
        expect(tags.locator("tbody th")).to_have_text(["1.4.7"])
        expect(drawer(page).get_by_role("heading", name="Vulnerabilities 3")).to_be_visible()
        findings = drawer(page).get_by_role("table", name="the vulnerabilities of the image")
        assert [row.locator("th, td").all_inner_texts() for row in findings.locator("tbody tr").all()] == [
            ["CVE-2026-1\nexploited\nAdvisory\n(opens a new tab)\nOverflow in zlib", "Critical",
             "9.8", "34%", "zlib\n3.0.1", "–\nno fix"],
            ["CVE-2026-2\nAdvisory\n(opens a new tab)\nCVE-2026-1000 in openssl", "High",
             "7.5", "–\nunknown", "openssl\n3.0.1", "3.0.2"],
            ["CVE-2026-3\nAdvisory\n(opens a new tab)\nCVE-2026-1000 in openssl", "Low",
             "2.0", "–\nunknown", "bash\n3.0.1", "3.0.2"],
        ]  # fmt: skip
        page.keyboard.press("Escape")
        expect(drawer(page)).to_be_hidden()
        expect(link).to_be_focused()
        assert query_of(page) == {}
        page.go_forward()
        expect(drawer(page)).to_have_accessible_name("acme/api")
        page.reload()
        expect(findings.locator("tbody tr")).to_have_count(3)
        page.get_by_role("button", name="Close").click()
        expect(rows_of(page)).to_have_count(1)
        expect(drawer(page)).to_be_hidden()
        assert tab.problems == []


def test_findings_are_filtered_and_sorted(
    browser: Browser, deployed_service: Service, tenants: Tenants
) -> None:
    image_id = add_report(tenants.acme, FINDINGS)
    with visit(browser, deployed_service, f"/?image={image_id}", tenants.acme.key) as tab:
        page = tab.page
        ids = (
            drawer(page)
            .get_by_role("table", name="the vulnerabilities")
            .locator("tbody th a[data-page]")
        )
        expect(ids).to_have_count(3)
        for group, name, expected, found in (
            ("Severity", "High", {"v.severity": "HIGH"}, ["CVE-2026-2"]),
            ("Severity", "Critical", {"v.severity": "CRITICAL,HIGH"}, ["CVE-2026-1", "CVE-2026-2"]),
            (
                "Fix",
                "No fix",
                {"v.severity": "CRITICAL,HIGH", "v.fixable": "false"},
                ["CVE-2026-1"],
            ),
            (
                "Fix",
                "Fix available",
                {"v.severity": "CRITICAL,HIGH", "v.fixable": "true"},
                ["CVE-2026-2"],
            ),
        ):
            chip(drawer(page), group, name).click()
            expect(ids).to_have_text(found)
            assert query_of(page) == {"image": image_id, **expected}
        drawer(page).get_by_label("Search").press_sequentially("zlib")
        drawer(page).get_by_role("button", name="Clear the filters").click()
        expect(ids).to_have_count(3)
        drawer(page).get_by_label("Search").press_sequentially("bash")
        expect(ids).to_have_text(["CVE-2026-3"])
        drawer(page).get_by_label("Search").clear()
        drawer(page).get_by_role("columnheader", name="Package").get_by_role("button").click()
        expect(ids).to_have_text(["CVE-2026-3", "CVE-2026-2", "CVE-2026-1"])
        assert query_of(page) == {"image": image_id, "v.sort": "package:asc"}


def test_search_that_is_typed_before_the_drawer_closes_is_forgotten(
    browser: Browser, deployed_service: Service, tenants: Tenants
) -> None:
    image_id = add_report(tenants.acme, FINDINGS)
    with visit(browser, deployed_service, f"/?image={image_id}", tenants.acme.key) as tab:
        page = tab.page
        expect(drawer(page).get_by_role("heading", name="Tags 1")).to_be_visible()
        page.evaluate(
            "() => { const field = document.getElementById('finding-search');"
            " field.value = 'zlib'; field.dispatchEvent(new Event('input'));"
            " document.querySelector('dialog .heading button').click(); }"
        )
        page.wait_for_timeout(500)
        expect(drawer(page)).to_be_hidden()
        assert query_of(page) == {}


def test_copied_command_returns_what_is_shown(
    browser: Browser, deployed_service: Service, tenants: Tenants
) -> None:
    image_id = add_report(tenants.acme, FINDINGS)
    key = tenants.acme.key
    path = f"/?search=it%27s+a%26b&image={image_id}&v.severity=HIGH"
    permissions = ["clipboard-read", "clipboard-write"]
    commands = []
    with visit(browser, deployed_service, path, key, permissions=permissions) as tab:
        page = tab.page
        expect(drawer(page).locator("tbody tr")).to_have_count(3)
        for button in drawer(page).get_by_role("button", name="Copy as curl").all():
            button.click()
            commands.append(page.evaluate("navigator.clipboard.readText()"))
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Copy as curl").click()
        commands.append(page.evaluate("navigator.clipboard.readText()"))
    paths = [
        f"/api/images/{image_id}",
        f"/api/images/{image_id}/vulnerabilities?severity=HIGH",
        f"/api/images/{image_id}/tags?limit=25",
        "/api/images?search=it%27s+a%26b",
    ]
    for command, expected in zip(commands, paths, strict=True):
        assert key not in command
        done = subprocess.run(
            ["sh", "-c", command], env={**os.environ, "KEY": key}, capture_output=True, check=True
        )
        assert (
            json.loads(done.stdout) == deployed_service.request(expected, {"X-API-Key": key}).json
        )


def test_image_without_scan_or_tag_says_what_is_known(
    browser: Browser, deployed_service: Service, tenants: Tenants
) -> None:
    image_id = tenants.acme.add_image("ghcr.io/acme/new")
    with visit(browser, deployed_service, f"/?image={image_id}", tenants.acme.key) as tab:
        expect(drawer(tab.page)).to_contain_text("No finished scan of this image is recorded.")
        expect(drawer(tab.page)).to_contain_text("nothing is known about its vulnerabilities")
        expect(drawer(tab.page)).to_contain_text("This image has no tags.")


# -- a vulnerability


def test_vulnerability_lists_the_images_that_have_it(
    browser: Browser, deployed_service: Service, tenants: Tenants
) -> None:
    image_id = add_report(tenants.acme, FINDINGS)
    add_report(tenants.acme, FINDINGS[:1], reference="ghcr.io/acme/web:2", scan_id="other")
    add_report(tenants.globex, FINDINGS[:1], reference="ghcr.io/globex/secret:2")
    with visit(browser, deployed_service, f"/?image={image_id}", tenants.acme.key) as tab:
        page = tab.page
        expect(page).to_have_title("ghcr.io/acme/api HarborGuard Images")
        drawer(page).get_by_role("link", name="CVE-2026-1").click()
        expect(drawer(page)).to_be_hidden()
        expect(page).to_have_title("CVE-2026-1 HarborGuard Images")
        expect(page.get_by_role("heading", name="CVE-2026-1")).to_be_focused()
        assert query_of(page) == {"cve": "CVE-2026-1"}
        expect(page.locator("#cve tbody tr")).to_have_count(2)
        assert sorted(page.locator("#cve tbody th").all_inner_texts()) == [
            "ghcr.io/acme/api", "ghcr.io/acme/web",
        ]  # fmt: skip
        expect(page.locator("#cve")).to_contain_text("Overflow in zlib")
        expect(page.locator("#cve")).to_contain_text("EPSS 34%")
        expect(page.locator("#cve")).to_contain_text("2 findings")
        page.get_by_role("link", name="ghcr.io/acme/web").click()
        expect(drawer(page)).to_have_accessible_name("acme/web")
        page.get_by_role("button", name="Close").click()
        page.get_by_role("link", name="Filter the images by it").click()
        expect(rows_of(page)).to_have_count(2)
        assert query_of(page) == {"cveId": "CVE-2026-1"}
        expect(page).to_have_title("HarborGuard Images")
        page.go_back()
        page.go_back()
        expect(drawer(page)).to_have_accessible_name("acme/api")
        assert tab.problems == []


def test_unknown_vulnerability_says_that_no_image_has_it(
    browser: Browser, deployed_service: Service, tenants: Tenants
) -> None:
    with visit(browser, deployed_service, "/?cve=CVE-1", tenants.acme.key) as tab:
        expect(tab.page.get_by_role("heading", name="No image has it")).to_be_visible()


# -- reports of other people

ATTACK = "<img src=x onerror=hacked=1><script>hacked=1</script>\u202e{{hacked=1}}"


@pytest.mark.parametrize(
    "url",
    [
        "javascript:hacked=1",
        "data:text/html,<script>hacked=1</script>",
        "//x",
        "JaVaScRiPt:hacked=1",
    ],
)
def test_hostile_report_is_shown_as_text(
    browser: Browser, deployed_service: Service, tenants: Tenants, url: str
) -> None:
    finding = {
        "cveId": f"CVE-{ATTACK}", "severity": "CRITICAL", "packageName": f"p {ATTACK}",
        "installedVersion": f"i {ATTACK}", "fixedVersion": f"f {ATTACK}", "title": f"t {ATTACK}",
        "vulnerabilityUrl": url,
    }  # fmt: skip
    image_id = add_report(tenants.acme, [finding], scanners=(f"s {ATTACK}",))
    tenants.acme.add_registry("ghcr.io", f"r {ATTACK}")
    with visit(browser, deployed_service, f"/?image={image_id}", tenants.acme.key) as tab:
        page = tab.page
        for text in ("CVE-", "p ", "i ", "f ", "t ", "s ", "r "):
            expect(drawer(page).get_by_text(f"{text}{ATTACK}", exact=True).first).to_be_visible()
        expect(drawer(page).get_by_text(url, exact=True)).to_be_visible()
        drawer(page).locator("tbody a[data-page]").click()
        expect(page.get_by_role("heading", name="CVE-")).to_have_text(f"CVE-{ATTACK}")
        expect(page.locator("#cve").get_by_text(url, exact=True)).to_be_visible()
        page.get_by_role("link", name="Filter the images by it").click()
        expect(chip(page, "Active", "cveId")).to_contain_text(ATTACK)
        expect(chip(page, "Registry", "r ")).to_contain_text(ATTACK)
        assert page.evaluate("typeof hacked") == "undefined"
        assert page.locator("img, script").count() == 2  # those of index.html
        links = page.locator("a").evaluate_all("links => links.map(link => link.protocol)")
        assert set(links) == {"http:"}
        assert tab.problems == []


def test_page_cannot_turn_text_into_html_or_code(
    browser: Browser, deployed_service: Service, tenants: Tenants
) -> None:
    with visit(browser, deployed_service, "/", tenants.acme.key) as tab:
        for script in (
            "document.body.innerHTML = '<b>'",
            "document.createElement('script').text = '1'",
        ):
            with pytest.raises(Exception, match=r"Trusted|unsafe-eval"):
                tab.page.evaluate(f"() => {{ {script} }}")
