"""Metrics of the inventory, read from the counters in the database at each scrape."""

from collections.abc import Iterator, Sequence

import structlog
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from harborguard.config import Config
from harborguard.store.counters import InventoryMetric, read_inventory_metrics
from harborguard.store.pool import connect_outside_pool

log = structlog.get_logger()


class InventoryCollector(Collector):
    """Collector with a short connection for each scrape, because the master has no pool.

    If the database cannot be read, the scrape has `harborguard_inventory_readable 0` and no other
    metric of the inventory.
    """

    def __init__(self, config: Config) -> None:
        self._config = config

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Return the metrics without values, so that registration does not read the database."""
        return iter(_make_families([]))

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metrics."""
        readable = GaugeMetricFamily(
            "harborguard_inventory_readable", "Whether the database could be read: 1 or 0."
        )
        try:
            with connect_outside_pool(self._config) as conn:
                values = read_inventory_metrics(conn)
        except Exception as error:
            log.warning("inventory metrics cannot be read", error=type(error).__name__)
            readable.add_metric([], 0)
        else:
            readable.add_metric([], 1)
            yield from _make_families(values)
        yield readable


def _make_families(values: Sequence[InventoryMetric]) -> list[GaugeMetricFamily]:
    families = {
        "images": GaugeMetricFamily(
            "harborguard_images",
            "Images by grade; none if they were never scanned.",
            labels=["organization", "grade"],
        ),
        "newest_scan": GaugeMetricFamily(
            "harborguard_newest_scan_timestamp_seconds",
            "When the newest scan finished.",
            labels=["organization"],
        ),
        "registry_sync": GaugeMetricFamily(
            "harborguard_registry_sync_timestamp_seconds",
            "When the last complete sync of a registry began.",
            labels=["organization", "registry"],
        ),
    }
    for name, organization_id, label, value in values:
        labels = [organization_id, label] if label else [organization_id]
        families[name].add_metric(labels, value)
    return [*families.values()]
