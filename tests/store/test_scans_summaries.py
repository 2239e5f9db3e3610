"""Recording: which of an image's scans and tags its row is of."""

from dataclasses import replace

import pytest

from harborguard.store.connection import Connection
from harborguard.store.images.refresh import refresh_images
from tests.support import oracle, reports
from tests.support.recording import DAY, NAME, body_of, ingest, record_all, row_of, rows_of
from tests.support.reports import SCANNED_AT, image_rows, manifest, stored
from tests.support.tenants import Tenants


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


def test_a_summary_made_again_is_the_one_stored(conn: Connection, tenants: Tenants) -> None:
    acme, globex = tenants.acme.organization_id, tenants.globex.organization_id
    empty = tenants.acme.add_image("ghcr.io/acme/never-scanned")
    images = [
        ingest(conn, owner, reports.trivy(f"ghcr.io/acme/{name}", (1,))).image_id
        for owner in (acme, globex)
        for name in ("a", "b")
    ]
    before = stored(conn)
    assert refresh_images(conn, acme, [*images, empty, "img-unknown"]) == []
    assert refresh_images(conn, acme, []) == []
    assert stored(conn) == before

    conn.execute("UPDATE images SET tag_count = 99, latest_tag = 'x', critical = 7")
    assert sorted(refresh_images(conn, acme, [*images, empty])) == sorted([*images[:2], empty])
    after = stored(conn, acme)
    for table, rows in before.items():
        mine = [row for row in rows if acme in row]
        # Whoever has seen the wrong rows must see that there are others now.
        assert (after[table] == mine) == (table != "inventories"), table
    assert {row["tag_count"] for row in image_rows(conn, globex).values()} == {99}
