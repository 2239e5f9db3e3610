"""Recording scans: which scan and which tag an image's row comes from (contract 6)."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from harborguard.model import ObservedTag
from harborguard.store.connection import Connection
from harborguard.store.images.refresh import refresh_images
from harborguard.store.tags import observe_tags
from tests.support import oracle, reports
from tests.support.recording import DAY, NAME, body_of, ingest, record_all, row_of, rows_of
from tests.support.reports import SCANNED_AT, image_rows, manifest, stored_rows
from tests.support.tenants import Tenants

HOUR = timedelta(hours=1)


@pytest.mark.parametrize("status", ["FAILED", "CANCELLED"])
def test_unfinished_scan_creates_image_and_tag_without_score(
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
    assert rows_of(conn, "findings") == []
    assert [tag["is_confirmed"] for tag in rows_of(conn, "tags")] == [False]


@pytest.mark.parametrize("status", ["FAILED", "CANCELLED"])
@pytest.mark.parametrize("tag", ["1.0", "2.0", None])
@pytest.mark.parametrize("days", [-1, 0, 1])
def test_unfinished_scan_changes_no_score(
    conn: Connection, acme: str, status: str, tag: str | None, days: int
) -> None:
    """An unfinished scan must not make its tag the latest, nor select another tag's scan."""
    newest_tag = oracle.Scan("1", SCANNED_AT, "1.0", manifest("a"), counts=(0, 1, 0, 0))
    rescan = oracle.Scan("2", SCANNED_AT + 9 * DAY, "0.9", manifest("b"), counts=(1, 0, 0, 0))
    old = replace(rescan, identity="0", finished_at=SCANNED_AT - 9 * DAY)
    before = record_all(conn, acme, old, newest_tag, rescan)
    assert (before["latest_tag"], before["scan"]) == ("1.0", "1")

    failed = oracle.Scan("9", SCANNED_AT + days * DAY, tag, manifest("c"), None, status)
    ingest(conn, acme, body_of(failed))

    expected = {**before, "tag_count": 3 if tag == "2.0" else 2}
    assert row_of(conn, acme) == expected == oracle.image_row([old, newest_tag, rescan, failed])


def test_partial_scan_sets_the_score(conn: Connection, acme: str) -> None:
    row = record_all(
        conn, acme, oracle.Scan("1", SCANNED_AT, "1", None, None, "PARTIAL", (1, 0, 0, 0))
    )
    assert (row["risk_score"], row["scan"]) == (75, "1")


def test_older_scan_recorded_later_changes_no_score(conn: Connection, acme: str) -> None:
    newer = oracle.Scan("1", SCANNED_AT, "1", manifest("a"), counts=(0, 1, 0, 0))
    older = oracle.Scan("2", SCANNED_AT - DAY, "1", manifest("b"), counts=(1, 0, 0, 0))
    before = record_all(conn, acme, newer)
    assert record_all(conn, acme, newer, older) == before


def test_score_at_equal_times_comes_from_greater_scan_id(conn: Connection, acme: str) -> None:
    lower = oracle.Scan("scan-a", SCANNED_AT, "1", counts=(0, 1, 0, 0))
    upper = oracle.Scan("scan-Z", SCANNED_AT, "1", counts=(1, 0, 0, 0))
    assert record_all(conn, acme, lower, upper)["scan"] == "scan-a"


def test_score_comes_from_latest_tag_not_from_newest_scan(conn: Connection, acme: str) -> None:
    first = oracle.Scan("1", SCANNED_AT, "1.0", manifest("a"), counts=(1, 0, 0, 0))
    second = oracle.Scan("2", SCANNED_AT + DAY, "1.1", manifest("b"), counts=(0, 1, 0, 0))
    again = oracle.Scan("3", SCANNED_AT + 2 * DAY, "1.0", manifest("a"), counts=(1, 0, 0, 0))
    row = record_all(conn, acme, first, second, again)
    assert (row["latest_tag"], row["latest_digest"]) == ("1.1", manifest("b"))
    assert (row["scan"], row["last_scanned_at"]) == ("2", SCANNED_AT + DAY)


