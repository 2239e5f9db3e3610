"""Counts by registry, and the total of findings of an image that was never scanned."""

from harborguard.listing import FindingCriteria, ImageCriteria, Listing, Page, RegistryCount
from harborguard.model import Scope
from harborguard.store.images.findings import list_findings
from harborguard.store.images.summary import count_images
from tests.support.tenants import Tenants


def test_registry_count_has_one_number_for_each_grade(tenants: Tenants) -> None:
    for number, score in enumerate([None, None, None, 0, 25, 25, 75]):
        tenants.acme.add_image(f"ghcr.io/acme/{number}", score)
    registry_id = tenants.acme.add_registry("ghcr.io")
    expected = RegistryCount(registry_id, "ghcr.io", "ghcr.io", 7, (1, 2, 0, 1), 3)
    scope = Scope(tenants.acme.organization_id)
    for use_counters in (True, False):
        counts = count_images(tenants.acme.conn, scope, ImageCriteria(), use_counters=use_counters)
        assert counts == [expected]


def test_images_are_counted_by_counters_unless_searched(
    tenants: Tenants, statements: list[str]
) -> None:
    scope = Scope(tenants.acme.organization_id)
    for criteria, table in [
        (ImageCriteria(), "image_counts"),
        (ImageCriteria(search="a"), "images"),
    ]:
        count_images(tenants.acme.conn, scope, criteria)
        assert f" FROM {table} WHERE" in statements[-1]


def test_findings_of_never_scanned_image_are_none(tenants: Tenants) -> None:
    image_id = tenants.acme.add_image("ghcr.io/acme/api")
    scope = Scope(tenants.acme.organization_id)
    listing = list_findings(
        tenants.acme.conn, scope, image_id, criteria=FindingCriteria(), page=Page(), caller="key-1"
    )
    assert listing == Listing([], 0)
