"""Registry client: pages, names, digests and build times, also from servers that misbehave."""

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from harborguard.errors import InvalidReference, RegistryError, RegistryUnavailable
from harborguard.oci import RegistryClient
from tests.support.fake_registry import (
    FakeRegistry,
    Reply,
    Request,
    digest_of,
    report_error,
    run_fake_registry,
)
from tests.support.registry import BUILT_AT, running_registry
from tests.unit.oci.certificates import server_context, write_certificate
from tests.unit.oci.conftest import TAGS, MakeClient
from tests.unit.oci.images import add_content, add_image


def test_client_reads_a_real_registry(tmp_path: Path) -> None:
    with running_registry(tmp_path) as pusher:
        digest = pusher.push("acme/api", "1.4")
        index = pusher.push_index("acme/api", "multi", {"linux/arm64": BUILT_AT})
        client = RegistryClient(pusher.host, plain_http=True)
        try:
            assert client.list_repositories() == ["acme/api"]
            assert sorted(client.list_tags("acme/api") or ()) == ["1.4", "multi"]
            assert client.find_digest("acme/api", "1.4") == digest
            assert client.find_digest("acme/api", "gone") is None
            assert client.find_build_time("acme/api", index) == BUILT_AT
            assert client.list_tags("acme/gone") is None
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
    "link",
    [
        "{path}?n=1&last={next}",
        "http://{host}{path}?last={next}",
        "https://127.0.0.1{path}?last={next}",
        "//127.0.0.1:1{path}?last={next}",
        "?last={next}",
    ],
)
def test_list_with_next_links_returns_all_pages(
    server: FakeRegistry, make_client: MakeClient, link: str
) -> None:
    server.routes["/v2/_catalog"] = one_name_per_page(["a", "b", "c", "b"], "repositories", link)
    server.routes[TAGS] = one_name_per_page(["1", "2", "3"], "tags", link)
    client = make_client(server)
    assert client.list_repositories() == ["a", "b", "c"]
    assert client.list_tags("api") == ["1", "2", "3"]


