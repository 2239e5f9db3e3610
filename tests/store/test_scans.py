"""Recording: what a scan leaves in the tables, and what it leaves alone."""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

import psycopg
import pytest
from psycopg import errors as sqlstate
from psycopg.rows import dict_row

from harborguard.config import Config
from harborguard.errors import Conflict, InvalidReference, InvalidReport, StoreUnavailable
from harborguard.ingest import ingest_report, read_scan
from harborguard.listing import ImageCriteria, ImageSummary, Page
from harborguard.model import Finding, RecordedScan, Scope
from harborguard.store.counters import find_drift
from harborguard.store.images import list_images
from harborguard.store.pool import Connection, connect, translate_error
from harborguard.store.scans import ensure_registry, record_scan, refresh_image_summaries
from tests import oracle, reports
from tests.cast import Cast
from tests.reports import API, RECEIVED_AT, SCANNED_AT, image_rows, manifest, stored

NAME = "ghcr.io/acme/api"
DAY = timedelta(days=1)
T = TypeVar("T")
TABLES = ["registries", "images", "tags", "scans", "findings"]


@pytest.fixture
def acme(cast: Cast) -> str:
    """The organization that records."""
    return cast.acme.organization_id


@pytest.fixture
def globex(cast: Cast) -> str:
    """The other one."""
    return cast.globex.organization_id


def ingest(
    conn: Connection,
    organization_id: str,
    body: bytes,
    *,
    image: str | None = None,
    received_at: datetime = RECEIVED_AT,
) -> RecordedScan:
    return ingest_report(conn, organization_id, body, received_at=received_at, image=image)


def rows_of(conn: Connection, table: str) -> list[dict[str, Any]]:
    """All rows of a table, of every organization, in no order."""
    query = f"SELECT * FROM {table}"
    return conn.cursor(row_factory=dict_row).execute(query).fetchall()  # pyright: ignore


def row_of(conn: Connection, organization_id: str, name: str = NAME) -> dict[str, Any]:
    return image_rows(conn, organization_id)[name]


def listed(conn: Connection, organization_id: str) -> list[ImageSummary]:
    return list_images(conn, Scope(organization_id), ImageCriteria(), Page()).items


def test_it_works(conn: Connection, acme: str) -> None:
    body = reports.envelope(API, (0, 4, 19, 27), digest=f"acme/api@{manifest('a')}", scan_id="s-1")

    recorded = ingest(conn, acme, body)

    assert recorded.is_new
    [registry] = rows_of(conn, "registries")
    [created_at] = [row["created_at"] for row in rows_of(conn, "images")]
    assert listed(conn, acme) == [
        ImageSummary(
            id=recorded.image_id,
            name=NAME,
            registry_id=registry["id"],
            tag_count=1,
            latest_tag="1.4.7",
            latest_digest=manifest("a"),
            risk_score=31,
            grade="B",
            critical=0,
            high=4,
            medium=19,
            low=27,
            last_scanned_at="2026-04-26T14:22:11.000Z",
            created_at=created_at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{created_at:%f}"[:3] + "Z",
        )
    ]


def test_every_column_is_filled(conn: Connection, acme: str) -> None:
    built_at = SCANNED_AT - 9 * DAY
    body = reports.trivy(API, (0, 1), digest=manifest("a"), built_at=built_at)
    scan = read_scan(body, received_at=RECEIVED_AT)

    recorded = ingest(conn, acme, body)

    now = conn.execute("SELECT now()").fetchone()
    assert now
    [registry], [image], [tag], [row], [finding] = (rows_of(conn, table) for table in TABLES)
    assert [tag.pop("id")[:4], registry["id"][:4], image["id"][:4], row["id"][:5]] == [
        "tag-",
        "reg-",
        "img-",
        "scan-",
    ]
    assert [
        now[0] - times > timedelta()
        for times in (registry.pop("created_at"), image.pop("created_at"), row.pop("recorded_at"))
    ] == [True] * 3
    assert registry == {
        "organization_id": acme,
        "id": registry["id"],
        "host": "ghcr.io",
        "name": "ghcr.io",
        "provider": "generic",
        "last_synced_at": None,
    }
    summary = {"risk_score": 25, "grade": "B", "critical": 0, "high": 1, "medium": 0, "low": 0}
    assert image == {
        "organization_id": acme,
        "id": recorded.image_id,
        "registry_id": registry["id"],
        "name": NAME,
        "tag_count": 1,
        "latest_tag": "1.4.7",
        "latest_digest": manifest("a"),
        "scan_id": recorded.scan_id,
        **summary,
        "last_scanned_at": SCANNED_AT,
    }
    assert tag == {
        "organization_id": acme,
        "image_id": recorded.image_id,
        "name": "1.4.7",
        "digest": manifest("a"),
        "is_confirmed": True,
        "built_at": built_at,
        "first_observed_at": SCANNED_AT,
        "last_observed_at": SCANNED_AT,
    }
    assert row == {
        "organization_id": acme,
        "id": recorded.scan_id,
        "image_id": recorded.image_id,
        "external_id": scan.external_id,
        "content_sha256": scan.content_digest,
        "tag": "1.4.7",
        "digest": manifest("a"),
        "scanners": ["trivy"],
        "status": "SUCCESS",
        "started_at": None,
        "finished_at": SCANNED_AT,
        **summary,
    }
    assert finding == {
        "organization_id": acme,
        "scan_id": recorded.scan_id,
        "position": 0,
        "vulnerability_id": "CVE-2026-1000",
        "package": "openssl",
        "installed_version": "",
        "fixed_version": None,
        "severity": "high",
        "cvss_score": None,
        "title": None,
        "url": None,
        "sources": ["trivy"],
    }


