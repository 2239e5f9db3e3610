"""What a list is asked and what it answers: criteria, order, page, listing."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

from harborguard.model import Grade, Severity

T = TypeVar("T")


class SortKey(StrEnum):
    """What a listing of images can be ordered by."""

    NAME = "name"
    CREATED_AT = "created_at"
    RISK_SCORE = "risk_score"


@dataclass(frozen=True, slots=True)
class Sort:
    """An order: a key and its direction."""

    key: SortKey
    descending: bool


@dataclass(frozen=True, slots=True)
class ImageCriteria:
    """Which images are asked for, and in which order; None or empty = not asked.

    `risk_score` is the least score that matches, 0..100.
    """

    registry: str | None = None
    risk_score: int | None = None
    grades: tuple[Grade, ...] = ()
    search: str | None = None
    sort: Sort | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Which slice: `number` counts from 1, `size` is 1..200 rows."""

    number: int = 1
    size: int = 50

    @property
    def offset(self) -> int:
        """How many rows come before the page."""
        return (self.number - 1) * self.size


class ImageSummary(NamedTuple):
    """One row of the list; times are ISO 8601 text, UTC, three decimals, `Z`."""

    id: str
    name: str
    registry_id: str
    tag_count: int
    latest_tag: str | None
    latest_digest: str | None
    risk_score: int | None
    grade: str | None
    critical: int
    high: int
    medium: int
    low: int
    last_scanned_at: str | None
    created_at: str


class Listing(NamedTuple, Generic[T]):
    """A page of anything, with the exact number of all matching rows.

    `version` is the inventory version of a page of images; other pages have none (0).
    """

    items: list[T]
    total: int
    version: int = 0


class ImageDetails(NamedTuple):
    """One image: its row, its registry, and the scan its score is of (None: never scanned)."""

    summary: ImageSummary
    registry_name: str
    provider: str
    scan_id: str | None
    scan_status: str | None
    scanners: list[str] | None


class TagSummary(NamedTuple):
    """One tag of an image; `digest_made_at` is the digest's age (contract, section 6)."""

    name: str
    digest: str | None
    digest_made_at: str
    last_observed_at: str
    risk_score: int | None
    grade: str | None
    critical: int
    high: int
    medium: int
    low: int
    last_scanned_at: str | None


class FindingSummary(NamedTuple):
    """One finding of the scan that an image's counts are of."""

    vulnerability_id: str
    severity: str
    cvss_score: float | None
    package: str
    installed_version: str
    fixed_version: str | None
    title: str | None
    url: str | None
    sources: list[str]


class RegistryCount(NamedTuple):
    """How many images of one registry match, in all, by grade, and never scanned."""

    registry_id: str
    host: str
    name: str
    images: int
    grades: tuple[int, int, int, int]
    never_scanned: int


class FindingSortKey(StrEnum):
    """What findings can be ordered by."""

    SEVERITY = "severity"
    CVSS = "cvss"
    PACKAGE = "package"


@dataclass(frozen=True, slots=True)
class FindingSort:
    """An order of findings: a key and its direction; descending severity is worst first."""

    key: FindingSortKey
    descending: bool


@dataclass(frozen=True, slots=True)
class FindingCriteria:
    """Which findings are asked for, and in which order; None or empty = not asked.

    `package` is a whole name in any case, `is_fixable` whether a version repairs it, `search` a
    part of the vulnerability's id, the package's name or the title, in any case.
    """

    severities: tuple[Severity, ...] = ()
    package: str | None = None
    is_fixable: bool | None = None
    search: str | None = None
    sort: FindingSort | None = None
