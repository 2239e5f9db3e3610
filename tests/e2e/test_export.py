"""Exports through gunicorn and nginx that break midway, and the command `export`."""

import csv
import io
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harborguard.config import Config
from harborguard.store.connection import Connection, connect
from harborguard.store.counters import repair_counters
from tests.support.commands import Commands
from tests.support.fault_injection import Cluster, cluster, deployed, pgbouncer, relay_to, seed
from tests.support.service import PRODUCTION, Service, free_port, running, start
from tests.support.tenants import Tenants, with_names
from tests.support.waiting import wait_until

IMAGES = 60_000
# About 24 MB as NDJSON, more than the buffers of sockets hold.
FILL = with_names(
    f"""
    INSERT INTO images (organization_id, registry_id, name)
    SELECT organization_id, id, host || '/acme/' || repeat('x', 150) || n
    FROM registries, generate_series(1, {IMAGES}) AS n
    """
)
# Parallel workers have the query of their session.
ACTIVE = (
    "FROM pg_stat_activity WHERE query LIKE '%COPY (%' AND pid <> pg_backend_pid()"
    " AND backend_type = 'client backend'"
)
LAST_CHUNK = b"\r\n0\r\n\r\n"


@pytest.fixture(scope="module")
def database() -> Iterator[tuple[Cluster, list[str]]]:
    """Yield a server with a large inventory, and keys that may read it."""
    with cluster() as server:
        keys = seed(server.url, keys=2, images=1)
        with connect(Config(database_url=server.url)) as conn:
            conn.execute(FILL.encode())
            [(organization_id,)] = conn.execute("SELECT organization_id FROM registries").fetchall()
            repair_counters(conn, organization_id)
        yield server, keys


@pytest.fixture
def service(database: tuple[Cluster, list[str]]) -> Iterator[Service]:
    """Run the service without nginx."""
    port = free_port()
    with running(start(PRODUCTION, port, DATABASE_URL=database[0].url), port) as service:
        yield service


def begin_export(service: Service, key: str) -> socket.socket:
    """Request an export and read its first bytes only; return the connection."""
    client = socket.create_connection(("127.0.0.1", service.port))
    request = (
        f"GET /api/images/export?format=ndjson HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n\r\n"
    )
    client.sendall(request.encode())
    assert client.recv(12) == b"HTTP/1.1 200"
    return client


def read_to_end(client: socket.socket) -> bytes:
    received = b""
    while part := client.recv(1 << 20):
        received += part
    return received


def test_complete_export_has_all_rows_and_the_last_chunk(
    database: tuple[Cluster, list[str]], service: Service
) -> None:
    with begin_export(service, database[1][0]) as client:
        received = read_to_end(client)
    assert received.endswith(LAST_CHUNK)
    assert received.count(b'"createdAt"') == IMAGES + 1


def test_export_whose_connection_is_terminated_has_no_last_chunk(
    database: tuple[Cluster, list[str]], service: Service
) -> None:
    server, keys = database
    with begin_export(service, keys[0]) as client:
        assert server.execute(f"SELECT pg_terminate_backend(pid, 5000) {ACTIVE}") == [(True,)]
        received = read_to_end(client)
    assert 0 < received.count(b'"createdAt"') < IMAGES
    assert not received.endswith(LAST_CHUNK)
    assert any('"export interrupted"' in line for line in service.output)
    assert service.request("/api/images", {"X-API-Key": keys[0]}).status == 200


def test_statement_of_an_export_ends_if_the_client_leaves(
    database: tuple[Cluster, list[str]], service: Service
) -> None:
    server, keys = database
    begin_export(service, keys[0]).close()
    wait_until(lambda: server.execute(f"SELECT count(*) {ACTIVE}") == [(0,)])
    path = "/api/images/export?search=xx1&format=ndjson"
    wait_until(lambda: service.request(path, {"X-API-Key": keys[0]}).status == 200)


def test_export_occupies_one_worker_and_another_one_is_rejected(
    database: tuple[Cluster, list[str]], service: Service
) -> None:
    _, keys = database
    with begin_export(service, keys[0]):
        for _ in range(20):
            assert service.request("/api/images", {"X-API-Key": keys[1]}).status == 200
        statuses = [
            service.request("/api/images/export", {"X-API-Key": key}).status for key in keys
        ]
    assert statuses == [429, 429]


def is_running(server: Cluster) -> bool:
    return server.execute(f"SELECT count(*) {ACTIVE}") != [(0,)]


