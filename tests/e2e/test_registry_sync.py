"""`harborguard registry`: add, list and sync registries from the command line."""

import json
import re
import time
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from harborguard.model import ObservedRepository, ObservedTag, TagChanges
from harborguard.oci import RegistryClient
from harborguard.oci.sync import Selection, plan_sync, synchronize
from harborguard.store.connection import Connection
from harborguard.store.registries import ensure_registry, get_registry
from harborguard.store.repositories import record_repository
from tests.support import reports
from tests.support.commands import Commands, Result
from tests.support.fake_registry import (
    FakeRegistry,
    Handler,
    MemoryRegistry,
    Reply,
    Request,
    digest_of,
    run_fake_registry,
)
from tests.support.registry import BUILT_AT, PROGRAM, Pusher, run_skopeo, running_registry
from tests.support.reports import image_rows, manifest

DAY = timedelta(days=1)
SUMMARY = re.compile(
    r"(\d+) repositories, (\d+) tags: (\d+) new, (\d+) moved, (\d+) removed; (\d+) failed"
    r"(?:, [1-9]\d* inaccessible)?(?:, [1-9]\d* skipped)?"
)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Pusher]:
    """Yield an empty registry."""
    with running_registry(tmp_path) as pusher:
        yield pusher


@pytest.fixture
def acme(run: Commands, conn: Connection) -> str:
    """Return the organization's id."""
    [organization_id] = conn.execute("SELECT id FROM organizations").fetchone() or [""]
    return organization_id


def sync(run: Commands, host: str, options: str = "", **kwargs: object) -> Result:
    run(f"registry add {host} --org acme")
    return run(f"registry sync {host} --org acme --plain-http {options}", **kwargs)


def summary(result: Result) -> tuple[int, ...]:
    """Return the numbers of repositories and of tags, new, moved, removed and failed."""
    match = SUMMARY.fullmatch(result.stderr.splitlines()[-1])
    assert match, result.output
    assert result.stdout == ""
    assert result.exit_code == (1 if int(match[6]) else 0)
    return tuple(map(int, match.groups()))


def tables(conn: Connection) -> list[Any]:
    """Return all rows that a sync without changes must not change, without its timestamps."""
    tag_columns = "to_jsonb(t) - 'last_observed_at'"
    registries = "to_jsonb(t) - 'last_synced_at'"
    return [
        conn.execute(f"SELECT {row} FROM {table} AS t ORDER BY t.id").fetchall()  # pyright: ignore
        for table, row in {
            "images": "to_jsonb(t)",
            "tags": tag_columns,
            "registries": registries,
        }.items()
    ]


def tags(conn: Connection) -> dict[str, str]:
    """Return the current digest of each tag."""
    return dict(conn.execute("SELECT name, digest FROM current_tags").fetchall())


def images(conn: Connection, organization_id: str, host: str) -> dict[str, tuple[Any, ...]]:
    """Return tag count, latest tag, latest digest and score by repository."""
    columns = ("tag_count", "latest_tag", "latest_digest", "risk_score")
    return {
        name.removeprefix(f"{host}/"): tuple(row[column] for column in columns)
        for name, row in image_rows(conn, organization_id).items()
    }


def test_sync_records_new_moved_and_removed_tags(
    run: Commands, registry: Pusher, conn: Connection, acme: str
) -> None:
    old = registry.push("acme/api", "1.9", built_at=BUILT_AT - DAY)
    new = registry.push("acme/api", "1.10")
    web = registry.push("web", "latest")

    result = sync(run, registry.host)

    assert summary(result) == (2, 3, 3, 0, 0, 0)
    assert images(conn, acme, registry.host) == {
        "acme/api": (2, "1.10", new, None),
        "web": (1, "latest", web, None),
    }

    moved = registry.push("acme/api", "1.10", salt="again")
    registry.delete("acme/api", old)
    assert summary(sync(run, registry.host)) == (2, 2, 0, 1, 1, 0)
    assert images(conn, acme, registry.host)["acme/api"] == (1, "1.10", moved, None)


