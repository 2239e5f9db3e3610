"""Reading one repository for a sync."""

from collections.abc import Callable

import pytest

from harborguard.errors import RegistryError, RegistryUnavailable
from harborguard.model import ObservedTag
from harborguard.oci.sync import read_repository
from harborguard.store.repositories import RecordedTags
from tests.support.fake_registry import FakeRegistry, Reply, Request, digest_of, report_error
from tests.support.registry import BUILT_AT
from tests.unit.oci.conftest import TAGS, MakeClient
from tests.unit.oci.images import add_image

CONFIG = b'{"created": "2026-04-01T00:00:00Z"}'
NOTHING = RecordedTags()


def path(tag: str) -> str:
    return f"/v2/api/manifests/{tag}"


def head(digest: str) -> Reply:
    return Reply(b"", headers={"Docker-Content-Digest": digest})


def test_read_repository_requests_no_known_build_time(
    server: FakeRegistry, make_client: MakeClient
) -> None:
    digest = add_image(server, CONFIG)
    server.routes |= {TAGS: Reply({"tags": ["1", "2"]}), path("1"): head(digest)}
    server.routes[path("2")] = head(digest)
    first = read_repository(make_client(server), "api", NOTHING)
    assert [tag.built_at for tag in first.observed.tags] == [BUILT_AT, BUILT_AT]
    assert len(server.requests) == 5
    recorded = RecordedTags({"1", "2"}, {digest: BUILT_AT})
    second = read_repository(make_client(server), "api", recorded)
    assert second.observed.tags == first.observed.tags
    assert len(server.requests) == 8


@pytest.mark.parametrize(
    "tags",
    [
        Reply({"tags": None}),
        Reply({"tags": []}),
        Reply({"tags": ["1"]}),
        Reply({"tags": ["sha256-" + "a" * 64 + ".sig"]}),
        report_error("NAME_UNKNOWN"),
    ],
)
def test_recorded_tag_that_the_list_lacks_is_missing_only_if_the_registry_says_so(
    server: FakeRegistry, make_client: MakeClient, tags: Reply
) -> None:
    digest = add_image(server, CONFIG)
    server.routes |= {TAGS: tags, path("1"): head(digest), path("2"): head(digest)}
    server.routes[path("3")] = report_error("MANIFEST_UNKNOWN")
    recorded = RecordedTags({"1", "2", "3"})
    reading = read_repository(make_client(server), "api", recorded, is_in_catalog=False)
    assert reading.error is None
    assert reading.observed.tags == (
        ObservedTag("1", digest, BUILT_AT),
        ObservedTag("2", digest, BUILT_AT),
    )
    assert reading.observed.missing == ("3",)


@pytest.mark.parametrize(
    "reply",
    [
        *(Reply(status=status) for status in (400, 401, 403, 410, 412, 429, 500, 503)),
        Reply(b"<html>Sign in</html>"),
        Reply(b"404 page not found", status=404),
        Reply(status=404),
        report_error("DENIED"),
        Reply(status=302, headers={"Location": "http://192.0.0.8/"}),
    ],
)
@pytest.mark.parametrize("is_listed", [False, True])
def test_tag_that_cannot_be_read_is_neither_observed_nor_missing(
    server: FakeRegistry, make_client: MakeClient, reply: Reply, is_listed: bool
) -> None:
    digest = add_image(server, CONFIG)
    names = ["1", "bad", "2"] if is_listed else ["1", "2"]
    server.routes |= {
        TAGS: Reply({"tags": names}),
        path("1"): head(digest),
        path("2"): head(digest),
    }
    server.routes[path("bad")] = reply
    reading = read_repository(make_client(server), "api", RecordedTags({"bad"}))
    assert [tag.name for tag in reading.observed.tags] == ["1", "2"]
    assert reading.observed.missing == ()
    assert str(reading.error).startswith("left unchanged: tag bad: ")


UNKNOWN = report_error("MANIFEST_UNKNOWN")


def fail_once(tag: str, digest: str, failure: Reply) -> Callable[[Request], Reply]:
    """Return a handler that fails for one tag until another path was requested after it."""
    order: list[str] = []

    def handle(request: Request) -> Reply:
        if request.path != path(tag) or order[-1:] not in ([], [path(tag)]):
            order.append(request.path)
            return head(digest)
        order.append(request.path)
        return failure

    return handle


@pytest.mark.parametrize("listed", [["1", "2", "3"], ["3", "2", "1"]])
def test_listed_tag_that_is_unknown_for_a_moment_is_observed(
    server: FakeRegistry, make_client: MakeClient, listed: list[str]
) -> None:
    digest = add_image(server, CONFIG)
    server.routes[TAGS] = Reply({"tags": listed})
    server.fallback = fail_once(listed[0], digest, UNKNOWN)
    reading = read_repository(make_client(server), "api", RecordedTags({"1", "2", "3"}))
    assert (reading.error, reading.observed.missing) == (None, ())
    assert [tag.name for tag in reading.observed.tags] == [*listed[1:], listed[0]]


