"""`Connection.fetch` reuses cursors, but never mixes the rows of two statements."""

import gc

import pytest
from psycopg import Cursor
from psycopg import errors as sqlstate

from harborguard.config import Config
from harborguard.store.connection import Connection, connect

FIND = "SELECT n FROM generate_series(1, 9) AS n WHERE n = %(n)s::int"
FIND_ODD = "SELECT n FROM generate_series(1, 9, 2) AS n WHERE n >= %(n)s::int"


def test_fetch_alternating_statements_returns_rows_of_each(conn: Connection) -> None:
    """Requests alternate statements. A later fetch must not change the rows of an earlier one."""
    first, odd = conn.fetch(FIND, {"n": 3}), conn.fetch(FIND_ODD, {"n": 5})
    assert conn.fetch(FIND, {"n": 4}) == [(4,)]
    assert conn.fetch(FIND_ODD, {"n": 10}) == []
    assert (first, odd) == ([(3,)], [(5,), (7,), (9,)])


def test_fetch_equal_text_in_a_new_object_returns_rows(conn: Connection) -> None:
    """A query builder makes a new string object for each request."""
    for n in range(1, 4):
        assert conn.fetch("".join([FIND[:9], FIND[9:]]), {"n": n}) == [(n,)]


def test_fetch_parameter_of_another_type_returns_its_value(conn: Connection) -> None:
    """The lookup of a session passes an e-mail address or None."""
    for value in (3, None, "3", 2**40, None, "7"):
        [(returned,)] = conn.fetch("SELECT %(n)s::text", {"n": value})
        assert returned == (None if value is None else str(value))


def test_fetch_after_failure_returns_rows(conn: Connection) -> None:
    for _ in range(2):
        with pytest.raises(sqlstate.InvalidTextRepresentation):
            conn.fetch(FIND, {"n": "three"})
        assert conn.fetch(FIND, {"n": "3"}) == [(3,)]


def test_fetch_many_statements_keeps_16_cursors_until_close(config: Config) -> None:
    """A cursor keeps the rows that it read last, so their number is limited."""

    def count_cursors() -> int:
        gc.collect()
        cursors = [o for o in gc.get_objects() if isinstance(o, Cursor)]
        return sum(cursor.connection is conn for cursor in cursors)

    with connect(config) as conn:
        for _ in range(2):
            for n in range(40):
                assert conn.fetch(f"SELECT {n} + %(n)s::int", {"n": n}) == [(2 * n,)]  # pyright: ignore
        assert count_cursors() == 16
    assert count_cursors() == 0
