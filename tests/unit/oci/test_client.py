"""Registry client: pages, names, digests and build times, also from servers that misbehave."""

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from harborguard.errors import InvalidReference, RegistryError
from harborguard.oci import RegistryClient
from tests.support.fake_registry import FakeRegistry, Reply, Request, digest_of
from tests.support.registry import BUILT_AT, running_registry
from tests.unit.oci.conftest import TAGS, MakeClient
from tests.unit.oci.images import add_content, add_image


def test_client_reads_a_real_registry(tmp_path: Path) -> None:
    with running_registry(tmp_path) as pusher:
        digest = pusher.push("acme/api", "1.4")
        index = pusher.push_index("acme/api", "multi", {"linux/arm64": BUILT_AT})
        client = RegistryClient(pusher.host, plain_http=True)
        try:
            assert client.list_repositories() == ["acme/api"]
            assert sorted(client.list_tags("acme/api")) == ["1.4", "multi"]
            assert client.find_digest("acme/api", "1.4") == digest
            assert client.find_digest("acme/api", "gone") is None
            assert client.find_build_time("acme/api", index) == BUILT_AT
            assert client.list_tags("acme/gone") == []
        finally:
            client.close()


# pages


def one_name_per_page(names: list[str], key: str, link: str) -> Callable[[Request], Reply]:
    """Return a handler whose pages have one name each; `link` formats the next page's URL."""

    def handle(request: Request) -> Reply:
        start = int(request.target.rpartition("last=")[2]) if "last=" in request.target else 0
        headers = {}
        if start + 1 < len(names):
            url = link.format(path=request.path, host=request.headers["host"], next=start + 1)
            headers = {"Link": f'<{url}>; rel="next"'}
        return Reply({key: names[start : start + 1]}, headers=headers)

    return handle


@pytest.mark.parametrize(
    "link", ["{path}?n=1&last={next}", "http://{host}{path}?last={next}", "?last={next}"]
)
def test_list_with_next_links_returns_all_pages(
    server: FakeRegistry, make_client: MakeClient, link: str
) -> None:
    server.routes["/v2/_catalog"] = one_name_per_page(["a", "b", "c", "b"], "repositories", link)
    server.routes[TAGS] = one_name_per_page(["1", "2", "3"], "tags", link)
    client = make_client(server)
    assert client.list_repositories() == ["a", "b", "c"]
    assert client.list_tags("api") == ["1", "2", "3"]


@pytest.mark.parametrize("is_new_page", [False, True])
def test_list_with_endless_pages_fails(
    server: FakeRegistry,
    make_client: MakeClient,
    is_new_page: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("harborguard.oci.client._MAX_PAGES", 30)

    def handle(request: Request) -> Reply:
        last = len(server.requests) if is_new_page else 7
        return Reply({"tags": ["1"]}, headers={"Link": f'<{TAGS}?last={last}>; rel="next"'})

    server.routes[TAGS] = handle
    with pytest.raises(RegistryError, match="repeats a page or has more than 30 pages"):
        make_client(server).list_tags("api")
    assert len(server.requests) == (30 if is_new_page else 2)


def test_next_page_on_another_host_is_not_requested(
    server: FakeRegistry, other: FakeRegistry, make_client: MakeClient
) -> None:
    link = {"Link": f'<{other.url}/v2/_catalog?last=a>; rel="next"'}
    server.routes["/v2/_catalog"] = Reply({"repositories": ["a"]}, headers=link)
    with pytest.raises(RegistryError, match=r"another host, 127\.0\.0\.2"):
        make_client(server).list_repositories()
    assert other.requests == []


def test_list_with_too_many_names_fails(
    server: FakeRegistry, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harborguard.oci.client._MAX_NAMES", 2)
    server.routes[TAGS] = Reply({"tags": ["1", "2", "3"]})
    with pytest.raises(RegistryError, match="more than 2 names"):
        make_client(server).list_tags("api")


# malformed documents, names and digests


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"{",
        b"[]",
        b'{"tags": 7}',
        b'{"tags": [7]}',
        b'{"tags": ["\xff"]}',
        b'{"tags": ' + b"[" * 5000,
        b'{"tags": ["a", null]}',
        b"NaN",
    ],
)
def test_malformed_document_fails_with_its_kind(
    server: FakeRegistry, make_client: MakeClient, body: bytes
) -> None:
    server.routes[TAGS] = Reply(body)
    with pytest.raises(RegistryError, match="not a valid tags document"):
        make_client(server).list_tags("api")