@pytest.mark.timeout(300)
def test_second_sync_of_2000_tags_changes_nothing(
    run: Commands, registry: Pusher, conn: Connection, acme: str, record_property: Any
) -> None:
    for number in range(200):
        repository = f"team-{number % 7}/image-{number}"
        config = registry.push_config(repository)
        for tag in range(10):
            registry.push(repository, f"1.{tag}", config=config)

    began = time.monotonic()
    first = sync(run, registry.host)
    first_seconds = time.monotonic() - began

    assert summary(first) == (200, 2000, 2000, 0, 0, 0)
    assert "150 of 200 repositories" in first.stderr
    assert set(images(conn, acme, registry.host).values()) == {
        (10, "1.9", digest, None) for _, _, digest, _ in images(conn, acme, registry.host).values()
    }
    before = tables(conn)
    began = time.monotonic()
    assert summary(sync(run, registry.host)) == (200, 2000, 0, 0, 0, 0)
    second_seconds = time.monotonic() - began
    assert tables(conn) == before
    record_property("first sync, seconds", round(first_seconds, 1))
    record_property("second sync, seconds", round(second_seconds, 1))
    print(f"first sync {first_seconds:.1f} s, second {second_seconds:.1f} s")


# what a sync records


def test_sync_of_an_index_records_the_build_time_of_linux_amd64(
    run: Commands, registry: Pusher, conn: Connection, acme: str
) -> None:
    platforms = {
        "unknown/unknown": BUILT_AT + 9 * DAY,
        "linux/arm64": BUILT_AT + 5 * DAY,
        "linux/amd64": BUILT_AT - 5 * DAY,
    }
    registry.push_index("api", "index", platforms)
    registry.push("api", "single")
    arm = registry.push_index("arm", "1", {"linux/arm64": BUILT_AT + DAY})

    assert summary(sync(run, registry.host)) == (2, 3, 3, 0, 0, 0)

    assert images(conn, acme, registry.host)["api"][1] == "single"
    built = dict(conn.execute("SELECT digest, built_at FROM tags").fetchall())
    assert built[arm] == BUILT_AT + DAY
    assert sorted(built.values()) == [BUILT_AT - 5 * DAY, BUILT_AT, BUILT_AT + DAY]


def test_build_time_in_the_future_does_not_make_a_tag_the_latest(
    run: Commands, registry: Pusher, conn: Connection, acme: str
) -> None:
    registry.push("api", "1", built_at=BUILT_AT.replace(year=2099))
    sync(run, registry.host)
    new = registry.push("api", "2", built_at=datetime.now(UTC))
    sync(run, registry.host)
    assert images(conn, acme, registry.host) == {"api": (2, "2", new, None)}
    assert dict(conn.execute("SELECT name, built_at FROM tags").fetchall())["1"] is None


@pytest.mark.skipif(not (PROGRAM and which("skopeo")), reason="needs docker-registry and skopeo")
def test_sync_records_the_digest_that_skopeo_reports(
    run: Commands, registry: Pusher, conn: Connection, acme: str, tmp_path: Path
) -> None:
    registry.push("a/source", "1")
    source, target = (f"docker://{registry.host}/{name}" for name in ("a/source:1", "b/copy:2"))
    flags = ["--src-tls-verify=false", "--dest-tls-verify=false"]
    run_skopeo(tmp_path, "copy", "-q", *flags, source, target)
    inspected = json.loads(run_skopeo(tmp_path, "inspect", "--tls-verify=false", target))

    sync(run, registry.host)

    assert images(conn, acme, registry.host)["b/copy"] == (1, "2", inspected["Digest"], None)


