"""Any history of uploads, deletions, prunes and registry removals stores the rows of the oracle."""

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harborguard.errors import Gone
from harborguard.ingest import ingest_report
from harborguard.listing import FindingCriteria, ImageCriteria, Page, VulnerabilityCriteria
from harborguard.model import Scope, Severity
from harborguard.store import deletion
from harborguard.store.connection import Connection
from harborguard.store.counters import find_incorrect_counters
from harborguard.store.images.findings import list_findings
from harborguard.store.images.list import find_inventory_version, list_images
from harborguard.store.images.vulnerabilities import list_vulnerabilities
from harborguard.store.organizations import create_organization
from harborguard.store.prune import Prune, PruneCounts, PrunePolicy
from harborguard.store.registries import find_registry
from tests.store.test_lookup_properties import check_verdicts
from tests.store.test_scans_properties import NAMES, Upload, uploads
from tests.support import oracle
from tests.support.reports import RECEIVED_AT, image_rows, kept_findings, stored_rows
from tests.support.tenants import OPERATOR


@dataclass(frozen=True)
class DeleteScan:
    """Delete one of the recorded scans."""

    index: int


@dataclass(frozen=True)
class DeleteImage:
    """Delete an image, if it exists."""

    name: str


@dataclass(frozen=True)
class RemoveRegistry:
    """Remove the registry of an image, if it exists."""

    name: str


@dataclass(frozen=True)
class PruneScans:
    """Keep a number of scans of each tag."""

    keep: int


@dataclass(frozen=True)
class PruneUnseen:
    """Prune what was not seen since now, or since the next day: all images."""

    days: int


Step = Upload | DeleteScan | DeleteImage | RemoveRegistry | PruneScans | PruneUnseen


def steps(number: int) -> st.SearchStrategy[Step]:
    """Draw one step of a history; most are uploads."""
    others = st.one_of(
        st.builds(DeleteScan, st.integers(0, 7)),
        st.builds(DeleteScan, st.integers(0, 7)),
        st.builds(DeleteImage, st.sampled_from(NAMES)),
        st.builds(RemoveRegistry, st.sampled_from(NAMES)),
        st.builds(PruneScans, st.integers(1, 2)),
        st.builds(PruneUnseen, st.sampled_from([0, 0, 0, 1])),
    )
    return st.integers(0, 2).flatmap(lambda kind: others if kind == 2 else uploads(number))


histories = st.integers(2, 14).flatmap(
    lambda size: st.tuples(*(steps(number) for number in range(size)))
)


