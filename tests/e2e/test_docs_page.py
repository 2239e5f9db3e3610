"""The API reference in a real browser: authorize with a key, send a request, read the rows."""

import json

from playwright.sync_api import Browser, Page

from tests.support.browser import open_tab
from tests.support.service import ROOT, serving
from tests.support.tenants import Tenants

SCREENSHOT = ROOT / ".ci" / "artifacts" / "api-docs.png"


def test_docs_page_lists_images_with_a_key(
    tenants: Tenants, database_url: str, browser: Browser
) -> None:
    image_id = tenants.acme.add_image("ghcr.io/acme/api", 31)
    tenants.globex.add_image("ghcr.io/globex/api", 31)
    with (
        serving(DATABASE_URL=database_url, HARBORGUARD_THREADS="4") as service,
        open_tab(browser) as tab,
    ):
        origin = f"http://127.0.0.1:{service.port}"
        tab.page.goto(f"{origin}/api/docs")
        authorize(tab.page, tenants.acme.key)
        operation = tab.page.locator("#operations-images-listImages")
        operation.locator(".opblock-summary-control").click()
        # Swagger UI cannot execute an operation before it has resolved its references.
        operation.locator("tr[data-param-name=limit] input").wait_for()
        operation.locator(".execute").click()
        responses = operation.locator(".live-responses-table")
        text = responses.locator(".highlight-code").first.inner_text()
        responses.scroll_into_view_if_needed()
        tab.page.screenshot(path=SCREENSHOT)
        print(f"screenshot: {SCREENSHOT}")

    body = json.loads(text[text.index("{") : text.rindex("}") + 1])
    assert [row["id"] for row in body["data"]] == [image_id]
    requests = [url for url in tab.requests if not url.startswith("data:")]
    assert requests[0] == f"{origin}/api/docs"
    assert requests[-1].partition("?")[0] == f"{origin}/api/images"
    assert [url for url in requests if not url.startswith(f"{origin}/")] == []
    assert tab.problems == []
    assert SCREENSHOT.stat().st_size > 10_000


def authorize(page: Page, key: str) -> None:
    """Enter a key in the dialog for credentials."""
    page.locator(".authorize").first.click()
    page.locator(".auth-container input").first.fill(key)
    page.locator(".auth-container .modal-btn.authorize").first.click()
    page.locator(".btn-done").first.click()


def test_browser_records_requests_to_other_hosts_and_problems(browser: Browser) -> None:
    with open_tab(browser) as tab:
        tab.page.set_content(
            "<script>console.error('wrong')</script><img src='http://127.0.0.1:9/x'>"
        )
    assert "http://127.0.0.1:9/x" in tab.requests
    assert "wrong" in tab.problems
