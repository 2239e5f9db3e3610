"""The response bodies: for each resource its schema and its serializer, side by side.

The schemas describe the bodies in the OpenAPI document. The serializers are plain functions,
because marshmallow would be slow for a list of 200 rows. The tests validate every response of the
service against the document.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from functools import cache
from typing import Any

import orjson
from flask import Response
from flask.json.provider import JSONProvider
from marshmallow import RAISE, Schema, fields, validate

from harborguard.api.fields import DescribedField
from harborguard.listing import (
    AuditEntry,
    DeletedImage,
    FindingSummary,
    ImageDetails,
    ImageSummary,
    ImageVerdict,
    RegistryCount,
    RegistrySummary,
    ScanVerdict,
    TagSummary,
    VulnerabilitySummary,
)
from harborguard.model import (
    Action,
    Grade,
    RecordedScan,
    Reference,
    ScanStatus,
    Severity,
    SeverityCounts,
)

_CURSOR = "kYtS3Wm2o1oABk5x2t0qAAAGTnHa3SoA"
_TIME_PATTERN = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$"


class OrjsonProvider(JSONProvider):
    """Flask's JSON provider with orjson: compact output, keys in insertion order."""

    def dumps(self, obj: Any, **_: Any) -> str:
        """Return an object as JSON text."""
        return orjson.dumps(obj).decode()

    def loads(self, s: str | bytes, **_: Any) -> Any:
        """Parse JSON text."""
        return orjson.loads(s)

    def response(self, *args: Any, **_: Any) -> Response:
        """Return an object as a response."""
        [body] = args
        return json_response(body)


def json_response(body: Any) -> Response:
    """Return an object as an `application/json` response."""
    return Response(orjson.dumps(body), content_type="application/json")


def no_content() -> Response:
    """Return an empty 204 response."""
    response = Response(status=204)
    del response.headers["Content-Type"]
    return response


def text(example: str | None = None, **kwargs: Any) -> fields.String:
    """Return a required string field."""
    metadata = {"examples": [example]} if example else {}
    return fields.String(required=True, metadata=metadata, **kwargs)


def one_of(words: Iterable[str], example: str, **kwargs: Any) -> fields.String:
    """Return a required string field with a fixed set of values."""
    # A JSON document needs plain strings, not members of an enumeration.
    allowed = validate.OneOf([str(each) for each in words])
    return text(example, validate=allowed, **kwargs)


# Each one is a component of the OpenAPI document.
ENUMERATIONS = (Grade, Severity, Action)


class EnumField(DescribedField[str]):
    """A required field with a value of an enumeration, which must be one of ENUMERATIONS."""

    def __init__(self, enumeration: type[StrEnum], example: str, **kwargs: Any) -> None:
        super().__init__(required=True, metadata={"examples": [example]}, **kwargs)
        self.enumeration = enumeration

    def describe(self) -> dict[str, Any]:
        """Return a reference to the component; with null as an alternative if None is allowed."""
        reference = {"$ref": f"#/components/schemas/{self.enumeration.__name__}"}
        return {"anyOf": [reference, {"type": "null"}]} if self.allow_none else reference


def timestamp(example: str, **kwargs: Any) -> fields.String:
    """Return a required string field for a time: ISO 8601, UTC, three decimals (contract 1)."""
    return text(example, validate=validate.Regexp(_TIME_PATTERN), **kwargs)


def integer(example: int, *, min: int = 0, max: int | None = None, **kwargs: Any) -> fields.Integer:
    """Return a required integer field with bounds."""
    bounds = validate.Range(min=min, max=max)
    metadata = {"examples": [example]}
    return fields.Integer(required=True, validate=bounds, metadata=metadata, **kwargs)


def boolean(*, example: bool, **kwargs: Any) -> fields.Boolean:
    """Return a required boolean field."""
    return fields.Boolean(required=True, metadata={"examples": [example]}, **kwargs)


def score(example: float, *, max: int) -> fields.Float:
    """Return a required number field from 0 to `max`, or None."""
    return fields.Float(
        required=True,
        allow_none=True,
        validate=validate.Range(0, max),
        metadata={"examples": [example]},
    )


