"""Two nodes, each with nginx and gunicorn, behind deploy/balancer.conf and before one database."""

import http.client
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from harborguard.model import Role, UserStatus
from harborguard.store import principals
from harborguard.store.connection import Connection
from harborguard.store.migrations import migrate, read_migrations
from harborguard.store.organizations import set_user
from harborguard.store.statements import MIGRATIONS
from tests.support.cookies import SECRET, make_claims, mint_v4
from tests.support.fault_injection import (
    balancer,
    behind_nginx,
    call,
    clients,
    nginx,
    results,
    short_directory,
)
from tests.support.postgres import migrated_database
from tests.support.reports import envelope
from tests.support.service import Service, free_port
from tests.support.tenants import OPERATOR, Tenants
from tests.support.waiting import wait_until


class Node:
    """A node whose nginx runs all the time, and whose service can be replaced."""

    def __init__(self, directory: Path, port: int, database_url: str) -> None:
        self.service: Service
        self._directory, self._port, self._database_url = directory, port, database_url
        self._stack = ExitStack()

    def start(self) -> None:
        """Start the service and wait until it responds."""
        settings = {"NEXTAUTH_SECRET": SECRET}
        self.service = self._stack.enter_context(
            behind_nginx(self._directory, self._port, self._database_url, **settings)
        )

    def read_log(self) -> list[str]:
        """Return the lines of nginx's log."""
        return (self._directory / "access.log").read_text().splitlines()

    def stop(self) -> None:
        """Stop the service as systemd does."""
        self._stack.close()


@dataclass(frozen=True)
class Nodes:
    """The nodes, and the port of the balancer."""

    first: Node
    second: Node
    port: int

    @property
    def services(self) -> tuple[Service, Service]:
        """The services of both nodes."""
        return self.first.service, self.second.service


@contextmanager
def running_nodes(database_url: str) -> Iterator[Nodes]:
    """Run two nodes and a balancer."""
    with ExitStack() as stack:
        nodes: list[Node] = []
        ports: list[int] = []
        for _ in range(2):
            directory = stack.enter_context(short_directory())
            port = stack.enter_context(nginx(directory, behind_balancer=True))
            node = Node(directory, port, database_url)
            stack.callback(node.stop)
            node.start()
            nodes.append(node)
            ports.append(port)
        first, second = nodes
        directory = stack.enter_context(short_directory())
        yield Nodes(first, second, stack.enter_context(balancer(directory, ports)))


@pytest.fixture
def nodes(database_url: str, conn: Connection) -> Iterator[Nodes]:
    """Run two nodes and a balancer on an empty database."""
    with running_nodes(database_url) as nodes:
        yield nodes


def test_both_nodes_give_equal_bodies_and_etags(nodes: Nodes, tenants: Tenants) -> None:
    acme = tenants.acme
    for number in range(30):
        acme.add_image(f"ghcr.io/acme/{number}", number)
    session = f"next-auth.session-token={mint_v4(make_claims(time.time(), email=acme.email))}"
    for headers in (acme.headers, {"Authorization": f"Bearer {acme.token}"}, {"Cookie": session}):
        for path in ("/api/images?limit=7&page=2", "/api/images/summary", "/api/registries"):
            first, second = (node.request(path, headers) for node in nodes.services)
            assert (first.status, first.body) == (second.status, second.body)
            assert first.status == 200
            etag = first.headers["etag"]
            assert second.headers["etag"] == etag
            for service in nodes.services:
                assert service.request(path, {**headers, "If-None-Match": etag}).status == 304


def test_upload_and_deletion_on_one_node_are_seen_by_the_other_at_once(
    nodes: Nodes, tenants: Tenants
) -> None:
    first, second = nodes.services
    admin = {"X-API-Key": tenants.acme.add_key(Role.ADMIN)}
    for number in range(20):
        body = envelope(f"ghcr.io/acme/{number}:1", (1,), scan_id=f"scan-{number}")
        headers = {**admin, "Content-Type": "application/json"}
        recorded = first.request("/api/scans/upload", headers, "POST", body)
        assert recorded.status == 201
        path = f"/api/images/{recorded.json['imageId']}"
        assert second.request(path, admin).json["data"]["grade"] == "D"
        assert second.request(path, admin, method="DELETE").status == 204
        assert first.request(path, admin).status == 404


