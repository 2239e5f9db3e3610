"""What the list should answer, computed in plain Python; and what an image's row should say."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from math import floor
from typing import Any


@dataclass(frozen=True)
class Row:
    """As much of an image as a listing can ask about; `host` and `title` are its registry's."""

    id: str
    name: str
    registry_id: str
    host: str
    title: str
    score: int | None
    created_at: datetime


def grade_of(score: int) -> str:
    """Contract, section 5."""
    return "A" if score < 25 else "B" if score < 50 else "C" if score < 75 else "D"


def matches(row: Row, question: dict[str, Any]) -> bool:
    """Contract, section 1: does a row answer a question (parameters as a client writes them)?"""
    if wanted := question.get("registry"):
        names = (row.host.lower(), row.title.lower())
        if row.registry_id != wanted and wanted.lower() not in names:
            return False
    if (least := question.get("riskScore")) is not None and (
        row.score is None or row.score < int(least)
    ):
        return False
    if (grades := question.get("grade")) and (
        row.score is None or grade_of(row.score) not in grades.split(",")
    ):
        return False
    search = question.get("search")
    return not search or search.lower() in row.name


def ordered(rows: Sequence[Row], sort: str) -> list[Row]:
    """Contract, section 1: by key, then id, both in one direction; nulls last in both."""
    key, _, direction = (sort or "createdAt:desc").partition(":")
    values = {
        "name": lambda row: row.name,
        "createdAt": lambda row: row.created_at,
        "riskScore": lambda row: row.score,
    }
    value = values[key]
    reverse = direction == "desc"
    told = [row for row in rows if value(row) is not None]
    untold = [row for row in rows if value(row) is None]
    by_value = sorted(told, key=lambda row: (value(row), row.id), reverse=reverse)
    return by_value + sorted(untold, key=lambda row: row.id, reverse=reverse)


def answer(rows: Sequence[Row], question: dict[str, Any]) -> list[str]:
    """The ids of all rows that a question asks for, in order."""
    found = [row for row in rows if matches(row, question)]
    return [row.id for row in ordered(found, question.get("sort", ""))]


@dataclass(frozen=True)
class Scan:
    """As much of a scan as an image's row can depend on; `counts` are distinct, worst first."""

    identity: str
    finished_at: datetime
    tag: str | None = None
    digest: str | None = None
    built_at: datetime | None = None
    status: str = "SUCCESS"
    counts: tuple[int, int, int, int] = (0, 0, 0, 0)

    @property
    def is_finished(self) -> bool:
        return self.status in {"SUCCESS", "PARTIAL"}


def score_of(counts: tuple[int, int, int, int]) -> int:
    """Contract, section 5."""
    critical, high, medium, low = counts
    lowest, highest = (75, 100) if critical else (25, 74) if high else (0, 49)
    quarter = Fraction(25 * critical + 10 * high + 3 * medium + low, 4)
    return min(highest, max(lowest, floor(quarter + Fraction(1, 2))))


def image_row(scans: Sequence[Scan]) -> dict[str, Any]:
    """Contract, section 6: what an image's row says after these scans of it, in any order."""
    tag, digest = _latest_tag(scans)
    finished = [scan for scan in scans if scan.is_finished]
    counted = _newest([scan for scan in finished if scan.tag == tag]) or _newest(finished)
    newest = _newest(scans)
    counts = counted.counts if counted else (0, 0, 0, 0)
    score = score_of(counts) if counted else None
    return {
        "tag_count": len({scan.tag for scan in scans} - {None}),
        "latest_tag": tag,
        "latest_digest": digest if tag else newest and newest.digest,
        "scan": counted and counted.identity,
        "risk_score": score,
        "grade": None if score is None else grade_of(score),
        **dict(zip(("critical", "high", "medium", "low"), counts, strict=True)),
        "last_scanned_at": counted and counted.finished_at,
    }


def _latest_tag(scans: Sequence[Scan]) -> tuple[str | None, str | None]:
    tagged = [scan for scan in scans if scan.tag is not None]
    # An unfinished scan changes no score, so what it saw cannot take the place of what others saw.
    telling = [scan for scan in tagged if scan.is_finished] or tagged
    current: list[tuple[datetime, str, str | None]] = []
    for tag in {scan.tag for scan in telling if scan.tag is not None}:
        seen = [scan for scan in telling if scan.tag == tag]
        digest = max(seen, key=lambda scan: (scan.finished_at, scan.digest or "")).digest
        current.append((_age([scan for scan in seen if scan.digest == digest]), tag, digest))
    _, tag, digest = max(current, key=lambda made: made[:2], default=(None, None, None))
    return tag, digest


def _age(seen: Sequence[Scan]) -> datetime:
    told = [scan.built_at for scan in seen if scan.built_at and scan.built_at.year >= 2000]
    return max(told) if told else min(scan.finished_at for scan in seen)


def _newest(scans: Sequence[Scan]) -> Scan | None:
    return max(scans, key=lambda scan: (scan.finished_at, scan.identity), default=None)