def test_sync_ignores_the_tags_of_signatures(
    run: Commands, registry: Pusher, conn: Connection, acme: str
) -> None:
    digest = registry.push("api", "1")
    for suffix in ("", ".sig", ".att"):
        registry.push("api", digest.replace(":", "-") + suffix, built_at=BUILT_AT + DAY)
    assert summary(sync(run, registry.host)) == (1, 1, 1, 0, 0, 0)
    assert images(conn, acme, registry.host) == {"api": (1, "1", digest, None)}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", {"acme/api", "acme/web", "tools/api"}),
        ("--include acme/*", {"acme/api", "acme/web"}),
        ("--exclude */api", {"acme/web"}),
        ("--include acme/* --exclude *web", {"acme/api"}),
        ("--include acme/web --include tools/*", {"acme/web", "tools/api"}),
        ("--include ACME/*", set()),
    ],
)
def test_sync_reads_included_and_not_excluded_repositories(
    run: Commands, registry: Pusher, conn: Connection, acme: str, options: str, expected: set[str]
) -> None:
    for repository in ("acme/api", "acme/web", "tools/api"):
        registry.push(repository, "1")
    assert summary(sync(run, registry.host, options))[0] == len(expected)
    assert set(images(conn, acme, registry.host)) == expected


# together with scans


def test_scan_of_a_synced_image_sets_its_score(
    run: Commands, registry: Pusher, conn: Connection, acme: str, tmp_path: Path
) -> None:
    digest = registry.push("api", "1")
    sync(run, registry.host)
    before = images(conn, acme, registry.host)["api"]
    report = tmp_path / "report.json"
    report.write_bytes(reports.envelope(f"{registry.host}/api:1", (0, 4), digest=digest))
    assert run(f"ingest {report} --org acme").exit_code == 0
    assert images(conn, acme, registry.host) == {"api": (*before[:3], 25)}
    assert summary(sync(run, registry.host)) == (1, 1, 0, 0, 0, 0)

    registry.delete("api", digest)
    assert summary(sync(run, registry.host)) == (1, 0, 0, 0, 1, 0)
    count, tag, _, score = images(conn, acme, registry.host)["api"]
    assert (count, tag, score) == (0, None, 25)


def test_tag_moved_back_has_its_former_digest(
    run: Commands, registry: Pusher, conn: Connection, acme: str
) -> None:
    for salt in ("a", "b", "a"):
        digest = registry.push("api", "1", salt=salt)
        sync(run, registry.host)
        assert images(conn, acme, registry.host) == {"api": (1, "1", digest, None)}


def test_tag_observed_after_the_sync_began_is_not_removed(
    run: Commands, conn: Connection, acme: str
) -> None:
    """A scan uploaded during the sync is newer than the registry's response."""
    run("registry add ghcr.io --org acme")
    registry_id = get_registry(conn, acme, "ghcr.io")
    observed = ObservedRepository("ghcr.io/acme/api", (ObservedTag("1", manifest("a")),), BUILT_AT)
    record_repository(conn, acme, registry_id, observed)

    earlier = replace(
        observed,
        tags=(ObservedTag("0", manifest("b")),),
        observed_at=BUILT_AT - DAY,
        missing=("1",),
    )
    assert record_repository(conn, acme, registry_id, earlier).removed == 0
    assert image_rows(conn, acme)["ghcr.io/acme/api"]["tag_count"] == 2

    later = replace(earlier, observed_at=BUILT_AT + DAY)
    assert record_repository(conn, acme, registry_id, later).removed == 1


def test_tag_that_is_neither_observed_nor_missing_is_left_unchanged(
    run: Commands, conn: Connection, acme: str
) -> None:
    run("registry add ghcr.io --org acme")
    registry_id = get_registry(conn, acme, "ghcr.io")
    tags = (ObservedTag("1", manifest("a")), ObservedTag("2", manifest("b")))
    observed = ObservedRepository("ghcr.io/acme/api", tags, BUILT_AT)
    record_repository(conn, acme, registry_id, observed)
    before = tables(conn)
    empty = replace(observed, tags=(), observed_at=BUILT_AT + DAY)
    assert record_repository(conn, acme, registry_id, empty) == TagChanges()
    assert tables(conn) == before


