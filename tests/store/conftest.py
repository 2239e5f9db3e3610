"""Fixtures of the store tests: the ids of two organizations."""

import pytest

from tests.support.tenants import Tenants


@pytest.fixture
def acme(tenants: Tenants) -> str:
    """Return the id of the organization that records scans."""
    return tenants.acme.organization_id


@pytest.fixture
def globex(tenants: Tenants) -> str:
    """Return the id of another organization."""
    return tenants.globex.organization_id