def test_findings_are_stored_as_told(conn: Connection, acme: str) -> None:
    hostile = "\\N\t\r\n{}\"',\\ 😀"
    scan = read_scan(reports.envelope(counts=(1,)), received_at=RECEIVED_AT)
    told = (
        Finding(hostile, hostile, hostile, scan.report.findings[0].severity, hostile, 9.8, hostile),
        replace(scan.report.findings[0], url=hostile, sources=(hostile, "", "{NULL}")),
    )
    record_scan(conn, acme, replace(scan, report=replace(scan.report, findings=told)))

    columns = "vulnerability_id, package, installed_version, fixed_version, title, url, sources"
    actual = conn.execute(f"SELECT {columns} FROM findings ORDER BY position").fetchall()
    assert actual == [
        (
            f.vulnerability_id,
            f.package,
            f.installed_version,
            f.fixed_version,
            f.title,
            f.url,
            list(f.sources),
        )
        for f in told
    ]


# the same again


@pytest.mark.parametrize(
    "body",
    [
        reports.envelope(counts=(1, 2, 3, 4, 5), digest=manifest("a")),
        reports.envelope(status="FAILED"),
        reports.trivy(counts=(0, 4), built_at=SCANNED_AT - DAY),
        reports.trivy(f"{NAME}@{manifest('a')}"),
        reports.grype(finished_at=None),
    ],
)
def test_a_replay_changes_nothing(conn: Connection, acme: str, body: bytes) -> None:
    first = ingest(conn, acme, body)
    before = stored(conn)

    again = ingest(conn, acme, body, received_at=RECEIVED_AT + DAY)

    assert again == replace(first, is_new=False)
    assert stored(conn) == before


def test_a_replay_of_an_older_scan_changes_nothing(conn: Connection, acme: str) -> None:
    older = reports.envelope(counts=(1,), scan_id="1", finished_at=SCANNED_AT - DAY)
    first = ingest(conn, acme, older)
    ingest(conn, acme, reports.envelope(scan_id="2"))
    before = stored(conn)
    assert ingest(conn, acme, older) == replace(first, is_new=False)
    assert stored(conn) == before


@pytest.mark.parametrize(
    ("body", "image"),
    [
        (reports.envelope(counts=(1,), scan_id="7"), None),
        (reports.envelope(scan_id="7") + b" ", None),
        (reports.envelope(scan_id="7"), "quay.io/new/image:1"),
        (reports.envelope(scan_id="7"), "ghcr.io/acme/api:other"),
        (reports.envelope(scan_id="7", status="FAILED"), None),
    ],
    ids=["findings", "bytes", "image", "tag", "status"],
)
def test_an_identity_cannot_be_used_for_other_content(
    conn: Connection, acme: str, body: bytes, image: str | None
) -> None:
    ingest(conn, acme, reports.envelope(scan_id="7"))
    before = stored(conn)
    with pytest.raises(Conflict, match="scan 7 is recorded already, with other content"):
        ingest(conn, acme, body, image=image)
    assert stored(conn) == before


def test_the_same_report_for_two_images_is_two_scans(conn: Connection, acme: str) -> None:
    body = reports.trivy(counts=(0, 1))
    ids = {ingest(conn, acme, body, image=f"nginx:{tag}").scan_id for tag in ("1", "2", "None")}
    ids.add(ingest(conn, acme, body, image="caddy").scan_id)
    assert len(ids) == 4
    assert row_of(conn, acme, "docker.io/library/nginx")["tag_count"] == 3


