"""The pool replaces closed connections, keeps slow ones and gives up on silent servers."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace

import psycopg
import pytest
from flask.testing import FlaskClient
from psycopg import errors as sqlstate
from psycopg_pool import TooManyRequests

from app import create_app
from harborguard.config import Config
from harborguard.store.connection import Connection
from harborguard.store.errors import translate_error
from harborguard.store.pool import Pool, make_pool
from tests.support.fault_injection import cluster, relay_to
from tests.support.postgres import has_embedded
from tests.support.tenants import Tenants
from tests.support.waiting import wait_until


@pytest.fixture
def short_timeouts(config: Config) -> Config:
    """Return settings: 0.4 s for the first statement after a checkout, 2.5 s for later ones."""
    return replace(config, pool_timeout=0.4, statement_timeout_ms=2000)


@pytest.fixture
def pool(short_timeouts: Config) -> Iterator[Pool]:
    """Yield an open pool."""
    with make_pool(short_timeouts) as pool:
        pool.wait()
        yield pool


@pytest.fixture
def client(short_timeouts: Config) -> Iterator[FlaskClient]:
    """Yield a client of a service with short timeouts."""
    app = create_app(short_timeouts)
    with app.extensions["harborguard"].pool:
        yield app.test_client()


def test_getconn_after_backend_terminated_returns_new_connection(
    pool: Pool, conn: Connection
) -> None:
    with pool.connection() as held:
        pid = held.info.backend_pid
    conn.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    held = pool.getconn()
    try:
        assert held.execute("SELECT 1").fetchone() == (1,)
        assert held.info.backend_pid != pid
    finally:
        pool.putconn(held)


def test_slow_first_statement_is_canceled_and_keeps_the_connection(
    pool: Pool, conn: Connection
) -> None:
    """A server that acts on the cancel request is slow, not silent."""
    held = pool.getconn()
    with pytest.raises(sqlstate.QueryCanceled):
        held.execute("SELECT pg_sleep(60)")
    assert held.execute("SELECT 1").fetchone() == (1,)
    count_sleeping = """
        SELECT count(*)
        FROM pg_stat_activity
        WHERE state = 'active' AND query = 'SELECT pg_sleep(60)'
    """
    wait_until(lambda: conn.execute(count_sleeping).fetchone() == (0,))
    pool.putconn(held)
    with pool.connection() as again:
        again.execute("SELECT 1")


def test_later_statement_slower_than_first_timeout_succeeds(pool: Pool) -> None:
    with pool.connection() as held:
        held.execute("SELECT 1")
        held.execute("SELECT pg_sleep(0.8)")


def test_getconn_with_all_waiting_slots_taken_raises(short_timeouts: Config) -> None:
    """Two callers may wait for each connection. A caller that got one no longer takes a slot."""
    config = replace(short_timeouts, threads=1)
    with make_pool(config) as pool, ThreadPoolExecutor(4) as executor:
        for _ in range(10):
            pool.putconn(pool.getconn())
        held = [pool.getconn(20), pool.getconn(20)]
        waiting = [executor.submit(pool.getconn, 20) for _ in range(4)]
        wait_until(lambda: pool.get_stats()["requests_waiting"] == 4)
        with pytest.raises(TooManyRequests):
            pool.getconn(20)
        for conn in held:
            pool.putconn(conn)
        for future in as_completed(waiting):
            pool.putconn(future.result())


def test_list_with_locked_table_returns_504_and_later_lists_return_200(
    client: FlaskClient, conn: Connection, tenants: Tenants
) -> None:
    with conn.transaction():
        conn.execute("LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE")
        assert list_status(client, tenants.acme.key) == 504
    assert [list_status(client, tenants.acme.key) for _ in range(2)] == [200, 200]


def test_list_with_unrecordable_credential_use_returns_200(
    client: FlaskClient, conn: Connection, tenants: Tenants
) -> None:
    with conn.transaction():
        conn.execute("LOCK TABLE api_keys IN SHARE MODE")
        assert list_status(client, tenants.acme.key) == 200
        assert list_status(client, tenants.globex.token) == 200


def list_status(client: FlaskClient, secret: str) -> int:
    """Return the status of GET /api/images, after the whole response was read."""
    with client.get("/api/images", headers={"X-API-Key": secret}) as response:
        return response.status_code


@pytest.mark.skipif(not has_embedded(), reason="needs the embedded PostgreSQL server")
def test_first_statement_on_silent_server_fails_before_the_statement_timeout() -> None:
    with cluster() as database, relay_to(database) as (relay, url):
        config = Config(database_url=url, pool_timeout=0.4, statement_timeout_ms=20_000)
        with make_pool(config) as pool:
            pool.wait()
            relay.forwarding.clear()
            held, started = pool.getconn(), time.monotonic()
            with pytest.raises(psycopg.OperationalError) as caught:
                held.execute("SELECT 1")
            assert time.monotonic() - started < 10
            assert translate_error(caught.value) is not None
            pool.putconn(held)
            with pytest.raises(psycopg.OperationalError):
                pool.getconn()
            relay.forwarding.set()
