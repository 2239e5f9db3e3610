"""The log and the metrics of a running service."""

import fcntl
import json
import re
import shutil
import signal
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from harborguard import __version__
from harborguard.ingest import ingest_report
from harborguard.model import Role, Scope
from harborguard.store.connection import Connection
from harborguard.store.deletion import delete_image
from harborguard.store.registries import record_sync
from tests.support import reports
from tests.support.fault_injection import cluster, seed
from tests.support.reports import RECEIVED_AT, SCANNED_AT
from tests.support.service import (
    PRODUCTION,
    Service,
    await_health,
    collect_output,
    free_port,
    serving,
    start,
)
from tests.support.tenants import OPERATOR, Tenants
from tests.support.waiting import wait_until

F_SETPIPE_SZ = 1031


class Scraper:
    """Scrape the metrics of a service, as Prometheus does."""

    def __init__(self) -> None:
        self.port = free_port()

    def __call__(self) -> dict[str, float]:
        """Return all samples by name and labels, as written."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as response:
            lines = response.read().decode().splitlines()
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    @property
    def setting(self) -> dict[str, str]:
        """Return the setting that makes a service serve metrics."""
        return {"HARBORGUARD_METRICS_PORT": str(self.port)}


@pytest.fixture
def scrape() -> Scraper:
    """Return a scraper with a free port."""
    return Scraper()


def total(samples: dict[str, float]) -> float:
    """Return the number of counted requests."""
    return sum(
        v for name, v in samples.items() if name.startswith("harborguard_http_requests_total")
    )


def directories(service: Service) -> set[Path]:
    """Return the directories in which the workers of a service store their metrics."""
    parents = {path.parent for pid in service.workers() for path in open_files(pid)}
    return {path for path in parents if path.name.startswith("harborguard-metrics-")}


def open_files(pid: int) -> list[Path]:
    """Return what a process has open."""
    return [fd.readlink() for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()]


def events(service: Service) -> list[dict[str, object]]:
    """Return the log of a service; every line is one event."""
    return [json.loads(line) for line in service.output]


def test_requests_are_counted_and_logged(
    tenants: Tenants, database_url: str, scrape: Scraper
) -> None:
    tenants.acme.add_image("ghcr.io/acme/api", 31)
    with serving(DATABASE_URL=database_url, **scrape.setting) as service:
        before = scrape()
        ci_key = tenants.acme.add_key(Role.CI)
        given = {**tenants.acme.headers, "X-Request-ID": "build-4711.a_b"}
        assert service.request("/api/images", given).headers["x-request-id"] == "build-4711.a_b"
        service.request("/api/images")
        service.request("/api/images", {"X-API-Key": "hg_ak_" + "0" * 48})
        service.request("/api/images", {"X-API-Key": "nonsense"})
        service.request("/api/images/img-0", tenants.acme.headers)
        service.request("/api/images", method="BREW")
        empty = {"Content-Type": "application/json", "Content-Length": "0"}
        service.request("/api/scans/upload", {"X-API-Key": ci_key, **empty}, method="POST")
        after = scrape()
        assert service.request("/metrics").status == 404
        service.stop()

    assert after['harborguard_release_info{version="' + __version__ + '"}'] == 1
    name = 'harborguard_http_requests_total{{method="{}",route="{}",status="{}"}}'.format
    counted = {key: after[key] - before.get(key, 0) for key in after if "requests_total" in key}
    assert {key: value for key, value in counted.items() if value} == {
        name("GET", "/api/images", 200): 1,
        name("GET", "/api/images", 401): 3,
        name("GET", "/api/images/<image_id>", 404): 1,
        name("other", "unmatched", 405): 1,
        name("POST", "/api/scans/upload", 400): 1,
    }
    assert after['harborguard_uploads_total{outcome="rejected",scanner="other"}'] == 1
    for reason in ("missing", "unknown", "malformed"):
        key = f'harborguard_credentials_rejected_total{{reason="{reason}"}}'
        assert (before[key], after[key]) == (0, 1)
    assert after['harborguard_http_request_duration_seconds_count{route="/api/images"}'] == 4
    assert before['harborguard_pool{state="in_use"}'] == 0

    [logged] = [event for event in events(service) if event.get("request_id") == "build-4711.a_b"]
    assert {key: logged[key] for key in logged.keys() - {"timestamp", "duration_ms"}} == {
        "event": "request",
        "level": "info",
        "request_id": "build-4711.a_b",
        "method": "GET",
        "route": "/api/images",
        "status": 200,
        "rows": 1,
        "client": "127.0.0.1",
        "principal_kind": "api_key",
        "principal_id": tenants.acme.key_id,
    }
    requests = [event for event in events(service) if event["event"] == "request"]
    assert [event.get("rejection_reason") for event in requests if event["status"] == 401] == [
        "missing",
        "unknown",
        "malformed",
    ]
    assert {event["level"] for event in requests if event["route"] == "/api/health"} == {"debug"}
    assert {"Starting gunicorn 27.0.1", "request"} <= {event["event"] for event in events(service)}


def test_totals_are_exact_when_workers_are_replaced(
    tenants: Tenants, database_url: str, scrape: Scraper
) -> None:
    """Some 40 workers are recycled, reloaded or killed, and share the files of a few slots."""
    recycle = {"GUNICORN_CMD_ARGS": "--max-requests 10 --max-requests-jitter 0"}
    with serving(DATABASE_URL=database_url, **scrape.setting, **recycle) as service:
        workers, before = set(service.workers()), total(scrape())
        for number in range(300):
            assert service.request("/api/images", tenants.acme.headers).status == 200
            workers |= set(service.workers())
            if number % 50 == 49:
                service.kill_worker()
            if number % 100 == 99:
                service.process.send_signal(signal.SIGHUP)
                time.sleep(0.5)
        samples = scrape()
        [directory] = directories(service)
        files = list(directory.iterdir())
        assert oct(directory.stat().st_mode)[-3:] == "700"
        service.stop()
    assert len(workers) >= 30
    assert total(samples) == before + 300
    assert samples['harborguard_http_request_duration_seconds_count{route="/api/images"}'] == 300
    # Three files for each slot: two workers and, while they are replaced, two or three more.
    assert len(files) <= 3 * 5
    assert not directory.exists()


def test_requests_of_many_threads_are_all_counted(
    tenants: Tenants, database_url: str, scrape: Scraper
) -> None:
    with serving(DATABASE_URL=database_url, HARBORGUARD_THREADS="4", **scrape.setting) as service:
        before = total(scrape())
        threads = [
            threading.Thread(target=lambda: [service.request("/api/health") for _ in range(40)])
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert total(scrape()) == before + 320
        service.stop()


def test_removed_metrics_directory_fails_no_request(
    tenants: Tenants, database_url: str, scrape: Scraper
) -> None:
    with serving(DATABASE_URL=database_url, **scrape.setting) as service:
        [directory] = directories(service)
        before = service.workers()
        wait_until(lambda: is_removed(directory))
        for _ in range(10):
            assert service.request("/api/images", tenants.acme.headers).status == 200
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: not set(service.workers()) & set(before))
        for _ in range(10):
            assert service.request("/api/images", tenants.acme.headers).status == 200
            assert service.request("/api/images").status == 401
        release = f'harborguard_release_info{{version="{__version__}"}}'
        assert scrape() == {release: 1, "harborguard_inventory_readable": 1}
        assert service.stop() == 0
    assert "metrics of a worker cannot be stored" in {event["event"] for event in events(service)}


def inventory_of(samples: dict[str, float]) -> dict[str, float]:
    """Return the samples of the inventory, without their common prefix."""
    names = ("images{", "newest_scan", "registry_sync", "inventory_readable")
    prefix = "harborguard_"
    return {
        name.removeprefix(prefix): value
        for name, value in samples.items()
        if name.removeprefix(prefix).startswith(names)
    }


def test_inventory_is_read_at_each_scrape(
    tenants: Tenants, conn: Connection, database_url: str, scrape: Scraper
) -> None:
    acme, globex = tenants.acme, tenants.globex
    with serving(DATABASE_URL=database_url, **scrape.setting):
        assert inventory_of(scrape()) == {"inventory_readable": 1}
        body = reports.envelope("ghcr.io/acme/a:1", (1,))
        recorded = ingest_report(conn, acme.organization_id, body, received_at=RECEIVED_AT)
        acme.add_image("ghcr.io/acme/b")
        globex.add_image("ghcr.io/globex/a", 30)
        registry_id = acme.add_registry("ghcr.io")
        record_sync(conn, acme.organization_id, registry_id, RECEIVED_AT)
        a, g = f'organization="{acme.organization_id}"', f'organization="{globex.organization_id}"'
        expected = {
            f'images{{grade="D",{a}}}': 1,
            f'images{{grade="none",{a}}}': 1,
            f'images{{grade="B",{g}}}': 1,
            f"newest_scan_timestamp_seconds{{{a}}}": SCANNED_AT.timestamp(),
            f'registry_sync_timestamp_seconds{{{a},registry="ghcr.io"}}': RECEIVED_AT.timestamp(),
            "inventory_readable": 1,
        }
        assert inventory_of(scrape()) == expected
        scope = Scope(acme.organization_id)
        delete_image(conn, scope, recorded.image_id, actor=OPERATOR)
        expected[f'images{{grade="D",{a}}}'] = 0
        assert inventory_of(scrape()) == expected


def test_metrics_without_the_inventory(
    tenants: Tenants, database_url: str, scrape: Scraper
) -> None:
    tenants.acme.add_image("ghcr.io/acme/b")
    settings = {**scrape.setting, "HARBORGUARD_INVENTORY_METRICS": "off"}
    with serving(DATABASE_URL=database_url, **settings):
        samples = scrape()
    assert inventory_of(samples) == {}
    assert f'harborguard_release_info{{version="{__version__}"}}' in samples


def test_scrape_without_a_database_has_the_other_metrics(scrape: Scraper) -> None:
    with cluster() as database:
        key = seed(database.url, keys=1, images=1)[0]
        with serving(DATABASE_URL=database.url, **scrape.setting) as service:
            assert service.request("/api/images", {"X-API-Key": key}).status == 200
            assert inventory_of(scrape())["inventory_readable"] == 1
            database.stop()
            samples = scrape()
            assert inventory_of(samples) == {"inventory_readable": 0}
            assert total(samples) > 0
            database.start()
            assert inventory_of(scrape())["inventory_readable"] == 1


def is_removed(directory: Path) -> bool:
    """Remove a directory and return whether it is gone: a new worker may still create files."""
    shutil.rmtree(directory, ignore_errors=True)
    return not directory.exists()


def test_pool_metrics_count_connections_in_use_by_live_workers(
    tenants: Tenants, conn: Connection, database_url: str, scrape: Scraper
) -> None:
    in_use = 'harborguard_pool{state="in_use"}'
    with serving(DATABASE_URL=database_url, HARBORGUARD_WORKERS="1", **scrape.setting) as service:
        with conn.transaction():
            conn.execute("LOCK TABLE images IN ACCESS EXCLUSIVE MODE")
            request = threading.Thread(
                target=expect_no_response, args=(service, tenants.acme.headers)
            )
            request.start()
            wait_until(lambda: scrape().get(in_use) == 1)
            service.kill_worker()
            request.join()
            wait_until(lambda: scrape().get(in_use) == 0)
        assert service.request("/api/images", tenants.acme.headers).status == 200
        service.stop()


def expect_no_response(service: Service, headers: dict[str, str]) -> None:
    """Send a request whose worker is killed."""
    try:
        service.request("/api/images", headers)
    except (OSError, ValueError, IndexError):
        return
    raise AssertionError("there was a response")


def test_killed_master_leaves_its_metrics_directory_and_the_next_starts_at_zero(
    database_url: str, scrape: Scraper
) -> None:
    with serving(DATABASE_URL=database_url, **scrape.setting) as service:
        [abandoned] = directories(service)
        for _ in range(10):
            service.request("/api/images")
        service.stop(signal.SIGKILL)
    try:
        files = list(abandoned.iterdir())
        assert len(files) <= 3 * 3
        assert sum(file.stat().st_size for file in files) == len(files) * 256 * 1024
        with serving(DATABASE_URL=database_url, **scrape.setting) as service:
            assert directories(service).isdisjoint({abandoned})
            assert scrape()['harborguard_credentials_rejected_total{reason="missing"}'] == 0
            service.stop()
    finally:
        shutil.rmtree(abandoned)


def test_metrics_are_off_by_default_and_a_taken_port_is_logged(
    database_url: str, scrape: Scraper
) -> None:
    with serving(DATABASE_URL=database_url) as service:
        assert directories(service) == set()
        taken = {"HARBORGUARD_METRICS_PORT": str(service.port)}
        with serving(DATABASE_URL=database_url, **taken) as other:
            assert other.request("/api/ready").status == 200
            assert other.stop() == 0
        service.stop()
    assert any("metrics are not served" in str(event["event"]) for event in events(other))
    with pytest.raises(urllib.error.URLError):
        scrape()


def test_metrics_port_is_open_in_the_master_only(database_url: str, scrape: Scraper) -> None:
    """A worker that outlives its master would keep the port from the next one."""
    with serving(DATABASE_URL=database_url, **scrape.setting) as service:
        [inode] = re.findall(
            rf"0100007F:{scrape.port:04X} 00000000:0000 0A(?: \S+){{3}} +\d+ +\d+ (\d+)",
            Path("/proc/net/tcp").read_text(),
        )
        processes = (service.process.pid, *service.workers())
        holders = [pid for pid in processes if Path(f"socket:[{inode}]") in open_files(pid)]
        assert holders == [service.process.pid]
        service.stop()


def test_full_log_pipe_delays_no_request(tenants: Tenants, database_url: str) -> None:
    port = free_port()
    # A line longer than a page may be written in parts. At the level info none is that long.
    info = {"HARBORGUARD_LOG_LEVEL": "info"}
    with start(PRODUCTION, port, DATABASE_URL=database_url, **info) as process:
        assert process.stdout is not None
        fcntl.fcntl(process.stdout, F_SETPIPE_SZ, 4096)
        service = Service(port, process)
        await_health(service)
        slowest = 0.0
        for _ in range(200):
            began = time.monotonic()
            assert service.request("/api/images", tenants.acme.headers).status == 200
            slowest = max(slowest, time.monotonic() - began)
        listener = threading.Thread(target=collect_output, args=(service,))
        listener.start()
        time.sleep(0.5)
        for _ in range(4):
            assert service.request("/api/images", tenants.acme.headers).status == 200
        assert service.stop() == 0
        listener.join()
    assert slowest < 5
    assert sum(int(str(e.get("lines", 0))) for e in events(service)) >= 100


def test_closed_log_pipe_fails_no_request(tenants: Tenants, database_url: str) -> None:
    port = free_port()
    with start(PRODUCTION, port, DATABASE_URL=database_url) as process:
        assert process.stdout is not None
        service = Service(port, process)
        await_health(service)
        process.stdout.close()
        for _ in range(20):
            assert service.request("/api/images", tenants.acme.headers).status == 200
        assert service.stop() == 0