# which image, which registry


def test_images_are_told_apart_by_registry_and_path(conn: Connection, acme: str) -> None:
    """One digest, many names: no merge across names, no second row for another spelling."""
    spellings = {
        "docker.io/library/nginx": [
            "nginx:1",
            "docker.io/nginx:2",
            "index.docker.io/library/nginx",
        ],
        "docker.io/acme/api": ["acme/api"],
        "ghcr.io/acme/api": ["ghcr.io/acme/api", "https://GHCR.IO/acme/api:2"],
        "ghcr.io/acme/api/worker": ["ghcr.io/acme/api/worker"],
        "localhost/acme/api": ["localhost/acme/api"],
        "localhost:5000/acme/api": ["localhost:5000/acme/api:5000"],
        "localhost:5001/acme/api": [f"localhost:5001/acme/api@{manifest('a')}"],
    }
    for number, texts in enumerate(spellings.values()):
        for copy, text in enumerate(texts):
            body = reports.envelope(text, scan_id=f"{number}-{copy}", digest=manifest("a"))
            ingest(conn, acme, body)

    assert set(image_rows(conn, acme)) == set(spellings)
    query = """
        SELECT images.name, registries.host FROM images JOIN registries ON registries.id = registry_id
    """
    assert dict(conn.execute(query).fetchall()) == {
        name: name.partition("/")[0] for name in spellings
    }
    assert {row["host"] for row in rows_of(conn, "registries")} == {
        "docker.io",
        "ghcr.io",
        "localhost",
        "localhost:5000",
        "localhost:5001",
    }


def test_a_registry_that_is_known_is_used(conn: Connection, cast: Cast) -> None:
    mine = cast.acme.add_registry("ghcr.io", "Our images")
    theirs = cast.globex.add_registry("ghcr.io")
    before = rows_of(conn, "registries")
    ingest(conn, cast.acme.organization_id, reports.envelope())
    assert [row["registry_id"] for row in rows_of(conn, "images")] == [mine]
    assert rows_of(conn, "registries") == before
    assert ensure_registry(conn, cast.acme.organization_id, "ghcr.io") == mine != theirs


def test_the_callers_reference_wins(conn: Connection, acme: str) -> None:
    ingest(conn, acme, reports.trivy("ghcr.io/acme/api:1"), image="quay.io/acme/tool:7")
    assert list(image_rows(conn, acme)) == ["quay.io/acme/tool"]
    assert row_of(conn, acme, "quay.io/acme/tool")["latest_tag"] == "7"
    assert [row["host"] for row in rows_of(conn, "registries")] == ["quay.io"]


@pytest.mark.parametrize(
    ("body", "image", "error"),
    [
        (reports.envelope("Acme/API"), None, InvalidReport),
        (reports.envelope(), "Acme/API", InvalidReference),
        (reports.envelope(finished_at=RECEIVED_AT + timedelta(minutes=6)), None, InvalidReport),
    ],
    ids=["malformed in the report", "malformed by the caller", "future"],
)
def test_what_is_refused_leaves_nothing(
    conn: Connection, acme: str, body: bytes, image: str | None, error: type[Exception]
) -> None:
    before = stored(conn)
    with pytest.raises(error):
        ingest(conn, acme, body, image=image)
    assert stored(conn) == before


def test_five_minutes_of_the_future_are_tolerated(conn: Connection, acme: str) -> None:
    ahead = RECEIVED_AT + timedelta(minutes=5)
    ingest(conn, acme, reports.envelope(finished_at=ahead))
    assert row_of(conn, acme)["last_scanned_at"] == ahead


@pytest.mark.parametrize("make", [reports.trivy, reports.grype])
def test_a_report_without_time_is_dated_when_it_was_received(
    conn: Connection, acme: str, make: Any
) -> None:
    ingest(conn, acme, make(finished_at=None))
    assert row_of(conn, acme)["last_scanned_at"] == RECEIVED_AT
    assert [row["finished_at"] for row in rows_of(conn, "scans")] == [RECEIVED_AT]
    assert [row["last_observed_at"] for row in rows_of(conn, "tags")] == [RECEIVED_AT]


# which scan counts


def record_all(conn: Connection, organization_id: str, *scans: oracle.Scan) -> dict[str, Any]:
    """The image's row after these scans, which must be the oracle's."""
    for scan in scans:
        ingest(conn, organization_id, body_of(scan))
    row = row_of(conn, organization_id)
    assert row == oracle.image_row(scans)
    return row


