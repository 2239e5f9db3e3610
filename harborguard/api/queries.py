"""The query strings of the operations, one schema each. The schemas of lists also make links.

The query of a list is parsed to criteria and a page. `to_parameters` turns them back into the
parameters of a link: page and limit first, then the normalized filters in the order of the fields
(contract 2).
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, urlencode

from flask import g
from marshmallow import (
    EXCLUDE,
    Schema,
    ValidationError,
    fields,
    post_load,
    validates_schema,
)
from werkzeug.datastructures import MultiDict

from harborguard.api.fields import (
    Cursor,
    Flag,
    ImageReference,
    SortOrder,
    StrictInteger,
    Text,
    Time,
    Word,
    WordList,
)
from harborguard.errors import InvalidRequest, Issue
from harborguard.listing import (
    AuditCriteria,
    CountedSeverity,
    FindingCriteria,
    FindingSort,
    FindingSortKey,
    ImageCriteria,
    Page,
    ScanAge,
    Sort,
    SortKey,
    VulnerabilityCriteria,
    VulnerabilitySort,
    VulnerabilitySortKey,
)
from harborguard.model import Action, Grade, Reference, Severity
from harborguard.store.images.export import ExportFormat

MAX_OFFSET = 2**63 - 1  # the maximum of a bigint
MAX_IGNORED = 200  # characters of names in X-Ignored-Parameters

Key = TypeVar("Key")
Order = TypeVar("Order")


def _orders(columns: Mapping[str, Key], order: Callable[[Key, bool], Order]) -> dict[str, Order]:
    """Return the ascending and the descending order of each column, by `column:direction`."""
    return {
        f"{column}:{direction}": order(key, descending)
        for column, key in columns.items()
        for direction, descending in (("asc", False), ("desc", True))
    }


IMAGE_SORTS = _orders(
    {
        "name": SortKey.NAME,
        "createdAt": SortKey.CREATED_AT,
        "riskScore": SortKey.RISK_SCORE,
        "lastScannedAt": SortKey.LAST_SCANNED_AT,
        "tagCount": SortKey.TAG_COUNT,
    },
    Sort,
)
FINDING_SORTS = _orders({key.value: key for key in FindingSortKey}, FindingSort)
VULNERABILITY_SORTS = _orders({key.value: key for key in VulnerabilitySortKey}, VulnerabilitySort)


class QuerySchema(Schema):
    """A query string. Unknown parameters are ignored (contract 1)."""

    class Meta:
        """Drop unknown parameters."""

        unknown = EXCLUDE


class PageQuery(QuerySchema):
    """The page of a list. Subclasses add the filters and the order."""

    page = StrictInteger(
        min=1, max=MAX_OFFSET, load_default=1, description="The number of the page."
    )
    limit = StrictInteger(
        min=1, max=200, load_default=50, description="The maximum number of rows of a page."
    )

    @validates_schema
    def check_offset(self, data: dict[str, Any], **_: Any) -> None:
        """Raise ValidationError if the offset of the page is not a bigint."""
        if (data["page"] - 1) * data["limit"] > MAX_OFFSET:
            raise ValidationError("must not begin after row 2^63-1", "page")

    @post_load
    def to_criteria(self, data: dict[str, Any], **_: Any) -> tuple[Any, Page]:
        """Return the page, without criteria."""
        return None, Page(data["page"], data["limit"])

    def get_attribute(self, obj: tuple[Any, Page], attr: str, default: Any) -> Any:
        """Return the value of a field from the pair that `to_parameters` dumps."""
        criteria, page = obj
        match attr:
            case "page":
                return page.number
            case "limit":
                return page.size
            case _:
                return getattr(criteria, attr)

    def to_parameters(self, criteria: Any, page: Page) -> dict[str, str]:
        """Return a link's parameters, the inverse of `to_criteria`. Those of None are omitted."""
        dumped: Any = self.dump((criteria, page))
        return {name: text for name, text in dumped.items() if text is not None}


