"""Registry authentication: Basic and Bearer challenges, and who receives credentials."""

from base64 import b64encode
from urllib.parse import parse_qs, urlsplit

import pytest

from harborguard.errors import RegistryError
from harborguard.oci import Credentials
from harborguard.oci.auth import shares_domain
from tests.support.fake_registry import FakeRegistry, Reply, Request, digest_of, report_error
from tests.support.registry import BUILT_AT
from tests.unit.oci.conftest import TAGS, MakeClient
from tests.unit.oci.images import add_image

ALICE = Credentials("alice", "hunter2")
BASIC = f"Basic {b64encode(b'alice:hunter2').decode()}"


def require_token(server: FakeRegistry, realm: str, token: str = "t0ken") -> None:
    """Let the server require a token of `realm` for its tags."""
    challenge = f'Bearer realm="{realm}",service="reg",scope="repository:api:pull"'

    def handle(request: Request) -> Reply:
        if request.headers.get("authorization") == f"Bearer {token}":
            return Reply({"tags": ["1"]})
        return Reply(status=401, headers={"WWW-Authenticate": challenge})

    server.routes[TAGS] = handle


@pytest.mark.parametrize("name", ["token", "access_token"])
@pytest.mark.parametrize("credentials", [None, ALICE])
def test_bearer_challenge_fetches_one_token_per_scope(
    server: FakeRegistry, make_client: MakeClient, name: str, credentials: Credentials | None
) -> None:
    require_token(server, f"{server.url}/token?account=x")
    server.routes["/token"] = Reply({name: "t0ken", "expires_in": 60})
    client = make_client(server, credentials=credentials)

    assert client.list_tags("api") == ["1"]
    assert client.list_tags("api") == ["1"]

    version = ["/v2/"] if credentials else []
    assert server.paths() == [*version, TAGS, "/token", TAGS, TAGS]
    token_request = server.requests[-3]
    assert token_request.target == "/token?account=x&service=reg&scope=repository%3Aapi%3Apull"
    assert token_request.headers.get("authorization") == (BASIC if credentials else None)
    assert "authorization" not in server.requests[0].headers


SCOPES = {
    "/v2/_catalog": "registry:catalog:*",
    TAGS: "repository:api:pull",
    "/v2/api/manifests/1": "repository:api:pull",
}


def hide_without_authorization(
    server: FakeRegistry, challenge: str, authorization: str, version_status: int = 401
) -> None:
    """Let the server challenge at `/v2/` only, and hide private repositories by a 404."""

    def handle(request: Request) -> Reply:
        if request.path == "/v2/" and version_status == 401:
            return Reply(status=401, headers={"WWW-Authenticate": challenge})
        if request.path == "/v2/":
            return Reply({}, version_status)
        if request.path == "/token":
            return Reply({"token": parse_qs(urlsplit(request.target).query)["scope"][0]})
        expected = authorization.replace("SCOPE", SCOPES[request.path])
        if request.headers.get("authorization") == expected:
            headers = {"Docker-Content-Digest": digest_of(b"")}
            return Reply({"repositories": ["api", "public"], "tags": ["1"]}, headers=headers)
        if request.path == "/v2/_catalog":
            return Reply({"repositories": ["public"]})
        return report_error("NAME_UNKNOWN")

    server.fallback = handle


@pytest.mark.parametrize(
    ("challenge", "authorization"),
    [
        ("Basic realm=x", BASIC),
        ('Bearer realm="/token",service="reg"', "Bearer SCOPE"),
        ('Bearer realm="/token",scope="repository:user/image:pull"', "Bearer SCOPE"),
    ],
)
def test_credentials_are_sent_to_paths_without_challenge(
    server: FakeRegistry, make_client: MakeClient, challenge: str, authorization: str
) -> None:
    hide_without_authorization(server, challenge, authorization)
    client = make_client(server, credentials=ALICE)
    assert client.list_repositories() == ["api", "public"]
    assert client.list_tags("api") == ["1"]
    assert client.find_digest("api", "1") == digest_of(b"")
    assert server.paths().count("/v2/") == 1


@pytest.mark.parametrize("version_status", [200, 403, 404])
def test_request_without_challenge_is_repeated_with_credentials_after_404(
    server: FakeRegistry, make_client: MakeClient, version_status: int
) -> None:
    hide_without_authorization(server, "", BASIC, version_status)
    anonymous, client = make_client(server), make_client(server, credentials=ALICE)
    assert (anonymous.list_tags("api"), anonymous.find_digest("api", "1")) == (None, None)
    assert (client.list_tags("api"), client.find_digest("api", "1")) == (["1"], digest_of(b""))


def test_credentials_after_404_answer_a_challenge_for_a_token(
    server: FakeRegistry, make_client: MakeClient
) -> None:
    def handle(request: Request) -> Reply:
        match request.headers.get("authorization"):
            case "Bearer t0ken":
                return Reply({"tags": ["1"]})
            case None:
                return report_error("NAME_UNKNOWN")
            case _:
                challenge = f'Bearer realm="{server.url}/token"'
                return Reply(status=401, headers={"WWW-Authenticate": challenge})

    server.routes |= {"/v2/": Reply({}), "/token": Reply({"token": "t0ken"}), TAGS: handle}
    assert make_client(server, credentials=ALICE).list_tags("api") == ["1"]


