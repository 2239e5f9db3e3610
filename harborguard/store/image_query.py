"""The query builder of the list: a question becomes one of a few statements and its parameters.

Pure: no connection, no text of a caller's. Every statement tells the inventory's version, so that
two of them can be seen to be of one moment. Which one answers which question:

first    Nothing filtered, an early page, by name or time: straight off the order's index, with the
         inventory's own count for a total.
counts   Filtered, deep, or by risk score: the counters tell the total, and how many there are of
         each score or day, without reading an image. `image_place` then says where the page is
         best read.
place    There: along the order's index from the nearer end, or from a score or a day on. Filters
         are looked up in the index's own entries; IS TRUE keeps the planner from entering another
         index by them and sorting what it finds. Only where very few match is that made to happen.
window   Where rows must be counted (search, or counters switched off): a COUNT window over that
         same walk, which stops some way behind the page, since a window keeps whatever it counts.
count    Where the window did not see the end, or says nothing because the page is empty.

But for `first`, ids are found in narrow entries, and the wide columns of a page are joined after.
"""

from typing import LiteralString

from harborguard.listing import ImageCriteria, Page, Sort, SortKey
from harborguard.model import Scope
from harborguard.store.image_filters import TENANT, ImageFilters, Parameters
from harborguard.store.image_place import Few, Part, Place, Stretch

Statement = tuple[LiteralString, Parameters]

DEFAULT_SORT = Sort(SortKey.CREATED_AT, descending=True)
# A time as the contract writes it (section 1): the server makes it faster than we could. What it
# makes is left without a name, so that the order is still that of the column, microseconds and all.
_ISO_TIME: LiteralString = """'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'"""
COUNTED_BEYOND = 1000  # rows behind the page that a window may still count
EARLY = 1000  # skipped entries that cost less than asking the counters first

# The only order texts there are. All end in id, in the direction of the sort, so that no page
# repeats or loses a row; what was never scanned comes last in both directions.
ORDERS: dict[Sort, LiteralString] = {
    Sort(SortKey.NAME, descending=False): "name ASC, id ASC",
    Sort(SortKey.NAME, descending=True): "name DESC, id DESC",
    Sort(SortKey.CREATED_AT, descending=False): "created_at ASC, id ASC",
    Sort(SortKey.CREATED_AT, descending=True): "created_at DESC, id DESC",
    Sort(SortKey.RISK_SCORE, descending=False): "risk_score ASC NULLS LAST, id ASC",
    Sort(SortKey.RISK_SCORE, descending=True): "risk_score DESC NULLS LAST, id DESC",
}