def test_listed_tag_is_missing_after_a_second_request_behind_all_others(
    server: FakeRegistry, make_client: MakeClient
) -> None:
    digest = add_image(server, CONFIG)
    server.routes |= {TAGS: Reply({"tags": ["1", "2"]}), path("1"): UNKNOWN, path("3"): UNKNOWN}
    server.routes[path("2")] = head(digest)
    reading = read_repository(make_client(server), "api", RecordedTags({"1", "2", "3"}))
    assert (reading.error, reading.observed.missing) == (None, ("3", "1"))
    assert [tag.name for tag in reading.observed.tags] == ["2"]
    requested = [each.path for each in server.requests if each.method == "GET"]
    tags = [each for each in requested if each in {path("1"), path("2"), path("3")}]
    assert tags == [path("1"), path("3"), path("1")]


@pytest.mark.parametrize(
    "others", [{}, {path("2"): UNKNOWN}, {path("2"): Reply(status=412), path("1"): UNKNOWN}]
)
def test_registry_that_knows_no_tag_of_its_list_contradicts_itself(
    server: FakeRegistry, make_client: MakeClient, others: dict[str, Reply]
) -> None:
    listed = ["1", "2"] if others else ["1"]
    server.routes |= {TAGS: Reply({"tags": listed}), path("1"): UNKNOWN, path("9"): UNKNOWN}
    server.routes |= others
    with pytest.raises(RegistryError, match=rf"contradicts itself\. It lists {len(listed)} tags"):
        read_repository(make_client(server), "api", RecordedTags({"1", "2", "9"}))


@pytest.mark.parametrize("is_in_catalog", [True, False])
def test_repository_of_the_catalog_without_tag_list_contradicts_it(
    server: FakeRegistry, make_client: MakeClient, is_in_catalog: bool
) -> None:
    server.fallback = lambda request: report_error("NAME_UNKNOWN")
    client, recorded = make_client(server), RecordedTags({"1", "2"})
    if is_in_catalog:
        with pytest.raises(RegistryError, match="Its catalog contains the repository, but"):
            read_repository(client, "api", recorded, is_in_catalog=True)
        assert server.paths() == [TAGS]
    else:
        reading = read_repository(client, "api", recorded, is_in_catalog=False)
        assert (reading.error, reading.observed.missing) == (None, ("1", "2"))


def test_malformed_tags_are_named_up_to_a_limit(
    server: FakeRegistry, make_client: MakeClient
) -> None:
    digest = add_image(server, CONFIG)
    server.routes |= {
        TAGS: Reply({"tags": [*(f"../{n}" + "x" * 300 for n in range(13)), "1"]}),
        path("1"): head(digest),
    }
    reading = read_repository(make_client(server), "api", NOTHING)
    assert [tag.name for tag in reading.observed.tags] == ["1"]
    message = str(reading.error)
    assert (message.count("tag ../"), message.endswith("; 3 more tags")) == (10, True)
    assert "x" * 129 not in message


def fail_with_503_for(names: set[str], digest: str) -> Callable[[Request], Reply]:
    def handle(request: Request) -> Reply:
        if request.path.rpartition("/")[2] in names:
            return Reply(status=503)
        return head(digest)

    return handle


@pytest.mark.parametrize(
    ("listed", "failing"),
    [(["1"], {"1"}), (["1", "2"], {"1", "2"}), (["1", "2", "3", "4", "5"], {"2", "3", "4"})],
)
def test_repository_with_unavailable_tags_in_a_row_is_unavailable(
    server: FakeRegistry, make_client: MakeClient, listed: list[str], failing: set[str]
) -> None:
    server.routes[TAGS] = Reply({"tags": listed})
    server.fallback = fail_with_503_for(failing, digest_of(b""))
    with pytest.raises(RegistryUnavailable):
        read_repository(make_client(server), "api", NOTHING)
    assert path("5") not in server.paths()


def test_single_unavailable_tags_are_left_out(
    server: FakeRegistry, make_client: MakeClient
) -> None:
    server.routes[TAGS] = Reply({"tags": ["1", "2", "3", "4", "5", "6"]})
    server.fallback = fail_with_503_for({"1", "2", "4", "6"}, digest_of(b""))
    reading = read_repository(make_client(server), "api", RecordedTags({"1"}))
    assert [tag.name for tag in reading.observed.tags] == ["3", "5"]
    assert reading.observed.missing == ()


def test_unavailable_build_times_are_requested_only_once(
    server: FakeRegistry, make_client: MakeClient
) -> None:
    server.routes |= {
        TAGS: Reply({"tags": ["1", "2"]}),
        path("1"): head(digest_of(b"1")),
        path("2"): head(digest_of(b"2")),
    }
    server.fallback = lambda request: Reply(status=503)
    reading = read_repository(make_client(server), "api", NOTHING)
    assert reading.observed.tags == (
        ObservedTag("1", digest_of(b"1")),
        ObservedTag("2", digest_of(b"2")),
    )
    assert reading.error is None
    assert path(digest_of(b"2")) not in server.paths()
