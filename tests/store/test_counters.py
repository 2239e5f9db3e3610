"""The counters equal the images after every recorded scan, also with concurrent writers."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harborguard.config import Config
from harborguard.ingest import ingest_report
from harborguard.listing import ImageCriteria, Page, Sort, SortKey
from harborguard.model import Scope
from harborguard.store.connection import Connection, connect
from harborguard.store.counters import IncorrectCounter, find_incorrect_counters, repair_counters
from harborguard.store.images.list import find_inventory_version, list_images
from harborguard.store.organizations import create_organization
from harborguard.store.registries import ensure_registry, upsert_registry
from tests.support.tenants import OPERATOR, Tenants
from tests.support.waiting import wait_until

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def envelope(image: str, number: int, severities: list[str], status: str = "SUCCESS") -> bytes:
    """Return an envelope report for an image, finished `number` minutes after NOW."""
    finished_at = (NOW + timedelta(minutes=number)).isoformat()
    return json.dumps(
        {
            "version": "1.0",
            "image": {"ref": image},
            "scan": {"id": f"{image}-{number}", "finishedAt": finished_at, "status": status},
            "findings": {
                "vulnerabilities": [
                    {"cveId": f"CVE-{i}", "source": "t", "severity": s, "packageName": "p"}
                    for i, s in enumerate(severities)
                ]
            },
        }
    ).encode()


def record(conn: Connection, organization_id: str, body: bytes) -> None:
    """Ingest a report as if received one day after NOW."""
    ingest_report(conn, organization_id, body, received_at=NOW + timedelta(days=1))


scan_lists = st.lists(
    st.tuples(
        st.sampled_from(["ghcr.io/a/a:1", "ghcr.io/a/b:1", "quay.io/a/a:2", "quay.io/a/a:3"]),
        st.integers(0, 9),
        st.lists(st.sampled_from(["CRITICAL", "HIGH", "LOW"]), max_size=3),
        st.sampled_from(["SUCCESS", "PARTIAL", "FAILED"]),
    ),
    max_size=8,
    unique_by=lambda scan: scan[:2],
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(scans=scan_lists)
def test_counters_after_any_scans_equal_the_images(
    conn: Connection, scans: list[tuple[str, int, list[str], str]]
) -> None:
    organization_id = create_organization(conn, f"o{datetime.now(UTC).timestamp()}", actor=OPERATOR)
    for scan in scans:
        record(conn, organization_id, envelope(*scan))
    assert find_incorrect_counters(conn, organization_id) == []
    listing = list_images(conn, Scope(organization_id), ImageCriteria(), Page(1, 200))
    assert listing.total == len(listing.items) == len({scan[0].split(":")[0] for scan in scans})


def test_incorrect_counters_are_found_and_repaired(conn: Connection, tenants: Tenants) -> None:
    organization_id = tenants.acme.organization_id
    tenants.acme.add_image("ghcr.io/acme/api", 31)
    registry_id = tenants.acme.add_registry("ghcr.io")
    scopes = [Scope(organization_id), Scope(organization_id, registry_id)]
    before = [find_inventory_version(conn, scope) for scope in scopes]
    conn.execute("UPDATE images SET risk_score = 32")
    conn.execute("UPDATE inventories SET image_count = 7")
    assert find_incorrect_counters(conn, organization_id) == [
        IncorrectCounter(registry_id, 31, 1, 0),
        IncorrectCounter(registry_id, 32, 0, 1),
        IncorrectCounter(None, None, 7, 1),
    ]
    repair_counters(conn, organization_id)
    assert find_incorrect_counters(conn, organization_id) == []
    for scope, version in zip(scopes, before, strict=True):
        assert find_inventory_version(conn, scope) > version


def test_repair_counters_during_recording_waits_for_its_commit(
    config: Config, conn: Connection, tenants: Tenants
) -> None:
    """Neither the images nor the counters that a repair reads contain uncommitted scans."""
    organization_id = tenants.acme.organization_id
    with connect(config) as other, ThreadPoolExecutor(1) as executor:
        with conn.transaction():
            record(conn, organization_id, envelope("ghcr.io/a/a:1", 1, ["HIGH"]))
            repair = executor.submit(repair_counters, other, organization_id)
            wait_until(lambda: is_waiting_for_lock(conn, other))
        repair.result()
    assert find_incorrect_counters(conn, organization_id) == []


def is_waiting_for_lock(conn: Connection, other: Connection) -> bool:
    """Return whether the other connection waits for a lock."""
    query = "SELECT wait_event_type FROM pg_stat_activity WHERE pid = %s"
    return conn.execute(query, (other.info.backend_pid,)).fetchone() == ("Lock",)


def test_inventory_version_after_scan_without_effect_is_unchanged(
    conn: Connection, tenants: Tenants
) -> None:
    scope = Scope(tenants.acme.organization_id)

    def version_after(body: bytes) -> int:
        record(conn, scope.organization_id, body)
        return find_inventory_version(conn, scope)

    first = version_after(envelope("ghcr.io/a/a:1", 5, ["HIGH"]))
    assert version_after(envelope("ghcr.io/a/a:1", 5, ["HIGH"])) == first
    assert version_after(envelope("ghcr.io/a/a:1", 4, ["LOW"])) == first
    assert version_after(envelope("ghcr.io/a/a:1", 6, ["HIGH"])) > first


def run_concurrently(config: Config, jobs: list[Callable[[Connection], None]]) -> None:
    """Run all jobs at the same time, each on a separate connection."""

    def run(job: Callable[[Connection], None]) -> None:
        with connect(config) as conn:
            job(conn)

    with ThreadPoolExecutor(len(jobs)) as pool:
        list(pool.map(run, jobs))


def test_list_while_scans_arrive_is_consistent(
    config: Config, conn: Connection, tenants: Tenants
) -> None:
    """Rows and total agree for every way to read a page. At the end, the counters are exact."""
    organization_id = tenants.acme.organization_id
    scopes = [
        Scope(organization_id),
        Scope(organization_id, tenants.acme.add_registry("ghcr.io")),
        Scope(organization_id, tenants.acme.add_registry("quay.io")),
    ]
    writers_finished = threading.Event()
    by_score = Sort(SortKey.RISK_SCORE, descending=True)
    all_criteria = [
        ImageCriteria(),
        ImageCriteria(sort=by_score),
        ImageCriteria(risk_score=0),
        ImageCriteria(search="a"),
        ImageCriteria(registry="ghcr.io", sort=by_score),
    ]
    versions: dict[Scope, list[int]] = {scope: [] for scope in scopes}

    def write(first: int) -> Callable[[Connection], None]:
        def job(conn: Connection) -> None:
            for number in range(first, 60, 3):
                image = f"{('ghcr.io', 'quay.io')[number % 2]}/a/a{number % 30}:1"
                severities = ["HIGH"] * (number % 4)
                record(conn, organization_id, envelope(image, number, severities))

        return job

    def read(conn: Connection) -> None:
        number = 0
        while not writers_finished.is_set():
            criteria = all_criteria[number % len(all_criteria)]
            for scope in scopes:
                for use_counters in (True, False):
                    listing = list_images(
                        conn, scope, criteria, Page(1, 200), use_counters=use_counters
                    )
                    assert listing.total == len(listing.items)
                versions[scope].append(listing.version)
            number += 1

    readers = threading.Thread(target=run_concurrently, args=(config, [read, read]))
    readers.start()
    try:
        run_concurrently(config, [write(0), write(1), write(2)])
    finally:
        writers_finished.set()
        readers.join()
    assert find_incorrect_counters(conn, organization_id) == []
    for scope, total in zip(scopes, (30, 15, 15), strict=True):
        assert len(set(versions[scope])) > 3
        final = list_images(conn, scope, ImageCriteria(), Page())
        assert final.total == total
        assert final.version == find_inventory_version(conn, scope)


def test_versions_after_concurrent_scans_count_each_change(
    config: Config, conn: Connection, tenants: Tenants
) -> None:
    """With the clock far behind, a version is the number of the changes that it counted."""
    organization_id = tenants.acme.organization_id
    hosts = ("ghcr.io", "quay.io")
    ids = [tenants.acme.add_registry(host) for host in hosts]
    ahead = 10**17
    conn.execute("UPDATE registries SET version = %s", [ahead])
    conn.execute("UPDATE inventories SET version = %s", [ahead])

    def write(writer: int) -> Callable[[Connection], None]:
        def job(conn: Connection) -> None:
            for number in range(12):
                image = f"{hosts[number % 3 == 0]}/a/a{writer}-{number}:1"
                record(conn, organization_id, envelope(image, number, ["HIGH"]))

        return job

    run_concurrently(config, [write(writer) for writer in range(4)])

    scopes = [Scope(organization_id), *(Scope(organization_id, each) for each in ids)]
    versions = [find_inventory_version(conn, scope) - ahead for scope in scopes]
    assert versions == [48, 32, 16]


def test_registry_renamed_during_scans_causes_no_deadlock(
    config: Config, conn: Connection, tenants: Tenants
) -> None:
    organization_id = tenants.acme.organization_id

    def write(writer: int) -> Callable[[Connection], None]:
        def job(conn: Connection) -> None:
            for number in range(30):
                image = f"ghcr.io/a/a{writer}:1"
                record(conn, organization_id, envelope(image, number, ["HIGH"] * number))

        return job

    def rename(conn: Connection) -> None:
        for number in range(60):
            set_name(conn, organization_id, f"Name {number}")

    run_concurrently(config, [write(1), write(2), rename])
    assert find_incorrect_counters(conn, organization_id) == []


def test_registry_added_during_its_first_scan_causes_no_deadlock(
    config: Config, conn: Connection, tenants: Tenants
) -> None:
    """The command must not hold the inventory's lock while it waits for the scan's registry."""
    organization_id = tenants.acme.organization_id
    with connect(config) as other, ThreadPoolExecutor(1) as executor:
        with conn.transaction():
            registry_id = ensure_registry(conn, organization_id, "ghcr.io")
            added = executor.submit(set_name, other, organization_id, "Mirror")
            wait_until(lambda: is_waiting_for_lock(conn, other))
            record(conn, organization_id, envelope("ghcr.io/a/a:1", 1, ["HIGH"]))
        assert added.result() == registry_id


def set_name(conn: Connection, organization_id: str, name: str) -> str:
    """Add or rename a registry, as the command line does."""
    return upsert_registry(
        conn, organization_id, "ghcr.io", actor=OPERATOR, default_provider="github", name=name
    )


@pytest.mark.parametrize("organizations", [1, 2])
def test_repair_counters_during_writes_leaves_exact_counters(
    config: Config, conn: Connection, tenants: Tenants, organizations: int
) -> None:
    members = [tenants.acme, tenants.globex][:organizations]

    def write(number: int) -> Callable[[Connection], None]:
        member = members[number % organizations]

        def job(conn: Connection) -> None:
            for minute in range(15):
                image = f"ghcr.io/a/a{number}-{minute}:1"
                record(conn, member.organization_id, envelope(image, minute, ["HIGH"]))

        return job

    def repair(conn: Connection) -> None:
        for _ in range(10):
            for member in members:
                repair_counters(conn, member.organization_id)

    run_concurrently(config, [*(write(number) for number in range(4)), repair])
    for member in members:
        assert find_incorrect_counters(conn, member.organization_id) == []