@pytest.mark.parametrize(
    "lines",
    [
        ['<{path}?last=a>; rel="next"', '<{path}>; rel="first"'],
        ['<{path}>; rel="first"', "<{path}?last=a>; title=x; rel=next"],
        ['<{path}>; rel="first", <{path}?last=a>; rel="next"; title="a, b"'],
    ],
)
def test_next_link_is_found_on_any_line(
    server: FakeRegistry, make_client: MakeClient, lines: list[str]
) -> None:
    def handle(request: Request) -> Reply:
        if "last=" in request.target:
            return Reply({"tags": ["b"], "repositories": ["b"]})
        headers = {"Link": [line.format(path=request.path) for line in lines]}
        return Reply({"tags": ["a"], "repositories": ["a"]}, headers=headers)

    server.fallback = handle
    client = make_client(server)
    assert client.list_repositories() == ["a", "b"]
    assert client.list_tags("api") == ["a", "b"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:{port}", "127.0.0.1:80"])
def test_http_link_behind_tls_is_requested_by_https(
    make_client: MakeClient, host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = write_certificate(tmp_path, "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with run_fake_registry(tls=server_context(certificate)) as server:
        link = f"http://{host.format(port=server.port)}{{path}}?last={{next}}"
        server.routes[TAGS] = one_name_per_page(["1", "2"], "tags", link)
        assert make_client(server, plain_http=False).list_tags("api") == ["1", "2"]


@pytest.mark.parametrize("status", [400, 413, 416, 422])
@pytest.mark.parametrize("accepted", ["100", None])
def test_refused_page_size_is_reduced(
    server: FakeRegistry, make_client: MakeClient, status: int, accepted: str | None
) -> None:
    def handle(request: Request) -> Reply:
        size = request.target.partition("?n=")[2] or None
        if size != accepted:
            return Reply({"errors": [{"code": "PAGINATION_NUMBER_INVALID"}]}, status=status)
        return Reply({"tags": ["a"], "repositories": ["a"]})

    server.fallback = handle
    client = make_client(server)
    assert client.list_repositories() == ["a"]
    assert client.list_tags("api") == ["a"]


def test_list_that_refuses_every_page_size_fails(
    server: FakeRegistry, make_client: MakeClient
) -> None:
    server.fallback = lambda request: Reply(status=400)
    with pytest.raises(RegistryError, match="returned HTTP status 400"):
        make_client(server).list_tags("api")
    assert [request.target for request in server.requests] == [
        f"{TAGS}?n=1000",
        f"{TAGS}?n=100",
        TAGS,
    ]


NEXT = f'<{TAGS}?last=1>; rel="next"'


@pytest.mark.parametrize(
    "page",
    [
        Reply(status=404),
        Reply({"errors": [{"code": "NAME_UNKNOWN"}]}, status=404),
        Reply(status=400),
        Reply(status=403),
        Reply(status=204),
        Reply(status=206),
        Reply(status=429),
        Reply(status=503),
        Reply(b""),
        Reply(b'{"tags": ["2"'),
        Reply(b"<html>"),
        Reply({"errors": []}),
        Reply({"repositories": []}),
        Reply({"tags": ["2"]}, headers={"Link": NEXT}),
        Reply({"tags": ["2"]}, headers={"Link": f"{TAGS}?last=2"}),
        Reply({"tags": ["2"]}, headers={"Link": '<http://other.test/>; rel="next"'}),
        Reply({"tags": ["2"]}, headers={"Broken line\r\nLink": NEXT}),
        Reply({"tags": ["2"]}, headers={"Content-Length": "99"}),
        Reply(
            headers={"Transfer-Encoding": "chunked"},
            parts=lambda: iter([b"e\r\n", b'{"tags": []}']),
        ),
        Reply(status=302, headers={"Location": "http://127.0.0.1:1/login"}),
    ],
)
def test_list_that_cannot_be_read_to_its_end_fails(
    server: FakeRegistry, make_client: MakeClient, page: Reply
) -> None:
    def handle(request: Request) -> Reply:
        if "last=" in request.target:
            return page
        return Reply({"tags": ["1"]}, headers={"Link": NEXT})

    server.routes[TAGS] = handle
    with pytest.raises(RegistryError):
        make_client(server).list_tags("api")


def test_empty_page_does_not_end_a_list(server: FakeRegistry, make_client: MakeClient) -> None:
    def handle(request: Request) -> Reply:
        if request.target.endswith("last=2"):
            return Reply({"tags": ["3"]})
        if request.target.endswith("last=1"):
            return Reply({"tags": None}, headers={"Link": f'<{TAGS}?last=2>; rel="next"'})
        return Reply({"tags": ["1"]}, headers={"Link": f'<{TAGS}?last=1>; rel="next"'})

    server.routes[TAGS] = handle
    assert make_client(server).list_tags("api") == ["1", "3"]


UNKNOWN = report_error("MANIFEST_UNKNOWN")
NOT_PROVEN = [
    b"",
    b" \r\n",
    b"404 page not found\n",
    b"<html>Not Found</html>",
    b"[]",
    ["Not Found"],
    {"status": 404},
    {"message": "no Route matched with those values"},
    {"errors": "none"},
    {"errors": None},
    {"errors": []},
    {"errors": ["Not Found"]},
    {"errors": [{"status": 404, "message": "Not Found"}]},
    {"errors": [{"code": 7003, "message": "Could not route to /v2"}]},
    {"errors": [{"code": "manifest_unknown"}]},
    *(
        {"errors": [{"code": code}]}
        for code in ("UNAUTHORIZED", "DENIED", "TOOMANYREQUESTS", "UNKNOWN", "UNSUPPORTED")
    ),
    {"errors": [{"code": "NAME_UNKNOWN"}, {"code": "DENIED"}]},
]


@pytest.mark.parametrize("code", ["MANIFEST_UNKNOWN", "NAME_UNKNOWN", "NOT_FOUND"])
def test_repository_or_tag_that_the_registry_does_not_know_is_missing(
    server: FakeRegistry, make_client: MakeClient, code: str
) -> None:
    server.fallback = lambda request: report_error(code)
    client = make_client(server)
    assert client.list_tags("api") is None
    assert client.find_digest("api", "1") is None


@pytest.mark.parametrize("body", NOT_PROVEN, ids=str)
@pytest.mark.parametrize("head", [404, 200])
def test_404_without_the_code_of_a_missing_tag_fails(
    server: FakeRegistry, make_client: MakeClient, body: object, head: int
) -> None:
    server.fallback = lambda request: Reply(body, head if request.method == "HEAD" else 404)
    client = make_client(server)
    with pytest.raises(RegistryError, match="404 does not say that the repository or tag is"):
        client.list_tags("api")
    with pytest.raises(RegistryError, match="404 does not say that the repository or tag is"):
        client.find_digest("api", "1")


def test_404_of_another_host_after_a_redirect_fails(
    server: FakeRegistry, other: FakeRegistry, make_client: MakeClient
) -> None:
    server.fallback = lambda request: Reply(
        status=307, headers={"Location": f"{other.url}{request.target}"}
    )
    other.fallback = lambda request: UNKNOWN
    client = make_client(server)
    with pytest.raises(RegistryError, match=r"127\.0\.0\.2 returned HTTP status 404 after"):
        client.list_tags("api")
    with pytest.raises(RegistryError, match=r"127\.0\.0\.2 returned HTTP status 404 after"):
        client.find_digest("api", "1")


@pytest.mark.parametrize("key", ["tags", "repositories"])
@pytest.mark.parametrize("size", [1000, 100])
@pytest.mark.parametrize("count", [0, 1, 999, 1000, 1001, 2500])
def test_list_without_links_is_read_after_each_full_page(
    server: FakeRegistry, make_client: MakeClient, key: str, size: int, count: int
) -> None:
    names = [f"n{number:04}" for number in range(count)]

    def handle(request: Request) -> Reply:
        query = dict(parse_qsl(request.target.partition("?")[2]))
        if int(query["n"]) > size:
            return Reply(status=400)
        start = names.index(query["last"]) + 1 if "last" in query else 0
        return Reply({key: names[start : start + int(query["n"])] or None})

    server.fallback = handle
    client = make_client(server)
    assert names == (client.list_tags("api") if key == "tags" else client.list_repositories())


@pytest.mark.parametrize(("count", "requests"), [(1000, 2), (1001, 1)])
def test_list_of_a_registry_that_does_not_page_is_read_to_its_end(
    server: FakeRegistry, make_client: MakeClient, count: int, requests: int
) -> None:
    names = [f"n{number:04}" for number in range(count)]
    server.routes[TAGS] = Reply({"tags": names})
    assert make_client(server).list_tags("api") == names
    assert len(server.requests) == requests


def test_list_whose_page_after_a_full_one_fails_is_incomplete(
    server: FakeRegistry, make_client: MakeClient
) -> None:
    def handle(request: Request) -> Reply:
        if "last=" in request.target:
            return Reply(status=404)
        return Reply({"tags": [str(number) for number in range(1000)]})

    server.routes[TAGS] = handle
    with pytest.raises(RegistryError, match="a list is incomplete"):
        make_client(server).list_tags("api")


def test_long_names_are_kept_in_part_and_are_malformed(
    server: FakeRegistry, make_client: MakeClient
) -> None:
    server.fallback = lambda _: Reply({"tags": ["1", "x" * 4000], "repositories": ["y" * 4000]})
    client = make_client(server)
    assert client.list_tags("api") == ["1", "x" * 256]
    [repository] = client.list_repositories()
    assert repository == "y" * 256
    with pytest.raises(InvalidReference):
        client.list_tags(repository)


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


@pytest.mark.parametrize(
    "name", ["../x", "a b", "a\x00", "x" * 129, "", "é", "-a", "1@x", "1:2", f"1@{digest_of(b'')}"]
)
def test_malformed_tag_is_not_requested(
    server: FakeRegistry, make_client: MakeClient, name: str
) -> None:
    server.routes[TAGS] = Reply({"tags": ["1", name]})
    client = make_client(server)
    assert client.list_tags("api") == ["1", name]
    with pytest.raises(InvalidReference):
        client.find_digest("api", name)
    assert server.paths() == [TAGS]


@pytest.mark.parametrize(
    "repository",
    ["", "../x", "a?b", "a/../b", "A", "a b", "a\r\nX: y", "a:1", f"a@{digest_of(b'')}", "a" * 250],
)
def test_malformed_repository_is_not_requested(
    server: FakeRegistry, make_client: MakeClient, repository: str
) -> None:
    client = make_client(server)
    with pytest.raises(InvalidReference):
        client.list_tags(repository)
    with pytest.raises(InvalidReference):
        client.find_digest(repository, "1")
    assert server.requests == []


# digests

BODY = b'{"schemaVersion": 2, "mediaType": "x"}'
SIGNED = b'{"schemaVersion": 1, "name": "api", "signatures": []}'
DIGEST = digest_of(BODY)


def respond(head: Reply, get: Reply) -> Callable[[Request], Reply]:
    return lambda request: head if request.method == "HEAD" else get


def with_digest(digest: str | list[str], body: bytes = BODY) -> Reply:
    return Reply(body, headers={"Docker-Content-Digest": digest})


@pytest.mark.parametrize(
    "head",
    [
        *(
            Reply(status=status)
            for status in (200, 204, 400, 401, 403, 404, 405, 412, 429, 501, 503)
        ),
        with_digest("sha256:short"),
        with_digest([DIGEST, digest_of(b"other")]),
        Reply(status=302, headers={"Location": "ftp://127.0.0.1/"}),
        Reply(status=404, headers={"Docker-Content-Digest": digest_of(b"other")}),
    ],
)
@pytest.mark.parametrize(
    "get", [with_digest(DIGEST, SIGNED), with_digest([DIGEST] * 2), Reply(BODY)]
)
def test_digest_is_read_by_get_if_head_has_none(
    server: FakeRegistry, make_client: MakeClient, head: Reply, get: Reply
) -> None:
    server.fallback = respond(head, get)
    assert make_client(server).find_digest("api", "1") == DIGEST


@pytest.mark.parametrize("head", [Reply(), with_digest("sha256:short")])
def test_tag_that_only_head_finds_is_an_error(
    server: FakeRegistry, make_client: MakeClient, head: Reply
) -> None:
    server.fallback = respond(head, UNKNOWN)
    with pytest.raises(RegistryError, match="contradicts itself"):
        make_client(server).find_digest("api", "1")


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        "application/vnd.oci.artifact.manifest.v1+json",
        "*/*",
    ],
)
def test_manifest_of_any_type_is_accepted(
    server: FakeRegistry, make_client: MakeClient, media_type: str
) -> None:
    """Some registries return 404 for a tag whose manifest has no accepted type."""

    def handle(request: Request) -> Reply:
        accepted = [item.partition(";")[0].strip() for item in request.headers["accept"].split(",")]
        return with_digest(DIGEST) if media_type in accepted else UNKNOWN

    server.fallback = handle
    assert make_client(server).find_digest("api", "1") == DIGEST


@pytest.mark.parametrize("digest", [DIGEST, [DIGEST, DIGEST], f"{DIGEST}, {DIGEST}"])
def test_digest_of_the_head_response_is_sufficient(
    server: FakeRegistry, make_client: MakeClient, digest: str | list[str]
) -> None:
    server.fallback = respond(with_digest(digest), Reply(status=412))
    assert make_client(server).find_digest("api", "1") == DIGEST
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "get",
    [
        with_digest("", b"{}"),
        with_digest("sha256:abc", b"{}"),
        with_digest("sha256:" + "A" * 64, b"{}"),
        with_digest("md5:" + "a" * 32, b"{}"),
        Reply(SIGNED),
        Reply(b"<html>Sign in</html>"),
        Reply(b"{}"),
        Reply(b""),
    ],
)
def test_response_without_digest_and_manifest_fails(
    server: FakeRegistry, make_client: MakeClient, get: Reply
) -> None:
    server.fallback = respond(Reply(status=404), get)
    with pytest.raises(RegistryError, match="reports no valid digest"):
        make_client(server).find_digest("api", "1")


