"""Criteria, sort orders, pages and rows of the lists that the store returns."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

from harborguard.model import Action, Grade, Severity

T = TypeVar("T")


class SortKey(StrEnum):
    """A column by which images can be sorted."""

    NAME = "name"
    CREATED_AT = "created_at"
    RISK_SCORE = "risk_score"
    LAST_SCANNED_AT = "last_scanned_at"
    TAG_COUNT = "tag_count"


class CountedSeverity(StrEnum):
    """The severities that an image's row counts (contract 5.1)."""

    CRITICAL = "CRITICAL"
    HIGH = "HIGH"
    MEDIUM = "MEDIUM"
    LOW = "LOW"


class ScanAge(StrEnum):
    """When an image was last scanned: never, too long ago (stale), or more recently (fresh)."""

    NEVER = "never"
    STALE = "stale"
    FRESH = "fresh"


@dataclass(frozen=True, slots=True)
class Sort:
    """A sort order of images by one column. Ties are sorted by id in the same direction."""

    key: SortKey
    descending: bool


@dataclass(frozen=True, slots=True)
class ImageCriteria:
    """Filters and sort order of an image list. A field that is None or empty does not filter.

    `registry` is an id, or a host or name (case-insensitive). `risk_score` is the minimum score,
    0..100. `search` is a part of the image's name (case-insensitive).

    `cve_id`, `package` (both whole, case-insensitive) and `is_fixable` select images with a finding
    that has all of them. `severities` selects images with a finding of any of these. `stale_days`
    is the age in days above which a scan is stale. `tag` is the name of a current tag. `*_after` is
    an inclusive lower bound, `scanned_before` an exclusive upper bound.
    """

    registry: str | None = None
    risk_score: int | None = None
    grades: tuple[Grade, ...] = ()
    search: str | None = None
    cve_id: str | None = None
    package: str | None = None
    is_fixable: bool | None = None
    severities: tuple[CountedSeverity, ...] = ()
    tag: str | None = None
    scanned: ScanAge | None = None
    stale_days: int | None = None
    created_after: datetime | None = None
    scanned_after: datetime | None = None
    scanned_before: datetime | None = None
    sort: Sort | None = None

    @property
    def depends_on_clock(self) -> bool:
        """Return whether the matches change as time passes."""
        return self.scanned in {ScanAge.STALE, ScanAge.FRESH}


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a list: `number` starts at 1, `size` is 1..200 rows."""

    number: int = 1
    size: int = 50

    @property
    def offset(self) -> int:
        """Return the number of rows before the page."""
        return (self.number - 1) * self.size


class ImageSummary(NamedTuple):
    """One row of the image list (contract 1).

    Times are ISO 8601 text in UTC with three decimals and `Z`. `risk_score`, `grade` and
    `last_scanned_at` are None if no finished scan exists; the counts are then 0.
    """

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
    """One page of a list. `total` is the exact number of matching rows on all pages.

    `version` is the scope's inventory version for a page of images; for other pages it is 0.
    """

    items: list[T]
    total: int
    version: int = 0


class DeletedImage(NamedTuple):
    """An image that was deleted."""

    id: str
    name: str


class ChangePosition(NamedTuple):
    """A place in the changes of a scope: the version and the image of the last change before it.

    The client has every deletion up to `complete_version`. This is the scope's version when the
    walk began, and at the end of the walk, the version up to which it has read. `registries` is a
    hash of the registries that scope and filter select.
    """

    version: int
    image_id: str
    complete_version: int
    registries: bytes


class ChangesPage(NamedTuple):
    """A page of changes, the position after it, and whether more changes follow."""

    items: list[ImageSummary | DeletedImage]
    position: ChangePosition
    has_next: bool


class OtherScan(NamedTuple):
    """A scan that was compared for an image's score and not chosen (contract 6.6)."""

    id: str
    status: str
    scanners: list[str]
    finished_at: str
    risk_score: int
    grade: str


class ImageDetails(NamedTuple):
    """One image: its row, its registry, the scan its score comes from, and other compared scans.

    The scan's fields are None if no finished scan exists. `other_scans` are ordered by score, the
    highest first.
    """

    summary: ImageSummary
    registry_name: str
    provider: str
    scan_id: str | None
    scan_status: str | None
    scanners: list[str] | None
    scan_finished_at: str | None
    other_scans: list[OtherScan]


class TagSummary(NamedTuple):
    """One tag of an image. Times are text as in `ImageSummary`.

    `digest_created_at` is the digest's build time if known, else the time at which the digest was
    first observed under this tag (contract 6).
    """

    name: str
    digest: str | None
    digest_created_at: str
    last_observed_at: str
    risk_score: int | None
    grade: str | None
    critical: int
    high: int
    medium: int
    low: int
    last_scanned_at: str | None


