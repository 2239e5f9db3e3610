"""What operators see of a running service: its log and its metrics."""

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
from harborguard.store.connection import Connection
from tests.support.service import (
    PRODUCTION,
    Service,
    await_health,
    free_port,
    listen,
    serving,
    start,
)
from tests.support.tenants import Tenants
from tests.support.waiting import wait_until

F_SETPIPE_SZ = 1031


class Scraper:
    """Prometheus, as far as it matters here."""

    def __init__(self) -> None:
        self.port = free_port()

    def __call__(self) -> dict[str, float]:
        """All samples, by name and labels as they are written."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    @property
    def setting(self) -> dict[str, str]:
        """What makes a service answer."""
        return {"HARBORGUARD_METRICS_PORT": str(self.port)}


@pytest.fixture
def scrape() -> Scraper:
    """A port, and what asks there."""
    return Scraper()


def total(samples: dict[str, float]) -> float:
    """All requests that were counted."""
    return sum(
        v for name, v in samples.items() if name.startswith("harborguard_http_requests_total")
    )


def directories(pid: int) -> list[Path]:
    """Where a master keeps its workers' numbers."""
    return [path for path in opened(pid) if path.name.startswith("harborguard-metrics-")]


def opened(pid: int) -> list[Path]:
    """What a process has open."""
    return [fd.readlink() for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()]


def events(service: Service) -> list[dict[str, object]]:
    """The service's log; every line of it is one event."""
    return [json.loads(line) for line in service.said]


def test_it_works(tenants: Tenants, database_url: str, scrape: Scraper) -> None:
    tenants.acme.add_image("ghcr.io/acme/api", 31)
    with serving(DATABASE_URL=database_url, **scrape.setting) as service:
        before = scrape()
        given = {**tenants.acme.headers, "X-Request-ID": "build-4711.a_b"}
        assert service.ask("/api/images", given).headers["x-request-id"] == "build-4711.a_b"
        service.ask("/api/images")
        service.ask("/api/images", {"X-API-Key": "hg_ak_" + "0" * 48})
        service.ask("/api/images", {"X-API-Key": "nonsense"})
        service.ask("/api/images/img-0", tenants.acme.headers)
        service.ask("/api/images", method="BREW")
        after = scrape()
        assert service.ask("/metrics").status == 404
        service.end()

    assert after['harborguard_release_info{version="' + __version__ + '"}'] == 1
    name = 'harborguard_http_requests_total{{method="{}",route="{}",status="{}"}}'.format
    counted = {key: after[key] - before.get(key, 0) for key in after if "requests_total" in key}
    assert {key: value for key, value in counted.items() if value} == {
        name("GET", "/api/images", 200): 1,
        name("GET", "/api/images", 401): 3,
        name("GET", "/api/images/<image_id>", 404): 1,
        name("other", "unmatched", 405): 1,
    }
    for reason in ("missing", "unknown", "malformed"):
        key = f'harborguard_credentials_refused_total{{reason="{reason}"}}'
        assert (before[key], after[key]) == (0, 1)
    assert after['harborguard_http_request_duration_seconds_count{route="/api/images"}'] == 4
    assert before['harborguard_pool{state="in_use"}'] == 0

    [told] = [event for event in events(service) if event.get("request_id") == "build-4711.a_b"]
    assert {key: told[key] for key in told.keys() - {"timestamp", "duration_ms"}} == {
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
    assert [event.get("refused") for event in requests if event["status"] == 401] == [
        "missing",
        "unknown",
        "malformed",
    ]
    assert {event["level"] for event in requests if event["route"] == "/api/health"} == {"debug"}
    assert {"Starting gunicorn 27.0.1", "request"} <= {event["event"] for event in events(service)}


def test_totals_are_exact_over_generations_of_workers(
    tenants: Tenants, database_url: str, scrape: Scraper
) -> None:
    """Recycled, reloaded, killed: 40 workers and more in the files of a few places."""
    recycle = {"GUNICORN_CMD_ARGS": "--max-requests 10 --max-requests-jitter 0"}
    with serving(DATABASE_URL=database_url, **scrape.setting, **recycle) as service:
        workers, asked = set(service.workers()), total(scrape())
        for number in range(300):
            assert service.ask("/api/images", tenants.acme.headers).status == 200
            workers |= set(service.workers())
            if number % 50 == 49:
                service.kill_a_worker()
            if number % 100 == 99:
                service.process.send_signal(signal.SIGHUP)
                time.sleep(0.5)
        samples = scrape()
        [directory] = directories(service.process.pid)
        files = list(directory.iterdir())
        assert oct(directory.stat().st_mode)[-3:] == "700"
        service.end()
    assert len(workers) >= 30
    assert total(samples) == asked + 300
    assert samples['harborguard_http_request_duration_seconds_count{route="/api/images"}'] == 300
    # Three kinds; two workers and, while they are replaced, two or three more.
    assert len(files) <= 3 * 5
    assert not directory.exists()


def test_it_counts_all_that_many_threads_do(
    tenants: Tenants, database_url: str, scrape: Scraper
) -> None:
    with serving(DATABASE_URL=database_url, HARBORGUARD_THREADS="4", **scrape.setting) as service:
        before = total(scrape())
        crowd = [
            threading.Thread(target=lambda: [service.ask("/api/health") for _ in range(40)])
            for _ in range(8)
        ]
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()
        assert total(scrape()) == before + 320
        service.end()


def test_a_lost_directory_fails_no_request(
    tenants: Tenants, database_url: str, scrape: Scraper
) -> None:
    with serving(DATABASE_URL=database_url, **scrape.setting) as service:
        [directory] = directories(service.process.pid)
        before = service.workers()
        wait_until(lambda: is_removed(directory))
        for _ in range(10):
            assert service.ask("/api/images", tenants.acme.headers).status == 200
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: not set(service.workers()) & set(before))
        for _ in range(10):
            assert service.ask("/api/images", tenants.acme.headers).status == 200
            assert service.ask("/api/images").status == 401
        assert list(scrape()) == [f'harborguard_release_info{{version="{__version__}"}}']
        assert service.end() == 0
    assert "a worker's numbers cannot be kept" in {event["event"] for event in events(service)}


