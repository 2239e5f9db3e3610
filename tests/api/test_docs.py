"""GET /api/docs: the page and its files, all of this host; and nothing when it is switched off."""

import re

import pytest
from flask.testing import FlaskClient

from app import create_app
from harborguard.config import Config
from harborguard.errors import ConfigurationError


def test_it_works(client: FlaskClient) -> None:
    page = client.get("/api/docs", buffered=True)
    assert (page.status_code, page.mimetype) == (200, "text/html")
    policy = dict(
        part.strip().split(" ", 1) for part in page.headers["Content-Security-Policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    named = re.findall(r'(?:src|href)="(?!data:)([^"]+)"', page.text)
    assert len(named) == 3
    for url in named:
        file = client.get(url, buffered=True)
        assert (file.status_code, url[:10]) == (200, "/api/docs/")
        assert file.mimetype in {"text/css", "text/javascript"}
        assert file.headers["Content-Security-Policy"] == page.headers["Content-Security-Policy"]
    assert "<script>" not in page.text


@pytest.mark.parametrize(
    "name", ["", "index.html", "swagger-ui.js", "..%2Fdocs.py", "..", "oauth2-redirect.html", "%00"]
)
def test_no_other_file_is_served(client: FlaskClient, name: str) -> None:
    assert client.get(f"/api/docs/{name}").status_code == 404


def test_it_can_be_switched_off(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    client = create_app(Config(database_url=config.database_url, docs=False)).test_client()
    assert client.get("/api/docs").status_code == 404
    assert client.get("/api/docs/init.js").status_code == 404
    assert client.get("/api/openapi.json").status_code == 200
    for word, expected in (("on", True), ("off", False)):
        monkeypatch.setenv("HARBORGUARD_DOCS", word)
        assert Config.from_env().docs is expected
    monkeypatch.setenv("HARBORGUARD_DOCS", "perhaps")
    with pytest.raises(ConfigurationError, match="HARBORGUARD_DOCS"):
        Config.from_env()