def test_moved_tag_uses_the_time_of_its_new_digest(conn: Connection, acme: str) -> None:
    scans = [
        oracle.Scan("1", SCANNED_AT, "latest", manifest("a")),
        oracle.Scan("2", SCANNED_AT + DAY, "1.0", manifest("b")),
        oracle.Scan("3", SCANNED_AT + 2 * DAY, "latest", manifest("c")),
    ]
    row = record_all(conn, acme, *scans)
    assert (row["latest_tag"], row["latest_digest"]) == ("latest", manifest("c"))
    assert len(rows_of(conn, "tags")) == 3


def test_time_of_digest_is_its_build_time_else_first_observation(
    conn: Connection, acme: str
) -> None:
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
    ingest(conn, acme, trivy("undated", "c", built=None, scanned=1))
    assert row_of(conn, acme)["latest_tag"] == "undated"
    ingest(conn, acme, trivy("since-1970", "d", built=20_000, scanned=4))
    assert row_of(conn, acme)["latest_tag"] == "since-1970"
    # A build time reported later replaces the time of the first observation.
    ingest(conn, acme, trivy("since-1970", "d", built=30, scanned=5))
    assert row_of(conn, acme)["latest_tag"] == "undated"


@pytest.mark.parametrize(
    ("ahead", "is_known"),
    [
        (timedelta(minutes=5), True),
        (timedelta(minutes=5, microseconds=1), False),
        (timedelta(days=70 * 365), False),
    ],
)
def test_build_time_after_the_observation_is_unknown(
    conn: Connection, acme: str, ahead: timedelta, is_known: bool
) -> None:
    built_at = SCANNED_AT + ahead
    ingest(conn, acme, reports.trivy(f"{NAME}:1", digest=manifest("a"), built_at=built_at))
    later = SCANNED_AT + timedelta(seconds=1)
    ingest(conn, acme, reports.trivy(f"{NAME}:2", digest=manifest("b"), finished_at=later))
    assert row_of(conn, acme)["latest_tag"] == ("1" if is_known else "2")
    # A later observation of the same digest is compared with its own time.
    ingest(
        conn,
        acme,
        reports.trivy(f"{NAME}:1", digest=manifest("a"), built_at=later, finished_at=later + DAY),
    )
    assert [row["built_at"] for row in rows_of(conn, "tags") if row["name"] == "1"] == [
        built_at if is_known else later
    ]


def test_digest_with_several_build_times_uses_latest_one(conn: Connection, acme: str) -> None:
    """If scanners disagree on the build time, the order of arrival must not decide."""
    for days, tag in ((9, "1"), (5, "2"), (7, "1"), (3, "1"), (8, "1")):
        built_at = SCANNED_AT - days * DAY
        body = reports.trivy(f"{NAME}:{tag}", digest=manifest("a"), built_at=built_at)
        ingest(conn, acme, body)
    assert row_of(conn, acme)["latest_tag"] == "1"


def test_latest_tag_at_equal_times_is_greater_name(conn: Connection, acme: str) -> None:
    scans = [
        oracle.Scan(tag, SCANNED_AT, tag, manifest("a"))
        for tag in ("1.10", "1.9", "Zeta", "alpha", "_x")
    ]
    row = record_all(conn, acme, *scans)
    assert (row["latest_tag"], row["tag_count"]) == ("alpha", 5)


def test_scan_without_digest_creates_a_tag(conn: Connection, acme: str) -> None:
    scans = [oracle.Scan(str(day), SCANNED_AT + day * DAY, "1") for day in range(3)]
    row = record_all(conn, acme, *scans)
    assert (row["tag_count"], row["latest_tag"], row["latest_digest"]) == (1, "1", None)
    [tag] = rows_of(conn, "tags")
    assert (tag["first_observed_at"], tag["last_observed_at"]) == (
        SCANNED_AT,
        SCANNED_AT + 2 * DAY,
    )


def test_image_without_tags_has_digest_of_newest_finished_scan(conn: Connection, acme: str) -> None:
    scans = [
        oracle.Scan("1", SCANNED_AT, None, manifest("a"), counts=(1, 0, 0, 0)),
        oracle.Scan("2", SCANNED_AT + DAY, None, manifest("b"), status="FAILED"),
    ]
    row = record_all(conn, acme, *scans)
    assert (row["tag_count"], row["latest_tag"]) == (0, None)
    assert (row["latest_digest"], row["risk_score"]) == (manifest("a"), 75)
    assert rows_of(conn, "tags") == []


