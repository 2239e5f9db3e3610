"""A connection that remembers statements: nothing of one question comes into another's answer."""

import gc

import pytest
from psycopg import Cursor
from psycopg import errors as sqlstate

from harborguard.config import Config
from harborguard.store.connection import Connection, connect

FIND = "SELECT n FROM generate_series(1, 9) AS n WHERE n = %(n)s::int"
FIND_ODD = "SELECT n FROM generate_series(1, 9, 2) AS n WHERE n >= %(n)s::int"


def test_it_works(conn: Connection) -> None:
    """Two statements in turn, as requests ask them; what was read stays as it was."""
    first, odd = conn.fetch(FIND, {"n": 3}), conn.fetch(FIND_ODD, {"n": 5})
    assert conn.fetch(FIND, {"n": 4}) == [(4,)]
    assert conn.fetch(FIND_ODD, {"n": 10}) == []
    assert (first, odd) == ([(3,)], [(5,), (7,), (9,)])


def test_the_same_words_need_not_be_the_same_text(conn: Connection) -> None:
    """A built statement is a new text each time."""
    for n in range(1, 4):
        assert conn.fetch("".join([FIND[:9], FIND[9:]]), {"n": n}) == [(n,)]


def test_a_parameter_of_another_type(conn: Connection) -> None:
    """As the session's lookup has them: an e-mail address or none."""
    for given in (3, None, "3", 2**40, None, "7"):
        [(found,)] = conn.fetch("SELECT %(n)s::text", {"n": given})
        assert found == (None if given is None else str(given))


def test_a_failure_is_forgotten(conn: Connection) -> None:
    for _ in range(2):
        with pytest.raises(sqlstate.InvalidTextRepresentation):
            conn.fetch(FIND, {"n": "three"})
        assert conn.fetch(FIND, {"n": "3"}) == [(3,)]


def test_more_statements_than_it_keeps(config: Config) -> None:
    """What each has read last is kept for sixteen, and for none once it is closed."""

    def kept() -> int:
        gc.collect()
        cursors = [o for o in gc.get_objects() if isinstance(o, Cursor)]
        return sum(cursor.connection is conn for cursor in cursors)

    with connect(config) as conn:
        for _ in range(2):
            for n in range(40):
                assert conn.fetch(f"SELECT {n} + %(n)s::int", {"n": n}) == [(2 * n,)]  # pyright: ignore
        assert kept() == 16
    assert kept() == 0