def body_of(scan: oracle.Scan) -> bytes:
    """An envelope that tells all of the oracle's scan but a build time."""
    assert scan.built_at is None
    name = f"{NAME}:{scan.tag}" if scan.tag else f"{NAME}@{scan.digest}"
    return reports.envelope(
        name,
        scan.counts,
        scan_id=scan.identity,
        finished_at=scan.finished_at,
        status=scan.status,
        digest=scan.digest,
    )


@pytest.mark.parametrize("status", ["FAILED", "CANCELLED"])
def test_an_unfinished_scan_makes_image_and_tag_known(
    conn: Connection, acme: str, status: str
) -> None:
    scan = oracle.Scan("1", SCANNED_AT, "1.0", manifest("a"), None, status, (1, 1, 1, 1))
    row = record_all(conn, acme, scan)
    assert row == {
        "tag_count": 1,
        "latest_tag": "1.0",
        "latest_digest": manifest("a"),
        "scan": None,
        "risk_score": None,
        "grade": None,
        "critical": 0,
        "high": 0,
        "medium": 0,
        "low": 0,
        "last_scanned_at": None,
    }
    [stored_scan] = rows_of(conn, "scans")
    assert (stored_scan["status"], stored_scan["risk_score"]) == (status, 75)
    assert len(rows_of(conn, "findings")) == 4
    assert [tag["is_confirmed"] for tag in rows_of(conn, "tags")] == [False]


@pytest.mark.parametrize("status", ["FAILED", "CANCELLED"])
@pytest.mark.parametrize("tag", ["1.0", "2.0", None])
@pytest.mark.parametrize("days", [-1, 0, 1])
def test_an_unfinished_scan_changes_no_score(
    conn: Connection, acme: str, status: str, tag: str | None, days: int
) -> None:
    """Least of all by being the newest of a tag, whose fallback would be any tag's scan."""
    young = oracle.Scan("1", SCANNED_AT, "1.0", manifest("a"), counts=(0, 1, 0, 0))
    rescan = oracle.Scan("2", SCANNED_AT + 9 * DAY, "0.9", manifest("b"), counts=(1, 0, 0, 0))
    old = replace(rescan, identity="0", finished_at=SCANNED_AT - 9 * DAY)
    before = record_all(conn, acme, old, young, rescan)
    assert (before["latest_tag"], before["scan"]) == ("1.0", "1")

    failed = oracle.Scan("9", SCANNED_AT + days * DAY, tag, manifest("c"), None, status)
    ingest(conn, acme, body_of(failed))

    expected = {**before, "tag_count": 3 if tag == "2.0" else 2}
    assert row_of(conn, acme) == expected == oracle.image_row([old, young, rescan, failed])


def test_a_partial_scan_counts(conn: Connection, acme: str) -> None:
    row = record_all(
        conn, acme, oracle.Scan("1", SCANNED_AT, "1", None, None, "PARTIAL", (1, 0, 0, 0))
    )
    assert (row["risk_score"], row["scan"]) == (75, "1")


def test_an_older_scan_that_arrives_later_changes_no_score(conn: Connection, acme: str) -> None:
    newer = oracle.Scan("1", SCANNED_AT, "1", manifest("a"), counts=(0, 1, 0, 0))
    older = oracle.Scan("2", SCANNED_AT - DAY, "1", manifest("b"), counts=(1, 0, 0, 0))
    before = record_all(conn, acme, newer)
    assert record_all(conn, acme, newer, older) == before


def test_of_two_scans_at_one_time_the_greater_identity_counts(conn: Connection, acme: str) -> None:
    lower = oracle.Scan("scan-a", SCANNED_AT, "1", counts=(0, 1, 0, 0))
    upper = oracle.Scan("scan-Z", SCANNED_AT, "1", counts=(1, 0, 0, 0))
    assert record_all(conn, acme, lower, upper)["scan"] == "scan-a"


def test_the_latest_tags_scan_counts_and_not_the_newest(conn: Connection, acme: str) -> None:
    first = oracle.Scan("1", SCANNED_AT, "1.0", manifest("a"), counts=(1, 0, 0, 0))
    second = oracle.Scan("2", SCANNED_AT + DAY, "1.1", manifest("b"), counts=(0, 1, 0, 0))
    again = oracle.Scan("3", SCANNED_AT + 2 * DAY, "1.0", manifest("a"), counts=(1, 0, 0, 0))
    row = record_all(conn, acme, first, second, again)
    assert (row["latest_tag"], row["latest_digest"]) == ("1.1", manifest("b"))
    assert (row["scan"], row["last_scanned_at"]) == ("2", SCANNED_AT + DAY)