def test_sync_of_a_registry_unknown_to_the_organization_fails(
    run: Commands, registry: Pusher, conn: Connection, acme: str
) -> None:
    registry.push("api", "1")
    sync(run, registry.host)
    before = tables(conn)
    run("org create globex")
    result = run(f"registry sync {registry.host} --org globex --plain-http")
    assert (result.exit_code, "registry add" in result.stderr) == (1, True)
    assert tables(conn) == before
    assert run("registry list --org globex").stdout == ""


# registries that fail


@pytest.fixture
def server() -> Iterator[FakeRegistry]:
    """Yield a registry in memory whose responses a test can replace."""
    with run_fake_registry() as server:
        server.fallback = MemoryRegistry()
        yield server


@pytest.fixture
def pusher(server: FakeRegistry) -> Iterator[Pusher]:
    """Yield a client that fills the registry in memory."""
    pusher = Pusher(server.host)
    yield pusher
    pusher.close()


def test_sync_removes_the_tags_of_removed_repositories(
    run: Commands, server: FakeRegistry, pusher: Pusher, conn: Connection, acme: str
) -> None:
    """A catalog that failed or is empty removes nothing; nor does one of excluded repositories."""
    for repository in ("acme/api", "acme/web", "tools/x"):
        pusher.push(repository, "1")
    sync(run, server.host)
    before = tables(conn)
    registry = MemoryRegistry()
    server.fallback = registry

    for catalog in (Reply(status=404), Reply(b"<html>"), Reply({"repositories": []})):
        server.routes["/v2/_catalog"] = catalog
        sync(run, server.host)
        assert tables(conn) == before

    server.routes["/v2/_catalog"] = Reply({"repositories": ["tools/x"]})
    registry.tags["tools/x"] = {"1": digest_of(b"{}")}
    registry.manifests["tools/x"] = {digest_of(b"{}"): b"{}"}
    assert summary(sync(run, server.host, "--exclude *web")) == (1, 1, 0, 1, 1, 0)
    counts = {name: row[0] for name, row in images(conn, acme, server.host).items()}
    assert counts == {"acme/api": 0, "acme/web": 1, "tools/x": 1}


ERROR = Reply({"errors": [{"code": "MANIFEST_UNKNOWN"}]}, status=404)
CATALOG = "/v2/_catalog"
API = "/v2/acme/api"


def next_page(path: str, key: str, name: str) -> Reply:
    return Reply({key: [name]}, headers={"Link": f'<{path}?last=x&n=1000>; rel="next"'})


@pytest.mark.parametrize(
    ("routes", "failed"),
    [
        ({CATALOG: Reply({"repositories": ["tools/x"]})}, 0),
        ({CATALOG: Reply({"repositories": ["Acme/API", "tools/x"]})}, 1),
        ({CATALOG: Reply({"repositories": ["tools/x"]}), f"{API}/tags/list": Reply(status=401)}, 0),
        ({f"{API}/tags/list": Reply(status=401)}, 1),
        ({f"{API}/tags/list": Reply({"tags": None})}, 0),
        ({f"{API}/tags/list": Reply({"tags": []})}, 0),
        ({f"{API}/tags/list": Reply({"tags": ["1"]})}, 0),
        ({f"{API}/tags/list": ERROR}, 1),
        ({f"{API}/manifests/1": ERROR, f"{API}/manifests/2": ERROR}, 1),
        ({f"{API}/tags/list": next_page("/v2/api/tags/list", "tags", "1")}, 1),
        ({f"{API}/tags/list": next_page(f"{API}/tags/list", "tags", "1")}, 1),
        ({f"{API}/tags/list": Reply({"tags": ["1"]}, headers={"Link": "<next"})}, 1),
        ({f"{API}/tags/list": Reply(b'{"tags": ["1"]')}, 1),
        ({f"{API}/tags/list": Reply(b"<html>", headers={"Content-Type": "text/html"})}, 1),
        ({f"{API}/tags/list": Reply(b"404 page not found", status=404)}, 1),
        ({f"{API}/tags/list": Reply(status=302, headers={"Location": "/login"})}, 1),
        ({f"{API}/manifests/1": Reply(b"404 page not found", status=404)}, 1),
        ({f"{API}/manifests/1": Reply(b"<html>Sign in</html>")}, 1),
        ({f"{API}/manifests/1": Reply(status=412)}, 1),
        (
            {
                f"{API}/tags/list": Reply({"tags": []}),
                f"{API}/manifests/1": lambda request: (
                    ERROR if request.method == "HEAD" else Reply(status=403)
                ),
            },
            1,
        ),
    ],
)
def test_sync_removes_no_tag_that_is_still_in_the_registry(
    run: Commands,
    server: FakeRegistry,
    pusher: Pusher,
    conn: Connection,
    acme: str,
    routes: dict[str, Reply | Handler],
    failed: int,
) -> None:
    for repository, tag in (("acme/api", "1"), ("acme/api", "2"), ("tools/x", "1")):
        pusher.push(repository, tag)
    sync(run, server.host)
    before = tables(conn)
    server.routes |= routes | {"/login": Reply(b"<html>Sign in</html>")}
    assert summary(sync(run, server.host))[2:] == (0, 0, 0, failed)
    assert tables(conn) == before


