"""Whom recording is for."""

import pytest

from tests.cast import Cast


@pytest.fixture
def acme(cast: Cast) -> str:
    """The organization that records."""
    return cast.acme.organization_id


@pytest.fixture
def globex(cast: Cast) -> str:
    """The other one."""
    return cast.globex.organization_id