def test_a_moved_tag_is_as_young_as_its_new_digest(conn: Connection, acme: str) -> None:
    scans = [
        oracle.Scan("1", SCANNED_AT, "latest", manifest("a")),
        oracle.Scan("2", SCANNED_AT + DAY, "1.0", manifest("b")),
        oracle.Scan("3", SCANNED_AT + 2 * DAY, "latest", manifest("c")),
    ]
    row = record_all(conn, acme, *scans)
    assert (row["latest_tag"], row["latest_digest"]) == ("latest", manifest("c"))
    assert len(rows_of(conn, "tags")) == 3


def test_a_digest_is_as_old_as_its_build(conn: Connection, acme: str) -> None:
    def trivy(tag: str, letter: str, *, built: int | None, scanned: int) -> bytes:
        return reports.trivy(
            f"{NAME}:{tag}",
            digest=manifest(letter),
            built_at=None if built is None else SCANNED_AT - built * DAY,
            finished_at=SCANNED_AT + scanned * DAY,
        )

    ingest(conn, acme, trivy("1.9", "a", built=9, scanned=3))
    ingest(conn, acme, trivy("1.10", "b", built=5, scanned=2))
    assert row_of(conn, acme)["latest_tag"] == "1.10"
    ingest(conn, acme, trivy("untold", "c", built=None, scanned=1))
    assert row_of(conn, acme)["latest_tag"] == "untold"
    ingest(conn, acme, trivy("since-1970", "d", built=20_000, scanned=4))
    assert row_of(conn, acme)["latest_tag"] == "since-1970"
    # What is told later about an observed digest makes it older than it seemed.
    ingest(conn, acme, trivy("since-1970", "d", built=30, scanned=5))
    assert row_of(conn, acme)["latest_tag"] == "untold"


def test_of_two_builds_of_a_digest_the_later_counts(conn: Connection, acme: str) -> None:
    """A digest has one; where scanners disagree, the order of arrival must not decide."""
    for days, tag in ((9, "1"), (5, "2"), (7, "1"), (3, "1"), (8, "1")):
        built_at = SCANNED_AT - days * DAY
        body = reports.trivy(f"{NAME}:{tag}", digest=manifest("a"), built_at=built_at)
        ingest(conn, acme, body)
    assert row_of(conn, acme)["latest_tag"] == "1"


def test_of_tags_of_one_age_the_greater_name_is_latest(conn: Connection, acme: str) -> None:
    scans = [
        oracle.Scan(tag, SCANNED_AT, tag, manifest("a"))
        for tag in ("1.10", "1.9", "Zeta", "alpha", "_x")
    ]
    row = record_all(conn, acme, *scans)
    assert (row["latest_tag"], row["tag_count"]) == ("alpha", 5)


def test_a_null_digest_still_makes_a_tag(conn: Connection, acme: str) -> None:
    scans = [oracle.Scan(str(day), SCANNED_AT + day * DAY, "1") for day in range(3)]
    row = record_all(conn, acme, *scans)
    assert (row["tag_count"], row["latest_tag"], row["latest_digest"]) == (1, "1", None)
    [tag] = rows_of(conn, "tags")
    assert (tag["first_observed_at"], tag["last_observed_at"]) == (
        SCANNED_AT,
        SCANNED_AT + 2 * DAY,
    )


def test_an_image_without_tags(conn: Connection, acme: str) -> None:
    scans = [
        oracle.Scan("1", SCANNED_AT, None, manifest("a"), counts=(1, 0, 0, 0)),
        oracle.Scan("2", SCANNED_AT + DAY, None, manifest("b"), status="FAILED"),
    ]
    row = record_all(conn, acme, *scans)
    assert (row["tag_count"], row["latest_tag"]) == (0, None)
    assert (row["latest_digest"], row["risk_score"]) == (manifest("b"), 75)
    assert rows_of(conn, "tags") == []


def test_what_a_failed_scan_saw_is_kept_apart(conn: Connection, acme: str) -> None:
    """A tag that a finished scan has seen has the digest that it saw."""
    failed = oracle.Scan("1", SCANNED_AT + DAY, "1", manifest("b"), None, "FAILED")
    finished = oracle.Scan("2", SCANNED_AT, "1", manifest("a"))
    assert record_all(conn, acme, failed)["latest_digest"] == manifest("b")
    assert record_all(conn, acme, failed, finished)["latest_digest"] == manifest("a")
    tags = {(tag["digest"], tag["is_confirmed"]) for tag in rows_of(conn, "tags")}
    assert tags == {(manifest("a"), True), (manifest("b"), False)}


# the summary made again


