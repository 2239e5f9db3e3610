"""An independent model of the image list and of image rows, in plain Python.

Property tests compare the service with it. It shares no code with the package.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from math import floor
from typing import Any


@dataclass(frozen=True)
class Row:
    """The fields of an image that queries can use; `host` and `title` belong to its registry."""

    id: str
    name: str
    registry_id: str
    host: str
    title: str
    score: int | None
    created_at: datetime
    last_scanned_at: datetime | None = None
    tags: frozenset[str] = frozenset()
    counts: tuple[int, int, int, int] = (0, 0, 0, 0)
    findings: tuple[tuple[str, str, str | None], ...] = ()  # id, package, fixed version


def grade_of(score: int) -> str:
    """Return the grade of a score (contract 5)."""
    return "A" if score < 25 else "B" if score < 50 else "C" if score < 75 else "D"


def matches(row: Row, query: dict[str, Any]) -> bool:
    """Return whether a row matches the filters of a query, as a client writes it (contract 1)."""
    if registry := query.get("registry"):
        names = (row.host.lower(), row.title.lower())
        if row.registry_id != registry and registry.lower() not in names:
            return False
    if (min_score := query.get("riskScore")) is not None and (
        row.score is None or row.score < int(min_score)
    ):
        return False
    if (grades := query.get("grade")) and (
        row.score is None or grade_of(row.score) not in grades.split(",")
    ):
        return False
    search = query.get("search")
    if search and search.lower() not in row.name:
        return False
    if (tag := query.get("tag")) and tag not in row.tags:
        return False
    return (
        _matches_findings(row, query)
        and _matches_severity(row, query)
        and _matches_times(row, query)
    )


def _matches_findings(row: Row, query: dict[str, Any]) -> bool:
    cve_id, package, fixable = (query.get(name) for name in ("cveId", "package", "fixable"))
    if (cve_id, package, fixable) == (None, None, None):
        return True
    return any(
        (cve_id is None or found.lower() == cve_id.lower())
        and (package is None or found_in.lower() == package.lower())
        and (fixable is None or (fixed is not None) == (fixable == "true"))
        for found, found_in, fixed in row.findings
    )


def _matches_severity(row: Row, query: dict[str, Any]) -> bool:
    words = query.get("severity", "").split(",")
    counts = dict(zip(("CRITICAL", "HIGH", "MEDIUM", "LOW"), row.counts, strict=True))
    return words == [""] or any(counts[word] > 0 for word in words)


def _matches_times(row: Row, query: dict[str, Any]) -> bool:
    scanned_at, stale_days = row.last_scanned_at, timedelta(int(query.get("staleDays", 30)))
    if scanned := query.get("scanned"):
        age = scanned_at and datetime.now(UTC) - scanned_at
        state = "never" if age is None else "stale" if age > stale_days else "fresh"
        if state != scanned:
            return False
    bounds = [query.get(name) for name in ("createdAfter", "scannedAfter", "scannedBefore")]
    created_after, after, before = (each and datetime.fromisoformat(each) for each in bounds)
    if created_after and row.created_at < created_after:
        return False
    if after and (scanned_at is None or scanned_at < after):
        return False
    return not before or (scanned_at is not None and scanned_at < before)


def ordered(rows: Sequence[Row], sort: str) -> list[Row]:
    """Sort by key, then id, both in one direction; nulls are last in both (contract 1)."""
    key, _, direction = (sort or "createdAt:desc").partition(":")
    values = {
        "name": lambda row: row.name,
        "createdAt": lambda row: row.created_at,
        "riskScore": lambda row: row.score,
        "lastScannedAt": lambda row: row.last_scanned_at,
        "tagCount": lambda row: len(row.tags),
    }
    value = values[key]
    reverse = direction == "desc"
    with_value = [row for row in rows if value(row) is not None]
    without_value = [row for row in rows if value(row) is None]
    by_value = sorted(with_value, key=lambda row: (value(row), row.id), reverse=reverse)
    return by_value + sorted(without_value, key=lambda row: row.id, reverse=reverse)


def list_ids(rows: Sequence[Row], query: dict[str, Any]) -> list[str]:
    """Return the ids of all rows that match a query, in its order."""
    matching = [row for row in rows if matches(row, query)]
    return [row.id for row in ordered(matching, query.get("sort", ""))]


@dataclass(frozen=True)
class Scan:
    """The fields of a scan that image rows depend on; `counts` are critical, high, medium, low."""

    identity: str
    finished_at: datetime
    tag: str | None = None
    digest: str | None = None
    built_at: datetime | None = None
    status: str = "SUCCESS"
    counts: tuple[int, int, int, int] = (0, 0, 0, 0)
    scanners: tuple[str, ...] = ("trivy",)

    @property
    def is_finished(self) -> bool:
        """Whether scores can come from the scan (contract 6)."""
        return self.status == "SUCCESS" or (self.status == "PARTIAL" and any(self.counts))


def score_of(counts: tuple[int, int, int, int]) -> int:
    """Return the risk score of critical, high, medium and low counts (contract 5)."""
    critical, high, medium, low = counts
    lowest, highest = (75, 100) if critical else (25, 74) if high else (0, 49)
    quarter = Fraction(25 * critical + 10 * high + 3 * medium + low, 4)
    return min(highest, max(lowest, floor(quarter + Fraction(1, 2))))


@dataclass
class Image:
    """An image, its recorded scans, and what they observed.

    `observations` also has deleted scans, if another scan has observed the same. `lost` are the
    identities of scans whose findings were deleted (contract 6.9).
    """

    scans: list[Scan] = field(default_factory=list)
    observations: list[Scan] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)

    def record(self, scan: Scan) -> None:
        """Record a scan, or its replay, which restores the findings of a current scan."""
        if scan not in self.scans:
            self.scans.append(scan)
            self.observations.append(scan)
        elif scan.identity in kept_scans(self.scans):
            self.lost -= {scan.identity}
        self.lost |= {each.identity for each in self.scans} - kept_scans(self.scans)

    def delete(self, scan: Scan) -> None:
        """Delete a scan, and its observation unless another scan made it too."""
        self.scans.remove(scan)
        if not any(_observation(each) == _observation(scan) for each in self.scans):
            self.observations = [
                each for each in self.observations if _observation(each) != _observation(scan)
            ]

    def prune(self, keep: int) -> int:
        """Delete all but the newest scans of each tag and the current ones; return the number."""
        current = kept_scans(self.scans)
        old = [
            scan
            for tag in {scan.tag for scan in self.scans}
            for scan in sorted(self._of_tag(tag), key=_time, reverse=True)[keep:]
            if scan.identity not in current
        ]
        self.scans = [scan for scan in self.scans if scan not in old]
        return len(old)

    def prune_observations(self) -> int:
        """Delete all observations that are not current; return the number of their rows."""
        newest: dict[tuple[str | None, str | None, bool], datetime] = {}
        for scan in self.observations:
            key = _observation(scan)
            newest[key] = max(newest.get(key, scan.finished_at), scan.finished_at)
        old = {
            key
            for key, moment in newest.items()
            if key[0] is not None
            and any(
                other[0] == key[0] and (other[2], time) > (key[2], moment)
                for other, time in newest.items()
            )
        }
        self.observations = [each for each in self.observations if _observation(each) not in old]
        return len(old)

    def _of_tag(self, tag: str | None) -> list[Scan]:
        return [scan for scan in self.scans if scan.tag == tag]

    def kept(self) -> set[str]:
        """Return the identities of the scans whose findings are stored."""
        return kept_scans(self.scans) - self.lost

    def row(self) -> dict[str, Any]:
        """Return the image's row."""
        return image_row(self.scans, self.observations)

    def compared(self) -> list[Scan]:
        """Return the compared scans, the one that counts first."""
        return compared_scans(self.scans, self.observations)


