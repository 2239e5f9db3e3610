"""Redirect policy: which addresses a registry may refer to, and that they are the ones used."""

import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harborguard.errors import RegistryError, RegistryUnavailable
from harborguard.oci import addresses
from harborguard.oci.addresses import AddressScope, RedirectPolicy, address_scope
from tests.support.fake_registry import FakeRegistry, Reply, run_fake_registry
from tests.unit.oci.certificates import server_context, write_certificate
from tests.unit.oci.conftest import TAGS, MakeClient
from tests.unit.oci.test_auth import require_token

CATALOG = "/v2/_catalog"
Resolve = Callable[[dict[str, list[list[str]]]], list[str]]


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Resolve:
    """Fake the DNS: each lookup of a name returns the next of its lists of addresses."""
    getaddrinfo = socket.getaddrinfo

    def resolve(records: dict[str, list[list[str]]]) -> list[str]:
        lookups: list[str] = []

        def fake_getaddrinfo(host: str, *args: Any, **kwargs: Any) -> list[Any]:
            if host not in records:
                return getaddrinfo(host, *args, **kwargs)
            found = records[host][lookups.count(host)]
            lookups.append(host)
            return [entry for name in found for entry in getaddrinfo(name, *args, **kwargs)]

        monkeypatch.setattr(socket, "getaddrinfo", fake_getaddrinfo)
        return lookups

    return resolve


