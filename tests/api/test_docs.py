"""GET /api/docs: the page and its files are served locally, and the operator can switch it off."""

import re

import pytest
from flask.testing import FlaskClient

from app import create_app
from harborguard.config import Config
from harborguard.errors import ConfigurationError


def test_docs_page_loads_only_local_files(client: FlaskClient) -> None:
    page = client.get("/api/docs", buffered=True)
    assert (page.status_code, page.mimetype) == (200, "text/html")
    policy = dict(
        part.strip().split(" ", 1) for part in page.headers["Content-Security-Policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    urls = re.findall(r'(?:src|href)="(?!data:)([^"]+)"', page.text)
    assert len(urls) == 3
    for url in urls:
        file = client.get(url, buffered=True)
        assert (file.status_code, url[:10]) == (200, "/api/docs/")
        assert file.mimetype in {"text/css", "text/javascript"}
        assert file.headers["Content-Security-Policy"] == page.headers["Content-Security-Policy"]
    assert "<script>" not in page.text


@pytest.mark.parametrize(
    "name", ["", "index.html", "swagger-ui.js", "..%2Fdocs.py", "..", "oauth2-redirect.html", "%00"]
)
def test_unknown_docs_file_returns_404(client: FlaskClient, name: str) -> None:
    assert client.get(f"/api/docs/{name}").status_code == 404


def test_disabled_docs_return_404(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    client = create_app(Config(database_url=config.database_url, docs=False)).test_client()
    assert client.get("/api/docs").status_code == 404
    assert client.get("/api/docs/init.js").status_code == 404
    document = client.get("/api/openapi.json")
    assert document.status_code == 200
    assert not [path for path in document.json["paths"] if path.startswith("/api/docs")]
    assert client.get("/").json["data"]["documentation"] is None
    for word, expected in (("on", True), ("off", False)):
        monkeypatch.setenv("HARBORGUARD_DOCS", word)
        assert Config.from_env().docs is expected
    monkeypatch.setenv("HARBORGUARD_DOCS", "perhaps")
    with pytest.raises(ConfigurationError, match="HARBORGUARD_DOCS"):
        Config.from_env()


CONDITIONS = [
    {"If-Match": '"x"'},
    {"If-Match": "nonsense"},
    {"If-None-Match": '"x"'},
    {"If-None-Match": '"x"', "If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"},
    {"If-Modified-Since": "nonsense"},
    {"If-Unmodified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"},
    {"Range": "bytes=9-1"},
    {"Range": "bytes=999999999-"},
    {"Range": "bytes=0-9"},
    {"Range": "nonsense"},
    {"Range": "bytes=0-9", "If-Range": '"x"'},
    {"Range": "bytes=99999999-", "If-Range": "nonsense"},
]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("headers", CONDITIONS, ids=str)
@pytest.mark.parametrize("path", ["/api/docs", "/api/docs/init.js"])
def test_docs_file_ignores_conditions_and_ranges(
    client: FlaskClient, path: str, headers: dict[str, str], method: str
) -> None:
    plain = client.open(path, method=method, buffered=True)
    response = client.open(path, method=method, headers=headers, buffered=True)
    assert (response.status_code, response.data) == (200, plain.data)
    assert response.headers["Content-Type"] == plain.headers["Content-Type"]
    assert response.headers["ETag"] == plain.headers["ETag"]


def test_unchanged_docs_file_returns_304(client: FlaskClient) -> None:
    etag = client.get("/api/docs/init.js", buffered=True).headers["ETag"]
    for condition in (etag, f'"x", W/{etag}', "*"):
        headers = {"If-None-Match": condition, "If-Match": '"x"', "Range": "bytes=9-1"}
        response = client.get("/api/docs/init.js", headers=headers)
        assert (response.status_code, response.data) == (304, b"")
        assert response.headers["ETag"] == etag
        assert response.headers["X-Content-Type-Options"] == "nosniff"
