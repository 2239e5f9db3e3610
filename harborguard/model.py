"""The vocabulary: the things of the field, as frozen values without behaviour of their own."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Role(StrEnum):
    """What a principal may do; a view states the least role it needs (contract, section 4)."""

    OWNER = "owner"
    ADMIN = "admin"
    DEVELOPER = "developer"
    CI = "ci"
    AUDITOR = "auditor"
    VIEWER = "viewer"

    @property
    def level(self) -> int:
        """The role's rank, 20..100; higher may do all that lower may."""
        return _ROLE_LEVELS[self]


_ROLE_LEVELS = {
    Role.OWNER: 100,
    Role.ADMIN: 80,
    Role.DEVELOPER: 60,
    Role.CI: 50,
    Role.AUDITOR: 40,
    Role.VIEWER: 20,
}


class UserStatus(StrEnum):
    """Only an active user may enter."""

    INVITED = "invited"
    ACTIVE = "active"
    SUSPENDED = "suspended"


class Severity(StrEnum):
    """How bad a finding is, worst first; only the first four are counted."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    NEGLIGIBLE = "negligible"
    INFO = "info"
    UNKNOWN = "unknown"


class Grade(StrEnum):
    """The letter of a risk score: A 0-24, B 25-49, C 50-74, D 75-100."""

    A = "A"
    B = "B"
    C = "C"
    D = "D"


class ScanStatus(StrEnum):
    """The result of a scan."""

    SUCCESS = "SUCCESS"
    PARTIAL = "PARTIAL"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_finished(self) -> bool:
        """Return whether the scan counts for scores (contract 6)."""
        return self in {ScanStatus.SUCCESS, ScanStatus.PARTIAL}


@dataclass(frozen=True, slots=True)
class Scope:
    """What a principal may see: its organization, or one registry of it."""

    organization_id: str
    registry_id: str | None = None


class PrincipalKind(StrEnum):
    """By which of the three schemes a principal came in."""

    API_KEY = "api_key"
    ACCESS_TOKEN = "access_token"  # noqa: S105 - the name of a kind of credential
    SESSION = "session"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking: `id` is the key's, the token's or (for a session) the user's.

    `role` is None where the stored role is unknown to this release: such a principal may nothing.
    `is_use_due` says that the last use of the credential was noted over a minute ago, or never.
    """

    kind: PrincipalKind
    id: str
    scope: Scope
    role: Role | None
    is_use_due: bool = False


@dataclass(frozen=True, slots=True)
class Reference:
    """An image as a person writes it, normalized: host, repository, and tag or digest or both."""

    host: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @property
    def name(self) -> str:
        """The image's name: registry host and full path, lower-case ASCII."""
        return f"{self.host}/{self.repository}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One vulnerability in one package in one scan; `cvss_score` is 0.0..10.0."""

    vulnerability_id: str
    package: str
    installed_version: str
    severity: Severity
    fixed_version: str | None = None
    cvss_score: float | None = None
    title: str | None = None
    url: str | None = None
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """What a scanner's document says, whatever the scanner; times are aware.

    `external_id` is the scan's own identity where the document has one (the sensor's envelope).
    `finished_at` is None where the document tells no time. `findings` are distinct.
    `digest` is the manifest digest, `built_at` the time the scanned digest was built.
    """

    reference: Reference
    findings: tuple[Finding, ...]
    scanners: tuple[str, ...]
    status: ScanStatus = ScanStatus.SUCCESS
    external_id: str | None = None
    digest: str | None = None
    built_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SeverityCounts:
    """How many distinct findings there are of each counted severity."""

    critical: int = 0
    high: int = 0
    medium: int = 0
    low: int = 0


@dataclass(frozen=True, slots=True)
class Scan:
    """A report made ready to be recorded: identity, time, counts, risk score (0..100), grade.

    `content_digest` is the SHA-256 (32 bytes) that tells a replay from other content.
    """

    external_id: str
    content_digest: bytes
    report: Report
    finished_at: datetime
    counts: SeverityCounts
    risk_score: int
    grade: Grade


@dataclass(frozen=True, slots=True)
class RecordedScan:
    """Where a scan was recorded, and by whom it was made; `is_new` is False for a replay."""

    scan_id: str
    image_id: str
    is_new: bool
    scanners: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ObservedTag:
    """A tag and the digest it pointed to; None where the source does not say."""

    name: str
    digest: str | None
    built_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ObservedRepository:
    """All tags of a repository, listed just after a time; none where it is gone.

    `name` is the image's name: the registry's host and the path.
    """

    name: str
    tags: tuple[ObservedTag, ...]
    observed_at: datetime


@dataclass(frozen=True, slots=True)
class TagChanges:
    """The numbers of tag names that a registry sync observed, added, moved and removed."""

    observed: int = 0
    added: int = 0
    moved: int = 0
    removed: int = 0