def test_404_with_credentials_is_a_proof_of_an_open_registry(
    server: FakeRegistry, make_client: MakeClient
) -> None:
    server.routes["/v2/"] = Reply({})
    server.fallback = lambda _: report_error("NAME_UNKNOWN")
    client = make_client(server, credentials=ALICE)
    assert (client.list_tags("api"), client.find_digest("api", "1")) == (None, None)


def test_404_after_a_redirect_that_dropped_the_credentials_is_no_proof(
    server: FakeRegistry, other: FakeRegistry, make_client: MakeClient
) -> None:
    hide_without_authorization(server, "Basic", BASIC)
    server.routes[TAGS] = Reply(status=307, headers={"Location": f"{other.url}/back"})
    other.routes["/back"] = Reply(
        status=307, headers={"Location": f"{server.url}/v2/api/manifests/1"}
    )
    with pytest.raises(RegistryError, match="status 404 without authentication"):
        make_client(server, credentials=ALICE).list_tags("api")


def test_expired_token_is_fetched_again(server: FakeRegistry, make_client: MakeClient) -> None:
    require_token(server, f"{server.url}/token")
    server.routes["/token"] = Reply({"token": "t0ken"})
    client = make_client(server)
    client.list_tags("api")
    require_token(server, f"{server.url}/token", "another")
    server.routes["/token"] = Reply({"token": "another"})
    assert client.list_tags("api") == ["1"]


