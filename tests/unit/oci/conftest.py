"""Fixtures of the registry client's tests: fake registries, and clients with short pauses."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harborguard.oci import Limits, RegistryClient
from tests.support.fake_registry import FakeRegistry, run_fake_registry

LIMITS = Limits(connect=5, read=5, total=10, body=10_000, pauses=(0.01, 0.02), retry_after=0.5)
TAGS = "/v2/api/tags/list"

MakeClient = Callable[..., RegistryClient]


@pytest.fixture
def server() -> Iterator[FakeRegistry]:
    """Yield a fake registry."""
    with run_fake_registry() as server:
        yield server


@pytest.fixture
def other() -> Iterator[FakeRegistry]:
    """Run another server, with another host."""
    with run_fake_registry("127.0.0.2") as other:
        yield other


@pytest.fixture
def make_client() -> Iterator[MakeClient]:
    """Make clients of a server or host, with short pauses; close them at the end."""
    clients: list[RegistryClient] = []

    def make_client(server: FakeRegistry | str, **kwargs: Any) -> RegistryClient:
        settings = {"plain_http": True, "limits": LIMITS, **kwargs}
        host = server if isinstance(server, str) else server.host
        clients.append(RegistryClient(host, **settings))
        return clients[-1]

    yield make_client
    for client in clients:
        client.close()
