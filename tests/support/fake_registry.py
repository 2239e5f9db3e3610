"""A server on loopback that answers as a test says; and a small registry, in memory."""

import hashlib
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True)
class Request:
    """What a client sent."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


@dataclass(frozen=True)
class Reply:
    """What to answer; `parts` come after the body, one after the other, without a length."""

    body: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    parts: Callable[[], Iterator[bytes]] | None = None


Handler = Callable[[Request], Reply]


class StandIn:
    """The server, what it was asked, and how it answers: by path, or `otherwise`."""

    def __init__(self, host: str, port: int, scheme: str) -> None:
        self.host = f"{host}:{port}"
        self.url = f"{scheme}://{self.host}"
        self.asked: list[Request] = []
        self.routes: dict[str, Reply | Handler] = {}
        self.otherwise: Handler = lambda request: Reply(status=404)

    def answer(self, request: Request) -> Reply:
        self.asked.append(request)
        route = self.routes.get(request.path, self.otherwise)
        return route if isinstance(route, Reply) else route(request)

    def paths(self) -> list[str]:
        return [request.path for request in self.asked]


@contextmanager
def standing_in(host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Iterator[StandIn]:
    """A server that answers 404 until it is told otherwise."""

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(length)
            reply = standin.answer(Request(self.command, self.path, headers, body))
            text = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            try:
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if reply.parts is None:
                    self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(b"" if self.command == "HEAD" else text)
                for part in reply.parts() if reply.parts else ():
                    self.wfile.write(part)
            except OSError:
                pass  # the client has heard enough

        do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def get_request(self) -> tuple[socket.socket, Any]:
            sock, address = super().get_request()
            return (tls.wrap_socket(sock, server_side=True) if tls else sock), address

    with Server((host, 0), Answering) as server:
        standin = StandIn(host, server.server_port, "https" if tls else "http")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield standin
        finally:
            server.shutdown()
            thread.join()


class MemoryRegistry:
    """As much of a registry as the suite needs where the real one is not installed."""

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
        return getattr(self, f"answer_{kind}")(request, name, rest)

    def answer_tags(self, request: Request, name: str, rest: str) -> Reply:
        if name not in self.tags:
            return Reply(status=404)
        return Reply({"name": name, "tags": sorted(self.tags[name]) or None})

    def answer_blobs(self, request: Request, name: str, rest: str) -> Reply:
        if request.method == "POST":
            return Reply(status=202, headers={"Location": f"/v2/{name}/blobs/uploads/1"})
        if request.method == "PUT":
            self.blobs[digest_of(request.body)] = request.body
            return Reply(status=201)
        return Reply(self.blobs[rest]) if rest in self.blobs else Reply(status=404)

    def answer_manifests(self, request: Request, name: str, rest: str) -> Reply:
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
            return Reply(status=404)
        if request.method == "DELETE":
            del manifests[digest]
            self.tags[name] = {tag: to for tag, to in tags.items() if to != digest}
            return Reply(status=202)
        return Reply(manifests[digest], headers={"Docker-Content-Digest": digest})


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