class ImageFiltersQuery(QuerySchema):
    """The filters of images. A field is named like the criterion in `ImageCriteria`."""

    registry = Text(max=200, description="A registry's id, or its host or name (case-insensitive).")
    risk_score = StrictInteger(
        min=0,
        max=100,
        data_key="riskScore",
        description="The minimum risk score. Images that were never scanned do not match.",
    )
    grades = WordList(
        Grade,
        data_key="grade",
        description="A comma-separated list of grades. Any of them matches.",
    )
    search = Text(
        max=200,
        description=(
            "A part of the image's name (case-insensitive). %, _ and \\ are ordinary characters."
        ),
    )
    cve_id = Text(
        max=200,
        data_key="cveId",
        description="A vulnerability's whole id (case-insensitive). Aliases do not match.",
    )
    package = Text(
        max=200,
        description=(
            "A package's full name (case-insensitive). With `cveId`, one finding has both."
        ),
    )
    is_fixable = Flag(
        data_key="fixable",
        description=(
            "Whether a finding has a fixed version. With `cveId` or `package`, it is a finding that"
            " they select."
        ),
    )
    severities = WordList(
        CountedSeverity,
        data_key="severity",
        description=(
            "A comma-separated list of severities. The image has a finding of any of them."
        ),
    )
    tag = Text(max=200, description="The name of a current tag (case-sensitive).")
    scanned = Word(
        ScanAge,
        description=(
            "`never`: without a finished scan. `stale`: the newest one is more than `staleDays`"
            " days old. `fresh`: it is newer."
        ),
    )
    stale_days = StrictInteger(
        min=1,
        max=3650,
        data_key="staleDays",
        description="The age in days above which a scan is stale. The default is 30.",
    )
    created_after = Time(
        data_key="createdAfter",
        description="The earliest `createdAt`, inclusive. A date is midnight in UTC.",
    )
    scanned_after = Time(
        data_key="scannedAfter",
        description="The earliest `lastScannedAt`, inclusive. A date is midnight in UTC.",
    )
    scanned_before = Time(
        data_key="scannedBefore",
        description="The latest `lastScannedAt`, exclusive. A date is midnight in UTC.",
    )


class SummarizeImagesQuery(ImageFiltersQuery):
    """The query of GET /api/images/summary."""

    @post_load
    def to_criteria(self, data: dict[str, Any], **_: Any) -> ImageCriteria:
        """Return the filters as criteria."""
        return ImageCriteria(**data)


class ListImagesQuery(ImageFiltersQuery, PageQuery):
    """The query of GET /api/images."""

    sort = SortOrder(IMAGE_SORTS, default="createdAt:desc")

    @post_load
    def to_criteria(self, data: dict[str, Any], **_: Any) -> tuple[ImageCriteria, Page]:
        """Return the criteria and the page."""
        page = Page(data.pop("page"), data.pop("limit"))
        return ImageCriteria(**data), page


class ExportImagesQuery(ImageFiltersQuery):
    """The query of GET /api/images/export, and of the command `export`."""

    format = Word(ExportFormat, load_default=ExportFormat.CSV, description="The format.")
    sort = SortOrder(IMAGE_SORTS, default="createdAt:desc")

    @post_load
    def to_criteria(self, data: dict[str, Any], **_: Any) -> tuple[ImageCriteria, ExportFormat]:
        """Return the criteria and the format."""
        export_format = data.pop("format")
        return ImageCriteria(**data), export_format


class ListChangesQuery(QuerySchema):
    """The query of GET /api/images/changes."""

    after = Cursor(
        description=(
            "The `meta.cursor` of an earlier page. Without it, the list begins with the oldest"
            " change."
        )
    )
    limit = StrictInteger(
        min=1, max=200, load_default=50, description="The maximum number of rows of a page."
    )
    registry = Text(
        max=200,
        description="A registry's id, or its host or name (case-insensitive).",
    )

    def link(self, query: Mapping[str, Any]) -> str:
        """Return the link of a query."""
        dumped: Any = self.dump(query)
        given = [(name, text) for name, text in dumped.items() if text is not None]
        return f"/api/images/changes?{urlencode(given, quote_via=quote, safe='')}"


class ListTagsQuery(PageQuery):
    """The query of GET /api/images/{image_id}/tags."""


class ListFindingsQuery(PageQuery):
    """The query of GET /api/images/{image_id}/vulnerabilities.

    A field is named like the criterion in `FindingCriteria`.
    """

    severities = WordList(
        Severity,
        data_key="severity",
        description="A comma-separated list of severities. Any of them matches.",
    )
    package = Text(max=200, description="The package's full name (case-insensitive).")
    is_fixable = Flag(data_key="fixable", description="Whether a fixed version exists.")
    search = Text(
        max=200,
        description=(
            "A part of the vulnerability's id or title, or of the package's name"
            " (case-insensitive)."
        ),
    )
    sort = SortOrder(FINDING_SORTS, default="severity:desc")

    @post_load
    def to_criteria(self, data: dict[str, Any], **_: Any) -> tuple[FindingCriteria, Page]:
        """Return the criteria and the page."""
        page = Page(data.pop("page"), data.pop("limit"))
        return FindingCriteria(**data), page


