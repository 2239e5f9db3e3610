"""Images in a fake registry."""

import json

from tests.support.fake_registry import MANIFEST, FakeRegistry, Reply, digest_of
from tests.support.registry import CONFIG


def add_content(server: FakeRegistry, content: bytes, kind: str = "manifests") -> str:
    """Add a manifest or blob to the repository `api` and return its digest."""
    digest = digest_of(content)
    server.routes[f"/v2/api/{kind}/{digest}"] = Reply(content)
    return digest


def add_image(server: FakeRegistry, config: bytes, media_type: str = CONFIG) -> str:
    """Add an image with a configuration and return the digest of its manifest."""
    descriptor = {"mediaType": media_type, "digest": add_content(server, config, "blobs")}
    manifest = {"mediaType": MANIFEST, "config": descriptor}
    return add_content(server, json.dumps(manifest).encode())
