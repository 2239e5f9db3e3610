"""A listing shows one inventory version, even if scans are recorded between its statements."""

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


class WritesBetweenStatements:
    """Connection that lets another connection add an image after each fetched statement."""

    def __init__(self, config: Config, member: Tenant, writes: int) -> None:
        self._conn = connect(config)
        self._member = member
        self.remaining_writes = writes

    def fetch(self, statement: LiteralString, parameters: Mapping[str, Any]) -> list[TupleRow]:
        """Return the rows of a statement, then add an image."""
        rows = self._conn.fetch(statement, parameters)
        if self.remaining_writes > 0:
            # The newest image is the first by name and has the highest score.
            number = self.remaining_writes
            self._member.add_image(f"ghcr.io/a/{number:03}", 100 - number)
            self.remaining_writes -= 1
        return rows

    def execute(self, statement: LiteralString) -> None:
        """Execute a statement that reads no images."""
        self._conn.execute(statement)

    def transaction(self) -> Any:
        """Begin a transaction."""
        return self._conn.transaction()

    def close(self) -> None:
        """Close the connection."""
        self._conn.close()


@pytest.fixture
def five_images(tenants: Tenants) -> Iterator[Tenant]:
    """Yield a tenant with five images; let a window count one row after the page."""
    for number in range(5):
        tenants.acme.add_image(f"ghcr.io/z/{number}", number)
    with patch.object(image_query, "MAX_COUNTED_AFTER_PAGE", 1):
        yield tenants.acme


def list_with_writes(
    config: Config,
    member: Tenant,
    criteria: ImageCriteria,
    *,
    writes: int,
    use_counters: bool,
    registry: str | None = None,
) -> tuple[Listing[ImageSummary], int]:
    """Return the first page of four images, and how many of the allowed writes were made.

    `registry` limits the scope to the registry with this host.
    """
    writing = WritesBetweenStatements(config, member, writes)
    try:
        conn = cast("Connection", writing)
        scope, page = scope_of(member, registry), Page(1, 4)
        listing = list_images(conn, scope, criteria, page, use_counters=use_counters)
        return listing, writes - writing.remaining_writes
    finally:
        writing.close()


def scope_of(member: Tenant, registry: str | None) -> Scope:
    """Return the scope of the organization, or of its registry with this host."""
    return Scope(member.organization_id, registry and member.add_registry(registry))


scopes = pytest.mark.parametrize("registry", [None, "ghcr.io"], ids=["all", "registry"])
two_statement_cases = pytest.mark.parametrize(
    ("criteria", "use_counters"),
    [
        (ImageCriteria(risk_score=0, sort=BY_NAME), True),
        (ImageCriteria(sort=BY_SCORE), True),
        (ImageCriteria(search="ghcr", risk_score=0, sort=BY_NAME), True),
        (ImageCriteria(sort=BY_NAME), False),
    ],
    ids=["filtered", "by score", "searched", "counters off"],
)


@scopes
@two_statement_cases
def test_list_with_one_write_repeats_both_statements(
    config: Config,
    five_images: Tenant,
    criteria: ImageCriteria,
    use_counters: bool,
    registry: str | None,
) -> None:
    listing, writes = list_with_writes(
        config, five_images, criteria, writes=1, use_counters=use_counters, registry=registry
    )
    names = [image.name.removeprefix("ghcr.io/") for image in listing.items]
    expected = ["a/001", "z/0", "z/1", "z/2"]
    if criteria.sort == BY_SCORE:
        expected = ["a/001", "z/4", "z/3", "z/2"]
    assert (writes, names, listing.total) == (1, expected, 6)
    scope = scope_of(five_images, registry)
    assert listing.version == find_inventory_version(five_images.conn, scope)


@scopes
@two_statement_cases
def test_list_with_constant_writes_reads_one_snapshot(
    config: Config,
    five_images: Tenant,
    criteria: ImageCriteria,
    use_counters: bool,
    registry: str | None,
) -> None:
    """The snapshot contains the images added before it, and none added during it."""
    listing, writes = list_with_writes(
        config, five_images, criteria, writes=99, use_counters=use_counters, registry=registry
    )
    # Three attempts and the snapshot take two statements each. Six images precede the snapshot.
    assert writes == 8
    assert listing.total == 5 + 6
    assert listing.items[0].name == "ghcr.io/a/094"
    newest = find_inventory_version(five_images.conn, scope_of(five_images, registry))
    assert listing.version < newest


@two_statement_cases
def test_list_of_a_registry_is_not_repeated_after_writes_to_another(
    config: Config, five_images: Tenant, criteria: ImageCriteria, use_counters: bool
) -> None:
    for number in range(5):
        five_images.add_image(f"quay.io/ghcr/{number}", number)
    before = find_inventory_version(five_images.conn, scope_of(five_images, "quay.io"))
    listing, writes = list_with_writes(
        config, five_images, criteria, writes=99, use_counters=use_counters, registry="quay.io"
    )
    assert (writes, listing.total, len(listing.items), listing.version) == (2, 5, 4, before)


@pytest.mark.parametrize("search", [None, "ghcr"], ids=["all", "searched"])
def test_list_read_by_one_statement_is_not_repeated(
    config: Config, five_images: Tenant, search: str | None
) -> None:
    criteria = ImageCriteria(search=search, sort=BY_NAME)
    listing, writes = list_with_writes(config, five_images, criteria, writes=99, use_counters=True)
    assert (writes, listing.total, len(listing.items)) == (1, 5, 4)
