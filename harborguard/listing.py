"""What a list is asked and what it answers: criteria, order, page, listing."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from harborguard.model import Grade


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


class Listing(NamedTuple):
    """A page of images, how many there are in all, and the inventory's version they are of."""

    items: list[ImageSummary]
    total: int
    version: int
