"""Inflating gzip bodies: any chunking gives the whole body, and broken streams are rejected."""

import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harborguard.api.request_body import _CHUNK, _cap, _inflate, _join
from harborguard.errors import InvalidRequest, PayloadTooLarge


def split(body: bytes, size: int) -> list[bytes]:
    """Return the body in chunks of `size` bytes."""
    return [body[start : start + size] for start in range(0, len(body), size)]


def test_gzip_body_in_one_chunk_is_inflated() -> None:
    assert _join(_inflate([gzip.compress(b"whole")])) == b"whole"


@settings(deadline=None)
@given(st.integers(1, 3), st.integers(-300, 300), st.sampled_from([7, 64, _CHUNK]))
def test_long_runs_of_one_byte_are_inflated_completely(pieces: int, more: int, size: int) -> None:
    """A run may end inside the largest chunk that one call yields."""
    body = b"[" + b" " * (pieces * _CHUNK + more) + b"]"
    assert _join(_inflate(split(gzip.compress(body), size))) == body


@settings(deadline=None)
@given(st.binary(max_size=3000), st.integers(1, 3000), st.integers(1, 50))
def test_any_chunking_is_inflated_and_any_damage_is_rejected(
    body: bytes, size: int, cut: int
) -> None:
    compressed = gzip.compress(body)
    assert _join(_inflate(split(compressed, size))) == body
    for broken in (compressed[:-cut], compressed + bytes(cut), compressed + compressed):
        with pytest.raises(InvalidRequest):
            _join(_inflate(split(broken, size)))
    with pytest.raises(InvalidRequest):
        _join(_inflate([compressed, b"x"]))


@settings(deadline=None)
@given(st.integers(0, 3 * _CHUNK))
def test_body_of_limit_is_accepted_and_one_byte_more_is_rejected(limit: int) -> None:
    body = b" " * limit
    assert _join(_cap(_inflate([gzip.compress(body)]), limit)) == body
    with pytest.raises(PayloadTooLarge):
        _join(_cap(_inflate([gzip.compress(body + b" ")]), limit))