BEARER = {"WWW-Authenticate": 'Bearer realm="/token"'}


@pytest.mark.parametrize(
    "routes",
    [
        {f"{API}/tags/list": Reply(status=403)},
        {f"{API}/tags/list": Reply(status=401)},
        {f"{API}/tags/list": Reply(status=401, headers={"WWW-Authenticate": "Basic"})},
        {f"{API}/tags/list": Reply(status=401, headers=BEARER), "/token": Reply(status=403)},
        {f"{API}/tags/list": Reply(status=401, headers=BEARER), "/token": Reply({"token": "x"})},
        {f"{API}/tags/list": ERROR, f"{API}/manifests/1": Reply(status=403)},
    ],
)
def test_unlisted_repository_that_denies_access_is_unchanged_and_no_failure(
    run: Commands,
    server: FakeRegistry,
    pusher: Pusher,
    conn: Connection,
    acme: str,
    routes: dict[str, Reply | Handler],
) -> None:
    """Many registries deny access to a repository that was removed."""
    for repository in ("acme/api", "tools/x"):
        pusher.push(repository, "1")
    sync(run, server.host)
    before = tables(conn)
    server.routes |= routes

    listed = sync(run, server.host)
    assert (summary(listed)[-1], tables(conn)) == (1, before)
    assert listed.stderr.splitlines()[0].startswith("acme/api: ")

    server.routes[CATALOG] = Reply({"repositories": ["tools/x"]})
    result = sync(run, server.host)

    assert (result.exit_code, tables(conn)) == (0, before)
    assert result.stderr.splitlines() == [
        "left unchanged, not in the catalog and access denied (--exclude skips them): acme/api",
        "1 repositories, 1 tags: 0 new, 0 moved, 0 removed; 0 failed, 1 inaccessible",
    ]


def test_message_about_denied_access_names_at_most_ten_repositories(
    run: Commands, server: FakeRegistry, pusher: Pusher
) -> None:
    pusher.push("tools/x", "1")
    for number in range(12):
        pusher.push(f"r{number:02}", "1")
    sync(run, server.host)
    server.routes |= {f"/v2/r{number:02}/tags/list": Reply(status=403) for number in range(12)}
    server.routes[CATALOG] = Reply({"repositories": ["tools/x"]})
    message, line = sync(run, server.host).stderr.splitlines()
    assert message.endswith("r00, r01, r02, r03, r04, r05, r06, r07, r08, r09 and 2 more")
    assert line.endswith("; 0 failed, 12 inaccessible")


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    "path", [CATALOG, f"{API}/tags/list", f"{API}/manifests/1"], ids=["catalog", "tags", "tag"]
)
def test_sync_of_an_overloaded_registry_removes_no_tag(
    run: Commands,
    server: FakeRegistry,
    pusher: Pusher,
    conn: Connection,
    acme: str,
    path: str,
    status: int,
) -> None:
    """The second page of a list, or GET of a tag after HEAD returned 404, is rejected."""
    for repository in ("acme/api", "tools/x"):
        pusher.push(repository, "1")
    sync(run, server.host)
    before = tables(conn)
    key = "repositories" if path == CATALOG else "tags"

    def handle(request: Request) -> Reply:
        if request.method == "HEAD":
            return ERROR
        if "last=" in request.target or "manifests" in path:
            return Reply(status=status)
        return next_page(path, key, "tools/x")

    server.routes[path] = handle
    result = sync(run, server.host)
    assert (result.exit_code, tables(conn)) == (1, before)


