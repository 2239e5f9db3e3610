"""GET / and /page: the page for browsers, its files, and the setting that turns it off."""

import re
from pathlib import Path

import pytest
from flask.testing import FlaskClient

import harborguard
from app import create_app
from harborguard.config import Config
from harborguard.errors import ConfigurationError

FILES = Path(harborguard.__file__).parent / "page"
# What browsers send when a person opens an address.
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
MAX_BYTES = 60 * 1024


def test_page_and_its_files_are_small() -> None:
    assert sum(path.stat().st_size for path in FILES.iterdir()) < MAX_BYTES


def test_code_of_the_page_fits_into_100_columns() -> None:
    texts = [path.read_text(encoding="utf-8") for path in FILES.iterdir() if path.suffix != ".svg"]
    assert [line for text in texts for line in text.splitlines() if len(line) > 100] == []


@pytest.mark.parametrize(
    ("accept", "mimetype"),
    [
        (BROWSER, "text/html"),
        ("text/html", "text/html"),
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("application/json, text/html;q=0.5", "application/json"),
        ("text/plain", "application/json"),
        ("nonsense", "application/json"),
        ("", "application/json"),
    ],
)
def test_root_returns_the_page_to_clients_that_prefer_html(
    client: FlaskClient, accept: str, mimetype: str
) -> None:
    response = client.get("/", headers={"Accept": accept}, buffered=True)
    assert (response.status_code, response.mimetype) == (200, mimetype)
    assert response.headers["Vary"] == "Accept"
    if mimetype == "text/html":
        assert response.data == (FILES / "index.html").read_bytes()
    else:
        assert response.data == client.get("/").data
        assert response.json["data"]["name"] == "HarborGuard Images"


def test_page_loads_its_own_files_only_and_all_of_them(client: FlaskClient) -> None:
    page = client.get("/", headers={"Accept": BROWSER}, buffered=True)
    urls = set(re.findall(r'(?:src|href)="(/page/[^"]+)"', page.text))
    for module in FILES.glob("*.js"):
        urls |= {f"/page/{name}" for name in re.findall(r'from "\./([^"]+)"', module.read_text())}
    assert urls == {f"/page/{path.name}" for path in FILES.iterdir() if path.suffix != ".html"}
    types = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
    for url in urls:
        file = client.get(url, buffered=True)
        assert (file.status_code, file.mimetype) == (200, types[Path(url).suffix])
        assert file.data == (FILES / Path(url).name).read_bytes()
        assert file.headers["Cache-Control"] == "no-cache"
        for name in ("Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy"):
            assert file.headers[name] == page.headers[name]
    assert not re.search(r"<script(?! type=\"module\" src=)|<style| style=| on\w+=", page.text)


def test_page_has_a_strict_content_security_policy(client: FlaskClient) -> None:
    page = client.get("/", headers={"Accept": BROWSER}, buffered=True)
    policy = dict(
        part.strip().split(" ", 1) for part in page.headers["Content-Security-Policy"].split(";")
    )
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self'",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("path", "headers"), [("/", {"Accept": BROWSER}), ("/page/main.js", {})], ids=["page", "file"]
)
def test_unchanged_page_returns_304(
    client: FlaskClient, path: str, headers: dict[str, str]
) -> None:
    etag = client.get(path, headers=headers, buffered=True).headers["ETag"]
    response = client.get(path, headers={**headers, "If-None-Match": etag})
    assert (response.status_code, response.data) == (304, b"")
    assert response.headers["ETag"] == etag


@pytest.mark.parametrize("name", ["", "index.html", "x.js", "..%2Fconfig.py", "..", "%00"])
def test_unknown_page_file_returns_404(client: FlaskClient, name: str) -> None:
    assert client.get(f"/page/{name}").status_code == 404


def test_disabled_page_returns_json_and_404(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = create_app(Config(database_url=config.database_url, page=False)).test_client()
    response = client.get("/", headers={"Accept": BROWSER})
    assert response.json["data"]["name"] == "HarborGuard Images"
    assert client.get("/page/main.js").status_code == 404
    paths = client.get("/api/openapi.json").json["paths"]
    assert "/" in paths
    assert not [path for path in paths if path.startswith("/page")]
    for word, expected in (("on", True), ("off", False)):
        monkeypatch.setenv("HARBORGUARD_PAGE", word)
        assert Config.from_env().page is expected
    monkeypatch.setenv("HARBORGUARD_PAGE", "perhaps")
    with pytest.raises(ConfigurationError, match="HARBORGUARD_PAGE"):
        Config.from_env()