def test_image_whose_tags_were_removed_has_digest_and_score_of_one_scan(
    conn: Connection, acme: str
) -> None:
    """The newest scan of any tag gives both, although an older scan has no tag (contract 6.6)."""
    untagged = oracle.Scan("1", SCANNED_AT, None, manifest("a"))
    tagged = oracle.Scan("2", SCANNED_AT + DAY, "1.0", manifest("b"), counts=(1, 0, 0, 0))
    record_all(conn, acme, untagged, tagged)
    conn.execute("DELETE FROM tags")
    [(image_id,)] = conn.execute("SELECT id FROM images").fetchall()
    refresh_images(conn, acme, [image_id])
    row = row_of(conn, acme)
    assert (row["tag_count"], row["latest_tag"]) == (0, None)
    assert (row["latest_digest"], row["scan"], row["risk_score"]) == (manifest("b"), "2", 75)
    assert row["last_scanned_at"] == SCANNED_AT + DAY


def test_image_without_tags_and_finished_scan_has_digest_of_newest_scan(
    conn: Connection, acme: str
) -> None:
    scans = [
        oracle.Scan(letter, SCANNED_AT + days * DAY, None, manifest(letter), status="FAILED")
        for letter, days in (("a", 0), ("b", 2), ("c", 1))
    ]
    row = record_all(conn, acme, *scans)
    assert (row["tag_count"], row["latest_digest"], row["risk_score"]) == (0, manifest("b"), None)


def test_digest_of_finished_scan_replaces_digest_of_failed_scan(
    conn: Connection, acme: str
) -> None:
    failed = oracle.Scan("1", SCANNED_AT + DAY, "1", manifest("b"), None, "FAILED")
    finished = oracle.Scan("2", SCANNED_AT, "1", manifest("a"))
    assert record_all(conn, acme, failed)["latest_digest"] == manifest("b")
    assert record_all(conn, acme, failed, finished)["latest_digest"] == manifest("a")
    tags = {(tag["digest"], tag["is_confirmed"]) for tag in rows_of(conn, "tags")}
    assert tags == {(manifest("a"), True), (manifest("b"), False)}


# refreshing an image


def test_refresh_changes_only_rows_that_differ(conn: Connection, tenants: Tenants) -> None:
    acme, globex = tenants.acme.organization_id, tenants.globex.organization_id
    empty = tenants.acme.add_image("ghcr.io/acme/never-scanned")
    images = [
        ingest(conn, owner, reports.trivy(f"ghcr.io/acme/{name}", (1,))).image_id
        for owner in (acme, globex)
        for name in ("a", "b")
    ]
    before = stored_rows(conn)
    assert refresh_images(conn, acme, [*images, empty, "img-unknown"]) == []
    assert refresh_images(conn, acme, []) == []
    assert stored_rows(conn) == before

    conn.execute("UPDATE images SET tag_count = 99, latest_tag = 'x', critical = 7")
    assert sorted(refresh_images(conn, acme, [*images, empty])) == sorted([*images[:2], empty])
    after = stored_rows(conn, acme)
    for table, rows in before.items():
        expected = [row for row in rows if acme in row]
        # The versions change, so that clients read the repaired rows.
        changing = {"inventories", "registries", "image_changes"}
        assert (after[table] == expected) == (table not in changing), table
    assert {row["tag_count"] for row in image_rows(conn, globex).values()} == {99}


# two scanners of one build


TRIVY = oracle.Scan("t", SCANNED_AT, "1.0", manifest("a"), counts=(0, 1, 0, 0))
GRYPE = oracle.Scan(
    "g", SCANNED_AT - HOUR, "1.0", manifest("a"), counts=(1, 0, 0, 0), scanners=("grype",)
)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_score_of_two_scanners_comes_from_the_higher_and_the_time_from_the_newer(
    conn: Connection, acme: str, order: tuple[int, int]
) -> None:
    row = record_all(conn, acme, *[(TRIVY, GRYPE)[number] for number in order])
    assert (row["scan"], row["risk_score"], row["grade"]) == ("g", 75, "D")
    assert (row["critical"], row["high"], row["last_scanned_at"]) == (1, 0, SCANNED_AT)


