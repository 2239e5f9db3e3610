"""Requests to a registry: time and size limits, TLS, redirects, retries and connection reuse."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path

import pytest

from harborguard.errors import RegistryError, RegistryUnavailable
from harborguard.oci import Limits
from tests.support.fake_registry import (
    FakeRegistry,
    Reply,
    Request,
    report_error,
    run_fake_registry,
)
from tests.unit.oci.certificates import server_context, write_certificate
from tests.unit.oci.conftest import TAGS, MakeClient

CATALOG = "/v2/_catalog"


# time limits


def test_silent_server_times_out(make_client: MakeClient) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        client = make_client(host, limits=Limits(read=0.3, total=60, pauses=(0.01, 0.02)))
        began = time.monotonic()
        with pytest.raises(RegistryUnavailable, match="did not respond in time"):
            client.list_repositories()
        assert time.monotonic() - began < 20


def yield_slowly() -> Iterator[bytes]:
    """Yield single bytes for 5 seconds, each within the time limit of a read."""
    for _ in range(100):
        time.sleep(0.05)
        yield b" "


@pytest.mark.parametrize("has_tls", [False, True])
def test_body_sent_byte_by_byte_times_out(
    make_client: MakeClient, has_tls: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = None
    if has_tls:
        certificate = write_certificate(tmp_path, "127.0.0.1")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        tls = server_context(certificate)
    with run_fake_registry(tls=tls) as server:
        server.routes[CATALOG] = Reply(b'{"repositories": []}', parts=yield_slowly)
        limits = Limits(read=0.3, total=0.4, pauses=())
        client = make_client(server, limits=limits, plain_http=not has_tls)
        began = time.monotonic()
        with pytest.raises(RegistryUnavailable, match="did not respond in time"):
            client.list_repositories()
        assert time.monotonic() - began < 4


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nX: "])
def test_headers_sent_byte_by_byte_time_out(make_client: MakeClient, start: bytes) -> None:
    """The status line or a header never ends."""
    limits = Limits(read=0.3, total=0.4, pauses=())
    began = time.monotonic()
    with slow_header_server(start) as host, pytest.raises(RegistryUnavailable, match="in time"):
        make_client(host, limits=limits).list_repositories()
    assert time.monotonic() - began < 4


@contextmanager
def slow_header_server(start: bytes) -> Iterator[str]:
    """Serve one response that never reaches its body; stop if the client disconnects."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                try:
                    connection.sendall(start)
                    for _ in range(200):
                        connection.sendall(b"H")
                        time.sleep(0.05)
                except OSError:
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def test_unreachable_server_is_unavailable(make_client: MakeClient) -> None:
    with pytest.raises(RegistryUnavailable, match=r"127\.0\.0\.1 cannot be reached"):
        make_client("127.0.0.1:1").list_repositories()
    with pytest.raises(RegistryUnavailable, match="cannot be reached"):
        make_client("no-such-host.invalid").list_repositories()


# TLS


def test_tls_connection_to_a_plain_http_server_fails(
    server: FakeRegistry, make_client: MakeClient
) -> None:
    with pytest.raises(RegistryError, match=r"TLS connection to 127\.0\.0\.1 failed"):
        make_client(server, plain_http=False).list_repositories()
    assert server.requests == []