def _observation(scan: Scan) -> tuple[str | None, str | None, bool]:
    return scan.tag, scan.digest, scan.is_finished


def image_row(scans: Sequence[Scan], observations: Sequence[Scan] | None = None) -> dict[str, Any]:
    """Return an image's row after these scans, which may be in any order (contract 6).

    `observations` are the scans that determine the tags; by default all.
    """
    observations = scans if observations is None else observations
    tag, digest = _latest_tag(observations)
    newest = _newest_finished(scans) or _newest(scans)
    return {
        "tag_count": len({scan.tag for scan in observations} - {None}),
        "latest_tag": tag,
        "latest_digest": digest if tag else newest and newest.digest,
        **_summary_of(compared_scans(scans, observations)),
    }


def compared_scans(scans: Sequence[Scan], observations: Sequence[Scan] | None = None) -> list[Scan]:
    """Return the compared scans of an image, the one that counts first, by score (6.6)."""
    tag, _ = _latest_tag(scans if observations is None else observations)
    of_latest_tag = [scan for scan in scans if tag and scan.tag == tag]
    return _compare(scans, _newest_finished(of_latest_tag) or _newest_finished(scans))


def kept_scans(scans: Sequence[Scan]) -> set[str]:
    """Return the identities of the scans whose findings are stored (contract 6.9)."""
    finished = [scan for scan in scans if scan.is_finished]
    return {
        older.identity
        for older in finished
        if not any(_supersedes(newer, older) for newer in finished)
    }