def test_tag_without_digest_is_named_and_the_others_are_recorded(
    run: Commands, server: FakeRegistry, pusher: Pusher, conn: Connection, acme: str
) -> None:
    for tag in ("1", "2"):
        pusher.push("api", tag)
    sync(run, server.host)
    kept = tags(conn)["2"]
    moved = pusher.push("api", "1", salt="again")
    pusher.push("api", "2", salt="again")
    server.routes["/v2/api/manifests/2"] = Reply(status=412)

    result = sync(run, server.host)

    assert summary(result) == (1, 1, 0, 1, 0, 1)
    assert result.stderr.splitlines()[0] == (
        "api: left unchanged: tag 2: the registry returned HTTP status 412"
    )
    assert tags(conn) == {"1": moved, "2": kept}


def test_tag_deleted_in_the_registry_is_removed_though_head_is_not_supported(
    run: Commands, server: FakeRegistry, pusher: Pusher, conn: Connection, acme: str
) -> None:
    registry = server.fallback
    for tag in ("1", "2"):
        digest = pusher.push("api", tag)
    server.fallback = lambda request: (
        Reply(status=405) if request.method == "HEAD" else registry(request)
    )
    sync(run, server.host)
    assert set(tags(conn)) == {"1", "2"}
    pusher.delete("api", digest)
    assert summary(sync(run, server.host)) == (1, 1, 0, 0, 1, 0)
    assert set(tags(conn)) == {"1"}


def test_deleted_tag_that_the_registry_still_lists_is_removed(
    run: Commands, server: FakeRegistry, pusher: Pusher, conn: Connection, acme: str
) -> None:
    for tag in ("1", "2"):
        pusher.push("api", tag)
    sync(run, server.host)
    server.routes["/v2/api/manifests/1"] = ERROR
    assert summary(sync(run, server.host)) == (1, 1, 0, 0, 1, 0)
    assert set(tags(conn)) == {"2"}


def test_repository_whose_listed_tags_are_all_unknown_is_reported(
    run: Commands, server: FakeRegistry, pusher: Pusher, conn: Connection, acme: str
) -> None:
    for tag in ("1", "2"):
        pusher.push("api", tag)
    sync(run, server.host)
    before = tables(conn)
    server.routes |= {"/v2/api/manifests/1": ERROR, "/v2/api/manifests/2": ERROR}
    result = sync(run, server.host)
    assert result.stderr.splitlines()[0] == (
        "api: left unchanged: the registry contradicts itself. It lists 2 tags, but reports that 2 "
        "of them do not exist, and the digest of none"
    )
    assert tables(conn) == before


def test_failed_repository_is_reported_and_left_unchanged(
    run: Commands, server: FakeRegistry, pusher: Pusher, conn: Connection, acme: str
) -> None:
    for repository in ("a", "b", "c", "d", "e"):
        pusher.push(repository, "1")
    sync(run, server.host)
    before = tables(conn)
    server.routes |= {
        "/v2/_catalog": Reply({"repositories": ["a", "b", "c", "d", "e", "Bad\x1b[31m/Name"]}),
        "/v2/a/tags/list": Reply(b'{"tags": 7}'),
        "/v2/b/tags/list": Reply({"tags": ["../../x"]}),
        "/v2/c/manifests/1": Reply(b"x", headers={"Docker-Content-Digest": "sha256:short"}),
        "/v2/d/tags/list": Reply(status=403),
    }

    result = sync(run, server.host)

    assert summary(result) == (6, 2, 0, 0, 0, 5)
    lines = result.stderr.splitlines()
    assert [line.split(":")[0] for line in lines[:5]] == ["a", "b", "c", "d", "Bad?[31m/Name"]
    assert "not a valid tags document" in lines[0]
    assert "\x1b" not in result.stderr
    assert tables(conn) == before