def text_list(example: str) -> fields.List:
    """Return a required field for a list of strings."""
    return fields.List(text(example), required=True)


class AnyOf(fields.Field[Any]):
    """An object of one of some schemas."""

    def __init__(self, *schemas: "type[ResponseSchema]") -> None:
        super().__init__()
        self.schemas = schemas


class ResponseSchema(Schema):
    """A JSON object with exactly these keys, in camel case."""

    class Meta:
        """Reject unknown keys; apispec writes this as `additionalProperties: false`."""

        unknown = RAISE

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Set the JSON key of a field."""
        first, *others = field_name.split("_")
        field_obj.data_key = first + "".join(part.title() for part in others)


@cache
def data_of(resource: type[ResponseSchema]) -> type[Schema]:
    """Return the schema of a single resource's envelope, `XData` for `XResponse` (contract 2)."""
    body = {"data": fields.Nested(resource, required=True), "Meta": ResponseSchema.Meta}
    return type(f"{resource.__name__.removesuffix('Response')}Data", (ResponseSchema,), body)


class SeverityCountsResponse(ResponseSchema):
    """Counts of distinct findings by severity."""

    critical = integer(0)
    high = integer(4)
    medium = integer(19)
    low = integer(27)


class ImageResponse(ResponseSchema):
    """A row of the list of images."""

    id = text("img-3f2a9c0d71e84b55")
    name = text("ghcr.io/acme/api")
    registry_id = text("reg-81d0c7a2be914f6a")
    tag_count = integer(12)
    latest_tag = text("1.4.7", allow_none=True)
    latest_digest = text("sha256:abcdef", allow_none=True)
    risk_score = integer(31, max=100, allow_none=True)
    grade = EnumField(Grade, "B", allow_none=True)
    vulnerabilities = fields.Nested(SeverityCountsResponse, required=True)
    last_scanned_at = timestamp("2026-04-26T14:22:11.000Z", allow_none=True)
    created_at = timestamp("2025-12-04T00:00:00.000Z")


def serialize_image(image: ImageSummary) -> dict[str, Any]:
    """Return a row of the list of images (contract 1)."""
    # Unpacking is faster than 14 attribute lookups, and a page has up to 200 rows.
    (
        image_id, name, registry_id, tag_count, latest_tag, latest_digest, risk_score, grade,
        critical, high, medium, low, last_scanned_at, created_at,
    ) = image  # fmt: skip
    return {
        "id": image_id,
        "name": name,
        "registryId": registry_id,
        "tagCount": tag_count,
        "latestTag": latest_tag,
        "latestDigest": latest_digest,
        "riskScore": risk_score,
        "grade": grade,
        "vulnerabilities": {
            "critical": critical,
            "high": high,
            "medium": medium,
            "low": low,
        },
        "lastScannedAt": last_scanned_at,
        "createdAt": created_at,
    }


class UpdatedImageResponse(ImageResponse):
    """A created or updated image: its row in the list."""

    change = one_of(["updated"], "updated")


class DeletedImageResponse(ResponseSchema):
    """A deleted image."""

    id = text("img-3f2a9c0d71e84b55")
    name = text("ghcr.io/acme/api")
    change = one_of(["deleted"], "deleted")


class ChangesMeta(ResponseSchema):
    """Whether more changes follow, and the cursor with which to continue, now or later."""

    page_size = integer(50, min=1, max=200)
    has_next = boolean(example=False)
    cursor = text(_CURSOR)


class ChangesLinks(ResponseSchema):
    """Paths of this page and of the next one. `next` is absent if no more changes follow."""

    self = text("/api/images/changes?limit=50")
    next = fields.String(metadata={"examples": [f"/api/images/changes?after={_CURSOR}&limit=50"]})


class ChangesPageResponse(ResponseSchema):
    """A page of changes, the oldest first."""

    data = fields.List(AnyOf(UpdatedImageResponse, DeletedImageResponse), required=True)
    meta = fields.Nested(ChangesMeta, required=True)
    links = fields.Nested(ChangesLinks, required=True)


def serialize_change(item: ImageSummary | DeletedImage) -> dict[str, Any]:
    """Return a row of the list of changes (contract 8.14)."""
    if isinstance(item, DeletedImage):
        return {"id": item.id, "name": item.name, "change": "deleted"}
    row = serialize_image(item)
    row["change"] = "updated"
    return row


