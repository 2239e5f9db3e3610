"""Prune deletes exactly the old data of one organization, also beside uploads and syncs."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from harborguard.config import Config
from harborguard.listing import AuditCriteria, ImageCriteria, Page
from harborguard.model import Action, ObservedRepository, ObservedTag, Scope
from harborguard.store import deletion, prune
from harborguard.store.audit import list_actions, record_action
from harborguard.store.connection import Connection, connect
from harborguard.store.counters import find_incorrect_counters
from harborguard.store.images.list import list_images
from harborguard.store.prune import Prune, PruneCounts, PrunePolicy
from harborguard.store.registries import get_registry
from harborguard.store.repositories import record_repository
from tests.store.test_scans_races import wait_until_blocked
from tests.support import oracle
from tests.support.recording import DAY, NAME, body_of, ingest, row_of
from tests.support.reports import SCANNED_AT, envelope, manifest, recorded_rows, stored_rows
from tests.support.tenants import OPERATOR, Tenant, Tenants

SINCE = datetime(2026, 8, 1, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)
BEFORE = SINCE - MOMENT
UNSEEN = PrunePolicy(unseen_since=SINCE)


def run_prune(
    conn: Connection, organization_id: str, policy: PrunePolicy, *, dry_run: bool = False
) -> PruneCounts:
    run = Prune(conn, organization_id, policy, actor=OPERATOR, dry_run=dry_run)
    examined = sum(run.run())
    assert run.counts.examined == examined
    return run.counts


def actions_of(conn: Connection, organization_id: str) -> list[tuple[str, str, str]]:
    """Return the newest entries of the audit log, the first recorded one first."""
    entries = list_actions(conn, organization_id, AuditCriteria(), Page(1, 200)).items
    return [(entry.actor, entry.action, entry.target) for entry in reversed(entries)]


def names_of(conn: Connection, organization_id: str) -> list[str]:
    query = "SELECT name FROM images WHERE organization_id = %s ORDER BY name"
    return [name for (name,) in conn.execute(query, [organization_id])]


def externals_of(conn: Connection, organization_id: str) -> list[str]:
    query = "SELECT external_id FROM scans WHERE organization_id = %s ORDER BY external_id"
    return [name for (name,) in conn.execute(query, [organization_id])]


def make_old(conn: Connection, *, images: bool = True) -> None:
    """Set the times at which images were created and scans recorded to a time before SINCE."""
    conn.execute("UPDATE scans SET recorded_at = %s", [BEFORE])
    if images:
        conn.execute("UPDATE images SET created_at = %s", [BEFORE])


def add_tag(tenant: Tenant, image_id: str, **columns: Any) -> None:
    """Add an observation of a tag by a sync."""
    row = {
        "organization_id": tenant.organization_id,
        "image_id": image_id,
        "name": "1.0",
        "is_confirmed": True,
        "is_synced": True,
        "first_observed_at": BEFORE,
        **columns,
    }
    values = ", ".join(f"%({column})s" for column in row)
    tenant.conn.execute(f"INSERT INTO tags ({', '.join(row)}) VALUES ({values})".encode(), row)


# -- images ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("created_at", "is_kept"), [(BEFORE, False), (SINCE, True)])
def test_image_without_tags_and_scans_is_deleted_if_it_was_created_before(
    tenants: Tenants, created_at: datetime, is_kept: bool
) -> None:
    acme = tenants.acme
    acme.add_image(NAME, created_at=created_at)
    counts = run_prune(acme.conn, acme.organization_id, UNSEEN)
    assert (counts.examined, counts.images) == (1, int(not is_kept))
    assert names_of(acme.conn, acme.organization_id) == [NAME] * is_kept


@pytest.mark.parametrize(("observed_at", "is_kept"), [(BEFORE, False), (SINCE, True)])
@pytest.mark.parametrize("is_confirmed", [True, False])
def test_image_that_only_a_sync_has_seen_is_deleted_if_that_was_before(
    tenants: Tenants, observed_at: datetime, is_confirmed: bool, is_kept: bool
) -> None:
    acme = tenants.acme
    image_id = acme.add_image(NAME)
    add_tag(acme, image_id, name="0.9", last_observed_at=BEFORE)
    add_tag(acme, image_id, last_observed_at=observed_at, is_confirmed=is_confirmed)
    run_prune(acme.conn, acme.organization_id, UNSEEN)
    assert names_of(acme.conn, acme.organization_id) == [NAME] * is_kept


@pytest.mark.parametrize("column", ["finished_at", "recorded_at"])
@pytest.mark.parametrize(("moment", "is_kept"), [(BEFORE, False), (SINCE, True)])
def test_scan_that_finished_or_was_recorded_since_keeps_its_image(
    conn: Connection, acme: str, column: str, moment: datetime, is_kept: bool
) -> None:
    """A report can be uploaded long after its scan finished."""
    reference = f"{NAME}@{manifest('a')}"
    ingest(conn, acme, envelope(reference, (1,), digest=manifest("a")))
    make_old(conn)
    conn.execute(f"UPDATE scans SET {column} = %s".encode(), [moment])
    run_prune(conn, acme, UNSEEN)
    assert names_of(conn, acme) == [NAME] * is_kept


def test_unseen_images_are_deleted_with_all_rows_and_recorded_in_the_audit_log(
    conn: Connection, tenants: Tenants
) -> None:
    acme, theirs = tenants.acme.organization_id, tenants.globex.organization_id
    names = [f"ghcr.io/acme/{letter}" for letter in "abc"]
    for organization_id in (acme, theirs):
        for name in names:
            ingest(conn, organization_id, envelope(f"{name}:1", (1, 2), scan_id=name))
    make_old(conn)
    ingest(conn, acme, envelope(f"{names[1]}:1", (1, 2), finished_at=SCANNED_AT + DAY))
    rows_of_others = stored_rows(conn, theirs)
    conn.execute("TRUNCATE audit_log")

    counts = run_prune(conn, acme, UNSEEN)

    assert counts == PruneCounts(examined=3, images=2, image_names=counts.image_names)
    assert sorted(counts.image_names) == [names[0], names[2]]
    assert names_of(conn, acme) == [names[1]]
    listing = list_images(conn, Scope(acme), ImageCriteria(), Page())
    assert (listing.total, [row.name for row in listing.items]) == (1, [names[1]])
    assert find_incorrect_counters(conn, acme) == []
    rows = recorded_rows(conn, acme)
    kept_alone = {"tags": 1, "scans": 2, "finding_sets": 1, "findings": 3, "scan_findings": 1}
    assert {table: len(rows[table]) for table in kept_alone} == kept_alone
    actor = OPERATOR.name
    first, *others = actions_of(conn, acme)
    assert first == (actor, "inventory.pruned", f"organization/{acme}")
    assert [entry[:2] for entry in others] == [(actor, "image.deleted")] * 2
    assert stored_rows(conn, theirs) == rows_of_others
    assert actions_of(conn, theirs) == []


def test_nothing_to_prune_changes_and_records_nothing(conn: Connection, acme: str) -> None:
    ingest(conn, acme, envelope(f"{NAME}:1"))
    rows, actions = stored_rows(conn), actions_of(conn, acme)
    counts = run_prune(conn, acme, PrunePolicy(SINCE, 1, SINCE))
    assert counts == PruneCounts(examined=1)
    assert (stored_rows(conn), actions_of(conn, acme)) == (rows, actions)


def test_names_of_unseen_images_are_bounded(tenants: Tenants) -> None:
    acme = tenants.acme
    for number in range(prune.MAX_NAMES + 3):
        acme.add_image(f"ghcr.io/acme/{number}")
    counts = run_prune(acme.conn, acme.organization_id, UNSEEN, dry_run=True)
    assert counts.images == prune.MAX_NAMES + 3
    assert len(counts.image_names) == prune.MAX_NAMES


# -- scans ----------------------------------------------------------------------------------------


def upload_days(conn: Connection, organization_id: str, *days: int, **options: Any) -> None:
    """Record a scan of each day; its external id is the tag, the scanners and the day."""
    tag = options.pop("tag", "1")
    reference = f"{NAME}:{tag}" if tag else f"{NAME}@{manifest('a')}"
    for day in days:
        scan_id = "-".join([tag or "none", *options.get("scanners", ()), str(day)])
        finished_at = SCANNED_AT + day * DAY
        ingest(
            conn,
            organization_id,
            envelope(reference, (day,), scan_id=scan_id, finished_at=finished_at, **options),
        )


@pytest.mark.parametrize(
    ("keep", "kept"), [(1, ["1-4"]), (3, ["1-2", "1-3", "1-4"]), (9, [f"1-{n}" for n in range(5)])]
)
def test_newest_scans_of_a_tag_are_kept_and_rows_and_versions_stay(
    conn: Connection, acme: str, keep: int, kept: list[str]
) -> None:
    upload_days(conn, acme, 3, 0, 4, 1, 2)
    before = stored_rows(conn)
    counts = run_prune(conn, acme, PrunePolicy(keep_scans=keep))
    assert counts == PruneCounts(examined=1, scans=5 - len(kept))
    assert externals_of(conn, acme) == kept
    assert {**stored_rows(conn), "scans": []} == {**before, "scans": []}


def test_scans_are_counted_for_each_tag_and_without_a_tag(conn: Connection, acme: str) -> None:
    for tag in ("1", "2", ""):
        upload_days(conn, acme, 0, 1, 2, tag=tag)
    run_prune(conn, acme, PrunePolicy(keep_scans=2))
    assert externals_of(conn, acme) == ["1-1", "1-2", "2-1", "2-2", "none-1", "none-2"]


def test_scan_that_counts_or_is_compared_is_kept_whatever_the_number(
    conn: Connection, acme: str
) -> None:
    """Three scanners scanned one build within a day; the first one has the highest score."""
    for hours, scanner in enumerate(["trivy", "grype", "osv"]):
        upload_days(conn, acme, 0, scanners=(scanner,))
        finished_at = SCANNED_AT + DAY + timedelta(hours=hours)
        scan = oracle.Scan(
            scanner, finished_at, "1", scanners=(scanner,), counts=(int(hours == 0), 0, 0, 0)
        )
        ingest(conn, acme, body_of(scan))
    row = row_of(conn, acme)
    assert row["scan"] == "trivy"
    run_prune(conn, acme, PrunePolicy(keep_scans=1))
    assert externals_of(conn, acme) == ["grype", "osv", "trivy"]
    assert row_of(conn, acme) == row


def test_unfinished_scans_are_counted_and_deleted_like_others(conn: Connection, acme: str) -> None:
    """The newest one alone is left, beside the finished scan that counts."""
    upload_days(conn, acme, 0)
    upload_days(conn, acme, 1, 2, 3, status="FAILED")
    row = row_of(conn, acme)
    assert run_prune(conn, acme, PrunePolicy(keep_scans=1)).scans == 2
    assert externals_of(conn, acme) == ["1-0", "1-3"]
    assert row_of(conn, acme) == row


def test_digest_of_an_image_with_unfinished_scans_only_stays(conn: Connection, acme: str) -> None:
    for day in range(3):
        scan = oracle.Scan(
            str(day), SCANNED_AT + day * DAY, None, manifest("abc"[day]), status="FAILED"
        )
        ingest(conn, acme, body_of(scan))
    row = row_of(conn, acme)
    assert row["latest_digest"] == manifest("c")
    assert run_prune(conn, acme, PrunePolicy(keep_scans=1)).scans == 2
    assert row_of(conn, acme) == row


# -- observations ---------------------------------------------------------------------------------


def observe(tenant: Tenant, *observations: tuple[str, datetime, bool]) -> None:
    """Add observations of the tag 1.0: a letter of the digest, the time, whether it is confirmed."""
    image_id = tenant.add_image(NAME, created_at=SINCE)
    for letter, observed_at, is_confirmed in observations:
        add_tag(
            tenant,
            image_id,
            digest=manifest(letter),
            last_observed_at=observed_at,
            is_confirmed=is_confirmed,
        )


def digests_of(conn: Connection) -> str:
    rows = conn.execute("SELECT substr(digest, 8, 1) FROM tags ORDER BY digest").fetchall()
    return "".join(letter for (letter,) in rows)


@pytest.mark.parametrize(
    ("observations", "kept"),
    [
        # The current digest stays, however old it is.
        ([("a", BEFORE - DAY, True), ("b", BEFORE, True)], "b"),
        ([("a", BEFORE, True)], "a"),
        # Observations of the time stay.
        ([("a", SINCE, True), ("b", SINCE + DAY, True)], "ab"),
        ([("a", BEFORE, True), ("b", SINCE + DAY, True)], "b"),
        # A confirmed digest is current before any other.
        ([("a", BEFORE - DAY, True), ("b", BEFORE, False)], "a"),
        ([("a", BEFORE - DAY, False), ("b", BEFORE, True)], "b"),
        ([("a", BEFORE - DAY, False), ("b", BEFORE, False)], "b"),
        # Of two with the same time, the greater digest is current; both stay.
        ([("a", BEFORE, True), ("b", BEFORE, True)], "ab"),
    ],
)
def test_observations_that_are_old_and_not_current_are_deleted(
    tenants: Tenants, observations: list[tuple[str, datetime, bool]], kept: str
) -> None:
    acme = tenants.acme
    observe(acme, *observations)
    query = "SELECT name, digest, is_confirmed FROM current_tags"
    current = acme.conn.execute(query).fetchall()
    counts = run_prune(acme.conn, acme.organization_id, UNSEEN)
    assert (counts.images, counts.observations) == (0, len(observations) - len(kept))
    assert digests_of(acme.conn) == kept
    assert acme.conn.execute(query).fetchall() == current


# -- audit log ------------------------------------------------------------------------------------


def test_audit_entries_before_the_time_are_deleted(conn: Connection, tenants: Tenants) -> None:
    acme, theirs = tenants.acme.organization_id, tenants.globex.organization_id
    conn.execute("TRUNCATE audit_log")
    for organization_id in (acme, theirs):
        for target in ("a", "b", "c"):
            record_action(conn, organization_id, OPERATOR, Action.IMAGE_DELETED, target)
    for target, moment in (("a", BEFORE), ("b", SINCE)):
        conn.execute("UPDATE audit_log SET created_at = %s WHERE target = %s", [moment, target])
    policy = PrunePolicy(audit_since=SINCE)
    assert run_prune(conn, acme, policy, dry_run=True) == PruneCounts(audit_entries=1)
    assert len(actions_of(conn, acme)) == 3

    assert run_prune(conn, acme, policy) == PruneCounts(audit_entries=1)

    targets = [target for _, _, target in actions_of(conn, acme)]
    assert targets == ["b", "c", f"organization/{acme}"]
    assert len(actions_of(conn, theirs)) == 3


# -- the run --------------------------------------------------------------------------------------


def fill(conn: Connection, organization_id: str) -> None:
    """Record old and current data of every kind: seven images with ten scans each."""
    for number in range(7):
        name = f"ghcr.io/acme/{number}"
        for day in range(10):
            digest = manifest("0123456789"[day])
            body = envelope(
                f"{name}:1",
                (1,),
                scan_id=f"{number}-{day}",
                finished_at=SCANNED_AT + day * DAY,
                digest=digest,
            )
            ingest(conn, organization_id, body)
    make_old(conn)
    conn.execute("UPDATE images SET created_at = now() WHERE name > 'ghcr.io/acme/3'")
    record_action(conn, organization_id, OPERATOR, Action.IMAGE_DELETED, *["old"] * 5)
    conn.execute("UPDATE audit_log SET created_at = %s WHERE target = 'old'", [BEFORE])


EVERYTHING = PrunePolicy(SINCE, 2, SINCE)
EXPECTED = (7, 4, 3 * 8, 3 * 9, 5)


def as_tuple(counts: PruneCounts) -> tuple[int, ...]:
    return (
        counts.examined,
        counts.images,
        counts.scans,
        counts.observations,
        counts.audit_entries,
    )


def test_dry_run_counts_what_a_run_deletes_and_changes_nothing(conn: Connection, acme: str) -> None:
    """Scans and observations of the unseen images are not counted."""
    fill(conn, acme)
    rows, actions = stored_rows(conn), actions_of(conn, acme)
    planned = run_prune(conn, acme, EVERYTHING, dry_run=True)
    assert as_tuple(planned) == EXPECTED
    assert (stored_rows(conn), actions_of(conn, acme)) == (rows, actions)
    assert run_prune(conn, acme, EVERYTHING) == planned
    assert as_tuple(run_prune(conn, acme, EVERYTHING)) == (3, 0, 0, 0, 0)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_batches_and_windows_of_any_size_delete_the_same(
    conn: Connection, acme: str, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    fill(conn, acme)
    for name, value in {"MAX_IMAGES": size, "MAX_ROWS": size, "MAX_LISTED_ROWS": 2 * size}.items():
        monkeypatch.setattr(prune, name, value)
    assert as_tuple(run_prune(conn, acme, EVERYTHING)) == EXPECTED
    runs = [entry for entry in actions_of(conn, acme) if entry[1] == "inventory.pruned"]
    assert len(runs) == 1
    assert find_incorrect_counters(conn, acme) == []


def test_number_of_images_in_a_transaction_follows_its_duration(
    tenants: Tenants, monkeypatch: pytest.MonkeyPatch, statements: list[str]
) -> None:
    acme = tenants.acme
    for number in range(40):
        acme.add_image(f"ghcr.io/acme/{number}")
    monkeypatch.setattr(prune, "MAX_IMAGES", 10)
    monkeypatch.setattr(prune, "TARGET_SECONDS", 0)
    statements.clear()
    assert run_prune(acme.conn, acme.organization_id, UNSEEN).images == 40
    # The first batch is a whole window. At the end, the inventory is locked too.
    assert sum("FOR UPDATE" in text for text in statements) == 1 + 30 + 1


# -- concurrent changes ---------------------------------------------------------------------------


@pytest.fixture
def other(conn: Connection, config: Config) -> Iterator[Connection]:
    """Yield a second connection."""
    with connect(config) as other:
        yield other


def prune_beside(
    conn: Connection,
    other: Connection,
    acme: str,
    policy: PrunePolicy,
    change: Callable[[], object],
) -> PruneCounts:
    """Make a change on the other connection; it is committed while the run waits for its lock."""
    with ThreadPoolExecutor(1) as thread:
        with other.transaction():
            change()
            future = thread.submit(run_prune, conn, acme, policy)
            wait_until_blocked(other, conn)
        return future.result()


def test_scan_that_is_recorded_after_the_list_keeps_its_image(
    conn: Connection, other: Connection, acme: str
) -> None:
    ingest(conn, acme, envelope(f"{NAME}:1"))
    make_old(conn)
    conn.execute("TRUNCATE audit_log")
    late = envelope(f"{NAME}:1", (1,), scan_id="late")
    counts = prune_beside(conn, other, acme, UNSEEN, lambda: ingest(other, acme, late))
    assert (counts.examined, counts.images) == (1, 0)
    assert externals_of(conn, acme) == ["late", "scan-of-the-sensor"]
    assert actions_of(conn, acme) == []
    assert find_incorrect_counters(conn, acme) == []


def test_sync_that_is_recorded_after_the_list_keeps_its_image(
    conn: Connection, other: Connection, acme: str
) -> None:
    ingest(conn, acme, envelope(f"{NAME}:1"))
    make_old(conn)
    registry_id = get_registry(conn, acme, "ghcr.io")
    observed = ObservedRepository(NAME, (ObservedTag("1", None),), SINCE)
    change = lambda: record_repository(other, acme, registry_id, observed)  # noqa: E731
    assert prune_beside(conn, other, acme, UNSEEN, change).images == 0
    assert names_of(conn, acme) == [NAME]


def test_upload_that_waits_for_the_deletion_creates_the_image_again(
    conn: Connection, other: Connection, acme: str
) -> None:
    ingest(conn, acme, envelope(f"{NAME}:1", scan_id="old"))
    make_old(conn)
    late = envelope(f"{NAME}:1", scan_id="late")
    with ThreadPoolExecutor(1) as thread:
        with conn.transaction():
            assert run_prune(conn, acme, UNSEEN).images == 1
            future = thread.submit(ingest, other, acme, late)
            wait_until_blocked(conn, other)
        assert future.result().is_new
    assert externals_of(conn, acme) == ["late"]
    assert find_incorrect_counters(conn, acme) == []


def test_listed_scan_that_counts_again_after_a_deletion_is_kept(
    conn: Connection, other: Connection, acme: str
) -> None:
    """The deletion of the newest scan makes the one before current again."""
    for hour in range(3):
        body = envelope(
            f"{NAME}:1", (hour,), scan_id=str(hour), finished_at=SCANNED_AT + hour * DAY / 24
        )
        ingest(conn, acme, body)
    [(newest,)] = conn.execute("SELECT id FROM scans WHERE external_id = '2'").fetchall()
    counts = prune_beside(
        conn, other, acme, PrunePolicy(keep_scans=1),
        lambda: deletion.delete_scan(other, Scope(acme), newest, actor=OPERATOR),
    )  # fmt: skip
    assert (counts.scans, externals_of(conn, acme)) == (1, ["1"])
    assert row_of(conn, acme)["scan"] == "1"


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        # The old digest is observed again.
        ("UPDATE tags SET last_observed_at = now() WHERE digest = %(a)s", "ab"),
        # The current one is deleted.
        ("DELETE FROM tags WHERE digest = %(b)s", "a"),
    ],
)
def test_listed_observation_that_is_current_again_is_kept(
    tenants: Tenants, other: Connection, change: str, kept: str
) -> None:
    acme = tenants.acme
    observe(acme, ("a", BEFORE - DAY, True), ("b", BEFORE, True))

    def run_change() -> None:
        other.execute("SELECT FROM images FOR NO KEY UPDATE")
        other.execute(change.encode(), {"a": manifest("a"), "b": manifest("b")})

    assert (
        prune_beside(acme.conn, other, acme.organization_id, UNSEEN, run_change).observations == 0
    )
    assert digests_of(acme.conn) == kept


def test_run_is_continued_after_a_deadlock_and_recorded_once(
    conn: Connection, other: Connection, acme: str
) -> None:
    """The other transaction locks the inventory before an image, unlike recorders."""
    ingest(conn, acme, envelope(f"{NAME}:1"))
    make_old(conn)
    conn.execute("TRUNCATE audit_log")
    other.execute("SET deadlock_timeout = '1min'")
    with ThreadPoolExecutor(1) as thread:
        with other.transaction():
            other.execute("SELECT FROM inventories FOR UPDATE")
            future = thread.submit(run_prune, conn, acme, UNSEEN)
            wait_until_blocked(other, conn)
            other.execute("SELECT FROM images FOR UPDATE")
        assert future.result().images == 1
    assert [action for _, action, _ in actions_of(conn, acme)] == [
        "inventory.pruned",
        "image.deleted",
    ]