def test_tls_is_verified_and_redirect_to_http_is_rejected(
    server: FakeRegistry, make_client: MakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = write_certificate(tmp_path, "127.0.0.1")
    with run_fake_registry(tls=server_context(certificate)) as secure:
        secure.routes[CATALOG] = Reply({"repositories": ["a"]})
        secure.routes[TAGS] = Reply(status=307, headers={"Location": f"{server.url}/x"})
        with pytest.raises(RegistryError, match=r"TLS connection to 127\.0\.0\.1 failed"):
            make_client(secure, plain_http=False).list_repositories()
        assert secure.requests == []

        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        client = make_client(secure, plain_http=False)
        assert client.list_repositories() == ["a"]
        with pytest.raises(RegistryError, match="from https to http"):
            client.list_tags("api")
        assert server.requests == []


# bodies


@pytest.mark.parametrize("length", [None, 10**12])
def test_large_body_is_not_read_to_the_end(
    server: FakeRegistry, make_client: MakeClient, length: int | None
) -> None:
    sent = 0

    def flood() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(10_000):
            sent += 1 << 16
            yield b" " * (1 << 16)

    headers = {"Content-Length": str(length)} if length else {}
    server.routes[CATALOG] = Reply(parts=flood, headers=headers)
    with pytest.raises(RegistryError, match="more than 10000 bytes"):
        make_client(server).list_repositories()
    assert sent < 50 << 20


def test_truncated_body_is_unavailable(server: FakeRegistry, make_client: MakeClient) -> None:
    server.routes[CATALOG] = Reply(
        parts=lambda: iter([b'{"repositories": []}']), headers={"Content-Length": "100"}
    )
    with pytest.raises(RegistryUnavailable):
        make_client(server).list_repositories()


@pytest.mark.parametrize("line", ["Broken line", "Link : <x>; rel=next", "\xa0X: y"])
def test_response_with_malformed_header_line_is_unavailable(
    server: FakeRegistry, make_client: MakeClient, line: str
) -> None:
    """The headers after the line are lost, also the link to the next page."""
    headers = {f"{line}\r\nLink": "</v2/_catalog?last=a>; rel=next"}
    server.routes[CATALOG] = Reply({"repositories": ["a"]}, headers=headers)
    with pytest.raises(RegistryUnavailable, match="sent a malformed response"):
        make_client(server).list_repositories()


# connections


def test_connection_is_reused_also_after_head(make_client: MakeClient) -> None:
    with run_fake_registry(keep_alive=True) as server:
        server.routes[CATALOG] = Reply({"repositories": ["a"]})
        server.fallback = lambda request: report_error("MANIFEST_UNKNOWN")
        client = make_client(server)
        for _ in range(2):
            assert client.list_repositories() == ["a"]
            assert client.find_digest("a", "1") is None
        assert [request.method for request in server.requests] == ["GET", "HEAD", "GET"] * 2
        assert len({request.client_port for request in server.requests}) == 1


def test_connection_that_failed_is_not_reused(make_client: MakeClient) -> None:
    with run_fake_registry(keep_alive=True) as server:
        server.routes[CATALOG] = Reply(b" " * 20_000)
        client = make_client(server)
        for _ in range(2):
            with pytest.raises(RegistryError, match="more than 10000 bytes"):
                client.list_repositories()
        assert len({request.client_port for request in server.requests}) == 2


def test_environment_proxy_is_not_used(
    server: FakeRegistry,
    other: FakeRegistry,
    make_client: MakeClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, other.url)
    server.routes[CATALOG] = Reply({"repositories": ["a"]})
    assert make_client(server).list_repositories() == ["a"]
    assert other.requests == []


def test_closed_client_sends_no_request(server: FakeRegistry, make_client: MakeClient) -> None:
    client = make_client(server)
    client.close()
    with pytest.raises(RegistryError, match="client is closed"):
        client.list_repositories()
    assert server.requests == []


# retries


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_temporary_failure_is_retried(
    server: FakeRegistry, make_client: MakeClient, status: int
) -> None:
    def handle(request: Request) -> Reply:
        return Reply(status=status) if len(server.requests) < 3 else Reply({"repositories": ["a"]})

    server.routes[CATALOG] = handle
    assert make_client(server).list_repositories() == ["a"]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_permanent_failure_is_unavailable(
    server: FakeRegistry, make_client: MakeClient, status: int
) -> None:
    server.routes[TAGS] = Reply(status=status)
    with pytest.raises(RegistryUnavailable, match=f"returned HTTP status {status}"):
        make_client(server).list_tags("api")
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("header", "minimum", "maximum"),
    [
        ("1", 0.5, 0.9),  # limited to retry_after, here 0.5 s
        ("0", 0, 0.3),
        ("-5", 0, 0.3),
        ("9" * 400, 0.5, 0.9),
        ("soon", 0, 0.3),
        ("٣", 0, 0.3),
        (formatdate(4102444800, usegmt=True), 0.5, 0.9),  # in the year 2100
        (formatdate(0, usegmt=True), 0, 0.3),
    ],
)
def test_retry_after_is_respected_up_to_the_limit(
    server: FakeRegistry, make_client: MakeClient, header: str, minimum: float, maximum: float
) -> None:
    def handle(request: Request) -> Reply:
        if len(server.requests) > 1:
            return Reply({"repositories": []})
        headers = {"Retry-After": header.encode().decode("latin-1")}
        return Reply(status=429, headers=headers)

    server.routes[CATALOG] = handle
    client = make_client(server)
    began = time.monotonic()
    assert client.list_repositories() == []
    assert minimum <= time.monotonic() - began < maximum + 0.5


# redirects


def test_redirect_loop_fails(server: FakeRegistry, make_client: MakeClient) -> None:
    server.routes[TAGS] = Reply(status=302, headers={"Location": TAGS})
    with pytest.raises(RegistryError, match="redirects more than 5 times"):
        make_client(server).list_tags("api")
    assert len(server.requests) == 6


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "http://u:p@127.0.0.1/",
        "http://[x/",
        "http://a b/",
        "http://é.test/",
        "http://a\\b/",
        "http://a%0ab/",
    ],
)
def test_redirect_to_unusable_url_fails(
    server: FakeRegistry, make_client: MakeClient, location: str
) -> None:
    server.routes[TAGS] = Reply(
        status=302, headers={"Location": location.encode().decode("latin-1")}
    )
    with pytest.raises(RegistryError, match="the registry refers to a"):
        make_client(server).list_tags("api")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("location", "target"),
    [("/a b?c=\xe9 d", "/a%20b?c=%C3%A9%20d"), ("/a%2Fb?c=%20", "/a%2Fb?c=%20")],
)
def test_redirect_target_is_percent_encoded_once(
    server: FakeRegistry, make_client: MakeClient, location: str, target: str
) -> None:
    server.routes[TAGS] = Reply(status=302, headers={"Location": location})
    server.fallback = lambda request: Reply({"tags": []})
    assert make_client(server).list_tags("api") == []
    assert server.requests[1].target == target