@pytest.mark.parametrize("status", [400, 401, 403, 405, 410, 412, 429, 500, 501, 503])
def test_tag_is_not_missing_if_get_fails_with_another_status(
    server: FakeRegistry, make_client: MakeClient, status: int
) -> None:
    server.fallback = respond(Reply(status=404), Reply(status=status))
    with pytest.raises(RegistryError):
        make_client(server).find_digest("api", "1")


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


@pytest.mark.parametrize(
    "reply",
    [
        *(Reply(status=status) for status in (401, 403, 404, 412)),
        Reply(b'{"created": "2026-05-01T00:00:00Z"}'),  # the content of another digest
        Reply(status=302, headers={"Location": "ftp://127.0.0.1/"}),
    ],
)
@pytest.mark.parametrize("kind", ["manifests", "blobs"])
def test_build_time_that_cannot_be_read_is_none(
    server: FakeRegistry, make_client: MakeClient, kind: str, reply: Reply
) -> None:
    digest = add_image(server, b'{"created": "2026-04-01T00:00:00Z"}')
    [path] = [path for path in server.routes if f"/{kind}/" in path]
    server.routes[path] = reply
    assert make_client(server).find_build_time("api", digest) is None


@pytest.mark.parametrize(
    "manifest", [b"<html>", b'{"config": {"digest": "md5:x"}}', b'{"config": 7}']
)
def test_build_time_of_malformed_manifest_is_none(
    server: FakeRegistry, make_client: MakeClient, manifest: bytes
) -> None:
    digest = add_content(server, manifest)
    assert make_client(server).find_build_time("api", digest) is None


def test_build_time_fails_if_the_registry_is_unavailable(
    server: FakeRegistry, make_client: MakeClient
) -> None:
    server.fallback = lambda request: Reply(status=503)
    with pytest.raises(RegistryUnavailable):
        make_client(server).find_build_time("api", DIGEST)


def test_build_time_of_nested_index_is_none(server: FakeRegistry, make_client: MakeClient) -> None:
    digest = add_image(server, b'{"created": "2026-04-01T00:00:00Z"}')
    for _ in range(2):
        digest = add_content(server, json.dumps({"manifests": [{"digest": digest}]}).encode())
    assert make_client(server).find_build_time("api", digest) is None