def test_a_summary_made_again_is_the_one_stored(conn: Connection, cast: Cast) -> None:
    acme, globex = cast.acme.organization_id, cast.globex.organization_id
    empty = cast.acme.add_image("ghcr.io/acme/never-scanned")
    images = [
        ingest(conn, owner, reports.trivy(f"ghcr.io/acme/{name}", (1,))).image_id
        for owner in (acme, globex)
        for name in ("a", "b")
    ]
    before = stored(conn)
    assert refresh_image_summaries(conn, acme, [*images, empty, "img-unknown"]) == []
    assert refresh_image_summaries(conn, acme, []) == []
    assert stored(conn) == before

    conn.execute("UPDATE images SET tag_count = 99, latest_tag = 'x', critical = 7")
    assert sorted(refresh_image_summaries(conn, acme, [*images, empty])) == sorted(
        [*images[:2], empty]
    )
    after = stored(conn, acme)
    for table, rows in before.items():
        mine = [row for row in rows if acme in row]
        # Whoever has seen the wrong rows must see that there are others now.
        assert (after[table] == mine) == (table != "inventories"), table
    assert {row["tag_count"] for row in image_rows(conn, globex).values()} == {99}


# two organizations


def test_organizations_never_meet(conn: Connection, acme: str, globex: str) -> None:
    bodies = [
        reports.envelope(counts=(1,), scan_id="same"),
        reports.envelope(counts=(0, 1), scan_id="failed", status="FAILED"),
        reports.trivy(API, (0, 1), finished_at=SCANNED_AT + DAY),
        reports.grype("nginx"),
    ]
    for body in bodies:
        ingest(conn, globex, body)
    before = stored(conn, globex)

    recorded = [ingest(conn, acme, body) for body in bodies]
    other = ingest(conn, acme, reports.trivy(API, (1,), finished_at=SCANNED_AT + 9 * DAY))

    assert [scan.is_new for scan in [*recorded, other]] == [True] * 5
    assert stored(conn, globex) == before
    assert row_of(conn, acme)["risk_score"] == 75
    assert row_of(conn, globex)["risk_score"] == 25
    assert [ingest(conn, acme, body) for body in bodies] == [
        replace(scan, is_new=False) for scan in recorded
    ]
    # Theirs is no replay of ours, and no conflict with it.
    ingest(conn, globex, reports.envelope(counts=(0, 0, 9), scan_id="only-theirs"))
    ingest(conn, acme, reports.envelope(counts=(0, 9, 0), scan_id="only-theirs"))


def test_organizations_never_meet_in_an_id(conn: Connection, cast: Cast) -> None:
    """Ids are made up, so two organizations may have one and the same; it is two images."""
    first = oracle.Scan("1", SCANNED_AT, "1", manifest("a"), counts=(0, 1, 0, 0))
    scans = [
        (
            cast.acme,
            [first, replace(first, identity="2", digest=manifest("b"), counts=(1, 0, 0, 0))],
        ),
        (
            cast.globex,
            [
                replace(first, identity="3", finished_at=SCANNED_AT + DAY, digest=manifest("c")),
                replace(first, identity="4", finished_at=SCANNED_AT + DAY, tag="2"),
                replace(first, identity="5", finished_at=SCANNED_AT + 2 * DAY, status="FAILED"),
            ],
        ),
    ]
    for member, seen in scans:
        member.add_image(NAME, id="img-1")
        for scan in seen:
            assert ingest(conn, member.organization_id, body_of(scan)).image_id == "img-1"
    for member, seen in scans:
        assert row_of(conn, member.organization_id) == oracle.image_row(seen)
        assert refresh_image_summaries(conn, member.organization_id, ["img-1"]) == []
        assert find_drift(conn, member.organization_id) == []


def test_organizations_do_not_wait_for_each_other(
    conn: Connection, config: Config, acme: str, globex: str
) -> None:
    body = reports.envelope(counts=(0, 1))
    with connect(config) as slow, slow.transaction():
        ingest(slow, acme, body)
        conn.execute("SET lock_timeout = '1s'")
        ingest(conn, globex, body)
        assert row_of(conn, globex)["risk_score"] == 25
        assert image_rows(conn, acme) == {}
    assert row_of(conn, acme)["risk_score"] == 25


def test_an_unknown_organization_records_nothing(conn: Connection) -> None:
    before = stored(conn)
    with pytest.raises(sqlstate.ForeignKeyViolation):
        ingest(conn, "org-unknown", reports.envelope())
    assert stored(conn) == before


# races


RUNNERS = 16


@pytest.fixture
def runners(conn: Connection, config: Config) -> Iterator["Runners"]:
    with Runners(config) as runners:
        yield runners