class RegistryResponse(ResponseSchema):
    """The registry of an image."""

    id = text("reg-81d0c7a2be914f6a")
    name = text("ghcr.io")
    provider = text("generic")


class LastScanResponse(ResponseSchema):
    """The scan that an image's score and counts come from."""

    id = text("scan-5be1c7f20a6d4e93")
    status = one_of([ScanStatus.SUCCESS, ScanStatus.PARTIAL], "SUCCESS")
    scanners = text_list("trivy")
    finished_at = timestamp("2026-04-26T14:22:11.000Z")


class OtherScanResponse(ResponseSchema):
    """A scan of the same tag by other scanners. The scan that counts has no lower score."""

    id = text("scan-0d94f1b27c6e8a35")
    status = one_of([ScanStatus.SUCCESS, ScanStatus.PARTIAL], "SUCCESS")
    scanners = text_list("grype")
    finished_at = timestamp("2026-04-26T14:20:03.000Z")
    risk_score = integer(25, max=100)
    grade = EnumField(Grade, "B")


class ImageDetailsResponse(ImageResponse):
    """An image with its registry, its last scan and the other compared scans."""

    registry = fields.Nested(RegistryResponse, required=True)
    last_scan = fields.Nested(LastScanResponse, required=True, allow_none=True)
    other_scans = fields.List(fields.Nested(OtherScanResponse), required=True)


def serialize_image_details(image: ImageDetails) -> dict[str, Any]:
    """Return an image: its row of the list, its registry, its last scan and the other scans."""
    last_scan = {
        "id": image.scan_id,
        "status": image.scan_status,
        "scanners": image.scanners,
        "finishedAt": image.scan_finished_at,
    }
    return {
        **serialize_image(image.summary),
        "registry": {
            "id": image.summary.registry_id,
            "name": image.registry_name,
            "provider": image.provider,
        },
        "lastScan": last_scan if image.scan_id else None,
        "otherScans": [
            {
                "id": scan.id,
                "status": scan.status,
                "scanners": scan.scanners,
                "finishedAt": scan.finished_at,
                "riskScore": scan.risk_score,
                "grade": scan.grade,
            }
            for scan in image.other_scans
        ],
    }


class TagResponse(ResponseSchema):
    """A tag of an image."""

    name = text("1.4.7")
    digest = text("sha256:abcdef", allow_none=True)
    updated_at = timestamp("2026-04-25T09:10:00.000Z")
    last_seen_at = timestamp("2026-04-26T14:22:11.000Z")
    scanned = boolean(example=True)
    risk_score = integer(31, max=100, allow_none=True)
    grade = EnumField(Grade, "B", allow_none=True)
    vulnerabilities = fields.Nested(SeverityCountsResponse, required=True)
    last_scanned_at = timestamp("2026-04-26T14:22:11.000Z", allow_none=True)


def _serialize_counts(counts: SeverityCounts | TagSummary | ScanVerdict) -> dict[str, int]:
    """Return the numbers of findings; the list does not use it, because a call takes time."""
    return {
        "critical": counts.critical,
        "high": counts.high,
        "medium": counts.medium,
        "low": counts.low,
    }


def serialize_tag(tag: TagSummary) -> dict[str, Any]:
    """Return a row of the list of tags."""
    return {
        "name": tag.name,
        "digest": tag.digest,
        "updatedAt": tag.digest_created_at,
        "lastSeenAt": tag.last_observed_at,
        "scanned": tag.last_scanned_at is not None,
        "riskScore": tag.risk_score,
        "grade": tag.grade,
        "vulnerabilities": _serialize_counts(tag),
        "lastScannedAt": tag.last_scanned_at,
    }


class VulnerabilityResponse(ResponseSchema):
    """A finding of the scan that an image's counts come from."""

    cve_id = text("CVE-2026-1000")
    severity = EnumField(Severity, "HIGH")
    cvss = score(7.5, max=10)
    epss = score(0.0123, max=1)
    kev = boolean(example=False, allow_none=True)
    package = text("openssl")
    installed_version = text("3.0.1")
    fixed_version = text("3.0.2", allow_none=True)
    title = text("Use after free in openssl", allow_none=True)
    url = text("https://example.org/CVE-2026-1000", allow_none=True)
    sources = text_list("trivy")


