"""Domain types: enumerations and immutable values."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Role(StrEnum):
    """A principal's role. A route that needs a credential requires a minimum role (contract 4)."""

    OWNER = "owner"
    ADMIN = "admin"
    DEVELOPER = "developer"
    CI = "ci"
    AUDITOR = "auditor"
    VIEWER = "viewer"

    @property
    def level(self) -> int:
        """Return the role's rank, 20..100. `@require(role)` admits it and all higher ranks."""
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
    """The state of a user account. Only active users can authenticate."""

    INVITED = "invited"
    ACTIVE = "active"
    SUSPENDED = "suspended"


class Severity(StrEnum):
    """The severity of a finding, worst first. Only the first four are counted (contract 5)."""

    CRITICAL = "CRITICAL"
    HIGH = "HIGH"
    MEDIUM = "MEDIUM"
    LOW = "LOW"
    NEGLIGIBLE = "NEGLIGIBLE"
    INFO = "INFO"
    UNKNOWN = "UNKNOWN"


class Grade(StrEnum):
    """The grade of a risk score: A 0-24, B 25-49, C 50-74, D 75-100 (contract 5)."""

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
        """Return whether an image's counts can come from the scan: it has results (contract 6)."""
        return self in {ScanStatus.SUCCESS, ScanStatus.PARTIAL}


@dataclass(frozen=True, slots=True)
class Scope:
    """The data that a principal may read: its whole organization, or one registry of it."""

    organization_id: str
    registry_id: str | None = None


class PrincipalKind(StrEnum):
    """The kind of credential that authenticated a principal (contract 4)."""

    API_KEY = "api_key"
    ACCESS_TOKEN = "access_token"  # noqa: S105 - the name of a kind of credential
    SESSION = "session"


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller.

    `id` is the id of the API key or the access token; for a session it is the user's id.
    `role` is None if the stored role is unknown to this release; every request is then forbidden.
    `has_stale_last_use` is true if the stored time of the credential's last use is missing or older
    than a minute. Requests then record it again.
    """

    kind: PrincipalKind
    id: str
    scope: Scope
    role: Role | None
    has_stale_last_use: bool = False


class Action(StrEnum):
    """An action that the audit log records (contract 8.6)."""

    ORGANIZATION_CREATED = "organization.created"
    MEMBER_ADDED = "member.added"
    MEMBER_INVITED = "member.invited"
    MEMBER_ROLE_CHANGED = "member.role_changed"
    MEMBER_SUSPENDED = "member.suspended"
    MEMBER_ACTIVATED = "member.activated"
    MEMBER_REMOVED = "member.removed"
    API_KEY_CREATED = "apikey.created"
    API_KEY_REVOKED = "apikey.revoked"
    TOKEN_CREATED = "token.created"  # noqa: S105 - the name of an action
    TOKEN_REVOKED = "token.revoked"  # noqa: S105 - the name of an action
    REGISTRY_ADDED = "registry.added"
    REGISTRY_UPDATED = "registry.updated"
    REGISTRY_REMOVED = "registry.removed"
    IMAGE_DELETED = "image.deleted"
    SCAN_DELETED = "scan.deleted"
    INVENTORY_PRUNED = "inventory.pruned"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does an action, as the audit log names it (contract 8.6).

    `name` is `apikey:ID`, `token:ID`, `user:ID`, or `cli:USER` for the command line. `ip` is the
    client's address; None for the command line and if the service did not see one.
    """

    name: str
    ip: str | None = None


@dataclass(frozen=True, slots=True)
class Reference:
    """A normalized image reference: host, repository, and a tag, a digest or both."""

    host: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @property
    def name(self) -> str:
        """Return the image's name: registry host and full path, in lower-case ASCII."""
        return f"{self.host}/{self.repository}"

    def __str__(self) -> str:
        """Return the normalized text: the name, `:` and the tag, `@` and the digest."""
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}{f'@{self.digest}' if self.digest else ''}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One vulnerability of one package, as a scan found it.

    `cvss_score` is 0.0..10.0. `epss` is the probability of exploitation, 0.0..1.0. `kev` is whether
    the vulnerability is known to be exploited; None if unknown. `sources` are the scanners that
    reported the finding.
    """

    vulnerability_id: str
    package: str
    installed_version: str
    severity: Severity
    fixed_version: str | None = None
    cvss_score: float | None = None
    epss: float | None = None
    kev: bool | None = None
    title: str | None = None
    url: str | None = None
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """A parsed scan report, in any format. Times are in UTC.

    `findings` are distinct, worst severity first. `external_id` is the scan id that the sensor's
    envelope contains; other formats have none. `digest` is the manifest digest of the image,
    `built_at` the build time of that digest. `finished_at` is None if the report has no time;
    `finished_at_path` is the JSON path of that time.
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
    finished_at_path: str = ""


@dataclass(frozen=True, slots=True)
class SeverityCounts:
    """The number of distinct findings of each counted severity."""

    critical: int = 0
    high: int = 0
    medium: int = 0
    low: int = 0


@dataclass(frozen=True, slots=True)
class Scan:
    """A parsed and scored report, ready to record. `risk_score` is 0..100.

    `external_id` identifies the scan in its organization. `content_sha256` is the SHA-256 (32
    bytes) of the image's reference and the report. A scan with the same id and hash is a replay,
    one with the same id and another hash is a conflict (contract 8.5).
    """

    external_id: str
    content_sha256: bytes
    report: Report
    finished_at: datetime
    counts: SeverityCounts
    risk_score: int
    grade: Grade


@dataclass(frozen=True, slots=True)
class RecordedScan:
    """A recorded scan: its ids, its image, and its results as stored.

    `is_new` is false if the upload was a replay of a scan that was already recorded. `risk_score`
    and `grade` are None for an unfinished scan, which has no complete results.
    """

    scan_id: str
    image_id: str
    is_new: bool
    image_name: str
    tag: str | None
    counts: SeverityCounts
    risk_score: int | None
    grade: str | None
    scanners: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ObservedTag:
    """A tag, its digest and the build time of the digest. Unknown values are None."""

    name: str
    digest: str | None
    built_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ObservedRepository:
    """What a registry reports of a repository's tags at one time.

    `name` is the image's name: the registry's host and the path. `observed_at` is the time just
    before the tags were listed. `missing` are the tags that do not exist. The state of every
    other tag is unknown.
    """

    name: str
    tags: tuple[ObservedTag, ...]
    observed_at: datetime
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TagChanges:
    """The number of tag names that a registry sync observed, added, moved and removed."""

    observed: int = 0
    added: int = 0
    moved: int = 0
    removed: int = 0