class Runners(ExitStack):
    """Sixteen connections, each on a thread of its own."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.conns = [self.enter_context(connect(config)) for _ in range(RUNNERS)]
        self.threads = self.enter_context(ThreadPoolExecutor(RUNNERS))
        self.gate = threading.Barrier(RUNNERS)

    def race(self, organization_id: str, bodies: list[bytes]) -> list[RecordedScan | Conflict]:
        """Each body by a thread, sixteen at a time and all at once; what each was told."""

        def run(conn: Connection, body: bytes) -> RecordedScan | Conflict:
            self.gate.wait(60)
            try:
                return ingest(conn, organization_id, body)
            except Conflict as conflict:
                return conflict

        told: list[RecordedScan | Conflict] = []
        for start in range(0, len(bodies), RUNNERS):
            told += self.threads.map(run, self.conns, bodies[start : start + RUNNERS])
        return told


def expect(conn: Connection, organization_id: str, images: dict[str, list[oracle.Scan]]) -> None:
    """Rows are the oracle's, with no more scans, tags or registries than there must be."""
    assert image_rows(conn, organization_id) == {
        name: oracle.image_row(scans) for name, scans in images.items()
    }
    told = [(name, scan) for name, scans in images.items() for scan in scans]
    assert sorted(row["external_id"] for row in rows_of(conn, "scans")) == sorted(
        scan.identity for _, scan in told
    )
    assert len(rows_of(conn, "tags")) == len(
        {(name, scan.tag, scan.digest) for name, scan in told if scan.tag}
    )
    assert sorted(row["host"] for row in rows_of(conn, "registries")) == sorted(
        {name.partition("/")[0] for name in images}
    )
    assert len(rows_of(conn, "findings")) == sum(sum(scan.counts) for _, scan in told)
    assert find_drift(conn, organization_id) == []


def scan_of(number: int, tag: str, **changes: Any) -> oracle.Scan:
    """One of many scans: each with a time and counts of its own."""
    moment = SCANNED_AT + timedelta(seconds=(number * 37) % 101)
    counts = (number % 2, number % 3, number % 5, number % 7)
    scan = oracle.Scan(f"{number:04}", moment, tag, manifest("abc"[number % 3]), counts=counts)
    return replace(scan, **changes)


def body_for(name: str, scan: oracle.Scan) -> bytes:
    return body_of(scan).replace(NAME.encode(), name.encode())


ROUNDS = 24


def in_pairs(things: Sequence[T]) -> list[tuple[T, T]]:
    return list(zip(things[::2], things[1::2], strict=True))


