"""The registry client, against servers that behave as badly as servers can."""

import hashlib
import json
import socket
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from harborguard.errors import InvalidReference, RegistryError, RegistryUnavailable
from harborguard.oci import Credentials, Limits, RegistryClient
from harborguard.oci.addresses import AddressScope, RedirectPolicy, address_scope
from harborguard.oci.auth import parse_challenges
from harborguard.oci.sync import read_repository
from tests.support.fake_registry import MANIFEST, Reply, Request, StandIn, digest_of, standing_in
from tests.support.registry import BUILT_AT, CONFIG, running_registry

HASTY = Limits(connect=1, read=0.3, whole=0.8, body=10_000, pauses=(0.01, 0.02), retry_after=0.5)
ALICE = Credentials("alice", "hunter2")
BASIC = f"Basic {b64encode(b'alice:hunter2').decode()}"
TAGS = "/v2/api/tags/list"

Make = Callable[..., RegistryClient]


@pytest.fixture
def standin() -> Iterator[StandIn]:
    """A server that says what a test wants."""
    with standing_in() as standin:
        yield standin


@pytest.fixture
def other() -> Iterator[StandIn]:
    """Another one, on another host."""
    with standing_in("127.0.0.2") as other:
        yield other


@pytest.fixture
def make() -> Iterator[Make]:
    """Clients in a hurry, closed at the end."""
    made: list[RegistryClient] = []

    def make(standin: StandIn, **kwargs: Any) -> RegistryClient:
        settings = {"is_plain": True, "limits": HASTY, **kwargs}
        made.append(RegistryClient(standin.host, **settings))
        return made[-1]

    yield make
    for registry in made:
        registry.close()


def test_it_works(tmp_path: Path) -> None:
    """A real registry."""
    with running_registry(tmp_path) as pusher:
        digest = pusher.push("acme/api", "1.4")
        index = pusher.push_index("acme/api", "multi", {"linux/arm64": BUILT_AT})
        registry = RegistryClient(pusher.host, is_plain=True)
        try:
            assert registry.list_repositories() == ["acme/api"]
            assert sorted(registry.list_tags("acme/api")) == ["1.4", "multi"]
            assert registry.find_digest("acme/api", "1.4") == digest
            assert registry.find_digest("acme/api", "gone") is None
            assert registry.find_build_time("acme/api", index) == BUILT_AT
            assert registry.list_tags("acme/gone") == []
        finally:
            registry.close()


# pages


def paged(names: list[str], key: str, link: str) -> Callable[[Request], Reply]:
    """One name a page; `link` says how the next page is named."""

    def answer(request: Request) -> Reply:
        at = int(request.target.rpartition("last=")[2]) if "last=" in request.target else 0
        headers = {}
        if at + 1 < len(names):
            url = link.format(path=request.path, host=request.headers["host"], at=at + 1)
            headers = {"Link": f'<{url}>; rel="next"'}
        return Reply({key: names[at : at + 1]}, headers=headers)

    return answer


@pytest.mark.parametrize(
    "link", ["{path}?n=1&last={at}", "http://{host}{path}?last={at}", "?last={at}"]
)
def test_all_pages_are_read(standin: StandIn, make: Make, link: str) -> None:
    standin.routes["/v2/_catalog"] = paged(["a", "b", "c", "b"], "repositories", link)
    standin.routes[TAGS] = paged(["1", "2", "3"], "tags", link)
    registry = make(standin)
    assert registry.list_repositories() == ["a", "b", "c"]
    assert registry.list_tags("api") == ["1", "2", "3"]