class History:
    """An organization in which steps are executed, and the model of what they should store."""

    def __init__(self, conn: Connection) -> None:
        self.conn = conn
        self.organization_id = create_organization(conn, "history", actor=OPERATOR)
        self.scope = Scope(self.organization_id)
        self.images: dict[str, oracle.Image] = {}
        self.ids: dict[str, str] = {}  # of images, by name

    def run(self, step: Step) -> None:
        match step:
            case Upload():
                self._upload(step)
            case DeleteScan():
                self._delete_scan(step.index)
            case DeleteImage():
                if step.name in self.images:
                    deletion.delete_image(
                        self.conn, self.scope, self.ids[step.name], actor=OPERATOR
                    )
                    del self.images[step.name]
            case RemoveRegistry():
                self._remove_registry(step.name.partition("/")[0])
            case PruneScans():
                counts = self._prune(PrunePolicy(keep_scans=step.keep))
                expected = sum(image.prune(step.keep) for image in self.images.values())
                assert counts == PruneCounts(examined=len(self.images), scans=expected)
            case PruneUnseen():
                self._prune_unseen(step.days)

    def _prune(self, policy: PrunePolicy) -> PruneCounts:
        prune = Prune(self.conn, self.organization_id, policy, actor=OPERATOR)
        assert sum(prune.run()) == prune.counts.examined
        return prune.counts

    def _prune_unseen(self, days: int) -> None:
        """Images are created, and scans recorded, at the time of the transaction: now."""
        [(now,)] = self.conn.execute("SELECT now()").fetchall()
        counts = self._prune(PrunePolicy(unseen_since=now + timedelta(days=days)))
        assert counts.examined == len(self.images)
        if days:
            assert counts.images == len(self.images)
            self.images.clear()
        else:
            expected = sum(image.prune_observations() for image in self.images.values())
            assert (counts.images, counts.observations) == (0, expected)

    def _upload(self, upload: Upload) -> None:
        recorded = ingest_report(
            self.conn, self.organization_id, upload.body, received_at=RECEIVED_AT
        )
        image = self.images.setdefault(upload.name, oracle.Image())
        assert recorded.is_new == (upload.scan not in image.scans)
        image.record(upload.scan)
        self.ids[upload.name] = recorded.image_id

    def _delete_scan(self, index: int) -> None:
        scans = [(image, scan) for image in self.images.values() for scan in image.scans]
        if not scans:
            return
        image, scan = scans[index % len(scans)]
        query = "SELECT id FROM scans WHERE organization_id = %s AND external_id = %s"
        row = self.conn.execute(query, [self.organization_id, scan.identity]).fetchone()
        assert row
        deletion.delete_scan(self.conn, self.scope, row[0], actor=OPERATOR)
        image.delete(scan)

    def _remove_registry(self, host: str) -> None:
        registry_id = find_registry(self.conn, self.organization_id, host)
        if registry_id is None:
            return
        names = [name for name in self.images if name.startswith(f"{host}/")]
        removed = deletion.remove_registry(
            self.conn, self.organization_id, registry_id, actor=OPERATOR
        )
        assert sum(removed) == len(names)
        for name in names:
            del self.images[name]

    def check(self) -> None:
        """Compare rows, kept findings, counters and orphans with the model."""
        rows = image_rows(self.conn, self.organization_id)
        assert rows == {name: image.row() for name, image in self.images.items()}
        kept = {
            (scan.identity, sum(scan.counts))
            for image in self.images.values()
            for scan in image.scans
            if scan.identity in image.kept()
        }
        assert set(kept_findings(self.conn, self.organization_id)) == kept
        assert find_incorrect_counters(self.conn, self.organization_id) == []
        assert find_orphans(self.conn, self.organization_id) == []
        for name, image in self.images.items():
            self._check_findings(self.ids[name], image)
            check_verdicts(self.conn, self.scope, name, image.scans, image.observations)
        self._check_filters()

    def _check_findings(self, image_id: str, image: oracle.Image) -> None:
        """Compare the findings of an image with those of the scan that counts, or expect Gone."""
        compared = image.compared()
        try:
            listing = list_findings(
                self.conn,
                self.scope,
                image_id,
                criteria=FindingCriteria(),
                page=Page(),
                caller="caller",
            )
        except Gone:
            assert compared[0].identity not in image.kept()
            assert self._count_vulnerabilities(image_id) == [0, 0, 0, 0]
        else:
            assert listing.total == (sum(compared[0].counts) if compared else 0)
            assert not compared or compared[0].identity in image.kept()
            counts = list(compared[0].counts) if compared else [0, 0, 0, 0]
            assert self._count_vulnerabilities(image_id) == counts

    def _count_vulnerabilities(self, image_id: str) -> list[int]:
        """Return the numbers of an image's vulnerabilities by severity."""
        return [
            list_vulnerabilities(
                self.conn,
                self.scope,
                VulnerabilityCriteria(image=image_id, severities=(severity,)),
                Page(),
                caller="caller",
            ).total
            for severity in list(Severity)[:4]
        ]

    def _check_filters(self) -> None:
        """Compare the images and the vulnerabilities of a package with the model."""
        with_findings = {
            self.ids[name]: sum(compared[0].counts)
            for name, image in self.images.items()
            if (compared := image.compared())
            and sum(compared[0].counts)
            and compared[0].identity in image.kept()
        }
        criteria = ImageCriteria(package="OPENSSL")
        images = list_images(self.conn, self.scope, criteria, Page()).items
        assert {image.id for image in images} == set(with_findings)
        found = list_vulnerabilities(
            self.conn,
            self.scope,
            VulnerabilityCriteria(package="OpenSSL"),
            Page(size=200),
            caller="caller",
        )
        assert Counter(finding.image_id for finding in found.items) == with_findings
        assert found.total == sum(with_findings.values())


def find_orphans(conn: Connection, organization_id: str) -> list[tuple[str, int]]:
    """Return the tables that have rows without the row to which they belong, and their numbers."""
    queries = {
        "findings": "set_id NOT IN (SELECT id FROM finding_sets)",
        "finding_sets": "id NOT IN (SELECT set_id FROM scan_findings WHERE set_id IS NOT NULL)",
        "scan_findings": "scan_id NOT IN (SELECT id FROM scans)",
        "scans": "image_id NOT IN (SELECT id FROM images)",
    }
    found: list[tuple[str, int]] = []
    for table, condition in queries.items():
        query = f"SELECT count(*) FROM {table} WHERE organization_id = %s AND {condition}"
        [(count,)] = conn.execute(query.encode(), [organization_id]).fetchall()
        found += [(table, count)] if count else []
    return found


def show(conn: Connection, scope: Scope) -> tuple[int, list[Any]]:
    """Return the version of a scope and everything that its list shows."""
    listing = list_images(conn, scope, ImageCriteria(), Page())
    affected = list_images(conn, scope, ImageCriteria(package="openssl"), Page())
    tagged = list_images(conn, scope, ImageCriteria(tag="1.9"), Page())
    return find_inventory_version(conn, scope), [*listing[:2], *affected[:2], *tagged[:2]]


@settings(
    max_examples=150,
    deadline=timedelta(seconds=20),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(history=histories)
def test_history_with_deletions_stores_the_rows_of_the_oracle(
    conn: Connection, history: tuple[Step, ...]
) -> None:
    """The version grows with every change of the list. Another organization never changes."""
    with conn.transaction(force_rollback=True):
        theirs = create_organization(conn, "theirs", actor=OPERATOR)
        for upload in history:
            if isinstance(upload, Upload):
                ingest_report(conn, theirs, upload.body, received_at=RECEIVED_AT)
        rows_of_others = stored_rows(conn, theirs)
        run = History(conn)
        for step in history:
            before = show(conn, run.scope)
            run.run(step)
            run.check()
            after = show(conn, run.scope)
            assert after[0] >= before[0] + (after[1] != before[1])
        assert stored_rows(conn, theirs) == rows_of_others