def is_removed(directory: Path) -> bool:
    """Whether it could be removed: a worker that is being born may still write there."""
    shutil.rmtree(directory, ignore_errors=True)
    return not directory.exists()


def test_the_pool_shows_who_holds_and_who_is_gone(
    tenants: Tenants, conn: Connection, database_url: str, scrape: Scraper
) -> None:
    in_use = 'harborguard_pool{state="in_use"}'
    with serving(DATABASE_URL=database_url, HARBORGUARD_WORKERS="1", **scrape.setting) as service:
        with conn.transaction():
            conn.execute("LOCK TABLE images IN ACCESS EXCLUSIVE MODE")
            asking = threading.Thread(target=ask_in_vain, args=(service, tenants.acme.headers))
            asking.start()
            wait_until(lambda: scrape().get(in_use) == 1)
            service.kill_a_worker()
            asking.join()
            wait_until(lambda: scrape().get(in_use) == 0)
        assert service.ask("/api/images", tenants.acme.headers).status == 200
        service.end()


def ask_in_vain(service: Service, headers: dict[str, str]) -> None:
    """A request whose worker dies."""
    try:
        service.ask("/api/images", headers)
    except (OSError, ValueError, IndexError):
        return
    raise AssertionError("it was answered")


def test_what_a_killed_master_leaves_is_removed_by_the_next(
    database_url: str, scrape: Scraper
) -> None:
    with serving(DATABASE_URL=database_url, **scrape.setting) as service:
        [left] = directories(service.process.pid)
        with serving(DATABASE_URL=database_url, **Scraper().setting) as beside:
            assert left.exists(), "a living one's stays"
            beside.end()
        service.end(signal.SIGKILL)
    assert left.exists()
    with serving(DATABASE_URL=database_url, **scrape.setting) as service:
        assert not left.exists()
        service.end()


def test_metrics_are_off_by_default_and_a_taken_port_stops_nothing(
    database_url: str, scrape: Scraper
) -> None:
    with serving(DATABASE_URL=database_url) as service:
        assert directories(service.process.pid) == []
        taken = {"HARBORGUARD_METRICS_PORT": str(service.port)}
        with serving(DATABASE_URL=database_url, **taken) as other:
            assert other.ask("/api/ready").status == 200
            assert other.end() == 0
        service.end()
    assert any("Metrics are not served" in str(event["event"]) for event in events(other))
    with pytest.raises(urllib.error.URLError):
        scrape()


def test_only_the_master_has_the_metrics_port(database_url: str, scrape: Scraper) -> None:
    """A worker that held it open would keep it from the next master."""
    with serving(DATABASE_URL=database_url, **scrape.setting) as service:
        [inode] = re.findall(
            rf"0100007F:{scrape.port:04X} 00000000:0000 0A(?: \S+){{3}} +\d+ +\d+ (\d+)",
            Path("/proc/net/tcp").read_text(),
        )
        everybody = (service.process.pid, *service.workers())
        holders = [pid for pid in everybody if Path(f"socket:[{inode}]") in opened(pid)]
        assert holders == [service.process.pid]
        service.end()


def test_a_log_that_nobody_reads_stops_no_request(tenants: Tenants, database_url: str) -> None:
    port = free_port()
    # A line of over a page, as at debug, may come in pieces; none is that long here.
    info = {"HARBORGUARD_LOG_LEVEL": "info"}
    with start(PRODUCTION, port, DATABASE_URL=database_url, **info) as process:
        assert process.stdout is not None
        fcntl.fcntl(process.stdout, F_SETPIPE_SZ, 4096)
        service = Service(port, process)
        await_health(service)
        slowest = 0.0
        for _ in range(200):
            began = time.monotonic()
            assert service.ask("/api/images", tenants.acme.headers).status == 200
            slowest = max(slowest, time.monotonic() - began)
        listener = threading.Thread(target=listen, args=(service,))
        listener.start()
        time.sleep(0.5)
        for _ in range(4):
            assert service.ask("/api/images", tenants.acme.headers).status == 200
        assert service.end() == 0
        listener.join()
    assert slowest < 5
    assert sum(int(str(e.get("lines", 0))) for e in events(service)) >= 100


def test_a_log_whose_reader_is_gone_stops_no_request(tenants: Tenants, database_url: str) -> None:
    port = free_port()
    with start(PRODUCTION, port, DATABASE_URL=database_url) as process:
        assert process.stdout is not None
        service = Service(port, process)
        await_health(service)
        process.stdout.close()
        for _ in range(20):
            assert service.ask("/api/images", tenants.acme.headers).status == 200
        assert service.end() == 0