def test_pairs_of_one_scan_race(conn: Connection, acme: str, runners: Runners) -> None:
    """Of new images in new registries, so that everything is made by one of the two."""
    images = {f"r{n}.test/acme/api": [scan_of(n, "1")] for n in range(ROUNDS * RUNNERS // 2)}
    bodies = [body_for(name, scan) for name, [scan] in images.items() for _ in range(2)]

    told = runners.race(acme, bodies)

    recorded = [scan for scan in told if isinstance(scan, RecordedScan)]
    assert len(recorded) == len(bodies)
    for one, other in in_pairs(recorded):
        assert {one.is_new, other.is_new} == {True, False}
        assert replace(one, is_new=True) == replace(other, is_new=True)
    expect(conn, acme, images)


def test_pairs_of_one_image_race(conn: Connection, acme: str, runners: Runners) -> None:
    """Of a new image in a new registry, then each once more of one that is known."""
    images = {
        f"r{pair}.test/acme/api": [scan_of(n, f"1.{n % 4}") for n in range(4 * pair, 4 * pair + 4)]
        for pair in range(ROUNDS * RUNNERS // 4)
    }
    for half in (slice(0, 2), slice(2, 4)):
        bodies = [body_for(name, scan) for name, scans in images.items() for scan in scans[half]]
        told = runners.race(acme, bodies)
        assert [isinstance(scan, RecordedScan) and scan.is_new for scan in told] == (
            [True] * len(bodies)
        )
        expect(conn, acme, {name: scans[: half.stop] for name, scans in images.items()})


def test_scans_of_one_image_are_recorded_one_after_the_other(
    conn: Connection, acme: str, runners: Runners
) -> None:
    """So that the summary that is made last has seen all of them."""
    [older, newer] = [oracle.Scan(str(day), SCANNED_AT + day * DAY, "1") for day in (1, 2)]
    known = oracle.Scan("0", SCANNED_AT, "1", counts=(1, 0, 0, 0))
    record_all(conn, acme, known)
    first, second, *_ = runners.conns
    with first.transaction():
        ingest(first, acme, body_of(newer))
        told = runners.threads.submit(ingest, second, acme, body_of(older))
        wait_until_blocked(conn, second)
        assert row_of(conn, acme) == oracle.image_row([known])
    assert told.result().is_new
    assert row_of(conn, acme) == oracle.image_row([known, older, newer])


def wait_until_blocked(observer: Connection, waiter: Connection) -> None:
    query = "SELECT cardinality(pg_blocking_pids(%s))"
    for _ in range(1000):
        if observer.execute(query, [waiter.info.backend_pid]).fetchone() == (1,):
            return
        time.sleep(0.01)
    pytest.fail("nobody waits")


def test_sixteen_scans_of_one_image_race(conn: Connection, acme: str, runners: Runners) -> None:
    scans = [scan_of(n, f"1.{n % 5}") for n in range(3 * RUNNERS)]
    runners.race(acme, [body_of(scan) for scan in scans])
    expect(conn, acme, {NAME: scans})


def test_one_identity_races_for_two_images(conn: Connection, acme: str, runners: Runners) -> None:
    """One of the two is recorded; of the other nothing is left, not even its registry."""
    pairs = [
        [f"r{pair}-{copy}.test/acme/api" for copy in range(2)] for pair in range(RUNNERS // 2 * 4)
    ]
    scans = [scan_of(number, "1") for number in range(len(pairs))]
    bodies = [
        body_for(name, scan) for pair, scan in zip(pairs, scans, strict=True) for name in pair
    ]

    told = runners.race(acme, bodies)

    won = [isinstance(answer, RecordedScan) for answer in told]
    images = {}
    for names, scan, is_won in zip(pairs, scans, in_pairs(won), strict=True):
        assert sorted(is_won) == [False, True]
        images[names[is_won.index(True)]] = [scan]
    expect(conn, acme, images)


# all or nothing


FAULTS = [
    *[f"BEFORE INSERT ON {table}" for table in TABLES],
    "BEFORE UPDATE ON images",
    "AFTER UPDATE ON images",
]


@pytest.mark.parametrize("moment", FAULTS)
def test_a_database_that_fails_leaves_nothing(conn: Connection, acme: str, moment: str) -> None:
    ingest(conn, acme, reports.envelope(scan_id="before"))
    body = reports.envelope("quay.io/acme/api:2", (1, 2), scan_id="new", digest=manifest("a"))
    before = stored(conn)
    conn.execute(
        """
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE 'out of order' USING ERRCODE = 'disk_full'; END $$
        """
    )
    conn.execute(f"CREATE TRIGGER fail {moment} FOR EACH ROW EXECUTE FUNCTION fail()")  # pyright: ignore
    try:
        with pytest.raises(sqlstate.DiskFull, match="out of order") as caught:
            ingest(conn, acme, body)
    finally:
        conn.execute("DROP FUNCTION fail CASCADE")

    assert isinstance(translate_error(caught.value), StoreUnavailable)
    assert stored(conn) == before
    assert ingest(conn, acme, body).is_new


def test_a_finding_that_breaks_a_constraint_leaves_nothing(conn: Connection, acme: str) -> None:
    scan = read_scan(reports.envelope(counts=(1, 1, 1)), received_at=RECEIVED_AT)
    *good, last = scan.report.findings
    bad = replace(scan.report, findings=(*good, replace(last, cvss_score=11.0)))
    before = stored(conn)
    with pytest.raises(sqlstate.CheckViolation):
        record_scan(conn, acme, replace(scan, report=bad))
    assert stored(conn) == before
    assert record_scan(conn, acme, scan).is_new


def interrupted(config: Config, conn: Connection, findings: Sequence[Finding]) -> Iterator[Finding]:
    """Findings midway of which the server ends the connection that they are written to."""
    for position, finding in enumerate(findings):
        if position == len(findings) // 2:
            with connect(config) as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", [conn.info.backend_pid])
        yield finding


def test_a_connection_that_ends_midway_leaves_nothing(
    conn: Connection, config: Config, acme: str
) -> None:
    scan = read_scan(reports.envelope(counts=(50, 50)), received_at=RECEIVED_AT)
    before = stored(conn)
    with connect(config) as doomed:
        findings: Any = interrupted(config, doomed, scan.report.findings)
        fatal = replace(scan, report=replace(scan.report, findings=findings))
        with pytest.raises(psycopg.OperationalError) as caught:
            record_scan(doomed, acme, fatal)

    assert isinstance(translate_error(caught.value), StoreUnavailable)
    assert stored(conn) == before
    assert record_scan(conn, acme, scan).is_new
    assert len(rows_of(conn, "findings")) == 100