class ListVulnerabilitiesQuery(PageQuery):
    """The query of GET /api/vulnerabilities.

    A field is named like the criterion in `VulnerabilityCriteria`.
    """

    severities = WordList(
        Severity,
        data_key="severity",
        description="A comma-separated list of severities. Any of them matches.",
    )
    image = Text(max=1000, description="An image's id, or its whole name (case-insensitive).")
    package = Text(max=200, description="A package's full name (case-insensitive).")
    cve_id = Text(
        max=200,
        data_key="cveId",
        description="A vulnerability's whole id (case-insensitive). Aliases do not match.",
    )
    is_fixable = Flag(data_key="fixable", description="Whether a fixed version exists.")
    is_kev = Flag(
        data_key="kev",
        description="Whether the vulnerability is known to be exploited. Unknown never matches.",
    )
    search = Text(
        max=200,
        description=(
            "A part of the vulnerability's id or title, or of the package's name"
            " (case-insensitive)."
        ),
    )
    sort = SortOrder(VULNERABILITY_SORTS, default="severity:desc")

    @validates_schema
    def check_subject(self, data: dict[str, Any], **_: Any) -> None:
        """Raise ValidationError if the query names no image, package or vulnerability."""
        subjects = {"cve_id": "cveId", "package": "package", "image": "image"}
        if all(data.get(name) is None for name in subjects):
            message = "at least one of cveId, package and image is required"
            raise ValidationError({name: [message] for name in subjects.values()})

    @post_load
    def to_criteria(self, data: dict[str, Any], **_: Any) -> tuple[VulnerabilityCriteria, Page]:
        """Return the criteria and the page."""
        page = Page(data.pop("page"), data.pop("limit"))
        return VulnerabilityCriteria(**data), page


class ListAuditLogQuery(PageQuery):
    """The query of GET /api/audit-log. A field is named like the criterion in `AuditCriteria`."""

    actor = Text(max=200, description="The actor's full name, such as `cli:alice`.")
    actions = WordList(
        Action,
        data_key="action",
        description="A comma-separated list of actions. Any of them matches.",
    )
    since = Time(description="The earliest time, inclusive. A date is midnight in UTC.")
    until = Time(description="The latest time, exclusive. A date is midnight in UTC.")

    @post_load
    def to_criteria(self, data: dict[str, Any], **_: Any) -> tuple[AuditCriteria, Page]:
        """Return the criteria and the page."""
        page = Page(data.pop("page"), data.pop("limit"))
        return AuditCriteria(**data), page


class UploadScanQuery(QuerySchema):
    """The query of POST /api/scans/upload."""

    image = Text(
        max=1000,
        description="The image's reference. It takes precedence over the report's own reference.",
    )

    @post_load
    def to_reference(self, data: dict[str, Any], **_: Any) -> str | None:
        """Return the reference as the caller wrote it, or None."""
        return data.get("image")


class LookUpImageQuery(QuerySchema):
    """The query of GET /api/images/lookup."""

    ref = ImageReference(
        max=1000,
        description=(
            "The image's reference: a name with a tag, a digest or both. Without either, the tag is"
            " `latest`."
        ),
    )

    @post_load
    def to_reference(self, data: dict[str, Any], **_: Any) -> Reference:
        """Return the normalized reference."""
        return data["ref"]


class ListRegistriesQuery(PageQuery):
    """The query of GET /api/registries."""


def list_ignored(schema: Schema, arguments: MultiDict[str, str]) -> str:
    """Return the sorted names of the parameters that were not understood (contract 2.5).

    They are unknown names, and `sort` if its value is unknown. The names are percent-encoded.
    Names that do not fit into 200 characters are replaced by `...`.
    """
    known = {field.data_key or name: field for name, field in schema.load_fields.items()}
    ignored = sorted(
        quote(name, safe="")
        for name, value in arguments.items()
        if name and (name not in known or not _is_understood(known[name], value))
    )
    if len(", ".join(ignored)) <= MAX_IGNORED:
        return ", ".join(ignored)
    while len(", ".join(ignored)) > MAX_IGNORED:
        del ignored[-1]
    return ", ".join([*ignored, "..."])


def _is_understood(field: fields.Field[Any], value: str) -> bool:
    return not isinstance(field, SortOrder) or value in field.orders


def parse_query(schema: Schema, arguments: MultiDict[str, str]) -> Any:
    """Return the query that the schema loads; raise InvalidRequest with one issue per parameter.

    Note the parameters that were not understood for the response's X-Ignored-Parameters.
    """
    g.ignored_parameters = list_ignored(schema, arguments)
    return _load(schema, arguments)


def parse_query_text(schema: Schema, text: str) -> Any:
    """Return the query of a query string; raise InvalidRequest as `parse_query` does.

    Raise it too for a parameter that is not understood.
    """
    arguments = MultiDict(parse_qsl(text, keep_blank_values=True))
    if ignored := list_ignored(schema, arguments):
        raise InvalidRequest(f"The query has parameters that are not understood: {ignored}.")
    return _load(schema, arguments)


def _load(schema: Schema, arguments: MultiDict[str, str]) -> Any:
    known = {field.data_key or name for name, field in schema.load_fields.items()}
    repeated = {
        name: "given more than once; separate values with a comma"
        for name, values in arguments.lists()
        if name in known and len(values) > 1
    }
    query, invalid = None, {}
    try:
        query = schema.load(arguments.to_dict())
    except ValidationError as error:
        messages = error.normalized_messages()
        invalid = {name: " ".join(texts) for name, texts in messages.items()}
    if issues := {**invalid, **repeated}:
        listed = [Issue(name, message) for name, message in issues.items()]
        raise InvalidRequest("The query is not valid.", listed)
    return query
