"""A real registry (Debian's docker-registry) on loopback, and clients that fill it."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import urllib3

from tests.support.fake_registry import MANIFEST, MemoryRegistry, digest_of, run_fake_registry
from tests.support.service import free_port

PROGRAM = shutil.which("docker-registry")
KIND = "docker-registry" if PROGRAM else "in memory (docker-registry is not installed)"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
BUILT_AT = datetime(2026, 4, 1, tzinfo=UTC)


class Pusher:
    """Push to a registry over plain HTTP (distribution specification, "push")."""

    def __init__(self, host: str, headers: dict[str, str] | None = None) -> None:
        self.host = host
        self._pool = urllib3.PoolManager(headers=headers)

    def request(self, method: str, path: str, **kwargs: Any) -> urllib3.BaseHTTPResponse:
        url = path if path.startswith("http") else f"http://{self.host}{path}"
        response = self._pool.request(method, url, **kwargs)
        assert response.status < 300, (method, path, response.status, response.data)
        return response

    def push_blob(self, repository: str, content: bytes) -> str:
        location = self.request("POST", f"/v2/{repository}/blobs/uploads/").headers["Location"]
        digest = digest_of(content)
        separator = "&" if "?" in location else "?"
        headers = {"Content-Type": "application/octet-stream"}
        self.request("PUT", f"{location}{separator}digest={digest}", body=content, headers=headers)
        return digest

    def push_manifest(
        self, repository: str, reference: str | None, document: dict[str, Any]
    ) -> str:
        body = json.dumps(document).encode()
        digest = digest_of(body)
        headers = {"Content-Type": document["mediaType"]}
        self.request(
            "PUT", f"/v2/{repository}/manifests/{reference or digest}", body=body, headers=headers
        )
        return digest

    def push_config(self, repository: str, built_at: datetime | None = BUILT_AT) -> dict[str, Any]:
        document = {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": []},
        }
        created = {"created": built_at.isoformat()} if built_at else {}
        content = json.dumps({**document, **created}).encode()
        digest = self.push_blob(repository, content)
        return {"mediaType": CONFIG, "digest": digest, "size": len(content)}

    def push(
        self,
        repository: str,
        tag: str | None,
        *,
        built_at: datetime | None = BUILT_AT,
        salt: str = "",
        config: dict[str, Any] | None = None,
    ) -> str:
        """Push an image without layers and return its digest, which depends on `salt`."""
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config or self.push_config(repository, built_at),
            "layers": [],
            "annotations": {"salt": salt or f"{repository}:{tag}"},
        }
        return self.push_manifest(repository, tag, document)

    def push_index(self, repository: str, tag: str, platforms: dict[str, datetime]) -> str:
        """Push an index with one image per platform (`linux/arm64`), built at the given time."""
        manifests = []
        for platform, built_at in platforms.items():
            system, _, architecture = platform.partition("/")
            digest = self.push(repository, None, built_at=built_at, salt=platform)
            manifests.append(
                {
                    "mediaType": MANIFEST,
                    "digest": digest,
                    "size": 1,
                    "platform": {"os": system, "architecture": architecture},
                }
            )
        return self.push_manifest(
            repository, tag, {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
        )

    def delete(self, repository: str, digest: str) -> None:
        self.request("DELETE", f"/v2/{repository}/manifests/{digest}")

    def close(self) -> None:
        self._pool.clear()


@contextmanager
def running_registry(directory: Path) -> Iterator[Pusher]:
    """Run an empty registry, docker-registry if installed, and yield a client that fills it."""
    if PROGRAM is None:
        with run_fake_registry() as server:
            server.fallback = MemoryRegistry()
            yield from _pusher(server.host)
        return
    host = f"127.0.0.1:{free_port()}"
    configuration = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {
            "inmemory": {},
            "delete": {"enabled": True},
        },
        "http": {"addr": host},
    }
    path = directory / "registry.json"
    path.write_text(json.dumps(configuration))
    with subprocess.Popen([PROGRAM, "serve", path], stderr=subprocess.DEVNULL) as process:
        try:
            _wait_until_ready(host, process)
            yield from _pusher(host)
        finally:
            process.terminate()


def _pusher(host: str) -> Iterator[Pusher]:
    pusher = Pusher(host)
    try:
        yield pusher
    finally:
        pusher.close()


def _wait_until_ready(host: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib3.request("GET", f"http://{host}/v2/", retries=False)
        except urllib3.exceptions.HTTPError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("docker-registry did not start")


def run_skopeo(home: Path, *arguments: str) -> str:
    """Run skopeo and return its standard output.

    skopeo reads credentials below XDG_RUNTIME_DIR, by default in /run/containers, which a normal
    user cannot read once root has used it. `home` replaces both that and the home directory.
    """
    environment = {**os.environ, "HOME": str(home), "XDG_RUNTIME_DIR": str(home)}
    command = ["skopeo", *arguments]
    return subprocess.run(
        command, env=environment, check=True, timeout=30, stdout=subprocess.PIPE, text=True
    ).stdout