@pytest.mark.parametrize(
    ("changes", "counted"),
    [
        ({}, "g"),
        ({"digest": None}, "g"),
        ({"digest": manifest("b")}, "t"),
        ({"finished_at": SCANNED_AT - DAY}, "g"),
        ({"finished_at": SCANNED_AT - DAY - timedelta(microseconds=1)}, "t"),
        ({"finished_at": SCANNED_AT - DAY, "digest": manifest("b")}, "t"),
        ({"status": "PARTIAL"}, "g"),
        ({"status": "FAILED"}, "t"),
        ({"tag": "0.9"}, "t"),
        ({"tag": None}, "t"),
        ({"scanners": ("trivy",)}, "t"),
        ({"scanners": ("grype", "trivy")}, "g"),
        ({"counts": (0, 0, 9, 9)}, "t"),
    ],
    ids=str,
)
def test_scan_compared_with_the_newest_counts_if_all_conditions_hold(
    conn: Connection, acme: str, changes: dict[str, Any], counted: str
) -> None:
    """The other tag is older, so the latest tag is always 1.0."""
    first = oracle.Scan("0", SCANNED_AT - 9 * DAY, "0.9", manifest("c"))
    other = replace(GRYPE, **changes)
    row = record_all(conn, acme, first, other, TRIVY)
    assert (row["latest_tag"], row["scan"]) == ("1.0", counted)
    assert row["last_scanned_at"] == SCANNED_AT


def test_scan_compared_with_a_newest_scan_without_digest_may_have_any(
    conn: Connection, acme: str
) -> None:
    others = [
        replace(GRYPE, identity=letter, digest=manifest(letter), scanners=(letter,))
        for letter in "ab"
    ]
    row = record_all(conn, acme, *others, replace(TRIVY, digest=None))
    assert row["scan"] == "b"


def test_older_scan_of_the_same_scanner_counts_no_more(conn: Connection, acme: str) -> None:
    """Each scanner has one vote, that of its newest scan which is not of another digest."""
    older = replace(GRYPE, identity="9", finished_at=SCANNED_AT - 2 * HOUR, counts=(4, 0, 0, 0))
    newer = replace(GRYPE, identity="1", counts=(0, 4, 0, 0))
    clean = replace(TRIVY, counts=(0, 0, 0, 1))
    assert record_all(conn, acme, clean, older, newer)["scan"] == "1"
    moved = replace(newer, identity="2", digest=manifest("b"), finished_at=SCANNED_AT - HOUR / 2)
    assert record_all(conn, acme, clean, older, newer, moved)["scan"] == "1"


def test_equal_scores_count_the_newer_then_the_greater_external_id(
    conn: Connection, acme: str
) -> None:
    same = replace(GRYPE, identity="z", counts=TRIVY.counts)
    assert record_all(conn, acme, same, TRIVY)["scan"] == "t"
    at_once = replace(same, identity="u", finished_at=SCANNED_AT, scanners=("dive",))
    assert record_all(conn, acme, same, TRIVY, at_once)["scan"] == "u"
    lower = replace(at_once, identity="a", scanners=("syft",))
    assert record_all(conn, acme, same, TRIVY, at_once, lower)["scan"] == "u"


def test_newest_scan_of_any_tag_is_compared_with_its_own_tag(conn: Connection, acme: str) -> None:
    """A registry sync found a newer tag, which no finished scan has."""
    bodies = [body_of(scan) for scan in (GRYPE, TRIVY)]
    [image_id] = {ingest(conn, acme, body).image_id for body in bodies}
    later = ObservedTag("2.0", manifest("c"))
    observe_tags(conn, acme, image_id, [later], observed_at=SCANNED_AT + DAY)
    refresh_images(conn, acme, [image_id])
    row = row_of(conn, acme)
    assert (row["latest_tag"], row["latest_digest"]) == ("2.0", manifest("c"))
    assert (row["scan"], row["last_scanned_at"]) == ("g", SCANNED_AT)


def test_untagged_scans_are_compared_with_each_other(conn: Connection, acme: str) -> None:
    untagged = [replace(scan, tag=None) for scan in (TRIVY, GRYPE)]
    row = record_all(conn, acme, *untagged)
    assert (row["scan"], row["latest_tag"], row["tag_count"]) == ("g", None, 0)
