"""Entering the page with a key or a session, and what it shows while the service has problems."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from harborguard.model import Role
from tests.support.browser import Tab
from tests.support.cookies import make_claims, mint_v4
from tests.support.fault_injection import Cluster, cluster, seed
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
from tests.support.recording import ingest
from tests.support.reports import SCANNED_AT, envelope
from tests.support.service import PRODUCTION, Service, free_port, running, serving, start
from tests.support.tenants import Tenants

UNKNOWN_KEY = "hg_ak_" + "0" * 48
# The page repeats a request after 20 s without a response.
LONG = 40_000


def message(page: Page, title: str) -> Locator:
    """Return the message with a title that the inventory shows in place of the table."""
    return page.locator("#inventory .panel").filter(has=page.get_by_role("heading", name=title))


def storages(page: Page) -> str:
    """Return all that the page has stored in the browser, and its address and history entry."""
    return page.evaluate(
        "JSON.stringify([{...sessionStorage}, {...localStorage}, document.cookie,"
        " location.href, history.state])"
    )


# -- entering


def test_key_is_kept_in_memory_only_unless_the_person_asks(
    browser: Browser, deployed_service: Service, tenants: Tenants
) -> None:
    tenants.acme.add_image("ghcr.io/acme/api", 31)
    key = tenants.acme.key
    with visit(browser, deployed_service, "/?grade=B") as tab:
        page = tab.page
        expect(page.get_by_role("heading", name="Enter a key")).to_be_visible()
        expect(page.get_by_text("This browser has no session of the service.")).to_be_visible()
        expect(page.get_by_label("API key")).to_be_focused()
        expect(page.get_by_label("API key")).to_have_attribute("type", "password")
        enter_key(page, f"  {key}\n")
        expect_names(page, "acme/api")
        chip(page, "Severity", "High").click()
        expect(page.get_by_role("heading", name="No image matches")).to_be_visible()
        page.go_back()
        assert query_of(page) == {"grade": "B"}
        assert key not in storages(page) + page.content()
        page.reload()
        page.get_by_label("Keep it until this tab is closed").check()
        enter_key(page, key)
        expect_names(page, "acme/api")
        assert key in storages(page)
        assert key not in page.content() + page.url
        page.reload()
        expect_names(page, "acme/api")
        page.get_by_role("button", name="Forget key").click()
        expect(page.get_by_label("API key")).to_be_visible()
        assert key not in storages(page)
        assert "acme/api" not in page.content()
        assert not [url for url in tab.requests if key in url]


def api_requests(tab: Tab) -> list[str]:
    """Return the URLs of the API that the page has requested."""
    return [url for url in tab.requests if "/api/" in url]


def test_wrong_key_is_named_and_costs_one_rejected_request(
    browser: Browser, deployed_service: Service, tenants: Tenants
) -> None:
    image_id = tenants.acme.add_image("ghcr.io/acme/api", 31)
    with visit(browser, deployed_service, f"/?image={image_id}") as tab:
        page = tab.page
        expect(page.get_by_label("API key")).to_be_visible()
        first = api_requests(tab)
        enter_key(page, "hg_pat_ä")
        expect(page.get_by_role("alert")).to_contain_text("This is not a key.")
        assert api_requests(tab) == first
        enter_key(page, UNKNOWN_KEY)
        expect(page.get_by_role("alert")).to_contain_text("does not accept this key")
        expect(page.get_by_label("API key")).to_be_focused()
        expect(page.get_by_label("API key")).to_have_attribute("aria-invalid", "true")
        assert len(api_requests(tab)) == len(first) + 1
        enter_key(page, tenants.acme.key)
        expect(drawer(page)).to_have_accessible_name("acme/api")


def test_revoked_key_is_asked_for_again(
    browser: Browser, deployed_service: Service, tenants: Tenants
) -> None:
    tenants.acme.add_image("ghcr.io/acme/api", 31)
    with visit(browser, deployed_service, "/", tenants.acme.key) as tab:
        expect_names(tab.page, "acme/api")
        tenants.acme.conn.execute("UPDATE api_keys SET revoked_at = now()")
        chip(tab.page, "Grade", "B 1").click()
        expect(tab.page.get_by_role("alert")).to_contain_text("The key is no longer accepted.")
        expect(rows_of(tab.page).first).to_be_hidden()
        enter_key(tab.page, tenants.acme.token)
        expect_names(tab.page, "acme/api")
        assert query_of(tab.page) == {"grade": "B"}


def test_session_cookie_of_the_site_needs_no_key(
    browser: Browser, deployed_service: Service, tenants: Tenants
) -> None:
    tenants.acme.add_image("ghcr.io/acme/api", 31)
    token = mint_v4(make_claims(time.time(), email=tenants.acme.email))
    with visit(browser, deployed_service) as tab:
        page = tab.page
        expect(page.get_by_label("API key")).to_be_visible()
        page.context.add_cookies(
            [
                {
                    "name": "next-auth.session-token",
                    "value": token,
                    "httpOnly": True,
                    "url": origin_of(deployed_service),
                }
            ]
        )
        page.get_by_role("button", name="use that session").click()
        expect_names(page, "acme/api")
        page.reload()
        expect_names(page, "acme/api")
        page.get_by_role("button", name="Use a key").click()
        enter_key(page, tenants.globex.key)
        expect(page.get_by_role("heading", name="There are no images yet")).to_be_visible()


def test_key_limited_to_a_registry_shows_that_registry_alone(
    browser: Browser, deployed_service: Service, tenants: Tenants
) -> None:
    tenants.acme.add_image("ghcr.io/acme/api", 31)
    tenants.acme.add_image("quay.io/acme/db", 31)
    registry_id = tenants.acme.add_registry("quay.io")
    key = tenants.acme.add_key(registry_id=registry_id)
    with visit(browser, deployed_service, "/", key) as tab:
        expect_names(tab.page, "acme/db")
        expect(tab.page.get_by_role("group", name="Registry").get_by_role("button")).to_have_count(
            1
        )


# -- nothing to show


def test_empty_inventory_says_how_to_record_a_report(
    browser: Browser, deployed_service: Service, tenants: Tenants
) -> None:
    with visit(browser, deployed_service, "/", tenants.acme.key) as tab:
        expect(tab.page.get_by_role("heading", name="There are no images yet")).to_be_visible()
        expect(tab.page.get_by_text("/api/scans/upload")).to_be_visible()


def test_address_that_is_not_valid_names_the_parameter(
    browser: Browser, deployed_service: Service, tenants: Tenants
) -> None:
    tenants.acme.add_image("ghcr.io/acme/api", 31)
    with visit(browser, deployed_service, "/?limit=0&grade=X", tenants.acme.key) as tab:
        panel = message(tab.page, "The address of this view is not valid")
        expect(panel).to_contain_text("limit: must be an integer from 1 to 200.")
        expect(panel).to_contain_text("grade: ")
        panel.get_by_role("link", name="Show all images").click()
        expect_names(tab.page, "acme/api")


def test_image_of_another_organization_is_not_found(
    browser: Browser, deployed_service: Service, tenants: Tenants
) -> None:
    image_id = tenants.globex.add_image("ghcr.io/globex/api", 31)
    with visit(browser, deployed_service, f"/?image={image_id}", tenants.acme.key) as tab:
        expect(drawer(tab.page).get_by_role("heading", name="Not found")).to_be_visible()
        tab.page.get_by_role("button", name="Close").click()
        expect(drawer(tab.page)).to_be_hidden()


def test_deleted_findings_say_how_to_restore_them(
    browser: Browser, deployed_service: Service, tenants: Tenants
) -> None:
    acme, later = tenants.acme, SCANNED_AT + timedelta(hours=1)
    ingest(acme.conn, acme.organization_id, envelope(counts=(1,), scan_id="superseded"))
    newer = envelope(counts=(1,), scan_id="newer", finished_at=later)
    scan = ingest(acme.conn, acme.organization_id, newer)
    admin = {"X-API-Key": acme.add_key(Role.ADMIN)}
    path = f"/api/scans/{scan.scan_id}"
    assert deployed_service.request(path, admin, method="DELETE").status == 204
    image_id = scan.image_id
    with visit(browser, deployed_service, f"/?image={image_id}", acme.key) as tab:
        panel = drawer(tab.page).locator(".panel:visible")
        expect(panel).to_contain_text("Upload its report again")
        expect(drawer(tab.page).get_by_role("heading", name="Tags 1")).to_be_visible()


# -- a service with problems


def test_too_many_requests_says_when_the_page_tries_again(
    browser: Browser, database_url: str, tenants: Tenants
) -> None:
    tenants.acme.add_image("ghcr.io/acme/api", 31)
    settings = {"HARBORGUARD_WORKERS": "1", "HARBORGUARD_REJECTIONS_PER_MINUTE": "1"}
    with (
        serving(DATABASE_URL=database_url, **settings) as service,
        visit(browser, service) as tab,
    ):
        enter_key(tab.page, UNKNOWN_KEY)
        panel = message(tab.page, "Too many requests")
        expect(panel).to_contain_text("The page tries again in")
        tab.page.get_by_role("button", name="Forget key").click()
        # Without a key, requests are rejected too. A valid key is never limited by that.
        tab.page.get_by_role("button", name="Use a key").click()
        enter_key(tab.page, tenants.acme.key)
        expect_names(tab.page, "acme/api")


@pytest.fixture(scope="module")
def private_cluster() -> Iterator[Cluster]:
    """Run a database server that a test can stop."""
    with cluster() as server:
        yield server


def test_page_recovers_after_an_outage_of_the_database(
    browser: Browser, private_cluster: Cluster
) -> None:
    [key] = seed(private_cluster.url, keys=1, images=3)
    with (
        serving(DATABASE_URL=private_cluster.url) as service,
        visit(browser, service, "/?sort=name:asc", key) as tab,
    ):
        page = tab.page
        expect(rows_of(page)).to_have_count(3)
        private_cluster.stop()
        page.get_by_role("searchbox", name="Name").fill("image-1")
        panel = message(page, "The service is not available")
        expect(panel).to_contain_text("Its database may be restarting.")
        expect(panel).to_contain_text("The page tries again in 2 seconds.")
        expect(panel).to_contain_text("Request id for the operator:")
        expect(page.locator("#status")).to_contain_text("The service is not available")
        private_cluster.start()
        expect_names(page, "acme/image-1")
        expect(panel).to_be_hidden()


def test_slow_query_says_what_to_change_and_is_not_repeated(
    browser: Browser, database_url: str, tenants: Tenants
) -> None:
    tenants.acme.add_image("ghcr.io/acme/api", 31)
    with (
        serving(DATABASE_URL=database_url, HARBORGUARD_STATEMENT_TIMEOUT_MS="300") as service,
        visit(browser, service, "/", tenants.acme.key) as tab,
    ):
        page = tab.page
        expect_names(page, "acme/api")
        panel = message(page, "The query took too long")
        with tenants.acme.conn.transaction():
            tenants.acme.conn.execute("LOCK TABLE images, image_names IN ACCESS EXCLUSIVE MODE")
            page.get_by_role("searchbox", name="Name").fill("api")
            expect(panel).to_contain_text("Use a longer search text")
            before = len(tab.requests)
            panel.get_by_role("button", name="Try again").click()
            expect(page.locator("#inventory [aria-busy]")).to_have_count(0)
            expect(panel.get_by_role("button", name="Try again")).to_be_focused()
            assert len(tab.requests) == before + 1
        panel.get_by_role("button", name="Try again").click()
        expect_names(page, "acme/api")


def test_numbers_that_cannot_be_counted_leave_the_table(
    browser: Browser, database_url: str, tenants: Tenants
) -> None:
    tenants.acme.add_image("ghcr.io/acme/api", 31)
    with (
        serving(DATABASE_URL=database_url, HARBORGUARD_STATEMENT_TIMEOUT_MS="300") as service,
        visit(browser, service, "/", tenants.acme.key) as tab,
    ):
        expect_names(tab.page, "acme/api")
        tenants.acme.conn.execute("ALTER TABLE image_counts RENAME TO moved")
        try:
            tab.page.get_by_role("columnheader", name="Added").get_by_role("button").click()
            text = tab.page.get_by_text("The numbers of images are not available.")
            expect(text).to_be_visible()
            expect_names(tab.page, "acme/api")
        finally:
            tenants.acme.conn.execute("ALTER TABLE moved RENAME TO image_counts")


@contextmanager
def stopped(service: Service) -> Iterator[None]:
    """Suspend all processes of a service, which then accepts connections and sends nothing."""
    processes = [service.process.pid, *service.workers()]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)


def test_service_that_does_not_respond_is_reported(
    browser: Browser, database_url: str, tenants: Tenants
) -> None:
    tenants.acme.add_image("ghcr.io/acme/api", 31)
    with (
        serving(DATABASE_URL=database_url) as service,
        visit(browser, service, "/", tenants.acme.key) as tab,
    ):
        page = tab.page
        expect_names(page, "acme/api")
        panel = message(page, "The service does not respond")
        with stopped(service):
            page.get_by_role("searchbox", name="Name").fill("api")
            expect(page.get_by_text("Still loading.")).to_be_visible(timeout=LONG)
            # The rows of the former query stay until there is a result.
            expect_names(page, "acme/api")
            expect(panel).to_be_visible(timeout=LONG)
        panel.get_by_role("button", name="Try again").click()
        expect(panel).to_be_hidden()
        expect_names(page, "acme/api")


def test_page_recovers_after_the_service_was_down(
    browser: Browser, database_url: str, tenants: Tenants
) -> None:
    tenants.acme.add_image("ghcr.io/acme/api", 31)
    port = free_port()
    settings = {"DATABASE_URL": database_url}
    with (
        running(start(PRODUCTION, port, **settings), port) as service,
        visit(browser, service, "/", tenants.acme.key) as tab,
    ):
        expect_names(tab.page, "acme/api")
        service.stop()
        chip(tab.page, "Grade", "B 1").click()
        expect(message(tab.page, "The service cannot be reached")).to_be_visible()
        with running(start(PRODUCTION, port, **settings), port):
            expect_names(tab.page, "acme/api")


def test_page_whose_files_are_missing_says_that_it_has_not_started(
    browser: Browser, deployed_service: Service
) -> None:
    with visit(browser, deployed_service) as tab:
        tab.page.route("**/page/main.js", lambda route: route.abort())
        tab.page.reload()
        expect(tab.page.get_by_text("The page has not started.")).to_be_visible(timeout=LONG)