@pytest.mark.parametrize("name", ["../x", "a b", "a\x00", "x" * 129, "", "é", "-a"])
def test_malformed_names_are_rejected(
    server: FakeRegistry, make_client: MakeClient, name: str
) -> None:
    server.routes[TAGS] = Reply({"tags": ["1", name]})
    with pytest.raises(InvalidReference):
        make_client(server).list_tags("api")
    for repository in ("../x", "a?b", "a/../b", "A", "a b", "a\r\nX: y"):
        with pytest.raises(InvalidReference):
            make_client(server).list_tags(repository)
    assert set(server.paths()) == {TAGS}


@pytest.mark.parametrize("digest", ["", "x", "sha256:abc", "sha256:" + "A" * 64, "md5:" + "a" * 32])
def test_malformed_digest_is_rejected(
    server: FakeRegistry, make_client: MakeClient, digest: str
) -> None:
    server.fallback = lambda request: Reply(b"{}", headers={"Docker-Content-Digest": digest})
    with pytest.raises(RegistryError, match="digest of tag 1 is malformed"):
        make_client(server).find_digest("api", "1")


@pytest.mark.parametrize("status", [200, 405])
def test_digest_missing_in_head_response_is_computed(
    server: FakeRegistry, make_client: MakeClient, status: int
) -> None:
    server.fallback = lambda request: Reply(
        b'{"x": 1}', status=status if request.method == "HEAD" else 200
    )
    assert make_client(server).find_digest("api", "1") == digest_of(b'{"x": 1}')


def test_content_with_another_digest_is_rejected(
    server: FakeRegistry, make_client: MakeClient
) -> None:
    server.fallback = lambda request: Reply(b"{}")
    with pytest.raises(RegistryError, match="does not match its digest"):
        make_client(server).find_build_time("api", digest_of(b"other"))


def test_sha512_digest_is_verified_with_sha512(
    server: FakeRegistry, make_client: MakeClient
) -> None:
    content = b'{"config": null}'
    digest = f"sha512:{hashlib.sha512(content).hexdigest()}"
    server.routes[f"/v2/api/manifests/{digest}"] = Reply(content)
    assert make_client(server).find_build_time("api", digest) is None


# build times


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            b'{"created": "2026-04-26T14:22:11.123456789Z"}',
            datetime(2026, 4, 26, 14, 22, 11, 123456, UTC),
        ),
        (
            b'{"created": "2026-04-26T16:22:11+02:00"}',
            datetime(2026, 4, 26, 14, 22, 11, tzinfo=UTC),
        ),
        (b'{"created": "1970-01-01T00:00:00Z"}', None),
        (b'{"created": "0001-01-01T00:00:00Z"}', None),
        (b'{"created": "soon"}', None),
        (b'{"created": 7}', None),
        (b"{}", None),
        (b"not JSON", None),
    ],
)
def test_build_time_is_read_from_the_configuration(
    server: FakeRegistry, make_client: MakeClient, config: bytes, expected: datetime | None
) -> None:
    digest = add_image(server, config)
    assert make_client(server).find_build_time("api", digest) == expected


def test_build_time_of_other_artifacts_is_none(
    server: FakeRegistry, make_client: MakeClient
) -> None:
    chart = add_image(server, b"{}", "application/vnd.cncf.helm.config.v1+json")
    client = make_client(server)
    assert client.find_build_time("api", chart) is None
    assert not any("/blobs/" in path for path in server.paths())
    for content in (b"{}", b'{"manifests": []}', b'{"config": null}'):
        assert client.find_build_time("api", add_content(server, content)) is None
    missing = {"digest": digest_of(b"missing"), "platform": {"os": "linux"}}
    index = add_content(server, json.dumps({"manifests": [missing]}).encode())
    assert client.find_build_time("api", index) is None


def test_build_time_of_nested_index_is_none(server: FakeRegistry, make_client: MakeClient) -> None:
    digest = add_image(server, b'{"created": "2026-04-01T00:00:00Z"}')
    for _ in range(2):
        digest = add_content(server, json.dumps({"manifests": [{"digest": digest}]}).encode())
    assert make_client(server).find_build_time("api", digest) is None
