"""Looking up any tag and digest, after any scans in any order, returns the oracle's verdict."""

from collections.abc import Sequence
from itertools import product

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harborguard.errors import NotFound
from harborguard.ingest import ingest_report
from harborguard.listing import ImageCriteria, ImageVerdict, Page, ScanVerdict
from harborguard.model import Scope
from harborguard.references import parse_reference
from harborguard.store.connection import Connection
from harborguard.store.images.list import list_images
from harborguard.store.images.lookup import get_verdict
from harborguard.store.organizations import create_organization
from tests.store.test_scans_properties import DIGESTS, NAMES, TAGS, Upload, histories, to_text
from tests.support import oracle
from tests.support.reports import RECEIVED_AT, manifest
from tests.support.tenants import OPERATOR

REFERENCES = [
    (tag, digest)
    for tag, digest in product([*TAGS, "unknown"], [*DIGESTS, manifest("f")])
    if tag or digest
]


def check_verdicts(
    conn: Connection,
    scope: Scope,
    name: str,
    scans: Sequence[oracle.Scan],
    observations: Sequence[oracle.Scan],
) -> None:
    """Compare the verdict on each tag and digest of an image with the oracle's."""
    query = "SELECT external_id, id FROM scans WHERE organization_id = %s"
    ids = dict(conn.execute(query, [scope.organization_id]).fetchall())
    rows = list_images(conn, scope, ImageCriteria(), Page()).items
    [row] = [row for row in rows if row.name == name]
    for tag, digest in REFERENCES:
        text = name + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
        expected = oracle.look_up(scans, observations, tag, digest)
        try:
            found = get_verdict(conn, scope, parse_reference(text))
        except NotFound:
            assert expected is None, text
            continue
        assert expected is not None, text
        digest_of_reference, scan = expected
        assert found == ImageVerdict(
            row,
            digest_of_reference,
            scan
            and ScanVerdict(
                ids[scan.identity],
                scan.status,
                list(scan.scanners),
                to_text(scan.finished_at),
                oracle.score_of(scan.counts),
                oracle.grade_of(oracle.score_of(scan.counts)),
                *scan.counts,
            ),
        ), text


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(history=histories, data=st.data())
def test_lookup_returns_the_verdict_of_the_oracle(
    conn: Connection, history: tuple[Upload, ...], data: st.DataObject
) -> None:
    """Scans of another image and of another organization do not count."""
    shuffled = data.draw(st.permutations(history))
    with conn.transaction(force_rollback=True):
        theirs, ours = (create_organization(conn, name, actor=OPERATOR) for name in ("t", "o"))
        for upload in history:
            ingest_report(conn, theirs, upload.body, received_at=RECEIVED_AT)
        for count, upload in enumerate(shuffled, start=1):
            ingest_report(conn, ours, upload.body, received_at=RECEIVED_AT)
            for name in NAMES:
                scans = [each.scan for each in shuffled[:count] if each.name == name]
                if scans and (count == len(shuffled) or upload.name == name):
                    check_verdicts(conn, Scope(ours), name, scans, scans)
