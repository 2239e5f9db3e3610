"""HTTP server on loopback with scripted responses, and a small registry in memory."""

import hashlib
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True)
class Request:
    """A request that the server received."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""
    client_port: int = 0

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


@dataclass(frozen=True)
class Reply:
    """A response; the server sends `parts` after the body, without a Content-Length."""

    body: Any = b""
    status: int = 200
    headers: Mapping[str, str | list[str]] = field(default_factory=dict)  # a list: several lines
    parts: Callable[[], Iterator[bytes]] | None = None


Handler = Callable[[Request], Reply]


def report_error(*codes: str) -> Reply:
    """Return a 404 with a registry's error document."""
    return Reply({"errors": [{"code": code, "message": code.lower()} for code in codes]}, 404)


class FakeRegistry:
    """A server that replies by path, or with `fallback`, and records its requests."""

    def __init__(self, host: str, port: int, scheme: str) -> None:
        self.host = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.port = port
        self.url = f"{scheme}://{self.host}"
        self.requests: list[Request] = []
        self.routes: dict[str, Reply | Handler] = {}
        self.fallback: Handler = lambda request: Reply(status=404)

    def respond(self, request: Request) -> Reply:
        self.requests.append(request)
        route = self.routes.get(request.path, self.fallback)
        return route if isinstance(route, Reply) else route(request)

    def paths(self) -> list[str]:
        return [request.path for request in self.requests]


@contextmanager
def run_fake_registry(
    host: str = "127.0.0.1",
    *,
    port: int = 0,
    tls: ssl.SSLContext | None = None,
    keep_alive: bool = False,
) -> Iterator[FakeRegistry]:
    """Run a server that replies 404 until a test sets its routes."""

    class RequestHandler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1" if keep_alive else "HTTP/1.0"

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(length)
            client_port = self.client_address[1]
            reply = registry.respond(Request(self.command, self.path, headers, body, client_port))
            text = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            try:
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    for line in [value] if isinstance(value, str) else value:
                        self.send_header(name, line)
                if reply.parts is None:
                    self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(b"" if self.command == "HEAD" else text)
                for part in reply.parts() if reply.parts else ():
                    self.wfile.write(part)
            except OSError:
                pass  # the client closed the connection

        do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        daemon_threads = True
        block_on_close = False

        def get_request(self) -> tuple[socket.socket, Any]:
            sock, address = super().get_request()
            return (tls.wrap_socket(sock, server_side=True) if tls else sock), address

    with Server((host, port), RequestHandler) as server:
        registry = FakeRegistry(host, server.server_port, "https" if tls else "http")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()


class MemoryRegistry:
    """The parts of a registry that the tests need if docker-registry is not installed."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, dict[str, bytes]] = {}
        self.tags: dict[str, dict[str, str]] = {}

    def __call__(self, request: Request) -> Reply:
        if request.path == "/v2/_catalog":
            return Reply({"repositories": sorted(self.manifests)})
        match = re.fullmatch(r"/v2/(.+)/(blobs|manifests|tags)/(.*)", request.path)
        if not match:
            return Reply({})
        name, kind, rest = match.groups()
        return getattr(self, f"handle_{kind}")(request, name, rest)

    def handle_tags(self, request: Request, name: str, rest: str) -> Reply:
        if name not in self.tags:
            return report_error("NAME_UNKNOWN")
        return Reply({"name": name, "tags": sorted(self.tags[name]) or None})

    def handle_blobs(self, request: Request, name: str, rest: str) -> Reply:
        if request.method == "POST":
            return Reply(status=202, headers={"Location": f"/v2/{name}/blobs/uploads/1"})
        if request.method == "PUT":
            self.blobs[digest_of(request.body)] = request.body
            return Reply(status=201)
        return Reply(self.blobs[rest]) if rest in self.blobs else Reply(status=404)

    def handle_manifests(self, request: Request, name: str, rest: str) -> Reply:
        manifests = self.manifests.setdefault(name, {})
        tags = self.tags.setdefault(name, {})
        if request.method == "PUT":
            digest = digest_of(request.body)
            manifests[digest] = request.body
            if not rest.startswith("sha256:"):
                tags[rest] = digest
            return Reply(status=201)
        digest = tags.get(rest, rest)
        if digest not in manifests:
            return report_error("MANIFEST_UNKNOWN")
        if request.method == "DELETE":
            del manifests[digest]
            self.tags[name] = {tag: target for tag, target in tags.items() if target != digest}
            return Reply(status=202)
        return Reply(manifests[digest], headers={"Docker-Content-Digest": digest})


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
