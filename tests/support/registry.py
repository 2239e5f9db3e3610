"""A real registry (Debian's docker-registry) on loopback, and how it is filled."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import urllib3

from tests.support.fake_registry import MANIFEST, MemoryRegistry, digest_of, standing_in
from tests.support.service import free_port

PROGRAM = shutil.which("docker-registry")
KIND = "docker-registry" if PROGRAM else "a stand-in, as docker-registry is not installed"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
BUILT_AT = datetime(2026, 4, 1, tzinfo=UTC)


class Pusher:
    """Fills a registry by plain HTTP, as the distribution specification's "push" tells."""

    def __init__(self, host: str, headers: dict[str, str] | None = None) -> None:
        self.host = host
        self._pool = urllib3.PoolManager(headers=headers)

    def ask(self, method: str, path: str, **kwargs: Any) -> urllib3.BaseHTTPResponse:
        url = path if path.startswith("http") else f"http://{self.host}{path}"
        answer = self._pool.request(method, url, **kwargs)
        assert answer.status < 300, (method, path, answer.status, answer.data)
        return answer

    def push_blob(self, repository: str, content: bytes) -> str:
        location = self.ask("POST", f"/v2/{repository}/blobs/uploads/").headers["Location"]
        digest = digest_of(content)
        mark = "&" if "?" in location else "?"
        headers = {"Content-Type": "application/octet-stream"}
        self.ask("PUT", f"{location}{mark}digest={digest}", body=content, headers=headers)
        return digest

    def push_manifest(
        self, repository: str, reference: str | None, document: dict[str, Any]
    ) -> str:
        body = json.dumps(document).encode()
        digest = digest_of(body)
        headers = {"Content-Type": document["mediaType"]}
        self.ask(
            "PUT", f"/v2/{repository}/manifests/{reference or digest}", body=body, headers=headers
        )
        return digest

    def push_config(self, repository: str, built_at: datetime | None = BUILT_AT) -> dict[str, Any]:
        document = {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": []},
        }
        told = {"created": built_at.isoformat()} if built_at else {}
        content = json.dumps({**document, **told}).encode()
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
        """An image without layers under a tag; another `salt` makes another digest."""
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config or self.push_config(repository, built_at),
            "layers": [],
            "annotations": {"salt": salt or f"{repository}:{tag}"},
        }
        return self.push_manifest(repository, tag, document)

    def push_index(self, repository: str, tag: str, platforms: dict[str, datetime]) -> str:
        """An index with an image for each platform (`linux/arm64`), built at its time."""
        listed = []
        for platform, built_at in platforms.items():
            system, _, architecture = platform.partition("/")
            digest = self.push(repository, None, built_at=built_at, salt=platform)
            listed.append(
                {
                    "mediaType": MANIFEST,
                    "digest": digest,
                    "size": 1,
                    "platform": {"os": system, "architecture": architecture},
                }
            )
        return self.push_manifest(
            repository, tag, {"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}
        )

    def delete(self, repository: str, digest: str) -> None:
        self.ask("DELETE", f"/v2/{repository}/manifests/{digest}")

    def close(self) -> None:
        self._pool.clear()


@contextmanager
def running_registry(directory: Path) -> Iterator[Pusher]:
    """An empty registry that answers, and how to fill it."""
    if PROGRAM is None:
        with standing_in() as standin:
            standin.otherwise = MemoryRegistry()
            yield from _pushing(standin.host)
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
            _await(host, process)
            yield from _pushing(host)
        finally:
            process.terminate()


def _pushing(host: str) -> Iterator[Pusher]:
    pusher = Pusher(host)
    try:
        yield pusher
    finally:
        pusher.close()


def _await(host: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib3.request("GET", f"http://{host}/v2/", retries=False)
        except urllib3.exceptions.HTTPError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("docker-registry did not start")