def _supersedes(newer: Scan, older: Scan) -> bool:
    if newer.tag != older.tag or _time(newer) <= _time(older):
        return False
    is_of_no_other_digest = newer.digest in {None, older.digest}
    return newer.finished_at - older.finished_at > timedelta(hours=24) or (
        newer.scanners == older.scanners and is_of_no_other_digest
    )


def tag_row(scans: Sequence[Scan], tag: str) -> dict[str, Any]:
    """Return the score and counts of one tag after these scans (contract 8.2)."""
    newest = _newest_finished([scan for scan in scans if scan.tag == tag])
    return _summary_of(_compare(scans, newest))


def look_up(
    scans: Sequence[Scan], observations: Sequence[Scan], tag: str | None, digest: str | None
) -> tuple[str | None, Scan | None] | None:
    """Return the digest that a reference names and the scan that counts for it (contract 8.12).

    Return None if the image has no such tag or digest.
    """
    # A deleted scan without a tag has observed nothing that is stored.
    seen = [*scans, *(each for each in observations if each.tag)]
    of_tag = [scan for scan in observations if scan.tag == tag]
    if (tag and not of_tag) or (digest and digest not in {scan.digest for scan in seen}):
        return None
    digest = digest or _current_digest(of_tag)
    if digest is None:
        compared = _compare(scans, _newest_finished([scan for scan in scans if scan.tag == tag]))
    else:
        # Scans of one digest are compared, whatever their tags.
        by_identity = {scan.identity: scan for scan in scans}
        of_digest = [replace(scan, tag=None) for scan in scans if scan.digest == digest]
        found = _compare(of_digest, _newest_finished(of_digest))
        compared = [by_identity[scan.identity] for scan in found]
    return digest, compared[0] if compared else None


def _compare(scans: Sequence[Scan], newest: Scan | None) -> list[Scan]:
    """Return the newest scan and those compared with it, the highest score first."""
    if newest is None:
        return []
    compared = [newest]
    for scanners in {scan.scanners for scan in scans} - {newest.scanners}:
        comparable = [
            scan
            for scan in scans
            if (scan.scanners, scan.tag) == (scanners, newest.tag)
            and len({scan.digest, newest.digest} - {None}) < 2
            and timedelta(0) <= newest.finished_at - scan.finished_at <= timedelta(hours=24)
        ]
        found = _newest_finished(comparable)
        compared += [found] if found else []
    order = lambda scan: (score_of(scan.counts), scan.finished_at, scan.identity)  # noqa: E731
    return sorted(compared, key=order, reverse=True)


def _summary_of(compared: Sequence[Scan]) -> dict[str, Any]:
    """Return the columns that come from the scan that counts and from the newest one."""
    counted = compared[0] if compared else None
    counts = counted.counts if counted else (0, 0, 0, 0)
    score = score_of(counts) if counted else None
    return {
        "scan": counted and counted.identity,
        "risk_score": score,
        "grade": None if score is None else grade_of(score),
        **dict(zip(("critical", "high", "medium", "low"), counts, strict=True)),
        "last_scanned_at": max((scan.finished_at for scan in compared), default=None),
    }


def _latest_tag(scans: Sequence[Scan]) -> tuple[str | None, str | None]:
    tagged = [scan for scan in scans if scan.tag is not None]
    # An unfinished scan must not change the score, so its tags count only without a finished scan.
    relevant = [scan for scan in tagged if scan.is_finished] or tagged
    current: list[tuple[datetime, str, str | None]] = []
    for tag in {scan.tag for scan in relevant if scan.tag is not None}:
        observed = [scan for scan in relevant if scan.tag == tag]
        digest = _current_digest(observed)
        same_digest = [scan for scan in observed if scan.digest == digest]
        current.append((_digest_time(same_digest), tag, digest))
    _, tag, digest = max(current, key=lambda each: each[:2], default=(None, None, None))
    return tag, digest


def _current_digest(observed: Sequence[Scan]) -> str | None:
    """Return the digest of a tag's newest observation, by an unfinished scan only without others."""
    relevant = [scan for scan in observed if scan.is_finished] or observed
    return max(relevant, key=lambda scan: (scan.finished_at, scan.digest or "")).digest


def _digest_time(scans: Sequence[Scan]) -> datetime:
    """Return the build time of the digest of these scans, else its first observation."""
    built = [
        scan.built_at
        for scan in scans
        if scan.built_at
        and scan.built_at.year >= 2000
        and scan.built_at <= scan.finished_at + timedelta(minutes=5)
    ]
    return max(built) if built else min(scan.finished_at for scan in scans)


def _newest_finished(scans: Sequence[Scan]) -> Scan | None:
    return _newest([scan for scan in scans if scan.is_finished])


def _newest(scans: Sequence[Scan]) -> Scan | None:
    return max(scans, key=_time, default=None)


def _time(scan: Scan) -> tuple[datetime, str]:
    return scan.finished_at, scan.identity