class ImageQuery:
    """What is asked of the images of one scope; the tenant is the first condition of all."""

    def __init__(self, scope: Scope, criteria: ImageCriteria) -> None:
        self.sort = criteria.sort or DEFAULT_SORT
        self.is_search = criteria.search is not None
        self._filters = ImageFilters(scope, criteria)
        self._order: LiteralString = ORDERS[self.sort]

    def is_first(self, page: Page) -> bool:
        """Whether `first` answers this page."""
        return self._is_plain and page.offset < EARLY

    @property
    def is_by_day(self) -> bool:
        """Whether `counts` tells how many images there are of each day."""
        return self._is_plain and self.sort.key is SortKey.CREATED_AT

    def first(self, page: Page) -> Statement:
        """An early page of everything: version, total, columns (nulls where it is empty)."""
        rows: LiteralString = f"""
    SELECT *
    FROM images
    WHERE {TENANT}
    ORDER BY {self._order}
    LIMIT %(limit)s OFFSET %(offset)s"""
        return self._listing(rows, "inventory.image_count"), self._slice(page.size, page.offset)

    def counts(self) -> Statement:
        """How many match: version, all images, step (a score or a day, if it orders), how many."""
        return (
            f"""
SELECT inventory.version, inventory.image_count, count.step, count.n
FROM inventories AS inventory
LEFT JOIN LATERAL ({self._counted}
) AS count ON true
WHERE inventory.organization_id = %(organization_id)s
""",
            self._filters.parameters,
        )

    def place(self, place: Place) -> Statement:
        """A page where it is best read: version, null, columns."""
        if isinstance(place, Few):
            parameters = self._slice(place.limit, place.offset)
            return self._listing(_joined(self._few()), "NULL"), parameters
        parameters = dict(self._filters.parameters)
        for stretch in place:
            parameters |= _stretch_parameters(stretch)
        rows: LiteralString = "\n        UNION ALL".join([self._walk(s) for s in place])
        return self._listing(_joined(rows), "NULL"), parameters

    def window(self, page: Page) -> Statement:
        """A page and its total by counting: version, total, columns; nulls where it is empty.

        It counts as far as `counted_to`: a total of that many may be more.
        """
        rows: LiteralString = f"""
        SELECT id, count(*) OVER () AS total
        FROM (
            SELECT id, name, created_at, risk_score
            FROM images
            WHERE {self._filters.looked_up()}
            ORDER BY {self._order}
            LIMIT %(counted_to)s
        ) AS counted
        ORDER BY {self._order}
        LIMIT %(limit)s OFFSET %(offset)s"""
        parameters = self._slice(page.size, page.offset)
        return self._listing(_joined(rows, "found.*, page.total"), "image.total"), {
            **parameters,
            "counted_to": counted_to(page),
        }

    def count(self) -> Statement:
        """How many match, by counting them: version, total."""
        return (
            f"""
SELECT inventory.version, (SELECT count(*) FROM images WHERE {self._filters.looked_up()})
FROM inventories AS inventory
WHERE inventory.organization_id = %(organization_id)s
""",
            self._filters.parameters,
        )

    @property
    def _is_plain(self) -> bool:
        """Whether everything is asked for, in an order that no score decides."""
        return not self._filters.conditions and self.sort.key is not SortKey.RISK_SCORE

    @property
    def _counted(self) -> LiteralString:
        if self.is_by_day:
            return f" SELECT day AS step, n FROM image_days WHERE {TENANT}"
        if self._is_plain:
            return " SELECT NULL::smallint AS step, inventory.image_count AS n"
        is_by_score = self.sort.key is SortKey.RISK_SCORE
        step: LiteralString = "risk_score" if is_by_score else "NULL::smallint"
        return f"""
    SELECT {step} AS step, sum(n)::bigint AS n
    FROM image_counts
    WHERE {self._filters.entered}
    GROUP BY 1"""

    def _slice(self, limit: int, offset: int) -> Parameters:
        return {**self._filters.parameters, "limit": limit, "offset": offset}

    def _few(self) -> LiteralString:
        # OFFSET 0 is a fence: without it the planner would walk the order's index after all.
        return f"""
        SELECT id
        FROM (
            SELECT id, name, created_at, risk_score
            FROM images
            WHERE {self._filters.entered}
            OFFSET 0
        ) AS few
        ORDER BY {self._order}
        LIMIT %(limit)s OFFSET %(offset)s"""

    def _walk(self, stretch: Stretch) -> LiteralString:
        where = self._filters.looked_up(*_BOUNDS[stretch.part, stretch.descending])
        order = _INDEX_ORDERS[Sort(self.sort.key, stretch.descending)]
        limit, offset = _UNSCORED if stretch.part is Part.UNSCORED else _SLICE
        return f"""
        (SELECT id FROM images WHERE {where} ORDER BY {order} LIMIT {limit} OFFSET {offset})"""

    def _listing(self, rows: LiteralString, total: LiteralString) -> LiteralString:
        return f"""
SELECT
    inventory.version,
    {total} AS total,
    image.id,
    image.name,
    image.registry_id,
    image.tag_count,
    image.latest_tag,
    image.latest_digest,
    image.risk_score,
    image.grade,
    image.critical,
    image.high,
    image.medium,
    image.low,
    to_char(image.last_scanned_at AT TIME ZONE 'UTC', {_ISO_TIME}),
    to_char(image.created_at AT TIME ZONE 'UTC', {_ISO_TIME})
FROM inventories AS inventory
LEFT JOIN LATERAL ({rows}
) AS image ON true
WHERE inventory.organization_id = %(organization_id)s
ORDER BY {self._order}
"""


def counted_to(page: Page) -> int:
    """How many matching rows `window` counts: some more than the page needs."""
    return min(page.offset + page.size + COUNTED_BEYOND, 2**63 - 1)


# The orders as the indexes have them: by risk score, scored and unscored are walked apart.
_INDEX_ORDERS: dict[Sort, LiteralString] = {
    **ORDERS,
    Sort(SortKey.RISK_SCORE, descending=False): "risk_score ASC, id ASC",
    Sort(SortKey.RISK_SCORE, descending=True): "risk_score DESC, id DESC",
}
_BOUNDS: dict[tuple[Part, bool], list[LiteralString]] = {
    (Part.ALL, False): [],
    (Part.ALL, True): [],
    (Part.BY_DAY, False): ["created_at >= %(start)s::date::timestamp AT TIME ZONE 'UTC'"],
    (Part.BY_DAY, True): ["created_at < (%(start)s::date + 1)::timestamp AT TIME ZONE 'UTC'"],
    (Part.SCORED, False): ["risk_score >= %(start)s"],
    (Part.SCORED, True): ["risk_score <= %(start)s"],
    (Part.UNSCORED, False): ["risk_score IS NULL"],
    (Part.UNSCORED, True): ["risk_score IS NULL"],
}
_SLICE: tuple[LiteralString, LiteralString] = ("%(limit)s", "%(offset)s")
_UNSCORED: tuple[LiteralString, LiteralString] = ("%(unscored_limit)s", "%(unscored_offset)s")


def _joined(rows: LiteralString, columns: LiteralString = "found.*") -> LiteralString:
    # An id is asked for as the first from itself on, which only the primary key's order answers. A
    # plan made while there were few images would else read all of them, for each row of the page.
    return f"""
    SELECT {columns}
    FROM ({rows}
    ) AS page
    CROSS JOIN LATERAL (
        SELECT *
        FROM images AS wide
        WHERE {TENANT} AND id >= page.id
        ORDER BY id
        LIMIT 1
    ) AS found"""


def _stretch_parameters(stretch: Stretch) -> Parameters:
    if stretch.part is Part.UNSCORED:
        return {"unscored_limit": stretch.limit, "unscored_offset": stretch.offset}
    parameters: Parameters = {"limit": stretch.limit, "offset": stretch.offset}
    return parameters if stretch.start is None else {**parameters, "start": stretch.start}
