"""A listing is of one moment, whatever is written between its statements."""

from collections.abc import Iterator, Mapping
from typing import Any, LiteralString, cast
from unittest.mock import patch

import pytest
from psycopg.rows import TupleRow

from harborguard.config import Config
from harborguard.listing import ImageCriteria, ImageSummary, Listing, Page, Sort, SortKey
from harborguard.model import Scope
from harborguard.store.connection import Connection, connect
from harborguard.store.images import query as image_query
from harborguard.store.images.list import find_inventory_version, list_images
from tests.support.tenants import Tenant, Tenants

BY_NAME = Sort(SortKey.NAME, descending=False)
BY_SCORE = Sort(SortKey.RISK_SCORE, descending=True)


class Reader:
    """A connection after whose statements about images somebody else records a new one."""

    def __init__(self, config: Config, member: Tenant, writes: int) -> None:
        self._conn = connect(config)
        self._member = member
        self.left = writes

    def fetch(self, statement: LiteralString, parameters: Mapping[str, Any]) -> list[TupleRow]:
        """What was found before the write."""
        rows = self._conn.fetch(statement, parameters)
        if self.left > 0:
            # The newest is the first of all by name, and has the highest score.
            self._member.add_image(f"ghcr.io/a/{self.left:03}", 100 - self.left)
            self.left -= 1
        return rows

    def execute(self, statement: LiteralString) -> None:
        """What tells nothing of images."""
        self._conn.execute(statement)

    def transaction(self) -> Any:
        """The connection's own."""
        return self._conn.transaction()

    def close(self) -> None:
        """Ends it."""
        self._conn.close()


@pytest.fixture
def five(tenants: Tenants) -> Iterator[Tenant]:
    """Five images; a window that counts one row behind the page."""
    for number in range(5):
        tenants.acme.add_image(f"ghcr.io/z/{number}", number)
    with patch.object(image_query, "MAX_COUNTED_BEHIND", 1):
        yield tenants.acme


def read(
    config: Config, member: Tenant, criteria: ImageCriteria, *, writes: int, use_counters: bool
) -> tuple[Listing[ImageSummary], int]:
    """A listing of four images a page beside so many writes; how many of them were made."""
    reader = Reader(config, member, writes)
    try:
        conn = cast("Connection", reader)
        scope, page = Scope(member.organization_id), Page(1, 4)
        listing = list_images(conn, scope, criteria, page, use_counters=use_counters)
        return listing, writes - reader.left
    finally:
        reader.close()


questions = pytest.mark.parametrize(
    ("criteria", "counters"),
    [
        (ImageCriteria(risk_score=0, sort=BY_NAME), True),
        (ImageCriteria(sort=BY_SCORE), True),
        (ImageCriteria(search="ghcr", sort=BY_NAME), True),
        (ImageCriteria(sort=BY_NAME), False),
    ],
    ids=["filtered", "by score", "searched", "counters off"],
)


@questions
def test_it_works(config: Config, five: Tenant, criteria: ImageCriteria, counters: bool) -> None:
    """One write between two statements: both are asked again."""
    listing, made = read(config, five, criteria, writes=1, use_counters=counters)
    names = [image.name.removeprefix("ghcr.io/") for image in listing.items]
    expected = ["a/001", "z/0", "z/1", "z/2"]
    if criteria.sort == BY_SCORE:
        expected = ["a/001", "z/4", "z/3", "z/2"]
    assert (made, names, listing.total) == (1, expected, 6)
    conn = five.conn
    assert listing.version == find_inventory_version(conn, Scope(five.organization_id))


@questions
def test_writes_that_never_end(
    config: Config, five: Tenant, criteria: ImageCriteria, counters: bool
) -> None:
    """At last it is one snapshot: what is written meanwhile is not in it, in no part of it."""
    listing, made = read(config, five, criteria, writes=99, use_counters=counters)
    # Three attempts of two statements and the snapshot's two: it sees what the attempts let in.
    assert made == 8
    assert listing.total == 5 + 6
    assert listing.items[0].name == "ghcr.io/a/094"
    newest = find_inventory_version(five.conn, Scope(five.organization_id))
    assert listing.version < newest


def test_one_statement_needs_no_second(config: Config, five: Tenant) -> None:
    listing, made = read(config, five, ImageCriteria(sort=BY_NAME), writes=99, use_counters=True)
    assert (made, listing.total, len(listing.items)) == (1, 5, 4)
