"""What the views behind the list take and answer: every parameter, every JSON name."""

from collections.abc import Sequence
from typing import Any

from marshmallow import ValidationError, fields, post_load

from harborguard.api.schemas import (
    SORT,
    ImageFilters,
    PageQuery,
    SortOrder,
    Text,
    WordList,
    about,
    dump_image,
)
from harborguard.listing import (
    FindingCriteria,
    FindingSort,
    FindingSortKey,
    FindingSummary,
    ImageCriteria,
    ImageDetails,
    Page,
    RegistryCount,
    TagSummary,
)
from harborguard.model import Grade, Severity

FINDING_SORTS = {
    f"{key.value}:{direction}": FindingSort(key, descending)
    for key in FindingSortKey
    for direction, descending in {"asc": False, "desc": True}.items()
}
_SORT_TEXTS = {sort: text for text, sort in FINDING_SORTS.items()}
_FLAGS = {"true": True, "false": False}


class Flag(fields.Field[bool]):
    """`true` or `false`."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> bool:
        if value not in _FLAGS:
            raise ValidationError("must be true or false")
        return _FLAGS[value]


class SummarizeImagesQuery(ImageFilters):
    """The query of GET /api/images/summary: the filters of the list."""

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> ImageCriteria:
        """The question in the field's words."""
        return ImageCriteria(**data)


class ListTagsQuery(PageQuery):
    """The query of GET /api/images/{image_id}/tags."""

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> Page:
        """The question in the field's words."""
        return Page(data["page"], data["limit"])


class ListFindingsQuery(PageQuery):
    """The query of GET /api/images/{image_id}/vulnerabilities, in the order of links."""

    severities = WordList(
        Severity, data_key="severity", metadata=about("Any of these, with commas.")
    )
    package = Text(metadata=about("A package's whole name, in any case."))
    is_fixable = Flag(data_key="fixable", metadata=about("Whether a version repairs it."))
    search = Text(metadata=about("Part of the id, the package's name or the title."))
    sort = SortOrder(FINDING_SORTS, "severity:desc", metadata=SORT)

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> tuple[FindingCriteria, Page]:
        """The question in the field's words."""
        page = Page(data.pop("page"), data.pop("limit"))
        return FindingCriteria(**data), page


def dump_finding_criteria(criteria: FindingCriteria) -> list[tuple[str, str]]:
    """The filters that were given, as understood, in the order of links."""
    fixable = {None: None, True: "true", False: "false"}[criteria.is_fixable]
    given = [
        ("severity", ",".join(criteria.severities) or None),
        ("package", criteria.package),
        ("fixable", fixable),
        ("search", criteria.search),
        ("sort", criteria.sort and _SORT_TEXTS[criteria.sort]),
    ]
    return [(name, value) for name, value in given if value is not None]


def dump_details(image: ImageDetails) -> dict[str, Any]:
    """One image: its row, its registry, and the scan its score is of."""
    scan = {"id": image.scan_id, "status": image.scan_status, "scanners": image.scanners}
    return {
        **dump_image(image.summary),
        "registry": {
            "id": image.summary.registry_id,
            "name": image.registry_name,
            "provider": image.provider,
        },
        "lastScan": scan if image.scan_id else None,
    }


def dump_tag(tag: TagSummary) -> dict[str, Any]:
    """A row of an image's tags."""
    return {
        "name": tag.name,
        "digest": tag.digest,
        "updatedAt": tag.digest_made_at,
        "lastSeenAt": tag.last_observed_at,
        "scanned": tag.last_scanned_at is not None,
        "riskScore": tag.risk_score,
        "grade": tag.grade,
        "vulnerabilities": {
            "critical": tag.critical,
            "high": tag.high,
            "medium": tag.medium,
            "low": tag.low,
        },
        "lastScannedAt": tag.last_scanned_at,
    }


def dump_finding(finding: FindingSummary) -> dict[str, Any]:
    """A row of an image's vulnerabilities."""
    return {
        "id": finding.vulnerability_id,
        "severity": finding.severity,
        "cvssScore": finding.cvss_score,
        "package": finding.package,
        "installedVersion": finding.installed_version,
        "fixedVersion": finding.fixed_version,
        "title": finding.title,
        "url": finding.url,
        "sources": finding.sources,
    }


def dump_counts(counts: Sequence[RegistryCount]) -> dict[str, Any]:
    """The summary: how many in all, by grade, never scanned, by registry."""
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
