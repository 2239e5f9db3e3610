"""What goes out, as schemas for the OpenAPI document; the views write these bodies by hand.

The suite holds every answer it sees to them.
"""

from functools import cache
from typing import Any

from marshmallow import RAISE, Schema, fields, validate

from harborguard.api.errors import STATUSES
from harborguard.model import Grade, ScanStatus, Severity

_TIME = validate.Regexp(r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$")
_TIME_EXAMPLE = {"examples": ["2026-04-26T14:22:11.000Z"]}


def _text(example: str | None = None, **kwargs: Any) -> fields.String:
    return fields.String(
        required=True, metadata={"examples": [example]} if example else {}, **kwargs
    )


def _time(**kwargs: Any) -> fields.String:
    return fields.String(required=True, validate=_TIME, metadata=_TIME_EXAMPLE, **kwargs)


def _count(least: int = 0, most: int | None = None, **kwargs: Any) -> fields.Integer:
    bounds = validate.Range(min=least, max=most)
    return fields.Integer(required=True, validate=bounds, **kwargs)


def _word(allowed: Any, **kwargs: Any) -> fields.String:
    words = [getattr(word, "value", word) for word in allowed]
    return fields.String(required=True, validate=validate.OneOf(words), **kwargs)


class ResponseSchema(Schema):
    """A body that holds these keys and no other."""

    class Meta:
        """Makes `additionalProperties: false` of it."""

        unknown = RAISE

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """JSON names are in camel case."""
        first, *rest = field_name.split("_")
        field_obj.data_key = first + "".join(word.title() for word in rest)


class SeverityCounts(ResponseSchema):
    """How many distinct findings there are."""

    critical = _count()
    high = _count()
    medium = _count()
    low = _count()


class Image(ResponseSchema):
    """A row of the list."""

    id = _text("img-3f2a9c0d71e84b55")
    name = _text("ghcr.io/acme/api")
    registry_id = _text("reg-81d0c7a2be914f6a")
    tag_count = _count()
    latest_tag = _text("1.4.7", allow_none=True)
    latest_digest = _text("sha256:abcdef", allow_none=True)
    risk_score = _count(most=100, allow_none=True)
    grade = _word(Grade, allow_none=True)
    vulnerabilities = fields.Nested(SeverityCounts, required=True)
    last_scanned_at = _time(allow_none=True)
    created_at = _time()


class Registry(ResponseSchema):
    """Where an image lives."""

    id = _text("reg-81d0c7a2be914f6a")
    name = _text("ghcr.io")
    provider = _text("generic")


class LastScan(ResponseSchema):
    """The scan that the score and the counts are of."""

    id = _text("scan-5be1c7f20a6d4e93")
    status = _word([ScanStatus.SUCCESS, ScanStatus.PARTIAL])
    scanners = fields.List(fields.String(), required=True)


class ImageDetails(Image):
    """One image."""

    registry = fields.Nested(Registry, required=True)
    last_scan = fields.Nested(LastScan, required=True, allow_none=True)


class Tag(ResponseSchema):
    """A tag of an image."""

    name = _text("1.4.7")
    digest = _text("sha256:abcdef", allow_none=True)
    updated_at = _time()
    last_seen_at = _time()
    scanned = fields.Boolean(required=True)
    risk_score = _count(most=100, allow_none=True)
    grade = _word(Grade, allow_none=True)
    vulnerabilities = fields.Nested(SeverityCounts, required=True)
    last_scanned_at = _time(allow_none=True)


class Vulnerability(ResponseSchema):
    """A finding of an image's last scan."""

    id = _text("CVE-2026-1000")
    severity = _word(Severity)
    cvss_score = fields.Float(required=True, allow_none=True, validate=validate.Range(0, 10))
    package = _text("openssl")
    installed_version = _text("3.0.1")
    fixed_version = _text("3.0.2", allow_none=True)
    title = _text("Use after free in openssl", allow_none=True)
    url = _text("https://example.org/CVE-2026-1000", allow_none=True)
    sources = fields.List(fields.String(), required=True)


class GradeCounts(ResponseSchema):
    """How many images have each grade."""

    A = _count()
    B = _count()
    C = _count()
    D = _count()


class RegistryCount(ResponseSchema):
    """How many images lie in a registry."""

    id = _text("reg-81d0c7a2be914f6a")
    host = _text("ghcr.io")
    name = _text("ghcr.io")
    images = _count(1)


class Summary(ResponseSchema):
    """A list in numbers."""

    total = _count()
    grades = fields.Nested(GradeCounts, required=True)
    never_scanned = _count()
    registries = fields.List(fields.Nested(RegistryCount), required=True)


class PageMeta(ResponseSchema):
    """Where in the list a page is; `total` is exact."""

    page = _count(1)
    page_size = _count(1, 200)
    total = _count()
    total_pages = _count()
    has_next = fields.Boolean(required=True)
    has_prev = fields.Boolean(required=True)


class PageLinks(ResponseSchema):
    """The page and its neighbours, relative; those that do not exist are absent."""

    self = _text("/api/images?page=1&limit=50")
    next = fields.String()
    prev = fields.String()


class Uploaded(ResponseSchema):
    """Where a report is recorded."""

    success = fields.Boolean(required=True, validate=validate.Equal(True))
    scan_id = _text("scan-5be1c7f20a6d4e93")
    image_id = _text("img-3f2a9c0d71e84b55")


class Status(ResponseSchema):
    """How the service is."""

    status = _word(["ok", "ready"])


class ErrorIssue(ResponseSchema):
    """One thing wrong with one field."""

    path = _text("limit")
    message = _text("must be an integer from 1 to 200")


class ErrorBody(ResponseSchema):
    """What went wrong."""

    code = _word(STATUSES)
    message = _text("The query is not valid.")
    issues = fields.List(fields.Nested(ErrorIssue))


class Error(ResponseSchema):
    """Every error; `scanId` where a scan is recorded already, with other content."""

    error = fields.Nested(ErrorBody, required=True)
    scan_id = fields.String()


@cache
def page_of(row: type[ResponseSchema]) -> type[Schema]:
    """The envelope of a list of such rows (contract, section 2)."""
    body = {
        "data": fields.List(fields.Nested(row), required=True),
        "meta": fields.Nested(PageMeta, required=True),
        "links": fields.Nested(PageLinks, required=True),
        "Meta": ResponseSchema.Meta,
    }
    return type(f"{row.__name__}Page", (ResponseSchema,), body)


@cache
def single(thing: type[ResponseSchema]) -> type[Schema]:
    """The envelope of one such thing."""
    body = {"data": fields.Nested(thing, required=True), "Meta": ResponseSchema.Meta}
    return type(f"{thing.__name__}ResponseSchema", (ResponseSchema,), body)