def serialize_vulnerability(finding: FindingSummary) -> dict[str, Any]:
    """Return a row of the list of vulnerabilities."""
    return {
        "cveId": finding.vulnerability_id,
        "severity": finding.severity,
        "cvss": finding.cvss_score,
        "epss": finding.epss,
        "kev": finding.kev,
        "package": finding.package,
        "installedVersion": finding.installed_version,
        "fixedVersion": finding.fixed_version,
        "title": finding.title,
        "url": finding.url,
        "sources": finding.sources,
    }


class AffectedImageResponse(ResponseSchema):
    """The image of a finding."""

    id = text("img-3f2a9c0d71e84b55")
    name = text("ghcr.io/acme/api")


class AffectedImageVulnerabilityResponse(ResponseSchema):
    """A finding of one of several images, with its image and scan."""

    id = text("vuln-6a1f0c93be27d845")
    cve_id = text("CVE-2026-1000")
    severity = EnumField(Severity, "HIGH")
    cvss = score(7.5, max=10)
    kev = boolean(example=False, allow_none=True)
    epss = score(0.0123, max=1)
    package = text("openssl")
    installed_version = text("3.0.1")
    fixed_version = text("3.0.2", allow_none=True)
    title = text("Use after free in openssl", allow_none=True)
    url = text("https://example.org/CVE-2026-1000", allow_none=True)
    sources = text_list("trivy")
    image = fields.Nested(AffectedImageResponse, required=True)
    tag = text("1.4.7", allow_none=True)
    scan_id = text("scan-5be1c7f20a6d4e93")
    detected_at = timestamp("2026-04-26T14:22:11.000Z")


def serialize_affected_image_vulnerability(finding: VulnerabilitySummary) -> dict[str, Any]:
    """Return a row of the findings of several images."""
    return {
        "id": finding.id,
        "cveId": finding.vulnerability_id,
        "severity": finding.severity,
        "cvss": finding.cvss_score,
        "kev": finding.kev,
        "epss": finding.epss,
        "package": finding.package,
        "installedVersion": finding.installed_version,
        "fixedVersion": finding.fixed_version,
        "title": finding.title,
        "url": finding.url,
        "sources": finding.sources,
        "image": {"id": finding.image_id, "name": finding.image_name},
        "tag": finding.tag,
        "scanId": finding.scan_id,
        "detectedAt": finding.detected_at,
    }


class GradeCountsResponse(ResponseSchema):
    """Counts of images by grade."""

    A = integer(180)
    B = integer(90)
    C = integer(20)
    D = integer(10)


class RegistryCountResponse(ResponseSchema):
    """The number of images in a registry."""

    id = text("reg-81d0c7a2be914f6a")
    host = text("ghcr.io")
    name = text("ghcr.io")
    images = integer(312, min=1)


class SummaryResponse(ResponseSchema):
    """Counts of images: in total, by grade, by registry, and of those never scanned."""

    total = integer(312)
    grades = fields.Nested(GradeCountsResponse, required=True)
    never_scanned = integer(12)
    registries = fields.List(fields.Nested(RegistryCountResponse), required=True)


def serialize_summary(counts: Sequence[RegistryCount]) -> dict[str, Any]:
    """Return the counts of images, summed over the registries."""
    return {
        "total": sum(count.images for count in counts),
        "grades": {
            grade.value: sum(count.grades[position] for count in counts)
            for position, grade in enumerate(Grade)
        },
        "neverScanned": sum(count.never_scanned for count in counts),
        "registries": [
            {
                "id": count.registry_id,
                "host": count.host,
                "name": count.name,
                "images": count.images,
            }
            for count in counts
        ],
    }


class UploadedImageResponse(ResponseSchema):
    """The image and the tag of a recorded scan."""

    name = text("ghcr.io/acme/api")
    tag = text("1.4.7", allow_none=True)