@pytest.mark.parametrize("threads", ["1", "2"])
def test_export_ends_if_the_client_stops_reading(
    database: tuple[Cluster, list[str]], threads: str
) -> None:
    server, keys = database
    port = free_port()
    process = start(PRODUCTION, port, DATABASE_URL=server.url, HARBORGUARD_THREADS=threads)
    with running(process, port) as service:
        with begin_export(service, keys[0]) as client:
            assert is_running(server)
            wait_until(lambda: not is_running(server))
            assert not read_to_end(client).endswith(LAST_CHUNK)
        assert service.request("/api/images", {"X-API-Key": keys[0]}).status == 200
    assert not any("WORKER TIMEOUT" in line for line in service.output)


def test_export_ends_at_its_timeout_if_the_client_reads_slowly(
    database: tuple[Cluster, list[str]],
) -> None:
    server, keys = database
    port = free_port()
    settings = {"DATABASE_URL": server.url, "HARBORGUARD_EXPORT_TIMEOUT_MS": "2000"}
    with running(start(PRODUCTION, port, **settings), port) as service:
        with begin_export(service, keys[0]) as client:
            # Each pause is shorter than the time in which a client must take a block.
            wait_until(lambda: not is_running(server) or not client.recv(65536))
            assert not read_to_end(client).endswith(LAST_CHUNK)
        wait_until(lambda: any('"error":"StatementTimeout"' in line for line in service.output))


def test_export_ends_if_the_database_stops_responding(
    database: tuple[Cluster, list[str]],
) -> None:
    server, keys = database
    port = free_port()
    with relay_to(server) as (relay, url):
        settings = {"DATABASE_URL": url, "HARBORGUARD_EXPORT_TIMEOUT_MS": "2000"}
        with running(start(PRODUCTION, port, **settings), port) as service:
            with begin_export(service, keys[0]) as client:
                relay.forwarding.clear()
                assert not read_to_end(client).endswith(LAST_CHUNK)
            relay.forwarding.set()
        assert not any("WORKER TIMEOUT" in line for line in service.output)


def test_export_is_complete_if_the_service_is_stopped_meanwhile(
    database: tuple[Cluster, list[str]], service: Service
) -> None:
    with begin_export(service, database[1][0]) as client:
        service.process.terminate()
        received = read_to_end(client)
    assert received.endswith(LAST_CHUNK)
    assert received.count(b'"createdAt"') == IMAGES + 1
    assert service.process.wait(timeout=60) == 0


def test_head_has_the_headers_of_get(database: tuple[Cluster, list[str]], service: Service) -> None:
    path = "/api/images/export?search=xx1"
    headers = {"X-API-Key": database[1][0]}
    names = [set(service.request(path, headers, method).headers) for method in ("GET", "HEAD")]
    assert names[0] - names[1] == {"transfer-encoding"}
    assert names[1] <= names[0]


def test_export_over_http_1_0_is_rejected(
    database: tuple[Cluster, list[str]], service: Service
) -> None:
    server, keys = database
    request = f"GET /api/images/export HTTP/1.0\r\nHost: x\r\nX-API-Key: {keys[0]}\r\n\r\n"
    message = "An export needs HTTP/1.1 or later, which shows whether a response is complete."
    response = service.send(request.encode())
    assert response.status == 400
    assert response.json == {"error": {"code": "BAD_REQUEST", "message": message}}
    with deployed(server.url) as proxied:
        response = proxied.send(request.encode())
    assert response.status == 400
    message = "The request is malformed."
    assert response.json == {"error": {"code": "BAD_REQUEST", "message": message}}


def test_exports_through_pgbouncer_are_complete_and_one_at_a_time(
    database: tuple[Cluster, list[str]],
) -> None:
    server, keys = database
    with pgbouncer(server) as pooler_port:
        url = f"postgresql://harborguard@127.0.0.1:{pooler_port}/harborguard"
        port = free_port()
        process = start(PRODUCTION, port, DATABASE_URL=url, HARBORGUARD_POOLER="on")
        with running(process, port) as service:
            with begin_export(service, keys[0]) as client:
                headers = {"X-API-Key": keys[1]}
                assert service.request("/api/images/export", headers).status == 429
                received = read_to_end(client)
            assert received.endswith(LAST_CHUNK)
            assert received.count(b'"createdAt"') == IMAGES + 1
            assert service.request("/api/images/export?search=xx1", headers).status == 200


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
@pytest.mark.parametrize("is_interrupted", [False, True])
def test_export_through_nginx_is_complete_or_an_error_of_the_client(
    database: tuple[Cluster, list[str]], tmp_path: Path, is_interrupted: bool, encoding: str
) -> None:
    server, keys = database
    output = tmp_path / "images.ndjson"
    with deployed(server.url) as service:
        url = f"http://127.0.0.1:{service.port}/api/images/export?format=ndjson"
        command = ["curl", "-sN", "-H", f"X-API-Key: {keys[0]}", "-o", str(output), url]
        command += ["--compressed"] if encoding == "gzip" else []
        with subprocess.Popen(command) as process:
            if is_interrupted:
                wait_until(lambda: output.exists() and output.stat().st_size > 0)
                assert server.execute(f"SELECT pg_terminate_backend(pid) {ACTIVE}") == [(True,)]
    rows = output.read_bytes().count(b"\n")
    if is_interrupted:
        partial_file = 18
        assert (process.returncode, 0 < rows < IMAGES) == (partial_file, True)
    else:
        assert (process.returncode, rows) == (0, IMAGES + 1)