@pytest.mark.parametrize("grows", [False, True])
def test_pages_without_end_are_left(
    standin: StandIn, make: Make, grows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harborguard.oci.client._MAX_PAGES", 30)

    def answer(request: Request) -> Reply:
        last = len(standin.asked) if grows else 7
        return Reply({"tags": ["1"]}, headers={"Link": f'<{TAGS}?last={last}>; rel="next"'})

    standin.routes[TAGS] = answer
    with pytest.raises(RegistryError, match="without end"):
        make(standin).list_tags("api")
    assert len(standin.asked) == (30 if grows else 2)


def test_a_page_on_another_host_is_not_read(standin: StandIn, other: StandIn, make: Make) -> None:
    link = {"Link": f'<{other.url}/v2/_catalog?last=a>; rel="next"'}
    standin.routes["/v2/_catalog"] = Reply({"repositories": ["a"]}, headers=link)
    with pytest.raises(RegistryError, match=r"another host, 127\.0\.0\.2"):
        make(standin).list_repositories()
    assert other.asked == []


def test_more_names_than_anybody_has_are_refused(
    standin: StandIn, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harborguard.oci.client._MAX_NAMES", 2)
    standin.routes[TAGS] = Reply({"tags": ["1", "2", "3"]})
    with pytest.raises(RegistryError, match="more than 2 names"):
        make(standin).list_tags("api")


# answers that are none


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
def test_garbage_is_named(standin: StandIn, make: Make, body: bytes) -> None:
    standin.routes[TAGS] = Reply(body)
    with pytest.raises(RegistryError, match="not the JSON of a tags"):
        make(standin).list_tags("api")


@pytest.mark.parametrize("name", ["../x", "a b", "a\x00", "x" * 129, "", "é", "-a"])
def test_malformed_names_are_refused(standin: StandIn, make: Make, name: str) -> None:
    standin.routes[TAGS] = Reply({"tags": ["1", name]})
    with pytest.raises(InvalidReference):
        make(standin).list_tags("api")
    for repository in ("../x", "a?b", "a/../b", "A", "a b", "a\r\nX: y"):
        with pytest.raises(InvalidReference):
            make(standin).list_tags(repository)
    assert set(standin.paths()) == {TAGS}


@pytest.mark.parametrize("digest", ["", "x", "sha256:abc", "sha256:" + "A" * 64, "md5:" + "a" * 32])
def test_a_malformed_digest_is_refused(standin: StandIn, make: Make, digest: str) -> None:
    standin.otherwise = lambda request: Reply(b"{}", headers={"Docker-Content-Digest": digest})
    with pytest.raises(RegistryError, match="digest of tag 1 is malformed"):
        make(standin).find_digest("api", "1")


@pytest.mark.parametrize("status", [200, 405])
def test_a_digest_that_is_not_told_is_computed(standin: StandIn, make: Make, status: int) -> None:
    standin.otherwise = lambda request: Reply(
        b'{"x": 1}', status=status if request.method == "HEAD" else 200
    )
    assert make(standin).find_digest("api", "1") == digest_of(b'{"x": 1}')


def test_content_with_another_digest_is_refused(standin: StandIn, make: Make) -> None:
    standin.otherwise = lambda request: Reply(b"{}")
    with pytest.raises(RegistryError, match="another digest"):
        make(standin).find_build_time("api", digest_of(b"other"))


def put(standin: StandIn, content: bytes, kind: str = "manifests") -> str:
    digest = digest_of(content)
    standin.routes[f"/v2/api/{kind}/{digest}"] = Reply(content)
    return digest


def put_image(standin: StandIn, config: bytes, media_type: str = CONFIG) -> str:
    reference = {"mediaType": media_type, "digest": put(standin, config, "blobs")}
    return put(standin, json.dumps({"mediaType": MANIFEST, "config": reference}).encode())


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
def test_build_times(
    standin: StandIn, make: Make, config: bytes, expected: datetime | None
) -> None:
    assert make(standin).find_build_time("api", put_image(standin, config)) == expected


def test_other_artifacts_have_no_build_time(standin: StandIn, make: Make) -> None:
    chart = put_image(standin, b"{}", "application/vnd.cncf.helm.config.v1+json")
    registry = make(standin)
    assert registry.find_build_time("api", chart) is None
    assert not any("/blobs/" in path for path in standin.paths())
    for content in (b"{}", b'{"manifests": []}', b'{"config": null}'):
        assert registry.find_build_time("api", put(standin, content)) is None
    inner = {"digest": digest_of(b"not here"), "platform": {"os": "linux"}}
    assert (
        registry.find_build_time("api", put(standin, json.dumps({"manifests": [inner]}).encode()))
        is None
    )


def test_an_index_of_indexes_ends(standin: StandIn, make: Make) -> None:
    digest = put_image(standin, b'{"created": "2026-04-01T00:00:00Z"}')
    for _ in range(2):
        digest = put(standin, json.dumps({"manifests": [{"digest": digest}]}).encode())
    assert make(standin).find_build_time("api", digest) is None


def test_what_is_known_is_not_asked_for_again(standin: StandIn, make: Make) -> None:
    digest = put_image(standin, b'{"created": "2026-04-01T00:00:00Z"}')
    standin.routes[TAGS] = Reply({"tags": ["1", "2"]})
    told = Reply(b"", headers={"Docker-Content-Digest": digest})
    standin.routes |= {"/v2/api/manifests/1": told, "/v2/api/manifests/2": told}
    first = read_repository(make(standin), "api", {})
    assert [tag.built_at for tag in first.tags] == [BUILT_AT, BUILT_AT]
    assert len(standin.asked) == 5
    again = read_repository(make(standin), "api", {digest: BUILT_AT})
    assert again.tags == first.tags
    assert len(standin.asked) == 8


# servers that take their time


def test_a_server_that_hangs_is_left(make: Make) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()
        with pytest.raises(RegistryUnavailable, match="did not answer in time"):
            RegistryClient(
                f"127.0.0.1:{silent.getsockname()[1]}", is_plain=True, limits=HASTY
            ).list_repositories()
        assert time.monotonic() - began < 20


@pytest.mark.parametrize("where", ["body", "headers"])
def test_a_server_that_drips_is_left(standin: StandIn, make: Make, where: str) -> None:
    """Each byte comes in time, and the last one never."""

    def drip() -> Iterator[bytes]:
        for _ in range(100):
            time.sleep(0.05)
            yield b" "

    began = time.monotonic()
    registry = make(standin, limits=Limits(read=0.3, whole=0.4, pauses=()))
    if where == "body":
        standin.routes["/v2/_catalog"] = Reply(parts=drip)
        with pytest.raises(RegistryUnavailable, match="did not answer in time"):
            registry.list_repositories()
    else:
        with dripping_headers() as host, pytest.raises(RegistryUnavailable, match="in time"):
            RegistryClient(
                host, is_plain=True, limits=Limits(read=0.3, whole=0.4, pauses=())
            ).list_repositories()
    assert time.monotonic() - began < 4


@contextmanager
def dripping_headers() -> Iterator[str]:
    """A server whose status line has no end."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                try:
                    for _ in range(40):
                        peer.sendall(b"H")
                        time.sleep(0.05)
                except OSError:
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def test_nobody_there(make: Make, standin: StandIn) -> None:
    registry = RegistryClient("127.0.0.1:1", is_plain=True, limits=HASTY)
    with pytest.raises(RegistryUnavailable, match=r"127\.0\.0\.1 cannot be reached"):
        registry.list_repositories()
    registry = RegistryClient("no-such-host.invalid", is_plain=True, limits=HASTY)
    with pytest.raises(RegistryUnavailable, match="cannot be reached"):
        registry.list_repositories()


def test_plain_http_where_tls_is_expected(standin: StandIn, make: Make) -> None:
    with pytest.raises(RegistryError, match="cannot be trusted"):
        make(standin, is_plain=False).list_repositories()
    assert standin.asked == []


def certificate(directory: Path) -> Path:
    """A certificate of 127.0.0.1's own making, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "registry.test")])
    address = x509.IPAddress(ip_address("127.0.0.1"))
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = directory / "certificate.pem"
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + made.public_bytes(Encoding.PEM)
    )
    return path


def test_tls_is_verified_and_not_left(
    standin: StandIn, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path)
    with standing_in(tls=context) as secure:
        secure.routes["/v2/_catalog"] = Reply({"repositories": ["a"]})
        secure.routes[TAGS] = Reply(status=307, headers={"Location": f"{standin.url}/x"})
        with pytest.raises(RegistryError, match=r"127\.0\.0\.1 cannot be trusted"):
            make(secure, is_plain=False).list_repositories()
        assert secure.asked == []

        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        registry = make(secure, is_plain=False)
        assert registry.list_repositories() == ["a"]
        with pytest.raises(RegistryError, match="from https to http"):
            registry.list_tags("api")
        assert standin.asked == []


@pytest.mark.parametrize("length", [None, 10**12])
def test_a_huge_body_is_left(standin: StandIn, make: Make, length: int | None) -> None:
    sent = 0

    def flood() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(10_000):
            sent += 1 << 16
            yield b" " * (1 << 16)

    headers = {"Content-Length": str(length)} if length else {}
    standin.routes["/v2/_catalog"] = Reply(parts=flood, headers=headers)
    with pytest.raises(RegistryError, match="more than 10000 bytes"):
        make(standin).list_repositories()
    assert sent < 50 << 20


def test_a_body_that_is_cut_short_is_no_answer(standin: StandIn, make: Make) -> None:
    standin.routes["/v2/_catalog"] = Reply(
        parts=lambda: iter([b'{"repositories": []}']), headers={"Content-Length": "100"}
    )
    with pytest.raises(RegistryUnavailable):
        make(standin).list_repositories()


def test_what_was_closed_asks_no_more(standin: StandIn, make: Make) -> None:
    registry = make(standin)
    registry.close()
    with pytest.raises(RegistryError, match="stopped"):
        registry.list_repositories()
    assert standin.asked == []


# again, and how often


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_trouble_that_passes_is_waited_out(standin: StandIn, make: Make, status: int) -> None:
    def answer(request: Request) -> Reply:
        return Reply(status=status) if len(standin.asked) < 3 else Reply({"repositories": ["a"]})

    standin.routes["/v2/_catalog"] = answer
    assert make(standin).list_repositories() == ["a"]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_trouble_that_stays_is_told(standin: StandIn, make: Make, status: int) -> None:
    standin.routes[TAGS] = Reply(status=status)
    with pytest.raises(RegistryUnavailable, match=f"answered {status}"):
        make(standin).list_tags("api")
    assert len(standin.asked) == 3


@pytest.mark.parametrize(
    ("told", "least", "most"),
    [
        ("1", 0.5, 0.9),  # up to the limit, which is half a second here
        ("0", 0, 0.3),
        ("-5", 0, 0.3),
        ("9" * 400, 0.5, 0.9),
        ("soon", 0, 0.3),
        ("٣", 0, 0.3),
        (formatdate(4102444800, usegmt=True), 0.5, 0.9),  # in the year 2100
        (formatdate(0, usegmt=True), 0, 0.3),
    ],
)
def test_retry_after(standin: StandIn, make: Make, told: str, least: float, most: float) -> None:
    def answer(request: Request) -> Reply:
        if len(standin.asked) > 1:
            return Reply({"repositories": []})
        headers = {"Retry-After": told.encode().decode("latin-1")}
        return Reply(status=429, headers=headers)

    standin.routes["/v2/_catalog"] = answer
    registry = make(standin)
    began = time.monotonic()
    assert registry.list_repositories() == []
    assert least <= time.monotonic() - began < most + 0.5


# who may enter


def bearer(standin: StandIn, realm: str, token: str = "t0ken") -> None:
    """A registry that wants a token of a realm's for each repository."""
    challenge = f'Bearer realm="{realm}",service="reg",scope="repository:api:pull"'

    def answer(request: Request) -> Reply:
        if request.headers.get("authorization") == f"Bearer {token}":
            return Reply({"tags": ["1"]})
        return Reply(status=401, headers={"WWW-Authenticate": challenge})

    standin.routes[TAGS] = answer


@pytest.mark.parametrize("name", ["token", "access_token"])
@pytest.mark.parametrize("credentials", [None, ALICE])
def test_the_token_dance(
    standin: StandIn, make: Make, name: str, credentials: Credentials | None
) -> None:
    bearer(standin, f"{standin.url}/token?account=x")
    standin.routes["/token"] = Reply({name: "t0ken", "expires_in": 60})
    registry = make(standin, credentials=credentials)

    assert registry.list_tags("api") == ["1"]
    assert registry.list_tags("api") == ["1"]

    assert standin.paths() == [TAGS, "/token", TAGS, TAGS]
    asked = standin.asked[1]
    assert asked.target == "/token?account=x&service=reg&scope=repository%3Aapi%3Apull"
    assert asked.headers.get("authorization") == (BASIC if credentials else None)
    assert "authorization" not in standin.asked[0].headers


def test_a_token_that_ends_is_fetched_again(standin: StandIn, make: Make) -> None:
    bearer(standin, f"{standin.url}/token")
    standin.routes["/token"] = Reply({"token": "t0ken"})
    registry = make(standin)
    registry.list_tags("api")
    bearer(standin, f"{standin.url}/token", "another")
    standin.routes["/token"] = Reply({"token": "another"})
    assert registry.list_tags("api") == ["1"]


@pytest.mark.parametrize(
    "answer",
    [
        Reply(status=401),
        Reply(status=404),
        Reply(b"<html>"),
        Reply({}),
        Reply({"token": 7}),
        Reply({"token": "a\r\nX-Evil: 1"}),
        Reply({"token": "é"}),
        Reply({"token": "wrong"}),
    ],
)
def test_no_token_no_entry(standin: StandIn, make: Make, answer: Reply) -> None:
    bearer(standin, f"{standin.url}/token")
    standin.routes["/token"] = answer
    with pytest.raises(RegistryError) as caught:
        make(standin, credentials=ALICE).list_tags("api")
    assert "hunter2" not in str(caught.value)
    assert len(standin.asked) <= 3


@pytest.mark.parametrize(
    "realm",
    [
        "",
        "ftp://x/token",
        "http://a:b@127.0.0.1/token",
        "http://[bad/token",
        "http://h:99999/",
        "file:///etc/passwd",
    ],
)
def test_a_realm_must_be_one(standin: StandIn, make: Make, realm: str) -> None:
    bearer(standin, realm)
    with pytest.raises(RegistryError):
        make(standin, credentials=ALICE).list_tags("api")


def test_credentials_go_to_no_token_service_of_another_domain(
    standin: StandIn, other: StandIn, make: Make
) -> None:
    bearer(standin, f"{other.url}/token")
    other.routes["/token"] = Reply({"token": "t0ken"})
    with pytest.raises(RegistryError, match="credentials are not sent there"):
        make(standin, credentials=ALICE).list_tags("api")
    assert other.asked == []
    assert make(standin).list_tags("api") == ["1"]
    assert "authorization" not in other.asked[0].headers


@pytest.mark.parametrize(
    ("home", "realm", "is_told"),
    [
        ("ghcr.io", "ghcr.io", True),
        ("docker.io", "auth.docker.io", True),
        ("registry.gitlab.com", "gitlab.com", True),
        ("registry.acme.test:5000", "registry.acme.test", True),
        ("ghcr.io", "evil.io", False),
        ("ghcr.io", "evilghcr.io", False),
        ("registry.gitlab.com", "evilgitlab.com", False),
        ("registry.acme.test", "acme.test.evil.example", False),
        ("10.0.0.1", "9.0.0.1", False),
        ("127.0.0.1:1", "1.0.0.1", False),
    ],
)
def test_whose_token_service_gets_credentials(home: str, realm: str, is_told: bool) -> None:
    authenticator: Any = RegistryClient(home, credentials=ALICE)._authenticator
    if is_told:
        authenticator._check_realm(realm)
    else:
        with pytest.raises(RegistryError, match="credentials are not sent there"):
            authenticator._check_realm(realm)


def test_basic(standin: StandIn, make: Make) -> None:
    def answer(request: Request) -> Reply:
        if request.headers.get("authorization") == BASIC:
            return Reply({"tags": []})
        return Reply(status=401, headers={"WWW-Authenticate": 'Basic realm="x, y"'})

    standin.routes[TAGS] = answer
    assert make(standin, credentials=ALICE).list_tags("api") == []
    assert [request.headers.get("authorization") for request in standin.asked] == [None, BASIC]
    with pytest.raises(RegistryError, match="wants a user name and a password"):
        make(standin).list_tags("api")
    with pytest.raises(RegistryError, match="refuses these credentials"):
        make(standin, credentials=Credentials("alice", "wrong")).list_tags("api")


def test_challenges() -> None:
    assert parse_challenges('Bearer realm="https://a/t?x=1,2",service=s, Basic realm="b"') == {
        "bearer": {"realm": "https://a/t?x=1,2", "service": "s"},
        "basic": {"realm": "b"},
    }
    assert parse_challenges('BASIC Realm="b"') == {"basic": {"realm": "b"}}
    for text in ("", "Negotiate", "Bearer", "x" * 60_000, "bearer " * 9_000, 'a="' * 20_000):
        assert parse_challenges(text) == {}


def test_a_password_is_in_no_text() -> None:
    assert "hunter2" not in repr(ALICE)


# redirects


def test_a_blob_may_lie_elsewhere_and_credentials_stay(
    standin: StandIn, other: StandIn, make: Make
) -> None:
    config = b'{"created": "2026-04-01T00:00:00Z"}'
    digest = put_image(standin, config)
    blob = f"/v2/api/blobs/{digest_of(config)}"
    standin.routes[blob] = Reply(status=307, headers={"Location": f"{other.url}/store?signature=x"})
    other.routes["/store"] = Reply(config)
    routes = dict(standin.routes)

    def answer(request: Request) -> Reply:
        if request.headers.get("authorization") == BASIC:
            route = routes[request.path]
            assert isinstance(route, Reply)
            return route
        return Reply(status=401, headers={"WWW-Authenticate": "Basic realm=x"})

    standin.routes, standin.otherwise = {}, answer

    assert make(standin, credentials=ALICE).find_build_time("api", digest) == BUILT_AT
    [asked] = other.asked
    assert "authorization" not in asked.headers
    assert BASIC not in asked.headers.values()


def test_another_hosts_challenge_is_not_met(standin: StandIn, other: StandIn, make: Make) -> None:
    standin.routes[TAGS] = Reply(status=307, headers={"Location": f"{other.url}/x"})
    other.routes["/x"] = Reply(status=401, headers={"WWW-Authenticate": "Basic realm=x"})
    with pytest.raises(RegistryError, match="refuses these credentials, or none"):
        make(standin, credentials=ALICE).list_tags("api")
    assert [request.headers.get("authorization") for request in other.asked] == [None]


def test_redirects_end(standin: StandIn, make: Make) -> None:
    standin.routes[TAGS] = Reply(status=302, headers={"Location": TAGS})
    with pytest.raises(RegistryError, match="redirects without end"):
        make(standin).list_tags("api")
    assert len(standin.asked) == 6


@pytest.mark.parametrize(
    "location",
    ["file:///etc/passwd", "gopher://127.0.0.1/", "http://u:p@127.0.0.1/", "http://[x/"],
)
def test_redirects_lead_to_http_alone(standin: StandIn, make: Make, location: str) -> None:
    standin.routes[TAGS] = Reply(status=302, headers={"Location": location})
    with pytest.raises(RegistryError, match="it names a"):
        make(standin).list_tags("api")


def test_a_public_registry_sends_nobody_inside(
    standin: StandIn, other: StandIn, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server on loopback passes for a public one; nothing is even knocked at."""
    public = "127.0.0.1"
    monkeypatch.setattr(
        "harborguard.oci.addresses.address_scope",
        lambda address: AddressScope.PUBLIC if address == public else address_scope(address),
    )
    standin.routes[TAGS] = Reply(status=307, headers={"Location": f"{other.url}/x"})
    with pytest.raises(RegistryError, match=r"internal address 127\.0\.0\.2"):
        make(standin).list_tags("api")
    bearer(standin, f"{other.url}/token")
    with pytest.raises(RegistryError, match=r"internal address 127\.0\.0\.2"):
        make(standin).list_tags("api")
    assert other.asked == []


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("93.184.216.34", AddressScope.PUBLIC),
        ("2606:2800:220:1::1", AddressScope.PUBLIC),
        ("::ffff:8.8.8.8", AddressScope.PUBLIC),
        ("10.1.2.3", AddressScope.PRIVATE),
        ("172.16.0.1", AddressScope.PRIVATE),
        ("172.31.255.255", AddressScope.PRIVATE),
        ("172.32.0.1", AddressScope.PUBLIC),
        ("192.168.1.1", AddressScope.PRIVATE),
        ("100.64.0.1", AddressScope.PRIVATE),
        ("fd00::1", AddressScope.PRIVATE),
        ("::ffff:192.168.1.1", AddressScope.PRIVATE),
        ("127.0.0.1", AddressScope.LOOPBACK),
        ("127.255.0.1", AddressScope.LOOPBACK),
        ("::1", AddressScope.LOOPBACK),
        ("::ffff:127.0.0.1", AddressScope.LOOPBACK),
        ("169.254.169.254", AddressScope.NOWHERE),
        ("::ffff:169.254.169.254", AddressScope.NOWHERE),
        ("fe80::1%eth0", AddressScope.NOWHERE),
        ("0.0.0.0", AddressScope.NOWHERE),
        ("0.1.2.3", AddressScope.NOWHERE),
        ("::", AddressScope.NOWHERE),
        ("224.0.0.1", AddressScope.NOWHERE),
        ("ff02::1", AddressScope.NOWHERE),
        ("255.255.255.255", AddressScope.NOWHERE),
        ("240.0.0.1", AddressScope.NOWHERE),
        ("192.0.2.1", AddressScope.NOWHERE),
        ("64:ff9b::7f00:1", AddressScope.NOWHERE),
        ("2002:7f00:1::", AddressScope.NOWHERE),
        ("2001::1", AddressScope.NOWHERE),
    ],
)
def test_address_scope(address: str, expected: AddressScope) -> None:
    assert address_scope(address) is expected


@pytest.mark.parametrize(
    ("home", "allowed", "refused"),
    [
        ("8.8.8.8", ["1.1.1.1"], ["10.0.0.1", "127.0.0.1", "169.254.169.254"]),
        ("10.0.0.1", ["1.1.1.1", "192.168.0.1"], ["127.0.0.1", "169.254.169.254"]),
        ("127.0.0.1", ["1.1.1.1", "10.0.0.1", "127.0.0.2"], ["169.254.169.254", "0.0.0.0"]),
    ],
)
def test_the_border(home: str, allowed: list[str], refused: list[str]) -> None:
    border = RedirectPolicy("registry.test")
    border.check("registry.test", home)
    border.check("registry.test", "127.0.0.1")
    for address in allowed:
        border.check("other.test", address)
    for address in refused:
        with pytest.raises(
            RegistryError, match=f"other.test, which is at the internal address {address}"
        ):
            border.check("other.test", address)


def test_a_sha512_digest_is_checked_as_one(standin: StandIn, make: Make) -> None:
    content = b'{"config": null}'
    digest = f"sha512:{hashlib.sha512(content).hexdigest()}"
    standin.routes[f"/v2/api/manifests/{digest}"] = Reply(content)
    assert make(standin).find_build_time("api", digest) is None