class ScanVerdict(NamedTuple):
    """A finished scan that counts for a digest or a tag. Times are text as in `ImageSummary`."""

    id: str
    status: str
    scanners: list[str]
    finished_at: str
    risk_score: int
    grade: str
    critical: int
    high: int
    medium: int
    low: int


class ImageVerdict(NamedTuple):
    """An image that a reference names, and the scan that counts for its digest or tag.

    `digest` is that of the reference, or the tag's current one; None if it is unknown. `scan` is
    None if there is no finished scan.
    """

    image: ImageSummary
    digest: str | None
    scan: ScanVerdict | None


class FindingSummary(NamedTuple):
    """One finding of the scan that an image's counts come from, like `model.Finding`."""

    vulnerability_id: str
    severity: str
    cvss_score: float | None
    epss: float | None
    kev: bool | None
    package: str
    installed_version: str
    fixed_version: str | None
    title: str | None
    url: str | None
    sources: list[str]


class RegistryCount(NamedTuple):
    """The number of matching images in one registry.

    `grades` are the numbers for A, B, C and D; `never_scanned` counts images without a score.
    """

    registry_id: str
    host: str
    name: str
    images: int
    grades: tuple[int, int, int, int]
    never_scanned: int


class RegistrySummary(NamedTuple):
    """One registry with the numbers of its images, like `RegistryCount`.

    `last_synced_at` is the time at which the last complete sync began, as text.
    """

    id: str
    host: str
    name: str
    provider: str
    last_synced_at: str | None
    images: int
    grades: tuple[int, int, int, int]
    never_scanned: int


class FindingSortKey(StrEnum):
    """A column by which findings can be sorted."""

    SEVERITY = "severity"
    CVSS = "cvss"
    EPSS = "epss"
    PACKAGE = "package"


@dataclass(frozen=True, slots=True)
class FindingSort:
    """A sort order of findings. Descending severity is worst first."""

    key: FindingSortKey
    descending: bool


@dataclass(frozen=True, slots=True)
class FindingCriteria:
    """Filters and sort order of a list of findings. A field that is None or empty does not filter.

    `package` is a full package name (case-insensitive). `is_fixable` selects findings with or
    without a fixed version. `search` is a part of the vulnerability's id, the package name or the
    title (case-insensitive).
    """

    severities: tuple[Severity, ...] = ()
    package: str | None = None
    is_fixable: bool | None = None
    search: str | None = None
    sort: FindingSort | None = None


class VulnerabilitySummary(NamedTuple):
    """One finding that an image's counts include, with its image and scan.

    `tag` is the tag of the scan, `detected_at` the time when it finished.
    """

    id: str
    vulnerability_id: str
    severity: str
    cvss_score: float | None
    kev: bool | None
    epss: float | None
    package: str
    installed_version: str
    fixed_version: str | None
    title: str | None
    url: str | None
    sources: list[str]
    image_id: str
    image_name: str
    tag: str | None
    scan_id: str
    detected_at: str


class VulnerabilitySortKey(StrEnum):
    """A column by which the findings of several images can be sorted."""

    SEVERITY = "severity"
    CVE_ID = "cveId"
    CVSS = "cvss"
    EPSS = "epss"
    DETECTED_AT = "detectedAt"


@dataclass(frozen=True, slots=True)
class VulnerabilitySort:
    """A sort order of the findings of several images. Descending severity is worst first."""

    key: VulnerabilitySortKey
    descending: bool


@dataclass(frozen=True, slots=True)
class VulnerabilityCriteria:
    """Filters and sort order of the findings of several images.

    At least one of `image`, `package` and `cve_id` is not None. `image` is an image's id or name.
    `package` and `cve_id` are whole and case-insensitive. The other fields are those of
    `FindingCriteria`; `is_kev` is whether the vulnerability is known to be exploited.
    """

    severities: tuple[Severity, ...] = ()
    image: str | None = None
    package: str | None = None
    cve_id: str | None = None
    is_fixable: bool | None = None
    is_kev: bool | None = None
    search: str | None = None
    sort: VulnerabilitySort | None = None


@dataclass(frozen=True, slots=True)
class AuditCriteria:
    """Filters of the audit log. A field that is None or empty does not filter.

    `actor` is an actor's full name. `since` is the earliest time, `until` the time after the last.
    """

    actor: str | None = None
    actions: tuple[Action, ...] = ()
    since: datetime | None = None
    until: datetime | None = None


class AuditEntry(NamedTuple):
    """One row of the audit log. The time is text as in `ImageSummary`."""

    id: str
    organization_id: str
    actor: str
    action: str
    target: str
    ip: str | None
    created_at: str