def test_sync_stops_if_the_registry_is_down(
    run: Commands, server: FakeRegistry, pusher: Pusher, conn: Connection, acme: str
) -> None:
    for number in range(20):
        pusher.push(f"r{number:02}", "1")
    sync(run, server.host)
    before = tables(conn)
    began = conn.execute("SELECT last_synced_at FROM registries").fetchone()
    server.routes |= {f"/v2/r{number:02}/tags/list": Reply(status=500) for number in range(20)}

    result = sync(run, server.host)

    assert summary(result) == (20, 0, 0, 0, 0, 3)
    lines = result.stderr.splitlines()
    assert [line.split(":")[0] for line in lines[:3]] == ["r00", "r01", "r02"]
    assert lines[-2] == (
        f"{server.host} is unavailable: 3 consecutive repositories failed. The others are skipped."
    )
    assert lines[-1].endswith("; 3 failed, 17 skipped")
    assert tables(conn) == before
    assert conn.execute("SELECT last_synced_at FROM registries").fetchone() == began


def test_exception_while_recording_ends_the_requests(
    server: FakeRegistry, conn: Connection, acme: str
) -> None:
    """As by Ctrl-C. Each repository has more tags than the threads read meanwhile."""
    ensure_registry(conn, acme, server.host)
    tags = [f"t{number}" for number in range(500)]

    def handle(request: Request) -> Reply:
        if request.path == CATALOG:
            return Reply({"repositories": ["first", *(f"r{number}" for number in range(20))]})
        if request.path.endswith("/tags/list"):
            return Reply({"tags": ["t0"] if "/first/" in request.path else tags})
        return Reply(b"{}", headers={"Docker-Content-Digest": digest_of(b"")})

    server.fallback = handle
    registry = RegistryClient(server.host, plain_http=True)
    plan = plan_sync(conn, acme, registry, Selection())
    outcomes = synchronize(conn, registry, plan)
    assert next(outcomes).repository == "first"
    with pytest.raises(KeyboardInterrupt):
        outcomes.throw(KeyboardInterrupt)
    assert len(server.requests) < len(tags)


def test_sync_of_docker_hub_fails_with_the_reason(run: Commands) -> None:
    run("registry add registry-1.docker.io --org acme")
    result = run("registry sync docker.io --org acme")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: docker.io: Docker Hub does not list its repositories\n"


# credentials


def require_basic(server: FakeRegistry, secret: str) -> None:
    """Let the server require Basic authentication."""
    registry = MemoryRegistry()
    registry.manifests["api"] = {}
    expected = f"Basic {b64encode(secret.encode()).decode()}"

    def handle(request: Request) -> Reply:
        if request.headers.get("authorization") == expected:
            return registry(request)
        return Reply(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})

    server.fallback = handle


def test_password_is_read_from_a_file_standard_input_or_the_environment(
    run: Commands, server: FakeRegistry, tmp_path: Path
) -> None:
    require_basic(server, "alice:hünter2:x")
    path = tmp_path / "password"
    path.write_text("hünter2:x\n", encoding="utf-8")
    results = [
        sync(run, server.host, f"--username alice --password-file {path}"),
        sync(run, server.host, "--username alice --password-file -", input="hünter2:x\n"),
    ]
    run.environment["HARBORGUARD_REGISTRY_PASSWORD"] = "hünter2:x"
    results.append(sync(run, server.host, "--username alice"))
    assert [summary(result)[0] for result in results] == [1, 1, 1]