@pytest.fixture
def make_public(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make one address on loopback count as public."""

    def make_public(public: str) -> None:
        monkeypatch.setattr(
            addresses,
            "address_scope",
            lambda address: AddressScope.PUBLIC if address == public else address_scope(address),
        )

    return make_public


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
        ("169.254.169.254", AddressScope.SPECIAL),
        ("::ffff:169.254.169.254", AddressScope.SPECIAL),
        ("fe80::1%eth0", AddressScope.SPECIAL),
        ("0.0.0.0", AddressScope.SPECIAL),
        ("0.1.2.3", AddressScope.SPECIAL),
        ("::", AddressScope.SPECIAL),
        ("224.0.0.1", AddressScope.SPECIAL),
        ("ff02::1", AddressScope.SPECIAL),
        ("255.255.255.255", AddressScope.SPECIAL),
        ("240.0.0.1", AddressScope.SPECIAL),
        ("192.0.2.1", AddressScope.SPECIAL),
        ("64:ff9b::7f00:1", AddressScope.SPECIAL),
        ("2002:7f00:1::", AddressScope.SPECIAL),
        ("2001::1", AddressScope.SPECIAL),
        ("2001:1::1", AddressScope.SPECIAL),
        ("192.0.0.1", AddressScope.SPECIAL),
        ("192.0.0.9", AddressScope.SPECIAL),
        ("192.0.0.170", AddressScope.SPECIAL),
        ("192.0.1.1", AddressScope.PUBLIC),
        ("100.100.100.200", AddressScope.SPECIAL),
        ("::ffff:100.100.100.200", AddressScope.SPECIAL),
        ("100.100.100.201", AddressScope.PRIVATE),
        ("168.63.129.16", AddressScope.SPECIAL),
        ("fd00:ec2::254", AddressScope.SPECIAL),
        ("fd00:ec2::253", AddressScope.PRIVATE),
        ("fd20:ce::254", AddressScope.SPECIAL),
        ("192.88.99.1", AddressScope.SPECIAL),
        ("198.18.0.1", AddressScope.SPECIAL),
        ("::ffff:192.0.0.8", AddressScope.SPECIAL),
        ("64:ff9b:1::7f00:1", AddressScope.SPECIAL),
        ("64:ff9b:1:ffff::1", AddressScope.SPECIAL),
        ("fec0::1", AddressScope.SPECIAL),
        ("feff:ffff::1", AddressScope.SPECIAL),
        ("5f00::1", AddressScope.SPECIAL),
        ("5f00:ffff::1", AddressScope.SPECIAL),
        ("::127.0.0.1", AddressScope.SPECIAL),
        ("::10.0.0.1", AddressScope.SPECIAL),
        ("::8.8.8.8", AddressScope.SPECIAL),
        ("::2", AddressScope.SPECIAL),
        ("::ffff:0:127.0.0.1", AddressScope.SPECIAL),
        ("1fff::1", AddressScope.SPECIAL),
        ("4000::1", AddressScope.SPECIAL),
        ("2001:db8::1", AddressScope.SPECIAL),
        ("3fff::1", AddressScope.SPECIAL),
        ("2001:200::1", AddressScope.PUBLIC),
        ("2a00:1450:4001::1", AddressScope.PUBLIC),
    ],
)
def test_address_in_each_range_has_its_scope(address: str, expected: AddressScope) -> None:
    assert address_scope(address) is expected


@pytest.mark.parametrize(
    ("registry_address", "allowed", "rejected"),
    [
        ("8.8.8.8", ["1.1.1.1"], ["10.0.0.1", "127.0.0.1", "169.254.169.254", "192.0.0.8"]),
        ("10.0.0.1", ["1.1.1.1", "192.168.0.1"], ["127.0.0.1", "169.254.169.254", "fec0::1"]),
        ("127.0.0.1", ["1.1.1.1", "10.0.0.1", "127.0.0.2"], ["169.254.169.254", "0.0.0.0"]),
        ("169.254.0.1", ["1.1.1.1"], ["169.254.169.254", "0.0.0.0", "127.0.0.1", "10.0.0.1"]),
        ("64:ff9b::808:808", ["1.1.1.1"], ["64:ff9b::7f00:1", "127.0.0.1", "10.0.0.1"]),
    ],
)
def test_redirect_to_a_more_internal_address_is_rejected(
    registry_address: str, allowed: list[str], rejected: list[str]
) -> None:
    policy = RedirectPolicy("registry.test")
    policy.note_connection("registry.test", registry_address)
    policy.note_connection("other.test", "169.254.0.2")
    assert policy.allowed("other.test", allowed) == allowed
    for address in rejected:
        with pytest.raises(
            RegistryError, match=f"other.test, but its address {address} is not allowed"
        ):
            policy.allowed("other.test", [*allowed, address])


@pytest.mark.parametrize(
    ("first", "same", "others"),
    [
        ("8.8.8.8", ["8.8.4.4", "2606:2800:220:1::1"], ["10.0.0.1", "127.0.0.1", "169.254.1.1"]),
        ("10.0.0.1", ["192.168.0.1", "fd00::1"], ["127.0.0.1", "8.8.8.8", "192.0.0.8"]),
        ("127.0.0.1", ["127.0.0.2", "::1"], ["10.0.0.1", "8.8.8.8", "::127.0.0.1"]),
    ],
)
def test_registry_stays_in_the_scope_of_the_first_contact(
    first: str, same: list[str], others: list[str]
) -> None:
    policy = RedirectPolicy("registry.test")
    assert policy.allowed("registry.test", [*others, first]) == [*others, first]
    policy.note_connection("registry.test", first)
    assert policy.allowed("registry.test", [*others, *same]) == same
    policy.note_connection("registry.test", same[0])
    for address in others:
        message = f"registry.test changed during the sync to {address}, which is not allowed"
        with pytest.raises(RegistryError, match=message):
            policy.allowed("registry.test", [address])
        with pytest.raises(RegistryError, match=message):
            policy.note_connection("registry.test", address)


@pytest.mark.parametrize("path", [TAGS, "/token"])
def test_registry_that_moves_to_an_internal_address_is_not_contacted(
    server: FakeRegistry,
    make_client: MakeClient,
    make_public: Callable[[str], None],
    resolve: Resolve,
    path: str,
) -> None:
    """The registry's own name resolves to a public address first, then to loopback."""
    make_public("127.0.0.1")
    resolve({"registry.test": [["127.0.0.1"], ["127.0.0.2"], ["127.0.0.1"]]})
    host = f"registry.test:{server.port}"
    server.routes[CATALOG] = Reply({"repositories": ["api"]})
    require_token(server, f"http://{host}/token")
    with run_fake_registry("127.0.0.2", port=server.port) as loopback:
        loopback.routes[path] = Reply({"token": "t0ken", "tags": ["1"]})
        client = make_client(host)
        if path == TAGS:
            client.list_repositories()
        with pytest.raises(RegistryError, match=r"changed during the sync to 127\.0\.0\.2"):
            client.list_tags("api")
        assert loopback.requests == []
    assert len(server.requests) == 1
    assert "authorization" not in server.requests[0].headers


def test_token_service_at_a_more_internal_address_is_not_used(
    server: FakeRegistry,
    other: FakeRegistry,
    make_client: MakeClient,
    make_public: Callable[[str], None],
    resolve: Resolve,
) -> None:
    """The token service resolves to a public address for one repository, then to loopback."""
    make_public("127.0.0.1")
    with run_fake_registry(port=other.port) as public:
        resolve({"auth.test": [["127.0.0.1"], ["127.0.0.2"]]})
        require_token(server, f"http://auth.test:{other.port}/token")
        public.routes["/token"] = other.routes["/token"] = Reply({"token": "t0ken"})
        client = make_client(server)
        assert client.list_tags("api") == ["1"]
        with pytest.raises(RegistryError, match=r"auth.test, but its address 127\.0\.0\.2"):
            make_client(server).list_tags("api")
    assert other.requests == []
    sent = [request.headers.get("authorization") for request in server.requests]
    assert sent == [None, "Bearer t0ken", None]


def test_registry_without_a_listening_address_is_contacted_at_the_next(
    server: FakeRegistry,
    make_client: MakeClient,
    make_public: Callable[[str], None],
    resolve: Resolve,
) -> None:
    """Only an address that accepts the connection decides the registry's scope."""
    make_public("127.0.0.9")
    resolve({"registry.test": [["127.0.0.9", "127.0.0.1"]] * 2})
    server.routes[CATALOG] = Reply({"repositories": ["a"]})
    client = make_client(f"registry.test:{server.port}")
    assert client.list_repositories() == ["a"]
    assert client.list_repositories() == ["a"]


def test_loopback_url_from_a_public_registry_is_rejected_before_connecting(
    server: FakeRegistry,
    other: FakeRegistry,
    make_client: MakeClient,
    make_public: Callable[[str], None],
) -> None:
    make_public("127.0.0.1")
    server.routes[TAGS] = Reply(status=307, headers={"Location": f"{other.url}/x"})
    with pytest.raises(RegistryError, match=r"address 127\.0\.0\.2 is not allowed"):
        make_client(server).list_tags("api")
    require_token(server, f"{other.url}/token")
    with pytest.raises(RegistryError, match=r"address 127\.0\.0\.2 is not allowed"):
        make_client(server).list_tags("api")
    assert other.requests == []


@pytest.mark.parametrize("address", ["169.254.169.254", "0.0.0.0", "[fe80::1]"])
def test_redirect_to_special_address_is_rejected(
    server: FakeRegistry, make_client: MakeClient, address: str
) -> None:
    server.routes[TAGS] = Reply(status=307, headers={"Location": f"http://{address}/latest"})
    with pytest.raises(RegistryError, match="is not allowed"):
        make_client(server).list_tags("api")
    assert len(server.requests) == 1


def test_host_with_one_forbidden_address_is_rejected(
    server: FakeRegistry, make_client: MakeClient, resolve: Resolve
) -> None:
    lookups = resolve({"blobs.test": [["127.0.0.2", "169.254.169.254"]]})
    server.routes[TAGS] = Reply(status=307, headers={"Location": "http://blobs.test/x"})
    with pytest.raises(RegistryError, match=r"blobs.test, .* address 169\.254\.169\.254"):
        make_client(server).list_tags("api")
    assert lookups == ["blobs.test"]


def test_dns_change_between_check_and_connection_has_no_effect(
    server: FakeRegistry,
    make_client: MakeClient,
    make_public: Callable[[str], None],
    resolve: Resolve,
) -> None:
    """The redirect target resolves to a public address first, and to loopback afterwards."""
    make_public("127.0.0.1")
    lookups = resolve({"blobs.test": [["127.0.0.1"], ["127.0.0.2"]]})
    location = f"http://blobs.test:{server.port}/x"
    server.routes[TAGS] = Reply(status=307, headers={"Location": location})
    server.routes["/x"] = Reply({"tags": ["1"]})
    with run_fake_registry("127.0.0.2", port=server.port) as loopback:
        assert make_client(server).list_tags("api") == ["1"]
        assert lookups == ["blobs.test"]
        assert server.requests[1].headers["host"] == f"blobs.test:{server.port}"
        with pytest.raises(RegistryError, match=r"address 127\.0\.0\.2 is not allowed"):
            make_client(server).list_tags("api")
        assert lookups == ["blobs.test", "blobs.test"]
        assert loopback.requests == []


@pytest.mark.parametrize(
    "found", [["127.0.0.9", "127.0.0.1"], ["127.0.0.1", "127.0.0.9"], ["127.0.0.1", "127.0.0.2"]]
)
def test_connection_goes_to_the_first_address_that_accepts(
    server: FakeRegistry, make_client: MakeClient, resolve: Resolve, found: list[str]
) -> None:
    lookups = resolve({"registry.test": [found]})
    server.routes[CATALOG] = Reply({"repositories": ["a"]})
    host = f"registry.test:{server.port}"
    with run_fake_registry("127.0.0.2", port=server.port):
        assert make_client(host).list_repositories() == ["a"]
    assert server.requests[0].headers["host"] == host
    assert lookups == ["registry.test"]


def test_connection_refused_by_all_addresses_is_unavailable(
    server: FakeRegistry, make_client: MakeClient, resolve: Resolve
) -> None:
    resolve({"registry.test": [["127.0.0.8", "127.0.0.9"]] * 3})
    with pytest.raises(RegistryUnavailable, match=r"registry\.test cannot be reached"):
        make_client(f"registry.test:{server.port}").list_repositories()
    assert server.requests == []


def test_docker_hub_is_requested_at_its_api_host(make_client: MakeClient, resolve: Resolve) -> None:
    lookups = resolve({"registry-1.docker.io": [["127.0.0.9"]] * 3})
    with pytest.raises(RegistryUnavailable, match=r"registry-1\.docker\.io cannot be reached"):
        make_client("docker.io").list_tags("library/nginx")
    assert set(lookups) == {"registry-1.docker.io"}


@pytest.mark.skipif(not has_ipv6(), reason="needs IPv6 on loopback")
def test_ipv6_registry_is_connected_and_named_in_brackets(make_client: MakeClient) -> None:
    with run_fake_registry("::1") as server:
        server.routes[CATALOG] = Reply({"repositories": ["a"]})
        assert make_client(server).list_repositories() == ["a"]
        assert server.requests[0].headers["host"] == f"[::1]:{server.port}"


def test_tls_verifies_the_certificate_against_the_host_name(
    make_client: MakeClient, resolve: Resolve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = write_certificate(tmp_path, "registry.test")
    context = server_context(certificate)
    server_names: list[str | None] = []

    def record_server_name(sock: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        server_names.append(name)

    context.sni_callback = record_server_name
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    resolve({"registry.test": [["127.0.0.1"]], "evil.test": [["127.0.0.1"]]})
    with run_fake_registry(tls=context) as server:
        server.routes[CATALOG] = Reply({"repositories": ["a"]})
        names = [f"registry.test:{server.port}", f"evil.test:{server.port}"]

        assert make_client(names[0], plain_http=False).list_repositories() == ["a"]
        with pytest.raises(RegistryError, match=r"TLS connection to evil\.test failed.*mismatch"):
            make_client(names[1], plain_http=False).list_repositories()

        assert [request.headers["host"] for request in server.requests] == [names[0]]
    assert server_names == ["registry.test", "evil.test"]
