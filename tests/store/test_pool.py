"""The pool: what is over is not lent, what is slow is no outage, what is silent is given up."""

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
def hasty(config: Config) -> Config:
    """Settings under which a first statement is waited for a fifth as long as others."""
    return replace(config, pool_timeout=0.4, statement_timeout_ms=2000)


@pytest.fixture
def pool(hasty: Config) -> Iterator[Pool]:
    """An open pool."""
    with make_pool(hasty) as pool:
        pool.wait()
        yield pool


@pytest.fixture
def client(hasty: Config) -> Iterator[FlaskClient]:
    """A client of a service with these settings."""
    app = create_app(hasty)
    with app.extensions["harborguard"].pool:
        yield app.test_client()


def test_it_works(pool: Pool, conn: Connection) -> None:
    """A connection whose server has ended it is not lent: its statement need not be tried again."""
    with pool.connection() as lent:
        pid = lent.info.backend_pid
    conn.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    lent = pool.getconn()
    try:
        assert lent.execute("SELECT 1").fetchone() == (1,)
        assert lent.info.backend_pid != pid
    finally:
        pool.putconn(lent)


def test_a_first_statement_that_is_slow_is_no_outage(pool: Pool, conn: Connection) -> None:
    """It is ended like any other, on the server too, and the connection goes on."""
    lent = pool.getconn()
    with pytest.raises(sqlstate.QueryCanceled):
        lent.execute("SELECT pg_sleep(60)")
    assert lent.execute("SELECT 1").fetchone() == (1,)
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%%pg_sleep(60)%%'"
    wait_until(lambda: conn.execute(sleeping + " AND state = 'active'").fetchone() == (1,))
    pool.putconn(lent)
    with pool.connection() as again:
        again.execute("SELECT 1")


def test_later_statements_have_the_patience_of_a_statement(pool: Pool) -> None:
    with pool.connection() as lent:
        lent.execute("SELECT 1")
        lent.execute("SELECT pg_sleep(0.8)")


def test_only_so_many_wait(hasty: Config) -> None:
    """Twice as many as there are connections, however many have waited before."""
    with make_pool(replace(hasty, threads=1)) as pool, ThreadPoolExecutor(4) as crowd:
        for _ in range(10):
            pool.putconn(pool.getconn())
        lent = [pool.getconn(20), pool.getconn(20)]
        waiting = [crowd.submit(pool.getconn, 20) for _ in range(4)]
        wait_until(lambda: pool.get_stats()["requests_waiting"] == 4)
        with pytest.raises(TooManyRequests):
            pool.getconn(20)
        for conn in lent:
            pool.putconn(conn)
        for late in as_completed(waiting):
            pool.putconn(late.result())


def test_a_locked_table_is_a_timeout_and_shuts_nobody_out(
    client: FlaskClient, conn: Connection, tenants: Tenants
) -> None:
    with conn.transaction():
        conn.execute("LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE")
        assert ask(client, tenants.acme.key) == 504
    assert [ask(client, tenants.acme.key) for _ in range(2)] == [200, 200]


def test_a_use_that_cannot_be_noted_shuts_nobody_out(
    client: FlaskClient, conn: Connection, tenants: Tenants
) -> None:
    with conn.transaction():
        conn.execute("LOCK TABLE api_keys IN SHARE MODE")
        assert ask(client, tenants.acme.key) == 200
        assert ask(client, tenants.globex.token) == 200


def ask(client: FlaskClient, secret: str) -> int:
    """The status of a list; with all that belongs to the request done."""
    with client.get("/api/images", headers={"X-API-Key": secret}) as response:
        return response.status_code


@pytest.mark.skipif(not has_embedded(), reason="a server before a relay comes from the wheel")
def test_a_silent_server_is_given_up_at_the_first_statement() -> None:
    """Long before a statement's own time is over."""
    with cluster() as database, relay_to(database) as (relay, url):
        config = Config(database_url=url, pool_timeout=0.4, statement_timeout_ms=20_000)
        with make_pool(config) as pool:
            pool.wait()
            relay.speaks.clear()
            lent, began = pool.getconn(), time.monotonic()
            with pytest.raises(psycopg.OperationalError) as caught:
                lent.execute("SELECT 1")
            assert time.monotonic() - began < 10
            assert translate_error(caught.value) is not None
            pool.putconn(lent)
            with pytest.raises(psycopg.OperationalError):
                pool.getconn()
            relay.speaks.set()