@pytest.mark.parametrize(
    ("version", "listed"),
    [(Reply(status=401, headers={"WWW-Authenticate": "Basic"}), 2), (Reply({}), 1)],
    ids=["challenge", "open"],
)
def test_private_tag_that_is_hidden_from_anonymous_requests_is_not_removed(
    run: Commands,
    server: FakeRegistry,
    pusher: Pusher,
    conn: Connection,
    version: Reply,
    listed: int,
) -> None:
    """The registry challenges at `/v2/` or nowhere. It hides private repositories by a 404."""
    for repository in ("private/api", "public/web"):
        pusher.push(repository, "1")
    sync(run, server.host)
    before = tables(conn)
    registry = server.fallback

    def handle(request: Request) -> Reply:
        if "authorization" in request.headers or "public" in request.path:
            return registry(request)
        if request.path == "/v2/":
            return version
        return Reply({"repositories": ["public/web"]}) if request.path == CATALOG else ERROR

    server.fallback = handle
    run.environment["HARBORGUARD_REGISTRY_PASSWORD"] = "hunter2"
    assert summary(sync(run, server.host, "--username alice")) == (listed, 2, 0, 0, 0, 0)
    assert tables(conn) == before


def test_wrong_password_is_neither_printed_nor_stored(
    run: Commands, server: FakeRegistry, conn: Connection
) -> None:
    require_basic(server, "alice:right")
    run.environment["HARBORGUARD_REGISTRY_PASSWORD"] = "wrong-hunter2"
    result = sync(run, server.host, "--username alice")
    assert (result.exit_code, "hunter2" in result.output) == (1, False)
    assert "list its repositories with these credentials (HTTP status 401)" in result.stderr
    assert "hunter2" not in json.dumps(reports.stored_rows(conn))


@pytest.mark.parametrize(
    "options",
    [
        "--password-file /dev/null",
        "--username alice",
        "--username alice --password-file /dev/null",
        "--username a:b --password-file /dev/null",
        "--username alice --password-file /nowhere",
    ],
)
def test_incomplete_credentials_are_rejected(run: Commands, options: str) -> None:
    result = run(f"registry sync ghcr.io --org acme {options}")
    assert (result.exit_code, result.stdout) == (2, "")
    if "alice --password-file /dev/null" in options:
        assert "the password file is empty" in result.stderr


# add and list


@pytest.mark.parametrize(
    ("host", "provider"),
    [
        ("ghcr.io", "github"),
        ("index.docker.io", "docker"),
        ("quay.io", "quay"),
        ("123.dkr.ecr.eu-west-1.amazonaws.com", "ecr"),
        ("acme.azurecr.io", "acr"),
        ("eu.gcr.io", "google"),
        ("europe-docker.pkg.dev", "google"),
        ("notgcr.io", "generic"),
        ("localhost:5000", "generic"),
    ],
)
def test_add_detects_the_provider_by_the_host(run: Commands, host: str, provider: str) -> None:
    assert run(f"registry add {host} --org acme").exit_code == 0
    [line] = run("registry list --org acme").stdout.splitlines()[1:]
    assert line.split()[3] == provider


def test_add_again_changes_only_the_given_options(run: Commands, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    report.write_bytes(reports.envelope())
    run(f"ingest {report} --org acme")
    lines = []
    for options in ("", "--name Ours", "", "--provider quay", ""):
        assert run(f"registry add GHCR.io --org acme {options}").exit_code == 0
        lines.append(run("registry list --org acme").stdout.splitlines()[1].split()[1:5])
    assert lines == [
        ["ghcr.io", "ghcr.io", "github", "1"],
        ["ghcr.io", "Ours", "github", "1"],
        ["ghcr.io", "Ours", "github", "1"],
        ["ghcr.io", "Ours", "quay", "1"],
        ["ghcr.io", "Ours", "quay", "1"],
    ]


@pytest.mark.parametrize("host", ["registry", "a/b", "http://", "ghcr.io:x", "é.io", ".io"])
def test_registry_host_that_image_names_cannot_contain_is_rejected(
    run: Commands, host: str
) -> None:
    for command in ("add", "sync"):
        result = run(f"registry {command} {host} --org acme")
        assert (result.exit_code, "is not a registry host" in result.stderr) == (2, True)
