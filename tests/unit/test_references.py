"""Parsing and normalizing image references, hosts and digests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harborguard.errors import InvalidReference
from harborguard.model import Reference
from harborguard.references import parse_digest, parse_host, parse_reference

SHA256 = "sha256:" + "0123456789abcdef" * 4
SHA512 = "sha512:" + "0123456789abcdef" * 8


def test_reference_has_host_repository_tag_and_name() -> None:
    reference = parse_reference("ghcr.io/acme/api:1.4.7")
    assert Reference("ghcr.io", "acme/api", "1.4.7") == reference
    assert reference.name == "ghcr.io/acme/api"


@pytest.mark.parametrize(
    ("text", "host", "repository", "tag", "digest"),
    [
        ("nginx", "docker.io", "library/nginx", "latest", None),
        ("nginx:1.27-alpine", "docker.io", "library/nginx", "1.27-alpine", None),
        ("acme/api", "docker.io", "acme/api", "latest", None),
        ("a/b/c/d:x", "docker.io", "a/b/c/d", "x", None),
        ("docker.io/nginx", "docker.io", "library/nginx", "latest", None),
        ("docker.io/library/nginx", "docker.io", "library/nginx", "latest", None),
        ("index.docker.io/nginx:1", "docker.io", "library/nginx", "1", None),
        ("Index.Docker.IO/acme/api:1", "docker.io", "acme/api", "1", None),
        ("registry-1.docker.io/library/nginx:1", "docker.io", "library/nginx", "1", None),
        ("docker.io:443/nginx", "docker.io", "library/nginx", "latest", None),
        ("registry.hub.docker.com/library/nginx:1", "docker.io", "library/nginx", "1", None),
        ("https://ghcr.io:443/acme/api:1", "ghcr.io", "acme/api", "1", None),
        ("localhost:443/api:1", "localhost", "api", "1", None),
        ("[::1]:443/api:1", "[::1]", "api", "1", None),
        ("registry:443/api:1", "registry:443", "api", "1", None),
        ("ghcr.io:8443/acme/api:1", "ghcr.io:8443", "acme/api", "1", None),
        ("ghcr.io:80/acme/api:1", "ghcr.io:80", "acme/api", "1", None),
        ("GHCR.io/acme/api", "ghcr.io", "acme/api", "latest", None),
        ("ghcr.io/acme/api:V1_x.Y-z", "ghcr.io", "acme/api", "V1_x.Y-z", None),
        ("localhost/tools/lint", "localhost", "tools/lint", "latest", None),
        ("localhost:5000/tools/lint:2", "localhost:5000", "tools/lint", "2", None),
        ("LOCALHOST:5000/lint", "localhost:5000", "lint", "latest", None),
        ("registry:5000/api", "registry:5000", "api", "latest", None),
        ("10.0.0.7:5000/api:1", "10.0.0.7:5000", "api", "1", None),
        ("[2001:DB8::1]:5000/api:1", "[2001:db8::1]:5000", "api", "1", None),
        ("[::1]/api", "[::1]", "api", "latest", None),
        ("https://ghcr.io/acme/api:1", "ghcr.io", "acme/api", "1", None),
        ("HTTP://localhost:5000/api", "localhost:5000", "api", "latest", None),
        ("http://nginx", "docker.io", "library/nginx", "latest", None),
        ("docker://nginx", "docker.io", "library/nginx", "latest", None),
        ("DOCKER://ghcr.io/acme/api:1", "ghcr.io", "acme/api", "1", None),
        ("docker-pullable://ghcr.io/acme/api:1", "ghcr.io", "acme/api", "1", None),
        (f"docker-pullable://acme/api@{SHA256}", "docker.io", "acme/api", None, SHA256),
        ("docker-daemon:nginx:1", "docker.io", "library/nginx", "1", None),
        ("docker-image://alpine", "docker.io", "library/alpine", "latest", None),
        ("containerd://acme/api:1", "docker.io", "acme/api", "1", None),
        ("containerd:nginx", "docker.io", "library/nginx", "latest", None),
        ("containers-storage:localhost/api:1", "localhost", "api", "1", None),
        ("cri-o://quay.io/acme/api", "quay.io", "acme/api", "latest", None),
        ("oci://ghcr.io/acme/chart:1", "ghcr.io", "acme/chart", "1", None),
        ("oras://ghcr.io/acme/api:1", "ghcr.io", "acme/api", "1", None),
        ("podman:localhost/api:1", "localhost", "api", "1", None),
        ("podman://nginx", "docker.io", "library/nginx", "latest", None),
        ("registry:ghcr.io/acme/api:2", "ghcr.io", "acme/api", "2", None),
        ("registry://ghcr.io/acme/api", "ghcr.io", "acme/api", "latest", None),
        ("docker:acme/api", "docker.io", "acme/api", "latest", None),
        ("docker:123456789012.dkr.ecr.test/a:1", "123456789012.dkr.ecr.test", "a", "1", None),
        ("docker:24", "docker.io", "library/docker", "24", None),
        (f"docker:24@{SHA256}", "docker.io", "library/docker", "24", SHA256),
        ("docker:dind", "docker.io", "library/docker", "dind", None),
        ("registry:2", "docker.io", "library/registry", "2", None),
        ("podman:5", "docker.io", "library/podman", "5", None),
        ("podman:latest", "docker.io", "library/podman", "latest", None),
        ("podman:latest-1", "docker.io", "library/latest-1", "latest", None),
        ("podman:5000/api", "podman:5000", "api", "latest", None),
        ("file:5000/api", "file:5000", "api", "latest", None),
        ("deadbeef", "docker.io", "library/deadbeef", "latest", None),
        ("ghcr.io/0123456789ab", "ghcr.io", "0123456789ab", "latest", None),
        ("ghcr.io/acme/image.tar", "ghcr.io", "acme/image.tar", "latest", None),
        (f"nginx@{SHA256}", "docker.io", "library/nginx", None, SHA256),
        (f"nginx@{SHA512}", "docker.io", "library/nginx", None, SHA512),
        (f"nginx:1@{SHA256}", "docker.io", "library/nginx", "1", SHA256),
        (f"localhost:5000/api@{SHA256}", "localhost:5000", "api", None, SHA256),
        ("a.b/c.d/e_f/g__h/i-j/k---l", "a.b", "c.d/e_f/g__h/i-j/k---l", "latest", None),
        ("xn--bcher-kva.example/a", "xn--bcher-kva.example", "a", "latest", None),
        ("nginx:" + "t" * 128, "docker.io", "library/nginx", "t" * 128, None),
        ("docker.io", "docker.io", "library/docker.io", "latest", None),
        ("quay.io/" + "r" * 247, "quay.io", "r" * 247, "latest", None),
    ],
)
def test_reference_is_normalized(
    *, text: str, host: str, repository: str, tag: str | None, digest: str | None
) -> None:
    assert Reference(host, repository, tag, digest) == parse_reference(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "ASCII"),
        ("ng\u0131nx", "ASCII"),
        ("ghcr.io/acme/ap\u0131", "ASCII"),
        ("\u212aghcr.io/a", "ASCII"),
        ("Nginx", "path"),
        ("Acme/api", "path"),
        ("ghcr.io/Acme/api", "path"),
        ("ghcr.io/", "path"),
        ("ghcr.io//api", "path"),
        ("ghcr.io/api/", "path"),
        ("/api", "path"),
        ("./api", "host"),
        ("../api", "host"),
        ("a..b/c", "host"),
        ("ghcr.io/../api", "path"),
        ("ghcr.io/a___b", "path"),
        ("ghcr.io/a..b", "path"),
        ("ghcr.io/-a", "path"),
        ("ghcr.io/a-", "path"),
        ("ghcr.io/a_-b", "path"),
        ("ghcr.io/a b", "path"),
        (" nginx", "path"),
        ("nginx\n", "path"),
        ("nginx:1\n", "tag"),
        ("nginx\x00", "path"),
        ("ngi%6ex", "path"),
        ("nginx:", "tag"),
        ("nginx:-1", "tag"),
        ("nginx:.1", "tag"),
        ("nginx:1:2", "tag"),
        ("nginx:a/b", "host"),
        ("nginx:" + "t" * 129, "tag"),
        ("nginx@", "digest"),
        ("nginx@sha256:abcdef", "digest"),
        (f"nginx@{SHA256.upper()}", "digest"),
        (f"nginx@{SHA256}0", "digest"),
        (f"nginx@{SHA256}@{SHA256}", "digest"),
        ("nginx@md5:" + "0" * 32, "digest"),
        ("-host.io/a", "host"),
        ("host-.io/a", "host"),
        ("host.io:/a", "host"),
        ("host.io:port/a", "host"),
        ("host.io:123456/a", "host"),
        ("[::1/a", "host"),
        ("[nothex]:1/a", "host"),
        ("[:::]/a", "IPv6"),
        ("ghcr.io:0/a", "port"),
        ("ghcr.io:99999/a", "port"),
        ("ftp://nginx", "host"),
        ("https://", "path"),
        ("https://https://nginx", "host"),
        ("user:secret@ghcr.io/a", "digest"),
        (SHA256, "id"),
        (SHA512, "id"),
        ("0123456789abcdef" * 4, "id"),
        ("0123456789ab", "id"),
        ("0123456789abcdef", "id"),
        ("sha256:0123456789ab", "id"),
        ("sha256:4", "id"),
        ("sha512:0123", "id"),
        (f"docker://{SHA256}", "id"),
        ("docker://0123456789ab", "id"),
        ("docker-archive:api.tar", "scheme of a file"),
        ("oci-archive:api", "scheme of a file"),
        ("oci-dir:layout", "scheme of a file"),
        ("oci-layout://layout", "scheme of a file"),
        ("oci:layout:1.0", "scheme of a file"),
        ("dir:app", "scheme of a file"),
        ("file:///srv/app", "scheme of a file"),
        ("sbom:app", "scheme of a file"),
        ("pkg:npm/app", "scheme of a file"),
        ("image.tar", "name of a file"),
        ("images/api.tar.gz", "name of a file"),
        ("api.tgz", "name of a file"),
        ("sbom/api.json", "name of a file"),
        ("ghcr.io/" + "r" * 248, "255"),
        ("r" * 238, "255"),
    ],
)
def test_malformed_reference_is_rejected_with_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        parse_reference(text)
    [issue] = caught.value.issues
    assert issue.path == "image"
    assert reason in issue.message


@given(st.text() | st.text(alphabet="a1./:@-_[] \x00A", max_size=40))
def test_any_text_is_normalized_or_rejected(text: str) -> None:
    try:
        reference = parse_reference(text)
    except InvalidReference:
        return
    assert reference.name.isascii()
    assert reference.name.lower() == reference.name
    assert len(reference.name) <= 255
    assert reference.tag or reference.digest


@given(
    st.builds(
        "".join,
        st.tuples(
            st.sampled_from(["", "ghcr.io/", "localhost:5000/", "index.docker.io/", "[::1]/"]),
            st.sampled_from(["a", "b1/c", "d-e/f__g/h.i"]),
            st.sampled_from(["", ":1", ":V1.2-x_", ":latest"]),
            st.sampled_from(["", f"@{SHA256}", f"@{SHA512}"]),
        ),
    )
)
def test_normalized_reference_parses_to_itself(text: str) -> None:
    first = parse_reference(text)
    tag = f":{first.tag}" if first.tag else ""
    digest = f"@{first.digest}" if first.digest else ""
    assert first == parse_reference(f"{first.name}{tag}{digest}")


def test_long_malformed_text_is_rejected_quickly() -> None:
    for text in ("a" * 1_000_000, "a-" * 500_000, "a/" * 500_000, "a." * 500_000 + "/b"):
        with pytest.raises(InvalidReference):
            parse_reference(text)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("ghcr.io", "ghcr.io"),
        ("https://GHCR.io/", "ghcr.io"),
        ("localhost:5000", "localhost:5000"),
        ("registry", "registry"),
        ("[2001:DB8::1]:5000", "[2001:db8::1]:5000"),
        ("index.docker.io", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
        ("registry.hub.docker.com:443", "docker.io"),
        ("ghcr.io:443", "ghcr.io"),
        ("ghcr.io:0443", "ghcr.io"),
        ("ghcr.io:05000", "ghcr.io:5000"),
        ("index.docker.io:00443", "docker.io"),
        ("[0:0:0:0:0:0:0:1]:5000", "[::1]:5000"),
        ("[2001:0DB8::0:1]", "[2001:db8::1]"),
        ("ghcr.io:65535", "ghcr.io:65535"),
        ("registry:443", "registry:443"),
    ],
)
def test_host_is_normalized(text: str, host: str) -> None:
    assert host == parse_host(text)


@pytest.mark.parametrize(
    "text",
    ["", "https://", "ghcr.io/acme", "ghcr.io//", "a b", "-a", "a:", "\u212a.io", "a\n", "a.io:0",
     "a.io:65536", "[:::]", "[1:2]:443", "[::1::2]"],
)  # fmt: skip
def test_malformed_host_is_rejected(text: str) -> None:
    with pytest.raises(InvalidReference):
        parse_host(text)


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        (None, None),
        ("", None),
        (SHA256, SHA256),
        (SHA512, SHA512),
        (f"ghcr.io/acme/api@{SHA256}", SHA256),
        (f"a@b@{SHA256}", SHA256),
        (f"{SHA256}@", None),
        (f"{SHA256}\n", None),
        (f" {SHA256}", None),
        (SHA256.upper(), None),
        (SHA256[:-1], None),
        (SHA256 + "0", None),
        (SHA256.replace("sha256", "sha512"), None),
        ("sha384:" + "0" * 96, None),
        ("sha256:test", None),
        ("0123456789abcdef" * 4, None),
    ],
)
def test_digest_is_the_text_after_the_last_at_sign(text: str | None, digest: str | None) -> None:
    assert digest == parse_digest(text)