# -- the command


@pytest.fixture
def run(config: Config, conn: Connection) -> Commands:
    """Return the command line, on a database with two images of Acme and one of Globex."""
    tenants = Tenants(conn)
    tenants.acme.add_image("ghcr.io/acme/a", 10)
    tenants.acme.add_image("ghcr.io/acme/b", 80)
    tenants.globex.add_image("ghcr.io/globex/c")
    return Commands(config.database_url)


def names(text: str) -> list[str]:
    return [row["name"] for row in csv.DictReader(io.StringIO(text))]


def test_command_writes_a_file_and_does_not_replace_it(run: Commands, tmp_path: Path) -> None:
    path = tmp_path / "images.csv"
    result = run(f"export {path} --org acme --query sort=name:asc")
    assert (result.exit_code, result.output) == (0, "exported 2 images\n")
    assert names(path.read_text()) == ["ghcr.io/acme/a", "ghcr.io/acme/b"]
    assert [each.name for each in tmp_path.iterdir()] == ["images.csv"]
    result = run(f"export {path} --org acme")
    assert (result.exit_code, f"{path} exists" in result.output) == (2, True)
    result = run(f"export {path} --org acme --force --query grade=D")
    assert (result.exit_code, result.output) == (0, "exported 1 image\n")
    assert names(path.read_text()) == ["ghcr.io/acme/b"]


def test_command_writes_ndjson_to_standard_output(run: Commands) -> None:
    result = run("export - --org globex --format ndjson")
    assert (result.exit_code, result.stderr) == (0, "exported 1 image\n")
    assert [json.loads(line)["name"] for line in result.stdout.splitlines()] == ["ghcr.io/globex/c"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--query grade=E", "Error: The query is not valid. grade: must be a comma"),
        ("--query grades=A", "Error: The query has parameters that are not understood: grades."),
        ("--query sort=x", "Error: The query has parameters that are not understood: sort."),
        ("--org umbrella", "Error: The organization 'umbrella' does not exist."),
    ],
)
def test_command_with_invalid_arguments_writes_nothing(
    run: Commands, tmp_path: Path, arguments: str, message: str
) -> None:
    result = run(f"export {tmp_path}/images.csv --org acme {arguments}")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(message)
    assert [*tmp_path.iterdir()] == []


def test_command_that_fails_midway_leaves_the_file_as_it_was(
    run: Commands, conn: Connection, tmp_path: Path
) -> None:
    path = tmp_path / "images.csv"
    path.write_text("before")
    conn.execute("ALTER TABLE images RENAME COLUMN low TO renamed")
    try:
        result = run(f"export {path} --org acme --force")
    finally:
        conn.execute("ALTER TABLE images RENAME COLUMN renamed TO low")
    assert result.exit_code == 1
    assert path.read_text() == "before"
    assert [each.name for each in tmp_path.iterdir()] == ["images.csv"]


def test_command_replaces_the_target_of_a_link_and_no_device(run: Commands, tmp_path: Path) -> None:
    path, link = tmp_path / "images.csv", tmp_path / "link.csv"
    path.touch()
    link.symlink_to(path)
    assert run(f"export {link} --org acme --force").exit_code == 0
    assert link.is_symlink()
    assert len(names(path.read_text())) == 2
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    result = run(f"export {pipe} --org acme --force")
    assert (result.exit_code, pipe.is_fifo()) == (2, True)


def test_command_reports_a_directory_that_it_cannot_write(run: Commands, tmp_path: Path) -> None:
    path = tmp_path / "missing" / "images.csv"
    result = run(f"export {path} --org acme")
    assert result.exit_code == 1
    assert result.output == f"Error: cannot write {path}: No such file or directory\n"
