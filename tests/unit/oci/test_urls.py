"""URLs that a registry refers to."""

import pytest

from harborguard.errors import RegistryError
from harborguard.oci.urls import Origin, parse_origin, resolve_url


@pytest.mark.parametrize(
    ("url", "expected", "host_header"),
    [
        ("https://Ghcr.io/v2/", Origin("https", "ghcr.io", 443), "ghcr.io"),
        ("https://ghcr.io:443/", Origin("https", "ghcr.io", 443), "ghcr.io"),
        (
            "https://registry.acme.test:5000",
            Origin("https", "registry.acme.test", 5000),
            "registry.acme.test:5000",
        ),
        ("http://[::1]:80/x?y", Origin("http", "::1", 80), "[::1]"),
        ("http://127.0.0.1:443", Origin("http", "127.0.0.1", 443), "127.0.0.1:443"),
    ],
)
def test_parse_origin_returns_scheme_host_and_port(
    url: str, expected: Origin, host_header: str
) -> None:
    origin = parse_origin(url)
    assert (origin, origin.host_header) == (expected, host_header)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ghcr.io",
        "ftp://ghcr.io:21/",
        "http:///x",
        "http://a:b@c/",
        "http://@c/",
        "http://h:99999/",
        "http://h:x/",
        "http://[::1",
        "http://[fe80::1%25eth0]/",
        "http://a b/",
        "http://a\\b/",
        "http://a%2eb/",
        "http://\u00e9.test/",
        "http://a\x00b/",
    ],
)
def test_parse_origin_of_an_unusable_url_fails(url: str) -> None:
    with pytest.raises(RegistryError, match="the registry refers to a"):
        parse_origin(url)


@pytest.mark.parametrize(
    ("base", "reference", "expected"),
    [
        ("https://ghcr.io/v2/", "/token", "https://ghcr.io/token"),
        ("https://ghcr.io/v2/", "http://ghcr.io/token?a=b", "https://ghcr.io/token?a=b"),
        ("https://ghcr.io/v2/", "http://GHCR.io:443/token", "https://ghcr.io/token"),
        ("https://a.test:5000/", "http://a.test/token", "https://a.test:5000/token"),
        ("https://a.test:5000/", "http://a.test:5000/token", "https://a.test:5000/token"),
        ("https://ghcr.io/", "https://other.test/x", "https://other.test/x"),
        ("http://a.test/", "http://other.test/x", "http://other.test/x"),
        ("http://a.test/", "https://a.test/x", "https://a.test/x"),
    ],
)
def test_resolve_url_keeps_https_at_the_same_host(base: str, reference: str, expected: str) -> None:
    assert resolve_url(base, reference) == expected


@pytest.mark.parametrize(
    "reference", ["http://other.test/", "http://a.test:8080/", "//[x/", "ftp://x/"]
)
def test_resolve_url_of_an_unsafe_reference_fails(reference: str) -> None:
    with pytest.raises(RegistryError, match="the registry refers"):
        resolve_url("https://a.test/", reference)
