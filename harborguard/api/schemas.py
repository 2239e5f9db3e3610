"""What may come in and what goes out: every parameter with its bounds, every JSON name."""

import re
import unicodedata
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, fields, post_load, validates_schema
from werkzeug.datastructures import MultiDict

from harborguard.errors import InvalidRequest, Issue
from harborguard.listing import ImageCriteria, ImageSummary, Page, Sort, SortKey
from harborguard.model import Grade

MAX_OFFSET = 2**63 - 1  # what a bigint holds
MAX_TEXT = 200

_SORT_KEYS = {
    "name": SortKey.NAME,
    "createdAt": SortKey.CREATED_AT,
    "riskScore": SortKey.RISK_SCORE,
}
_DIRECTIONS = {"asc": False, "desc": True}
SORTS = {
    f"{column}:{direction}": Sort(key, descending)
    for column, key in _SORT_KEYS.items()
    for direction, descending in _DIRECTIONS.items()
}
_SORT_TEXTS = {sort: text for text, sort in SORTS.items()}


def about(text: str) -> dict[str, Any]:
    """What the OpenAPI document says of a parameter."""
    return {"description": text}


SORT = about("The order; anything else is the default order.")


class StrictInteger(fields.Field[int]):
    """An integer written in ASCII digits, within bounds; nothing else that int() would take."""

    def __init__(self, least: int, most: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.least = least
        self.most = most

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> int:
        digits = value.lstrip("0") or value[-1:]
        # The length is looked at before int(), whose work grows with the square of it.
        if re.fullmatch("[0-9]+", value) and len(digits) <= len(str(self.most)):
            number = int(digits)
            if self.least <= number <= self.most:
                return number
        raise ValidationError(f"must be an integer from {self.least} to {self.most}")


class Text(fields.Field[str | None]):
    """A text of so many characters, none of them control ones; blank is the same as absent."""

    def __init__(self, most: int = MAX_TEXT, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.most = most

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> str | None:
        if len(value) > self.most:
            raise ValidationError(f"must be at most {self.most} characters")
        if any(unicodedata.category(character) in {"Cc", "Cs"} for character in value):
            raise ValidationError("must not contain control characters")
        return value if value.strip() else None


class WordList(fields.Field[tuple[StrEnum, ...]]):
    """Words between commas, as a set in order: spaces, case and empty items are forgiven."""

    def __init__(self, allowed: type[StrEnum], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.allowed = allowed

    def _deserialize(
        self, value: Any, attr: str | None, data: Any, **_: Any
    ) -> tuple[StrEnum, ...]:
        words = {item.strip().lower() for item in value.split(",")} - {""}
        if not words <= {word.lower() for word in self.allowed}:
            raise ValidationError(f"must be a comma-separated list of {', '.join(self.allowed)}")
        return tuple(word for word in self.allowed if word.lower() in words)


class SortOrder(fields.Field[Any]):
    """`column:direction`; what is none of `orders` means the `usual` one (contract, section 1)."""

    def __init__(self, orders: Mapping[str, Any], usual: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.orders = orders
        self.usual = usual

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> Any:
        return self.orders.get(value)


class PageQuery(Schema):
    """The slice that a listing is asked for."""

    class Meta:
        """Unknown parameters are ignored (contract, section 1)."""

        unknown = EXCLUDE

    page = StrictInteger(1, MAX_OFFSET, load_default=1, metadata=about("Which page."))
    limit = StrictInteger(1, 200, load_default=50, metadata=about("Rows on a page."))

    @validates_schema
    def check_offset(self, data: dict[str, Any], **_: Any) -> None:
        """A page that begins past what the database can count is no page."""
        if (data["page"] - 1) * data["limit"] > MAX_OFFSET:
            raise ValidationError("must not begin past row 2^63-1", "page")


class ImageFilters(Schema):
    """Which images are asked for."""

    class Meta(PageQuery.Meta):
        """As for listings."""

    registry = Text(metadata=about("A registry's id, or its host or name in any case."))
    risk_score = StrictInteger(
        0,
        100,
        data_key="riskScore",
        metadata=about("The least score; what was never scanned does not match."),
    )
    grades = WordList(Grade, data_key="grade", metadata=about("Any of these letters, with commas."))
    search = Text(metadata=about("Part of the name, in any case; %, _ and \\ mean themselves."))


class ListImagesQuery(ImageFilters, PageQuery):
    """The query of GET /api/images; the order of the fields is the order in links."""

    sort = SortOrder(SORTS, "createdAt:desc", metadata=SORT)

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> tuple[ImageCriteria, Page]:
        """The question in the field's words."""
        page = Page(data.pop("page"), data.pop("limit"))
        return ImageCriteria(**data), page


class UploadScanQuery(Schema):
    """The query of POST /api/scans/upload."""

    class Meta(PageQuery.Meta):
        """As for listings."""

    image = Text(1000, metadata=about("Image and tag, whatever the report says."))

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> str | None:
        """The image's reference as the caller wrote it, if there is one."""
        return data.get("image")


def parse_query(schema: Schema, arguments: MultiDict[str, str]) -> Any:
    """What a query string asks, by its schema; raises InvalidRequest with an issue each."""
    known = {field.data_key or name for name, field in schema.load_fields.items()}
    issues = {
        name: "given more than once; separate values with a comma"
        for name, values in arguments.lists()
        if name in known and len(values) > 1
    }
    parsed = None
    try:
        parsed = schema.load(arguments.to_dict())
    except ValidationError as error:
        wrong = {name: " ".join(said) for name, said in error.normalized_messages().items()}
        issues = {**wrong, **issues}
    if issues:
        listed = [Issue(name, message) for name, message in issues.items()]
        raise InvalidRequest("The query is not valid.", listed)
    return parsed


def dump_criteria(criteria: ImageCriteria) -> list[tuple[str, str]]:
    """The filters that were given, as understood, in the order of links."""
    given = [
        ("registry", criteria.registry),
        ("riskScore", criteria.risk_score),
        ("grade", ",".join(criteria.grades) or None),
        ("search", criteria.search),
        ("sort", criteria.sort and _SORT_TEXTS[criteria.sort]),
    ]
    return [(name, str(value)) for name, value in given if value is not None]


def dump_image(image: ImageSummary) -> dict[str, Any]:
    """A row of the list (contract, section 1)."""
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
