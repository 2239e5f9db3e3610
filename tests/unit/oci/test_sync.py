"""Reading one repository for a sync."""

from harborguard.oci.sync import read_repository
from tests.support.fake_registry import FakeRegistry, Reply
from tests.support.registry import BUILT_AT
from tests.unit.oci.conftest import TAGS, MakeClient
from tests.unit.oci.images import add_image


def test_read_repository_requests_no_known_build_time(
    server: FakeRegistry, make_client: MakeClient
) -> None:
    digest = add_image(server, b'{"created": "2026-04-01T00:00:00Z"}')
    server.routes[TAGS] = Reply({"tags": ["1", "2"]})
    head = Reply(b"", headers={"Docker-Content-Digest": digest})
    server.routes |= {"/v2/api/manifests/1": head, "/v2/api/manifests/2": head}
    first = read_repository(make_client(server), "api", {})
    assert [tag.built_at for tag in first.tags] == [BUILT_AT, BUILT_AT]
    assert len(server.requests) == 5
    second = read_repository(make_client(server), "api", {digest: BUILT_AT})
    assert second.tags == first.tags
    assert len(server.requests) == 8