class UploadResponse(ResponseSchema):
    """The recorded scan, its image and its results."""

    success = boolean(example=True, validate=validate.Equal(True))
    scan_id = text("scan-5be1c7f20a6d4e93")
    image_id = text("img-3f2a9c0d71e84b55")
    image = fields.Nested(UploadedImageResponse, required=True)
    risk_score = integer(31, max=100, allow_none=True)
    grade = EnumField(Grade, "B", allow_none=True)
    vulnerabilities = fields.Nested(SeverityCountsResponse, required=True)


def serialize_upload(scan: RecordedScan) -> dict[str, Any]:
    """Return a recorded scan, its image and its results (contract 8.5)."""
    return {
        "success": True,
        "scanId": scan.scan_id,
        "imageId": scan.image_id,
        "image": {"name": scan.image_name, "tag": scan.tag},
        "riskScore": scan.risk_score,
        "grade": scan.grade,
        "vulnerabilities": _serialize_counts(scan.counts),
    }


class AuditEntryResponse(ResponseSchema):
    """A recorded action."""

    id = text("aud-9d2e4b7a10c35f68")
    org_id = text("org-0b6f3c2ad97e4851")
    actor = text("cli:alice")
    action = EnumField(Action, "apikey.created")
    target = text("apikey/key-3f2a9c0d71e84b55")
    ip = text("192.0.2.7", allow_none=True)
    created_at = timestamp("2026-04-26T14:22:11.000Z")


def serialize_audit_entry(entry: AuditEntry) -> dict[str, Any]:
    """Return a row of the audit log."""
    return {
        "id": entry.id,
        "orgId": entry.organization_id,
        "actor": entry.actor,
        "action": entry.action,
        "target": entry.target,
        "ip": entry.ip,
        "createdAt": entry.created_at,
    }


class ScanVerdictResponse(LastScanResponse):
    """The scan that counts for a digest or a tag, with its results."""

    risk_score = integer(31, max=100)
    grade = EnumField(Grade, "B")
    vulnerabilities = fields.Nested(SeverityCountsResponse, required=True)


class ImageVerdictResponse(ResponseSchema):
    """The image that a reference names, and the scan that counts for its digest or tag."""

    ref = text("ghcr.io/acme/api:1.4.7")
    image = fields.Nested(ImageResponse, required=True)
    tag = text("1.4.7", allow_none=True)
    digest = text("sha256:abcdef", allow_none=True)
    is_latest = boolean(example=True)
    scan = fields.Nested(ScanVerdictResponse, required=True, allow_none=True)


def serialize_verdict(reference: Reference, verdict: ImageVerdict) -> dict[str, Any]:
    """Return the image of a reference, and the scan that counts for it (contract 8.12)."""
    image, digest, scan = verdict
    return {
        "ref": str(reference),
        "image": serialize_image(image),
        "tag": reference.tag,
        "digest": digest,
        # The row has the latest tag and its current digest.
        "isLatest": reference.tag in {None, image.latest_tag}
        and reference.digest in {None, image.latest_digest},
        "scan": scan
        and {
            "id": scan.id,
            "status": scan.status,
            "scanners": scan.scanners,
            "finishedAt": scan.finished_at,
            "riskScore": scan.risk_score,
            "grade": scan.grade,
            "vulnerabilities": _serialize_counts(scan),
        },
    }


class RegistrySummaryResponse(ResponseSchema):
    """A registry with the numbers of its images."""

    id = text("reg-81d0c7a2be914f6a")
    name = text("ghcr.io")
    host = text("ghcr.io")
    provider = text("generic")
    images = integer(312)
    grades = fields.Nested(GradeCountsResponse, required=True)
    never_scanned = integer(12)
    last_synced_at = timestamp("2026-04-26T14:22:11.000Z", allow_none=True)


def serialize_registry(registry: RegistrySummary) -> dict[str, Any]:
    """Return a registry with the numbers of its images (contract 8.13)."""
    return {
        "id": registry.id,
        "name": registry.name,
        "host": registry.host,
        "provider": registry.provider,
        "images": registry.images,
        "grades": {grade.value: count for grade, count in zip(Grade, registry.grades, strict=True)},
        "neverScanned": registry.never_scanned,
        "lastSyncedAt": registry.last_synced_at,
    }
