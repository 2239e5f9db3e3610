"""The API reference in a real browser: authorize with a key, send a request, read the rows."""

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.support.browser import BrowserPage, open_page
from tests.support.service import ROOT, serving
from tests.support.tenants import Tenants

CHROMIUM = shutil.which("chromium")
SCREENSHOT = ROOT / ".ci" / "artifacts" / "api-docs.png"
LIST = "#operations-images-listImages"


@pytest.fixture
def chromium() -> str:
    """Return the browser's path. Without a browser, skip the test, or fail it in CI."""
    if CHROMIUM is None and os.environ.get("CI") == "true":
        pytest.fail("chromium is missing; on Debian: apt-get install chromium")
    return CHROMIUM or pytest.skip("chromium is missing; on Debian: apt-get install chromium")


def test_docs_page_lists_images_with_a_key(
    tenants: Tenants, database_url: str, chromium: str
) -> None:
    image_id = tenants.acme.add_image("ghcr.io/acme/api", 31)
    tenants.globex.add_image("ghcr.io/globex/api", 31)
    with (
        serving(DATABASE_URL=database_url, HARBORGUARD_THREADS="4") as service,
        open_page(chromium) as page,
    ):
        origin = f"http://127.0.0.1:{service.port}"
        page.call("Page.navigate", url=f"{origin}/api/docs")
        authorize(page, tenants.acme.key)
        page.click(f"{LIST} .opblock-summary-control")
        # Swagger UI cannot execute an operation before it has resolved its references.
        page.wait(f"!!document.querySelector('{LIST} tr[data-param-name=limit] input')")
        page.click(f"{LIST} .execute")
        text = page.wait(
            f"document.querySelector('{LIST} .live-responses-table .highlight-code')?.innerText"
        )
        page.run(f"document.querySelector('{LIST} .responses-wrapper').scrollIntoView()")
        page.screenshot(SCREENSHOT)
        print(f"screenshot: {SCREENSHOT}")

    body = json.loads(text[text.index("{") : text.rindex("}") + 1])
    assert [row["id"] for row in body["data"]] == [image_id]
    requests = [url for url in page.requests if not url.startswith("data:")]
    assert requests[0] == f"{origin}/api/docs"
    assert requests[-1].partition("?")[0] == f"{origin}/api/images"
    assert [url for url in requests if not url.startswith(f"{origin}/")] == []
    assert page.problems == []
    assert Path(SCREENSHOT).stat().st_size > 10_000


def authorize(page: BrowserPage, key: str) -> None:
    """Enter a key in the dialog for credentials."""
    page.click(".authorize")
    page.type(".auth-container input[aria-label='auth-apiKey-value'], .auth-container input", key)
    page.click(".auth-container .modal-btn.authorize")
    page.click(".btn-done")


def test_browser_records_requests_to_other_hosts_and_problems(chromium: str) -> None:
    with open_page(chromium) as page:
        page.call(
            "Page.navigate",
            url="data:text/html,<script>console.error('wrong')</script><img src='http://127.0.0.1:9/x'>",
        )
        page.wait("document.images[0]?.complete")
        page.wait("true")
    assert "http://127.0.0.1:9/x" in page.requests
    assert page.problems