def test_revoked_credential_is_refused_by_both_nodes_at_the_next_request(
    nodes: Nodes, tenants: Tenants, conn: Connection
) -> None:
    acme = tenants.acme
    claims = make_claims(time.time(), email=acme.email)
    session = {"Cookie": f"next-auth.session-token={mint_v4(claims)}"}
    token = {"Authorization": f"Bearer {acme.token}"}

    def statuses(headers: dict[str, str]) -> list[int]:
        return [service.request("/api/images", headers).status for service in nodes.services]

    assert [statuses(each) for each in (acme.headers, token, session)] == [[200, 200]] * 3
    principals.revoke_api_key(conn, acme.key_id, actor=OPERATOR)
    assert statuses(acme.headers) == [401, 401]
    principals.revoke_access_token(conn, acme.token_id, actor=OPERATOR)
    assert statuses(token) == [401, 401]
    set_user(conn, acme.email, status=UserStatus.SUSPENDED, actor=OPERATOR)
    assert statuses(session) == [401, 401]


def test_rate_limits_are_those_of_the_node_and_of_the_client_behind_the_balancer(
    nodes: Nodes, tenants: Tenants
) -> None:
    """Each node counts for itself, and by the address of the balancer's client."""
    key = tenants.acme.key
    connections = []
    with ExitStack() as stack:
        for _ in range(400):
            connection = http.client.HTTPConnection("127.0.0.1", nodes.services[0].port)
            connections.append(stack.enter_context(closing(connection)))
            connection.request("GET", "/nothing", headers={"X-API-Key": key})
        statuses = Counter(connection.getresponse().status for connection in connections)
    assert statuses[429] > 0
    assert nodes.services[1].request("/nothing", {"X-API-Key": key}).status == 404
    connection = http.client.HTTPConnection(
        "127.0.0.1", nodes.port, source_address=("127.0.0.9", 0)
    )
    with closing(connection):
        connection.request("GET", "/api/images", headers={"X-API-Key": tenants.globex.key})
        assert connection.getresponse().status == 200
    logs = (nodes.first.read_log, nodes.second.read_log)
    wait_until(lambda: any('"client":"127.0.0.9"' in line for read in logs for line in read()))


def test_rolling_upgrade_fails_no_read(server_url: str) -> None:
    """The schema is migrated for a newer release, and then each node restarts, under load."""
    with migrated_database(server_url) as url, Connection.connect(url, autocommit=True) as conn:
        acme = Tenants(conn).acme
        for number in range(60):
            acme.add_image(f"ghcr.io/acme/{number}", number)
        # Each below nginx's limit for a key.
        keys = [acme.add_key() for _ in range(8)]
        with running_nodes(url) as nodes, clients(nodes.port, keys, count=8) as calls:
            wait_until(lambda: len(calls) > 100)
            newer = "ALTER TABLE images ADD COLUMN note text; CREATE TABLE notes (id integer)"
            migrate(
                conn, read_migrations({**MIGRATIONS, f"{len(MIGRATIONS) + 1:04}_notes.sql": newer})
            )
            for node in (nodes.first, nodes.second):
                node.stop()
                time.sleep(0.5)
                node.start()
        assert results(calls) == {200: len(calls)}
        assert len(calls) > 200


def test_node_without_a_service_is_passed_over_by_the_balancer(
    nodes: Nodes, tenants: Tenants
) -> None:
    nodes.first.stop()
    calls = [call(nodes.port, tenants.acme.key) for _ in range(50)]
    assert results(calls) == {200: 50}
    nodes.second.stop()
    assert call(nodes.port, tenants.acme.key).result == 503
    nodes.first.start()
    assert call(nodes.port, tenants.acme.key).result == 200


def test_balancer_without_any_node_responds_in_the_envelope(tenants: Tenants) -> None:
    with short_directory() as directory, balancer(directory, [free_port(), free_port()]) as port:
        conn = http.client.HTTPConnection("127.0.0.1", port)
        with closing(conn):
            conn.request("GET", "/api/images", headers=tenants.acme.headers)
            response = conn.getresponse()
            assert (response.status, response.headers["Content-Type"]) == (503, "application/json")
            assert response.headers["Retry-After"] == "1"
            assert json.loads(response.read()) == {
                "error": {"code": "SERVICE_UNAVAILABLE", "message": "No node is available."}
            }