@pytest.mark.parametrize(
    "reply",
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
def test_token_service_without_valid_token_fails(
    server: FakeRegistry, make_client: MakeClient, reply: Reply
) -> None:
    require_token(server, f"{server.url}/token")
    server.routes["/token"] = reply
    with pytest.raises(RegistryError) as caught:
        make_client(server, credentials=ALICE).list_tags("api")
    assert "hunter2" not in str(caught.value)
    assert len(server.requests) <= 4


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
def test_malformed_realm_fails(server: FakeRegistry, make_client: MakeClient, realm: str) -> None:
    require_token(server, realm)
    with pytest.raises(RegistryError):
        make_client(server, credentials=ALICE).list_tags("api")


def test_token_service_of_another_domain_receives_no_credentials(
    server: FakeRegistry, other: FakeRegistry, make_client: MakeClient
) -> None:
    require_token(server, f"{other.url}/token")
    other.routes["/token"] = Reply({"token": "t0ken"})
    with pytest.raises(RegistryError, match="credentials are not sent there"):
        make_client(server, credentials=ALICE).list_tags("api")
    assert other.requests == []
    assert make_client(server).list_tags("api") == ["1"]
    assert "authorization" not in other.requests[0].headers


@pytest.mark.parametrize(
    ("registry_host", "realm_host", "expected"),
    [
        ("ghcr.io", "ghcr.io", True),
        ("registry-1.docker.io", "auth.docker.io", True),
        ("registry.gitlab.com", "gitlab.com", True),
        ("registry.acme.test", "registry.acme.test", True),
        ("ghcr.io", "evil.io", False),
        ("ghcr.io", "evilghcr.io", False),
        ("registry.gitlab.com", "evilgitlab.com", False),
        ("registry.acme.test", "acme.test.evil.example", False),
        ("10.0.0.1", "9.0.0.1", False),
        ("127.0.0.1", "1.0.0.1", False),
    ],
)
def test_shares_domain_is_true_for_the_registry_and_its_domain(
    registry_host: str, realm_host: str, expected: bool
) -> None:
    assert shares_domain(registry_host, realm_host) is expected


def test_basic_challenge_sends_credentials(server: FakeRegistry, make_client: MakeClient) -> None:
    def handle(request: Request) -> Reply:
        if request.headers.get("authorization") == BASIC:
            return Reply({"tags": []})
        return Reply(status=401, headers={"WWW-Authenticate": 'Basic realm="x, y"'})

    server.routes[TAGS] = handle
    assert make_client(server, credentials=ALICE).list_tags("api") == []
    sent = [request.headers.get("authorization") for request in server.requests]
    assert (server.paths(), sent) == (["/v2/", TAGS, TAGS], [None, None, BASIC])
    with pytest.raises(RegistryError, match="requires a user name and a password"):
        make_client(server).list_tags("api")
    with pytest.raises(RegistryError, match="denies access with these credentials"):
        make_client(server, credentials=Credentials("alice", "wrong")).list_tags("api")


@pytest.mark.parametrize(
    "lines",
    [
        ['Bearer realm="{realm}",service="reg"', 'Basic realm="x"'],
        ['Basic realm="x"', 'Bearer realm="{realm}",service="reg"'],
        ["Negotiate", 'Digest realm="Basic, Bearer", nonce="a\\"b"', 'Bearer realm="{realm}"'],
        ['Basic realm="x", NTLM, Bearer service="reg" , realm = "{realm}", Foo bar=1'],
        ['Basic realm="never closed', "bearer realm={realm}"],
    ],
)
def test_token_is_fetched_for_a_bearer_challenge_among_others(
    server: FakeRegistry, make_client: MakeClient, lines: list[str]
) -> None:
    def handle(request: Request) -> Reply:
        if request.headers.get("authorization") == "Bearer t0ken":
            return Reply({"tags": ["1"]})
        challenges = [line.replace("{realm}", f"{server.url}/token") for line in lines]
        return Reply(status=401, headers={"WWW-Authenticate": challenges})

    server.routes |= {TAGS: handle, "/token": Reply({"token": "t0ken"})}
    assert make_client(server).list_tags("api") == ["1"]
    assert server.paths() == [TAGS, "/token", TAGS]


@pytest.mark.parametrize(
    "lines",
    [
        ["Basic"],
        ["basic"],
        ["Basic realm=x y z"],
        ['Basic realm = "Bearer realm=x"'],
        ["Negotiate YWJjZA==", "BASIC"],
        ["Bearer", "Basic"],
        ["Basic , Negotiate"],
        ['Digest realm="Bearer realm=http://127.0.0.1/", Basic charset="UTF-8"'],
    ],
)
def test_credentials_are_sent_for_a_basic_challenge_in_any_form(
    server: FakeRegistry, make_client: MakeClient, lines: list[str]
) -> None:
    def handle(request: Request) -> Reply:
        if request.headers.get("authorization") == BASIC:
            return Reply({"tags": ["1"]})
        return Reply(status=401, headers={"WWW-Authenticate": lines})

    server.routes[TAGS] = handle
    assert make_client(server, credentials=ALICE).list_tags("api") == ["1"]
    assert server.paths() == ["/v2/", TAGS, TAGS]


@pytest.mark.parametrize(
    ("lines", "credentials", "message"),
    [
        (["Basic"], None, "the registry requires a user name and a password"),
        (["Basic"], ALICE, "the registry denies access with these credentials"),
        (["Bearer"], ALICE, "the registry requires a token, but names no token service"),
        (["Negotiate", "Digest realm=x"], ALICE, "offers neither Basic nor Bearer"),
        ([], ALICE, "offers neither Basic nor Bearer"),
        (["Bearer realm=/token"], None, "token service returned HTTP status 403 without cred"),
        (["Bearer realm=/token"], ALICE, "token service returned HTTP status 403 with these cred"),
    ],
)
def test_denied_access_asks_for_credentials_only_if_there_are_none(
    server: FakeRegistry,
    make_client: MakeClient,
    lines: list[str],
    credentials: Credentials | None,
    message: str,
) -> None:
    server.routes[TAGS] = Reply(status=401, headers={"WWW-Authenticate": lines})
    server.routes["/token"] = Reply(status=403)
    with pytest.raises(RegistryError, match=message):
        make_client(server, credentials=credentials).list_tags("api")


def test_denied_access_without_credentials_is_reported_as_such(
    server: FakeRegistry, make_client: MakeClient
) -> None:
    server.fallback = lambda request: Reply(status=403)
    client = make_client(server)
    with pytest.raises(RegistryError, match="denies access without credentials"):
        client.list_tags("api")
    with pytest.raises(RegistryError, match="does not list its repositories without credentials"):
        client.list_repositories()


def test_credentials_repr_contains_no_password() -> None:
    assert "hunter2" not in repr(ALICE)


def test_redirect_to_blob_storage_sends_no_credentials(
    server: FakeRegistry, other: FakeRegistry, make_client: MakeClient
) -> None:
    config = b'{"created": "2026-04-01T00:00:00Z"}'
    digest = add_image(server, config)
    blob = f"/v2/api/blobs/{digest_of(config)}"
    server.routes[blob] = Reply(status=307, headers={"Location": f"{other.url}/store?signature=x"})
    other.routes["/store"] = Reply(config)
    routes = dict(server.routes)

    def handle(request: Request) -> Reply:
        if request.headers.get("authorization") == BASIC:
            route = routes[request.path]
            assert isinstance(route, Reply)
            return route
        return Reply(status=401, headers={"WWW-Authenticate": "Basic realm=x"})

    server.routes, server.fallback = {}, handle

    assert make_client(server, credentials=ALICE).find_build_time("api", digest) == BUILT_AT
    [request] = other.requests
    assert "authorization" not in request.headers
    assert BASIC not in request.headers.values()


def test_challenge_of_another_host_receives_no_credentials(
    server: FakeRegistry, other: FakeRegistry, make_client: MakeClient
) -> None:
    server.routes[TAGS] = Reply(status=307, headers={"Location": f"{other.url}/x"})
    other.routes["/x"] = Reply(status=401, headers={"WWW-Authenticate": "Basic realm=x"})
    with pytest.raises(RegistryError, match="denies access with these credentials"):
        make_client(server, credentials=ALICE).list_tags("api")
    assert [request.headers.get("authorization") for request in other.requests] == [None]
