"""gzip bodies inflated piece by piece: whatever the pieces, the whole comes out or it is refused."""

import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harborguard.api.request_body import _PIECE, _cap, _inflate, _join
from harborguard.errors import InvalidRequest, PayloadTooLarge


def split(sent: bytes, size: int) -> list[bytes]:
    """As it may arrive."""
    return [sent[start : start + size] for start in range(0, len(sent), size)]


def test_it_works() -> None:
    assert _join(_inflate([gzip.compress(b"whole")])) == b"whole"


@settings(deadline=None)
@given(st.integers(1, 3), st.integers(-300, 300), st.sampled_from([7, 64, _PIECE]))
def test_long_runs_come_out_whole(pieces: int, more: int, size: int) -> None:
    """A run can end in the middle of what one call may yield."""
    body = b"[" + b" " * (pieces * _PIECE + more) + b"]"
    assert _join(_inflate(split(gzip.compress(body), size))) == body


@settings(deadline=None)
@given(st.binary(max_size=3000), st.integers(1, 3000), st.integers(1, 50))
def test_any_pieces_come_out_whole_or_are_refused(body: bytes, size: int, cut: int) -> None:
    sent = gzip.compress(body)
    assert _join(_inflate(split(sent, size))) == body
    for broken in (sent[:-cut], sent + bytes(cut), sent + sent):
        with pytest.raises(InvalidRequest):
            _join(_inflate(split(broken, size)))
    with pytest.raises(InvalidRequest):
        _join(_inflate([sent, b"x"]))


@settings(deadline=None)
@given(st.integers(0, 3 * _PIECE))
def test_the_cap_is_exact(limit: int) -> None:
    body = b" " * limit
    assert _join(_cap(_inflate([gzip.compress(body)]), limit)) == body
    with pytest.raises(PayloadTooLarge):
        _join(_cap(_inflate([gzip.compress(body + b" ")]), limit))
