"""Whom recording is for."""

import pytest

from tests.support.tenants import Tenants


@pytest.fixture
def acme(tenants: Tenants) -> str:
    """The organization that records."""
    return tenants.acme.organization_id


@pytest.fixture
def globex(tenants: Tenants) -> str:
    """The other one."""
    return tenants.globex.organization_id
